"""Connections: kept or not, many at once, several requests on one, and what the protocol itself answers."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import AllowList
from simple_fastcgi.protocol.constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_OVERLOADED,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    FCGI_UNKNOWN_TYPE,
)
from simple_fastcgi.protocol.pairs import decode_pairs, encode_pairs
from simple_fastcgi.protocol.records import encode_begin_request, encode_record
from simple_fastcgi.sync.poller import READ
from tests.servers.support import CONCURRENT, HEAD, TIMEOUT, TINY, Flag, kinds, until
from tests.support.webserver import WebServer, encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Log, Serve
    from tests.support.webserver import Record

GET_VALUES = encode_record(
    FCGI_GET_VALUES,
    0,
    encode_pairs([("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", ""), ("X", "")]),
)


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


async def echo_body(h: Handler) -> None:
    await h.write(HEAD + await h.read())


# ------------------------------------------------------------------------------------------ kept or not


@kinds("sync", "threads")
@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no other poller is shared with a forked child")
def test_a_connection_that_a_forked_child_has_closed_ends_no_server(serve: Serve) -> None:
    running = serve(echo_path)
    web = running.connect()
    assert web.request(params_for("/")).status == 200
    (connection,) = running.connections()
    until(lambda: connection.watched == READ)
    # What a child does, in the same epoll, that the application has forked, and whose server goes on.
    running.server._poller.unregister(connection.fd)
    running.stop()
    assert not running.connections()


def test_a_connection_is_kept_if_the_web_server_asks_for_it(serve: Serve, family: socket.AddressFamily) -> None:
    running = serve(echo_path, family=family)
    web = running.connect()
    for i in range(20):
        assert web.request(params_for(f"/{i}")).body == f"/{i}".encode()
    assert len(running.connections()) == 1
    # The last one is not to be kept.
    assert web.request(params_for("/last"), keep=False).body == b"/last"
    web.eof()
    web.close()
    until(lambda: not running.connections())


def test_a_connection_is_closed_otherwise(serve: Serve, family: socket.AddressFamily) -> None:
    running = serve(echo_body, family=family)
    for size in (0, 10, 100_000):
        web = running.connect()
        assert web.request(params_for(), b"x" * size, keep=False).body == b"x" * size
        web.eof()


def test_a_socket_where_nobody_can_connect_any_more_is_let_be(serve: Serve) -> None:
    """Whoever else has it may shut it down. Linux tells then that it is ready for ever."""
    running = serve(echo_path)
    kept = running.connect()
    assert kept.request(params_for("/before")).body == b"/before"
    running.listening.shutdown(socket.SHUT_RD)
    assert not running.is_busy_for_nothing()
    assert kept.request(params_for("/after")).body == b"/after"


def test_idle_kept_connections_keep_nobody_waiting(serve: Serve) -> None:
    running = serve(echo_path)
    idle = [running.connect() for _ in range(50)]
    for i, web in enumerate(idle):
        assert web.request(params_for(f"/{i}")).body == f"/{i}".encode()
    # In any order, and others beside them.
    for i, web in reversed(list(enumerate(idle))):
        assert web.request(params_for(f"/{i}/again")).body == f"/{i}/again".encode()
        assert running.request("/new", keep=False).body == b"/new"
    assert not running.is_busy_for_nothing()
    for web in idle:
        web.close()
    until(lambda: not running.connections())


def test_many_connections_at_once(serve: Serve, family: socket.AddressFamily) -> None:
    """No cross-talk, and more of them than are looked at in one turn."""
    running = serve(echo_body, family=family)
    webs = [running.connect() for _ in range(100)]
    for turn in range(3):
        for i, web in enumerate(webs):
            web.send(encode_request(params_for(), f"{i}.{turn}".encode() * 1000))
        for i, web in enumerate(webs):
            assert web.response().body == f"{i}.{turn}".encode() * 1000


# ------------------------------------------------------------------------------------------ several requests


def test_requests_sent_ahead(serve: Serve) -> None:
    """Two on one connection, the second sent before the first is answered."""
    web = serve(echo_path).connect()
    web.send(b"".join(encode_request(params_for(f"/{i}"), request_id=i) for i in range(1, 51)))
    responses = web.responses(range(1, 51))
    assert [response.body for response in responses.values()] == [f"/{i}".encode() for i in range(1, 51)]


def test_requests_are_interleaved(serve: Serve, family: socket.AddressFamily) -> None:
    web = serve(echo_body, family=family).connect()
    ids = (1, 65535, 256, 7)
    for request_id in ids:
        web.begin(params_for(), request_id=request_id)
    for piece in range(10):
        for request_id in reversed(ids):
            web.body(f"{request_id}:{piece} ".encode() * 100, request_id=request_id)
    for request_id in ids:
        web.body(b"", request_id=request_id, end=True)
    for request_id, response in web.responses(ids).items():
        assert response.body == b"".join(f"{request_id}:{piece} ".encode() * 100 for piece in range(10))


@CONCURRENT
def test_requests_of_one_connection_run_at_once(serve: Serve) -> None:
    """The second ends first."""
    release = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            await h.write(HEAD, flush=True)
            await h.wait(release)
        await echo_path(h)

    web = serve(body).connect()
    web.send(encode_request(params_for("/slow"), request_id=1))
    assert web.record().id == 1
    assert web.request(params_for("/fast"), request_id=2).body == b"/fast"
    release.set()
    assert web.response(1).ended


def test_one_after_the_other_where_nothing_runs_at_once(serve: Serve) -> None:
    """A request that waits for its body keeps what came behind it waiting, and no longer."""
    begun: list[str] = []

    async def body(h: Handler) -> None:
        begun.append(h.environ["PATH_INFO"])
        await echo_body(h)

    running = serve(body)
    web = running.connect()
    web.begin(params_for("/1"), request_id=1)
    until(lambda: begun)
    web.begin(params_for("/2"), request_id=2)
    web.body(b"two", request_id=2, end=True)
    if running.kind.concurrent:
        until(lambda: len(begun) == 2)
    web.body(b"one", request_id=1, end=True)
    responses = web.responses([1, 2])
    assert (responses[1].body, responses[2].body) == (b"one", b"two")
    assert begun == ["/1", "/2"]


def test_an_id_is_used_again_at_once(serve: Serve, family: socket.AddressFamily) -> None:
    """As real web servers do: the next request follows END_REQUEST immediately, with the same id."""
    web = serve(echo_body, family=family).connect()
    for i in range(100):
        assert web.request(params_for(), b"%d" % i).body == b"%d" % i


def test_an_id_is_used_again_before_the_rest_of_the_body(serve: Serve) -> None:
    """The late end of the first body belongs to nobody."""
    web = serve(echo_path).connect()
    web.begin(params_for("/1"))
    assert web.response().body == b"/1"
    web.body(b"late", end=True)
    web.send(encode_request(params_for("/2"), b"body"))
    assert web.response().body == b"/2"


def test_an_id_that_is_used_twice_at_once(serve: Serve, log: Log) -> None:
    release = Flag()

    async def body(h: Handler) -> None:
        await h.read()

    web = serve(body).connect()
    web.begin(params_for())
    web.begin(params_for())
    assert web.at_eof()
    log.claim("request 1 began a second time")
    release.set()


# ------------------------------------------------------------------------------------------ early answers


def send_as_far_as_it_goes(web: WebServer, data: bytes) -> int:
    """Send what the other side takes before it makes this one wait; how much."""
    web.socket.setblocking(False)
    sent = 0
    try:
        while sent < len(data):
            sent += web.socket.send(data[sent : sent + 65536])
    except BlockingIOError:
        pass
    finally:
        web.socket.settimeout(TIMEOUT)
    return sent


def test_an_early_answer_is_seen_by_one_who_still_sends(serve: Serve, family: socket.AddressFamily) -> None:
    """On a connection that is not kept: the answer, its end, and no reset, although most of the body is unread."""
    web = serve(echo_path, family=family).connect()
    whole = encode_request(params_for("/early"), bytes(3 << 20), keep=False)
    end = len(whole) - 8
    sent = send_as_far_as_it_goes(web, whole[:end])
    assert web.response().body == b"/early"
    # The application has ended its sending, and takes the rest all the same.
    web.eof()
    web.send(whole[sent:])
    assert web.socket.recv(1) == b""
    web.close()


def test_an_early_answer_to_one_who_never_ends_its_body(serve: Serve, family: socket.AddressFamily) -> None:
    running = serve(echo_path, family=family)
    web = running.connect()
    web.begin(params_for("/early"), keep=False)
    web.body(bytes(100_000))
    assert web.response().body == b"/early"
    web.eof()
    web.body(bytes(100_000))
    web.close()
    until(lambda: not running.connections())


@pytest.mark.usefixtures("attentive")
def test_an_early_answer_behind_a_long_thought(serve: Serve, family: socket.AddressFamily) -> None:
    """The time to linger begins with the answer, not with the last byte that was received before it."""
    begun, thought = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(thought)
        await echo_path(h)

    running = serve(body, family=family)
    web = running.connect()
    web.begin(params_for("/early"), keep=False)
    begun.wait()
    running.age(3600)
    thought.set()
    assert web.response().body == b"/early"
    web.eof()
    running.wait_for_sweeps()
    web.body(bytes(1000), end=True)
    assert web.socket.recv(1) == b""


# ------------------------------------------------------------------------------------------ the protocol's own answers


def values(record: Record) -> dict[str, str]:
    assert (record.type, record.id) == (FCGI_GET_VALUES_RESULT, 0)
    return decode_pairs(record.content, 10_000)[0]


def test_values(serve: Serve) -> None:
    running = serve(echo_path)
    web = running.connect()
    web.send(GET_VALUES)
    # Where one request waits for the other anyway, each had better have a connection of its own.
    multiplexes = str(int(running.kind.concurrent))
    assert values(web.record()) == {"FCGI_MAX_CONNS": "1024", "FCGI_MAX_REQS": "128", "FCGI_MPXS_CONNS": multiplexes}
    assert web.request(params_for("/next")).body == b"/next"


def test_values_are_the_limits(serve: Serve) -> None:
    web = serve(echo_path, limits={"max_connections": 3, "max_requests_per_connection": 1}).connect()
    web.send(GET_VALUES)
    assert values(web.record()) == {"FCGI_MAX_CONNS": "3", "FCGI_MAX_REQS": "1", "FCGI_MPXS_CONNS": "0"}


@kinds("threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_single_thread_serves_one_request_at_a_time(serve: Serve, threads: int) -> None:
    web = serve(echo_path, threads=threads).connect()
    web.send(GET_VALUES)
    assert values(web.record())["FCGI_MPXS_CONNS"] == ("1" if threads > 1 else "0")


def test_an_unknown_type(serve: Serve) -> None:
    web = serve(echo_path).connect()
    web.send(encode_record(99, 0, b"what is this"))
    record = web.record()
    assert (record.type, record.id, record.content) == (FCGI_UNKNOWN_TYPE, 0, b"\x63" + bytes(7))
    assert web.request(params_for("/next")).body == b"/next"


def test_questions_while_a_handler_runs(serve: Serve) -> None:
    """They are answered at once where the loop is free, and behind the handler where it is not."""
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    web.send(GET_VALUES + encode_record(99, 0))
    if not running.kind.concurrent:
        release.set()
    records = [web.record() for _ in range(2 if running.kind.concurrent else 5)]
    assert {FCGI_GET_VALUES_RESULT, FCGI_UNKNOWN_TYPE} <= {record.type for record in records}
    if running.kind.concurrent:
        release.set()
        assert web.response().body == b"/slow"


def test_questions_while_a_handler_reads(serve: Serve) -> None:
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await echo_body(h)

    web = serve(body).connect()
    web.begin(params_for())
    begun.wait()
    web.send(GET_VALUES)
    assert values(web.record())["FCGI_MAX_REQS"] == "128"
    web.body(b"body", end=True)
    assert web.response().body == b"body"


def refused(web: WebServer, request_id: int) -> int | None:
    response = web.response(request_id)
    assert response.status == 500
    return response.protocol_status


def test_a_role_that_is_not_served(serve: Serve, log: Log) -> None:
    web = serve(echo_path).connect()
    for role in (2, 3, 9):
        web.send(encode_request(params_for(), b"body", role=role))
        assert refused(web, 1) == FCGI_UNKNOWN_ROLE
    assert web.request(params_for("/next")).body == b"/next"
    web.send(encode_request(params_for(), b"body", role=2, keep=False))
    assert refused(web, 1) == FCGI_UNKNOWN_ROLE
    web.eof()
    for name in ("Authorizer", "Filter", "unknown"):
        log.claim(f"({name}) are refused")


def test_other_roles_are_served_if_the_handler_says_so(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD + b"%d" % h.real.role)

    web = serve(body, handler={"roles": (1, 2)}).connect()
    for role in (1, 2):
        assert web.request(params_for(), role=role).body == b"%d" % role


@pytest.mark.parametrize(("bound", "status"), [(1, FCGI_CANT_MPX_CONN), (3, FCGI_OVERLOADED)])
def test_too_many_requests_on_one_connection(serve: Serve, bound: int, status: int) -> None:
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await echo_body(h)

    web = serve(body, limits={"max_requests_per_connection": bound}).connect()
    for request_id in range(1, bound + 1):
        web.begin(params_for(), request_id=request_id)
    web.send(encode_request(params_for(), request_id=77))
    response = web.responses([77])[77]
    assert (response.protocol_status, response.status, response.body) == (status, 503, b"Service Unavailable\n")
    for request_id in range(1, bound + 1):
        web.body(b"%d" % request_id, request_id=request_id, end=True)
    for request_id, response in web.responses(range(1, bound + 1)).items():
        assert response.body == b"%d" % request_id


# ------------------------------------------------------------------------------------------ garbage

GARBAGE = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "does the web server speak HTTP"),
    "one byte": (b"\x02", "FastCGI version 2"),
    "version 0": (bytes(8), "FastCGI version 0"),
    "short begin": (encode_record(FCGI_BEGIN_REQUEST, 1, b"\0\1"), "FCGI_BEGIN_REQUEST with 2 bytes"),
    "begin 0": (encode_begin_request(0, 1, 1), "needs a request id"),
    "wrong way": (encode_record(FCGI_STDOUT, 1, b"x"), "only an application sends"),
    "pairs": (
        encode_begin_request(1, 1, 1) + encode_record(4, 1, b"\x05\x05a") + encode_record(4, 1),
        "claims 9 bytes more",
    ),
    "large claim": (encode_begin_request(1, 1, 1) + encode_record(4, 1, b"\xff" * 8), "max_params_bytes"),
    "input first": (encode_begin_request(1, 1, 1) + encode_record(5, 1, b"x"), "before the end of its parameters"),
}


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda name: name.replace(" ", "-"))
def test_garbage_closes_its_connection_only(serve: Serve, log: Log, garbage: str) -> None:
    """One line in the log; nobody else notices."""
    running = serve(echo_path)
    other = running.connect()
    assert other.request(params_for("/1")).body == b"/1"
    data, told = GARBAGE[garbage]
    web = running.connect()
    web.send(data)
    assert web.at_eof()
    record = log.claim(told)
    assert record.levelname == "WARNING"
    assert "a unix socket closed" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert other.request(params_for("/2")).body == b"/2"
    assert len(running.connections()) == 1


def test_garbage_from_tcp_tells_whose_it_is(serve: Serve, log: Log) -> None:
    web = serve(echo_path, family=socket.AF_INET).connect()
    host, port = web.socket.getsockname()
    web.send(b"GET / HTTP/1.1\r\n\r\n")
    assert web.at_eof()
    log.claim(f"connection from ('{host}', {port}) closed: not FastCGI")


def test_garbage_aborts_the_requests_of_its_connection(serve: Serve, log: Log) -> None:
    begun, done = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        with pytest.raises(ConnectionAbortedError):
            await h.read()
        assert h.aborted()
        done.set()

    web = serve(body).connect()
    web.begin(params_for())
    begun.wait()
    web.send(b"garbage")
    assert web.at_eof()
    done.wait()
    log.claim("not FastCGI")


def test_garbage_behind_a_request(serve: Serve, log: Log) -> None:
    """In one piece with a good request: the connection is closed, whether or not that was served."""
    web = serve(echo_path).connect()
    web.send(encode_request(params_for("/1")) + b"garbage")
    assert web.at_eof()
    log.claim("not FastCGI")


# ------------------------------------------------------------------------------------------ who may connect


class Everybody:
    """A container that is no list."""

    def __contains__(self, host: object) -> bool:
        return host == "127.0.0.1"


@pytest.mark.parametrize("allow_from", [AllowList("127.0.0.0/8"), "::1, 127.0.0.1", ["127.0.0.0/8"], Everybody()])
def test_allow_from(serve: Serve, allow_from: Any) -> None:
    running = serve(echo_path, family=socket.AF_INET, allow_from=allow_from)
    for _ in range(2):
        assert running.request("/1").body == b"/1"


@pytest.mark.parametrize("by_the_environment", [False, True])
def test_who_is_not_allowed(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch, by_the_environment: bool) -> None:
    """All are closed at once; of many in a second one is told."""
    if by_the_environment:
        monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1,192.0.2.2")
    lists: Any = ("127.0.0.1" if by_the_environment else "192.0.2.1, 2001:db8::/32",)
    running = serve(echo_path, family=socket.AF_INET, allow_from=lists)
    for web in [running.connect() for _ in range(20)]:
        assert web.at_eof()
    told = log.claim("connection from 127.0.0.1 refused").getMessage()
    assert ("add its address to FCGI_WEB_SERVER_ADDRS" if by_the_environment else "--allow-from") in told
    assert running.connections() == []
    # A machine that stood still for a second in between may have told of it again.
    log.records.clear()


def test_the_web_servers_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1,127.0.0.1")
    for allow_from in (None, ["127.0.0.0/8"]):
        running = serve(echo_path, family=socket.AF_INET, allow_from=allow_from)
        assert running.request("/1").body == b"/1"


def test_allow_from_is_for_tcp_only(serve: Serve) -> None:
    assert serve(echo_path, allow_from=AllowList("192.0.2.1")).request("/1").body == b"/1"


def test_the_environment_s_list_is_for_tcp_only(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets nobody in who comes over another transport (3.2)."""
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "127.0.0.1")
    assert serve(echo_path).connect().at_eof()
    log.claim("connection from a unix socket refused: the environment allows only 127.0.0.1 over TCP: unset FCGI_WEB")
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "")
    assert serve(echo_path).request("/1").body == b"/1"


def test_lists_that_cannot_be_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_from: Any
    for allow_from in ("localhost", [], 5):
        with pytest.raises(ConfigurationError, match="^allow_from"):
            serve(echo_path, allow_from=allow_from)
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "localhost")
    with pytest.raises(ConfigurationError, match="^FCGI_WEB_SERVER_ADDRS: 'localhost'"):
        serve(echo_path)


# ------------------------------------------------------------------------------------------ max_connections


def test_further_connections_wait(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    running = serve(echo_path, family=family, limits={"max_connections": 3})
    served = [running.connect() for _ in range(3)]
    for web in served:
        assert web.request(params_for("/served")).body == b"/served"
        # So that it is not idle, and does not give way.
        web.send(b"\1")
    waiting = [running.connect() for _ in range(3)]
    for web in waiting:
        web.send(encode_request(params_for("/waited")))
        web.socket.settimeout(TINY)
        with pytest.raises(TimeoutError):
            web.socket.recv(1)
        web.socket.settimeout(TIMEOUT)
    assert len(running.connections()) == 3
    told = log.claim("3 connections are open (max_connections), further ones wait in the listen queue").getMessage()
    assert ": raise --max-connections or --workers" in told
    assert not running.is_busy_for_nothing()
    for closed, web in zip(served, waiting, strict=True):
        closed.close()
        assert web.response().body == b"/waited"
    assert len(running.connections()) == 3


def test_connections_that_are_not_kept_make_room(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"max_connections": 2})
    kept = [running.connect() for _ in range(2)]
    for web in kept:
        assert web.request(params_for("/kept")).body == b"/kept"
    webs = [running.connect() for _ in range(40)]
    for i, web in enumerate(webs):
        web.send(encode_request(params_for(f"/{i}"), keep=False))
    log.claim("2 connections are open (max_connections)")
    for web in kept:
        web.close()
    for i, web in enumerate(webs):
        assert web.response().body == f"/{i}".encode()
        web.eof()
        web.close()


@kinds("sync")
def test_a_request_is_served_before_the_next_connection_is_taken(serve: Serve) -> None:
    """Meanwhile another process may take that."""
    open_ones: list[int] = []
    entered = threading.Event()

    async def body(h: Handler) -> None:
        entered.set()
        await h.readall()
        open_ones.append(len(running.connections()))
        await h.write(HEAD)

    running = serve(body)
    busy = running.connect()
    begun = encode_request(params_for(), b"x")
    busy.send(begun[:-1])
    assert entered.wait(TIMEOUT)
    webs = [running.connect() for _ in range(39)]
    for web in webs:
        web.send(encode_request(params_for(), keep=False))
    busy.send(begun[-1:])
    for web in (busy, *webs):
        assert web.response().status == 200
    assert len(open_ones) == 40
    assert max(open_ones) == 2


@kinds("threads")
def test_responses_to_requests_that_end_together(serve: Serve) -> None:
    """Two threads end the last two requests of a connection that is not kept: neither answer is cut."""
    released = Flag()

    async def body(h: Handler) -> None:
        await h.wait(released)
        await h.write(HEAD + bytes(50_000))

    running = serve(body)
    for _ in range(20):
        released = Flag()
        web = running.connect()
        web.send(b"".join(encode_request(params_for(), request_id=i, keep=False) for i in (1, 2, 3)))
        released.set()
        for response in web.responses((1, 2, 3)).values():
            assert len(response.body) == 50_000
        web.eof()
        web.close()


def test_records_of_a_response_are_whole(serve: Serve) -> None:
    """Handlers of one connection write at once: records never mix."""

    async def body(h: Handler) -> None:
        letter = h.environ["PATH_INFO"][1:].encode()
        await h.write(HEAD)
        for _ in range(20):
            await h.write(letter * 10_000, flush=True)

    web = serve(body).connect()
    ids = range(1, 9)
    web.send(b"".join(encode_request(params_for(f"/{i}"), request_id=i) for i in ids))
    responses = web.responses(ids)
    for i, response in responses.items():
        assert response.body == b"%d" % i * 200_000


@kinds("sync", "selector")
def test_a_closed_connection_is_not_taken_for_one_with_its_descriptor(serve: Serve) -> None:
    """A request waits for its turn while its connection is closed and the next one gets the same descriptor."""
    reading = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/reads":
            reading.set()
            await h.readall()
        await h.write(HEAD + b"answered")

    running = serve(body)
    leaving = running.connect()
    leaving.begin(params_for("/reads"))
    reading.wait()
    # They are accepted as soon as the handler has ended; one of them gets the descriptor.
    others = [running.connect() for _ in range(4)]
    for other in others:
        other.send(encode_request(params_for()))
    leaving.send(encode_request(params_for("/waits"), request_id=2))
    leaving.close()
    for other in others:
        assert other.response().body == b"answered"


@kinds("threads")
def test_what_waits_for_a_thread_is_forgotten_with_a_connection_that_breaks_under_an_answer(serve: Serve) -> None:
    """It is noticed while the answer is sent, not while something is read."""

    async def body(h: Handler) -> None:
        await h.read()
        await echo_path(h)

    running = serve(body, threads=2)
    slow = running.connect()
    slow.begin(params_for("/slow"))
    until(lambda: running.server._unready)
    web = running.connect()
    web.begin(params_for("/waits"))
    until(lambda: running.server._waiting)
    web.socket.shutdown(socket.SHUT_RD)
    web.send(GET_VALUES)
    until(lambda: not running.server._waiting)
    slow.body(b"", end=True)
    assert slow.response().body == b"/slow"
