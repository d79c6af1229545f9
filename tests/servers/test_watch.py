"""Requests that take long, on every kind of server: the slow log, the request timeout, saturation."""

from __future__ import annotations

import re
import threading
import types
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.monitor import watch as watch_module
from simple_fastcgi.monitor.info import RequestInfo, Stage
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import SATURATED, SLOW, own_process
from simple_fastcgi.monitor.stacks import describe, stack_of, tell_all
from simple_fastcgi.monitor.watch import Watch
from simple_fastcgi.sync import threading_server
from tests.servers.support import CONCURRENT, TIMEOUT, Flag, Handler, kinds, until
from tests.support.webserver import params_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.servers.support import Log, Running, Serve
    from tests.support.webserver import WebServer


async def where_it_hangs(handler: Handler, *flags: Flag) -> None:
    await handler.wait(*flags)


def hanging(go_on: Flag, begun: Flag) -> Callable[[Handler], Awaitable[None]]:
    """A handler that tells when it has begun, and hangs until it may go on."""

    async def body(handler: Handler) -> None:
        begun.set()
        await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    return body


def never(info: RequestInfo) -> None:
    raise AssertionError(info)


def test_a_slow_request_is_told_once_with_its_stack(serve: Serve, log: Log) -> None:
    board, seat = own_process()
    monitor = Monitor(seat=seat)
    go_on = Flag()

    async def body(handler: Handler) -> None:
        if handler.environ["PATH_INFO"] == "/slow":
            await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    running = serve(body, monitor=monitor)
    assert running.request("/quick").status == 200
    web = running.connect()
    web.begin(params_for("/slow"))
    web.body(b"", end=True)
    until(lambda: any("await handler.wait(" in stack_of(info) for info in list(monitor.in_flight)))
    with Watch(monitor, slowlog_timeout=0.05, give_up=never):
        record = log.claim("slow: GET /slow, ")
        told = record.getMessage()
        until(lambda: board.sums()[SLOW])
        go_on.set()
        assert web.response().status == 200
        assert running.request("/quick").status == 200
    assert "in where_it_hangs\n" in told
    assert "await handler.wait(*flags)" in told
    fields = record.fcgi  # type: ignore[attr-defined]
    assert (fields["event"], fields["uri"], fields["status"]) == ("slow", "/slow", None)
    assert told.endswith(fields["stack"])
    assert fields["request_time"] >= 0.05
    assert "simple_fastcgi/sync" not in told
    assert "simple_fastcgi/aio" not in told
    # Quick ones may be slow on a busy machine, but this one is told once.
    assert not [record for record in log.records if "/slow" in record.getMessage()]
    log.records.clear()


@CONCURRENT
def test_all_requests_are_told(serve: Serve, log: Log) -> None:
    monitor = Monitor()
    go_on, begun = Flag(), Flag()
    running = serve(hanging(go_on, begun), monitor=monitor)
    web = running.connect()
    web.begin(params_for("/a%0A\n"))
    begun.wait()
    until(lambda: any("where_it_hangs" in stack_of(info) for info in list(monitor.in_flight)))
    tell_all(monitor)
    record = log.claim("1 request under way\nGET /a%0A\\n, ")
    told = record.getMessage()
    (fields,) = record.fcgi["requests"]  # type: ignore[attr-defined]
    assert (fields["uri"], fields["stage"]) == ("/a%0A\n", "running")
    assert fields["stack"] in told
    assert "in where_it_hangs\n" in told
    go_on.set()
    web.body(b"", end=True)
    web.response()
    tell_all(monitor)
    assert log.claim("requests under way").getMessage() == "0 requests under way"


def test_a_request_that_takes_too_long_is_given_up_once(serve: Serve, log: Log) -> None:
    monitor = Monitor()
    given_up: list[RequestInfo] = []
    go_on = Flag()

    async def body(handler: Handler) -> None:
        await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    running = serve(body, monitor=monitor)
    with Watch(monitor, request_timeout=0.05, give_up=given_up.append) as watch:
        web = running.connect()
        web.begin(params_for("/stuck"))
        web.body(b"", end=True)
        log.claim("given up after 0.05 s (request_timeout): GET /stuck, ")
        if serve.kind.is_async:
            assert web.response().status == 500
            assert "CancelledError" in log.claim_failure("GET /stuck failed")
            return
        until(lambda: given_up)
        watch.look()
        assert [info.uri for info in given_up] == ["/stuck"]
        go_on.set()
        web.response()


def begin_four(running: Running) -> list[WebServer]:
    """A request on each of four connections, whose answers are not waited for."""
    webs = [running.connect() for _ in range(4)]
    for number, web in enumerate(webs):
        web.begin(params_for(f"/{number}"))
        web.body(b"", end=True)
    return webs


@kinds("threads")
def test_what_a_request_waits_for_a_thread_counts_for_no_timeout(serve: Serve, log: Log) -> None:
    board, seat = own_process()
    monitor = Monitor(seat=seat)
    given_up: list[RequestInfo] = []
    go_on = Flag()

    async def body(handler: Handler) -> None:
        await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    webs = begin_four(serve(body, monitor=monitor, threads=2))
    until(lambda: Counter(info.stage for info in list(monitor.in_flight)) == {Stage.RUNNING: 2, Stage.QUEUED: 2})
    infos = list(monitor.in_flight)
    for info in infos:
        info.arrived -= 1000
    watch = Watch(monitor, slowlog_timeout=400, request_timeout=500, give_up=given_up.append)
    watch.look()
    log.claim("2 wait for a thread")
    assert not log.records
    assert not given_up
    late = next(info for info in infos if info.stage == Stage.RUNNING)
    late.started -= 600
    watch.look()
    for told in ("slow: GET", "given up after 500 s (request_timeout): GET"):
        assert re.search(
            rf"{late.uri}, 1\d\d\d\.\d+ s \([34]\d\d\.\d+ s of it queued\), running\n", log.claim(told).getMessage()
        )
    assert given_up == [late]
    assert board.sums()[SLOW] == 1
    go_on.set()
    for web in webs:
        assert web.response().status == 200
    # Told of, and ended before it was looked at.
    monitor.in_flight[late] = None
    watch.look()
    del monitor.in_flight[late]
    assert given_up == [late]


@kinds("threads")
def test_saturation_is_told(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SATURATED_SECONDS", 0.01)
    board, seat = own_process()
    monitor = Monitor(seat=seat)
    go_on = Flag()

    async def body(handler: Handler) -> None:
        await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    webs = begin_four(serve(body, monitor=monitor, threads=2))
    # Both threads have one: before that each of them waits for a moment, which is longer on a busy machine.
    until(lambda: Counter(info.stage for info in list(monitor.in_flight)) == {Stage.RUNNING: 2, Stage.QUEUED: 2})
    watch = Watch(monitor, cure="raise --threads", give_up=never)

    def saturated() -> int:
        watch.look()
        return board.sums()[SATURATED]

    until(saturated)
    watch.look()
    told = log.claim("wait for a thread").getMessage()
    assert told.startswith("2 requests are being served, and 2 wait for a thread, the first for ")
    assert told.endswith(" s: raise --threads")
    assert board.sums()[SATURATED] == 1
    go_on.set()
    for web in webs:
        assert web.response().status == 200
    watch.look()
    assert not watch._is_saturated


@kinds("threads")
@pytest.mark.usefixtures("attentive")
def test_saturation_is_told_where_nobody_watches(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading_server, "_WAITED_SECONDS", 0.05)
    go_on = Flag()

    async def body(handler: Handler) -> None:
        await where_it_hangs(handler, go_on)
        await handler.send_response(200)

    running = serve(body, threads=2)
    webs = [running.connect() for _ in range(4)]
    for web in webs:
        web.begin(params_for("/"))
        web.body(b"", end=True)
    told = log.claim("wait for a thread").getMessage()
    assert told.startswith("2 requests are being served, and 2 wait for a thread, the first for more than ")
    assert told.endswith(" s: raise --threads or --workers")
    go_on.set()
    for web in webs:
        assert web.response().status == 200


@kinds("sync")
def test_saturation_of_one_thread_is_told(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts nothing while it is busy: only the listen queue tells."""
    monkeypatch.setattr(watch_module, "SATURATED_SECONDS", 0.01)
    board, seat = own_process()
    monitor = Monitor(seat=seat)
    go_on, begun = Flag(), Flag()
    running = serve(hanging(go_on, begun), monitor=monitor)
    waiting = [0]
    watch = Watch(monitor, give_up=never, queue=lambda: (waiting[0], 8))
    watch.look()
    webs = [running.connect() for _ in range(4)]
    for web in webs:
        web.begin(params_for("/"))
        web.body(b"", end=True)
    begun.wait()
    waiting[0] = 3

    def saturated() -> int:
        watch.look()
        return board.sums()[SATURATED]

    until(saturated)
    told = log.claim("wait in the listen queue").getMessage()
    # Of those that have connected some may wait within the process.
    assert re.match(r"[1-4] requests are being served, and 3 wait in the listen queue, the first for ", told)
    waiting[0] = 0
    watch.look()
    assert not watch._is_saturated
    go_on.set()
    for web in webs:
        assert web.response().status == 200


def test_what_nobody_serves_has_no_stack() -> None:
    info = RequestInfo({"REQUEST_METHOD": "GET", "REQUEST_URI": "/"})
    assert stack_of(info) == ""
    assert re.fullmatch(r"GET /, \d+\.\d{3} s, queued", describe(info))
    info.start()
    info.thread = 0
    assert stack_of(info) == ""


def test_a_stack_begins_with_the_application() -> None:
    """Not with whatever has started a server which serves in that same thread."""
    server = types.ModuleType("simple_fastcgi.sync.server")
    exec("def serve(act):\n    return act()\n", server.__dict__)
    info = RequestInfo({})
    info.start()

    def application() -> str:
        return stack_of(info)

    def arbiter() -> str:
        told: str = server.serve(application)
        return told

    told = arbiter()
    assert re.fullmatch(r'  File ".*", line \d+, in application\n    return stack_of\(info\)', told)


def test_a_look_that_fails_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()

    def fail() -> None:
        looked.set()
        raise RuntimeError("on purpose")

    watch = Watch(Monitor(), slowlog_timeout=0.01, give_up=never)
    monkeypatch.setattr(watch, "look", fail)
    with watch:
        assert looked.wait(TIMEOUT)
        log.claim("error while requests were looked at")
    log.records.clear()
