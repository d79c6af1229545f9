"""Which thread runs the loop of a server with threads, and what happens when its handlers take long."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi import FcgiThreadingServer
from simple_fastcgi.protocol.constants import FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT
from simple_fastcgi.protocol.records import encode_record
from simple_fastcgi.sync import lead as lead_module
from simple_fastcgi.sync import threading_server
from simple_fastcgi.sync.lead import Lead
from tests.servers.support import HEAD, Flag, kinds, until
from tests.support.webserver import TIMEOUT, encode_request, params_for

if TYPE_CHECKING:
    from typing import Any

    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import WebServer

THREADS = kinds("threads")


class OwnError(Exception):
    pass


async def name_thread(h: Handler) -> None:
    await h.write(HEAD + threading.current_thread().name.encode())


def leads(running: Running) -> bool:
    return running.server._lead is not None


@THREADS
def test_quick_handlers_stay_in_the_leading_thread(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # They are quick, however long a machine that stands still makes one look.
    monkeypatch.setattr(lead_module, "LONG_SECONDS", TIMEOUT)
    monkeypatch.setattr(Lead, "take", lambda _: False)
    running = serve(name_thread)
    until(lambda: leads(running))
    webs = [running.connect() for _ in range(5)]
    assert {web.request(params_for()).body for _ in range(5) for web in webs} == {b"fcgi-handler-1"}


@THREADS
def test_a_handler_that_waits_loses_the_loop(serve: Serve) -> None:
    release = Flag()
    names: dict[str, str] = {}

    async def body(h: Handler) -> None:
        path = h.environ["PATH_INFO"]
        if path == "/slow":
            names[path] = threading.current_thread().name
            await h.wait(release)
        await name_thread(h)

    running = serve(body)
    slow = running.connect()
    until(lambda: leads(running))
    slow.send(encode_request(params_for("/slow"), b""))
    until(lambda: names)
    # On another connection, and on the same one.
    assert running.request("/quick").body != names["/slow"].encode()
    assert slow.request(params_for("/quick"), request_id=2).body != names["/slow"].encode()
    release.set()
    assert slow.response().body == names["/slow"].encode()


@THREADS
@pytest.mark.parametrize("keep", [True, False])
def test_whoever_takes_the_loop_listens_to_all_connections(serve: Serve, keep: bool) -> None:
    """Also to the one whose first request has not ended yet, which was there as soon as the connection."""
    webs: list[WebServer] = []
    begun, release = Flag(), Flag()

    async def body(h: Handler) -> None:
        path = h.environ["PATH_INFO"]
        if path == "/first":
            # The request is there when its connection is accepted.
            webs.append(h.running.connect())
            webs[0].send(encode_request(params_for("/slow"), keep=keep))
        elif path == "/slow":
            begun.set()
            await h.wait(release)
        await name_thread(h)

    running = serve(body)
    until(lambda: leads(running))
    running.request("/first")
    begun.wait()
    (web,) = webs
    web.send(encode_record(FCGI_GET_VALUES, 0))
    assert web.record().type == FCGI_GET_VALUES_RESULT
    release.set()
    assert web.response().ended
    if keep:
        assert web.request(params_for("/next")).ended
    else:
        web.eof()
    web.close()
    until(lambda: not running.connections())


@THREADS
def test_a_thread_leads_again_when_handlers_are_quick(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where no thread leads they are quick, however long a machine that stands still makes one look.
    monkeypatch.setattr(threading_server, "STUCK_SECONDS", TIMEOUT)
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            begun.set()
            await h.wait(release)
        await name_thread(h)

    running = serve(body)
    slow = running.connect()
    slow.send(encode_request(params_for("/slow"), b""))
    begun.wait()
    until(lambda: not leads(running))
    deadline = time.monotonic() + TIMEOUT
    web = running.connect()
    while not leads(running):
        assert time.monotonic() < deadline, "no thread leads any more"
        web.request(params_for())
    release.set()
    assert slow.response().ended


@THREADS
def test_the_only_thread_does_not_lead_while_it_waits_for_input(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body, server={"threads": 1})
    stalled = running.connect()
    stalled.begin(params_for())
    stalled.body(b"some", end=False)
    # Somebody listens.
    other = running.connect()
    other.send(encode_record(FCGI_GET_VALUES, 0))
    assert other.record().type == FCGI_GET_VALUES_RESULT
    stalled.body(b"more", end=True)
    assert stalled.response().body == b"8"
    assert other.request(params_for()).body == b"0"


@THREADS
def test_an_error_of_service_actions_ends_the_server_while_a_thread_leads(serve: Serve) -> None:
    due = Flag()

    def service_actions(_: Any) -> None:
        if due.is_set:
            raise OwnError

    running = serve(name_thread, server={"service_actions": service_actions})
    until(lambda: leads(running))
    assert running.request().status == 200
    due.set()
    running.thread.join(TIMEOUT)
    with pytest.raises(OwnError):
        running.check()
    running.error = None


@THREADS
def test_an_error_of_the_loop_ends_the_server_while_a_thread_leads(serve: Serve) -> None:
    told = False

    def on_events(*_: Any) -> None:
        nonlocal told
        if not told:
            told = True
            raise SystemExit("from the loop")

    running = serve(name_thread, server={"_on_events": on_events})
    web = running.connect()
    web.begin(params_for())
    running.thread.join(TIMEOUT)
    with pytest.raises(SystemExit, match="from the loop"):
        running.check()
    running.error = None


@THREADS
def test_it_stops_while_a_handler_of_the_leader_waits(serve: Serve) -> None:
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await name_thread(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for(), b"", keep=False))
    begun.wait()
    running.ask_to_stop()
    release.set()
    assert web.response().body == b"fcgi-handler-1"
    running.wait_for_end()


@THREADS
def test_a_handler_that_computes_loses_the_loop_too(serve: Serve) -> None:
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            begun.set()
            deadline = time.monotonic() + TIMEOUT
            # It never leaves the interpreter to others of its own accord, so that whoever watches is always late.
            while not release.is_set and time.monotonic() < deadline:
                pass
        await name_thread(h)

    running = serve(body)
    slow = running.connect()
    until(lambda: leads(running))
    slow.send(encode_request(params_for("/slow"), b""))
    begun.wait()
    assert running.request("/quick").status == 200
    assert not release.is_set
    release.set()
    assert slow.response().ended


@THREADS
@pytest.mark.parametrize("error", [OwnError, SystemExit])
def test_an_error_of_handle_error_is_logged_and_no_more(serve: Serve, error: type[BaseException], log: Log) -> None:
    """Alike in whichever thread."""
    errors: list[BaseException | None] = []
    release, begun = Flag(), Flag()

    def handle_error(*_: Any) -> None:
        errors.append(sys.exception())
        raise error

    async def body(h: Handler) -> None:
        path = h.environ["PATH_INFO"]
        if path == "/slow":
            begun.set()
            await h.wait(release)
        elif path == "/bad":
            raise error
        await name_thread(h)

    running = serve(body, server={"handle_error": handle_error})
    slow = running.connect()
    until(lambda: leads(running))
    assert running.request("/bad").status == 500
    log.claim_failure("error in TestedServer.handle_error")
    slow.send(encode_request(params_for("/slow"), b""))
    begun.wait()
    until(lambda: not leads(running))
    assert running.request("/bad").status == 500
    log.claim_failure("error in TestedServer.handle_error")
    assert running.request("/").status == 200
    release.set()
    assert slow.response().ended
    assert len(errors) == 2


@THREADS
def test_service_actions_may_close_the_server_while_a_thread_leads(serve: Serve) -> None:
    due = Flag()

    def service_actions(server: Any) -> None:
        if due.is_set:
            server.shutdown()
            server.server_close()

    running = serve(name_thread, server={"service_actions": service_actions})
    until(lambda: leads(running))
    assert running.request().status == 200
    due.set()
    running.thread.join(TIMEOUT)
    assert not running.thread.is_alive()
    # It has closed under its own loop.
    running.error = None


@THREADS
def test_a_request_from_another_thread_is_not_taken_for_a_call_of_the_leader(serve: Serve) -> None:
    def process_request(server: Any, *arguments: Any) -> None:
        threading.Thread(target=lambda: FcgiThreadingServer.process_request(server, *arguments), name="other").start()

    running = serve(name_thread, server={"process_request": process_request})
    until(lambda: leads(running))
    web = running.connect()
    for _ in range(3):
        assert web.request(params_for()).body.startswith(b"fcgi-handler-")


@THREADS
def test_no_thread_leads_where_none_is_free(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host allows one thread, and that waits for input, which comes by way of the loop."""
    begun = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/upload":
            begun.set()
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("fcgi-handler") and not thread.name.endswith("-1"):
            raise RuntimeError("can't start new thread")
        real_start(thread)

    real_start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    running = serve(body, limits={"read_timeout": TIMEOUT})
    web = running.connect()
    web.begin(params_for("/upload"))
    begun.wait()
    until(lambda: not leads(running))
    # As if there had been enough quick calls, whatever is enough now.
    running.server._quick_calls = 1 << 20
    running.server._waker.wake()
    until(lambda: running.server._quick_calls == 0)
    web.body(b"12345", end=True)
    assert web.response().body == b"5"


# ------------------------------------------------------------------------------------------ the watch itself


def test_the_watch_calls_its_actions() -> None:
    lead, calls = Lead(), 0

    def actions() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            lead.end(None)

    lead.watch(0.01, actions)
    assert calls == 3


def begun_lead() -> Lead:
    lead = Lead()
    assert lead.begin()
    return lead


def never() -> None:
    raise AssertionError("the watch goes on")


@pytest.mark.parametrize("interval", [0.0, 0.001, TIMEOUT])
def test_a_stuck_call_is_taken_however_often_actions_are_due(interval: float) -> None:
    lead, deadline = begun_lead(), time.monotonic() + TIMEOUT

    def actions() -> None:
        assert time.monotonic() < deadline, "it is not taken"

    lead.begin_call()
    lead.watch(interval, actions)
    assert not lead.done
    lead.end_call()
    assert lead.lost


def test_a_call_that_computes_is_taken_although_each_look_comes_late() -> None:
    lead, deadline = begun_lead(), time.monotonic() + TIMEOUT

    def compute() -> None:
        lead.begin_call()
        while not lead._taken and time.monotonic() < deadline:
            pass
        lead.end_call()

    leader = threading.Thread(target=compute)
    leader.start()
    lead.watch(TIMEOUT, never)
    leader.join()
    assert lead.lost


def test_a_loop_that_was_taken_needs_no_further_watch() -> None:
    """As when the exception of a signal has come just behind the taking."""
    lead = begun_lead()
    lead.begin_call()
    assert lead.take()
    assert lead.take()
    lead.watch(0.01, never)
    lead.end_call()
    assert lead.lost
    assert lead.take()


def test_a_leader_that_comes_too_late_does_not_begin() -> None:
    lead = Lead()
    assert lead.take()
    assert not lead.begin()
    assert lead.lost


def test_there_is_nothing_to_take_between_calls() -> None:
    lead = begun_lead()
    assert not lead.take()
    lead.begin_call()
    lead.end_call()
    assert not lead.take()


def test_a_stuck_call_is_taken_and_others_are_not() -> None:
    lead = begun_lead()
    for _ in range(3):
        lead.begin_call()
        lead.end_call()
    assert not lead.lost
    lead.begin_call()
    lead.watch(TIMEOUT, lambda: None)
    assert not lead.done
    lead.end_call()
    assert lead.lost


def test_a_leader_whose_calls_are_long_is_recalled() -> None:
    lead = begun_lead()
    while not lead.recalled:
        lead.begin_call()
        time.sleep(0.001)
        lead.end_call()
    assert lead.calls >= 3
    assert not lead.lost
