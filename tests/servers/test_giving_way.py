"""Idle connections make room for those who wait in the listen queue; whatever is under way stays."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.parting import PARTING_SECONDS, ROOM_SECONDS, GivingWay
from tests.servers.support import CONCURRENT, HEAD, Flag
from tests.servers.test_parting import NGINX, TOLD
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Log, Serve

APACHE = {"SERVER_SOFTWARE": "Apache/2.4.62 (Debian)"}

# Its sweeps come thick and fast.
attentive = pytest.mark.usefixtures("attentive")


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


@attentive
def test_the_longest_idle_one_gives_way(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 3})
    oldest, middle, latest = (running.connect() for _ in range(3))
    for web in (middle, oldest, latest, middle):
        assert web.request(params_for("/served", **APACHE)).body == b"/served"
        running.age(0 if web is latest else 10)
    waiting = running.connect()
    assert waiting.request(params_for("/waited", **APACHE)).body == b"/waited"
    log.claim("3 connections are open (max_connections)")
    oldest.eof()
    for web in (middle, latest):
        assert web.request(params_for("/kept", **APACHE)).body == b"/kept"


def test_a_web_server_that_heeds_it_is_told_first(serve: Serve, log: Log) -> None:
    """What it sends all the same is answered, and the next one gives way."""
    running = serve(echo_path, limits={"max_connections": 2})
    first, second = running.connect(), running.connect()
    for web in (first, second):
        assert web.request(params_for("/served", **NGINX)).body == b"/served"
        running.age(10)
    waiting = running.connect()
    waiting.send(encode_request(params_for("/waited", **NGINX)))
    assert first.record() == TOLD
    assert first.request(params_for("/late", **NGINX)).body == b"/late"
    assert second.record() == TOLD
    second.close()
    assert waiting.response().body == b"/waited"
    assert first.request(params_for("/kept", **NGINX)).body == b"/kept"
    log.claim("2 connections are open (max_connections)")


@attentive
def test_one_that_does_not_close_is_closed(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 1})
    deaf = running.connect()
    assert deaf.request(params_for("/served", **NGINX)).body == b"/served"
    running.age(10)
    assert running.connect().request(params_for("/waited")).body == b"/waited"
    assert deaf.record() == TOLD
    deaf.eof()
    log.claim("1 connections are open (max_connections)")


@attentive
def test_nobody_has_to_send_anything_to_be_idle(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 1})
    silent = running.connect()
    running.age(10)
    assert running.connect().request(params_for("/waited")).body == b"/waited"
    silent.eof()
    log.claim("1 connections are open (max_connections)")


@attentive
def test_a_request_that_has_begun_to_arrive_stays(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 2})
    begun, idle = running.connect(), running.connect()
    request = encode_request(params_for("/begun"))
    begun.send(request[:20])
    assert idle.request(params_for("/idle")).body == b"/idle"
    running.age(10)
    assert running.connect().request(params_for("/waited")).body == b"/waited"
    idle.eof()
    begun.send(request[20:])
    assert begun.response().body == b"/begun"
    log.claim("2 connections are open (max_connections)")


@CONCURRENT
@attentive
def test_a_request_that_is_served_stays(serve: Serve, log: Log) -> None:
    later = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/long":
            await h.wait(later)
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    running = serve(body, limits={"max_connections": 2})
    busy, idle = running.connect(), running.connect()
    busy.send(encode_request(params_for("/long")))
    assert idle.request(params_for("/idle")).body == b"/idle"
    running.age(10)
    assert running.connect().request(params_for("/waited")).body == b"/waited"
    idle.eof()
    later.set()
    assert busy.response().body == b"/long"
    log.claim("2 connections are open (max_connections)")


@attentive
def test_nobody_gives_way_to_one_whom_another_process_has_taken(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 1})
    kept = running.connect()
    # It is not idle until the other one has been taken.
    request = encode_request(params_for("/served"))
    kept.send(request[:1])
    with running.connect():
        log.claim("1 connections are open (max_connections)")
        taken, _ = running.listening.accept()
        with taken:
            kept.send(request[1:])
            assert kept.response().body == b"/served"
            running.wait_for_sweeps()
            running.age(10)
            running.wait_for_sweeps()
            assert kept.request(params_for("/kept")).body == b"/kept"


class One:
    """An idle connection."""

    def __init__(self, last_active: float, *, heeds: bool | None) -> None:
        self.last_active = last_active
        self.heeds_parting = heeds


@given(st.lists(st.tuples(st.floats(0, 99), st.sampled_from([True, False, None])), max_size=20), st.booleans())
def test_all_give_way_in_turn(ones: list[tuple[float, bool | None]], close: bool) -> None:
    """The longest idle first, those who heed it once told; others are closed once."""
    left = [One(last_active, heeds=heeds) for last_active, heeds in ones]
    way, now, told, gone = GivingWay(), 100.0 + ROOM_SECONDS + 1, set[One](), list[One]()
    while left:
        to_tell, to_close = way.choose(left, now)
        assert 0 < len(to_tell) + len(to_close) <= -(-len(left) // 4)
        assert all(one.heeds_parting and one not in told for one in to_tell)
        assert all(one in told or not one.heeds_parting for one in to_close)
        assert {*to_tell, *to_close} <= {*left}
        told.update(to_tell)
        gone += to_close
        left = [one for one in left if one not in to_close and not (close and one in told)]
        now += PARTING_SECONDS
    assert len(gone) + (len(told) if close else 0) == len(ones)
    assert way.choose([One(now, heeds=None)], now) == ([], [])


def test_one_that_was_used_is_told_anew() -> None:
    way, one = GivingWay(), One(0.0, heeds=True)
    assert way.choose([one], 10.0) == ([one], [])
    one.last_active = 11.0
    assert way.choose([one], 11.5) == ([], [])
    assert way.choose([one], 13.0) == ([one], [])
    assert way.choose([one], 14.0) == ([], [one])


def test_one_that_was_told_when_others_waited_before_is_told_anew() -> None:
    way, one = GivingWay(), One(0.0, heeds=True)
    assert way.choose([one], 10.0) == ([one], [])
    way.forget()
    assert way.choose([one], 11.0) == ([one], [])


@attentive
def test_the_listen_queue_of_a_tcp_socket(serve: Serve, log: Log) -> None:
    running = serve(echo_path, family=socket.AF_INET, limits={"max_connections": 1})
    idle = running.connect()
    assert idle.request(params_for("/served")).body == b"/served"
    running.age(10)
    assert running.connect().request(params_for("/waited")).body == b"/waited"
    assert idle.at_eof()
    log.claim("1 connections are open (max_connections)")


@attentive
def test_where_nobody_can_connect_any_more_none_gives_way(serve: Serve, log: Log) -> None:
    """A socket that is shut down looks as if somebody waited there; but nobody can."""
    running = serve(echo_path, limits={"max_connections": 1})
    kept = running.connect()
    assert kept.request(params_for("/served", **APACHE)).body == b"/served"
    running.listening.shutdown(socket.SHUT_RD)
    log.claim("1 connections are open (max_connections)")
    running.age(10)
    running.wait_for_sweeps()
    assert kept.request(params_for("/kept", **APACHE)).body == b"/kept"


@attentive
def test_who_has_connected_before_nobody_could_any_more(serve: Serve, log: Log) -> None:
    """A master lets nobody in any more when it ends, and waits until its workers have taken those that wait."""
    running = serve(echo_path, limits={"max_connections": 1})
    kept = running.connect()
    assert kept.request(params_for("/served", **APACHE)).body == b"/served"
    waiting = running.connect()
    log.claim("1 connections are open (max_connections)")
    running.listening.shutdown(socket.SHUT_RD)
    running.age(10)
    assert waiting.request(params_for("/waited")).body == b"/waited"
