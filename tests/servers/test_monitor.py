"""What a monitor is told of requests, on every kind of server."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.monitor.info import RequestInfo, Stage
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import ACCEPTED, ENDED, REJECTED, SATURATED, own_process
from simple_fastcgi.protocol.constants import FCGI_DATA, FCGI_FILTER
from simple_fastcgi.sync import threading_server
from tests.servers.support import CONCURRENT, HEAD, Flag, Handler, kinds, until
from tests.support.webserver import encode_request, params_for, stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.servers.support import Log, Serve


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, RequestInfo]] = []

    def arrived(self, info: RequestInfo) -> None:
        self.told.append(("arrived", info))

    def started(self, info: RequestInfo) -> None:
        self.told.append(("started", info))

    def responding(self, info: RequestInfo) -> None:
        self.told.append(("responding", info))

    def ended(self, info: RequestInfo) -> None:
        self.told.append(("ended", info))

    @property
    def ends(self) -> list[RequestInfo]:
        return [info for what, info in self.told if what == "ended"]


def watched() -> tuple[Monitor, Watcher]:
    watcher = Watcher()
    return Monitor([watcher]), watcher


def test_a_request_is_told_from_its_arrival_to_its_end(serve: Serve) -> None:
    monitor, watcher = watched()
    stages = []

    async def body(handler: Handler) -> None:
        (info,) = monitor.in_flight
        stages.append(info.stage)
        assert await handler.read(3) == b"abc"
        buffer = bytearray(2)
        assert await handler.readinto(buffer) == 2
        assert await handler.readall() == b"f"
        await handler.write(b"Status: 201 Created\r\nContent-Type: text/plain\r\n\r\n")
        stages.append(info.stage)
        await handler.write(b"12345", flush=True)

    running = serve(body, monitor=monitor)
    answer = running.request("/a?b", b"abcdef")
    assert (answer.status, answer.body) == (201, b"12345")
    assert [what for what, _ in watcher.told] == ["arrived", "started", "responding", "ended"]
    (info,) = watcher.ends
    assert (info.method, info.uri, info.status) == ("GET", "/a?b", 201)
    assert (info.bytes_in, info.bytes_out, info.aborted, info.failed) == (6, 5, False, False)
    assert stages == [Stage.RUNNING, Stage.RESPONDING]
    assert info.stage == Stage.ENDED
    assert info.arrived <= info.started <= info.ended
    assert 0 <= info.queue_seconds <= info.seconds < 60
    assert not monitor.in_flight


@kinds("sync", "threads")
def test_a_connection_whose_end_cannot_be_counted_ends_nothing_else(serve: Serve, log: Log) -> None:
    class Miscounting(Monitor):
        """As one with an error of ours."""

        def disconnected(self) -> None:
            raise ValueError("on purpose")

    async def body(handler: Handler) -> None:
        await handler.send_response(200)

    running = serve(body, monitor=Miscounting())
    for _ in range(2):
        assert running.request().status == 200
    for _ in range(2):
        assert "ValueError: on purpose" in log.claim_failure(
            "the end of a connection is not counted because of an error"
        )
    assert not running.server._connections


def test_the_file_that_a_filter_reads_is_no_body(serve: Serve) -> None:
    monitor, watcher = watched()

    async def body(handler: Handler) -> None:
        assert await handler.readall() == b"12345"
        assert await handler.read_data(3) == b"ddd"
        assert await handler.readinto_data(bytearray(10)) == 10
        assert len(await handler.read_data()) == 987
        await handler.send_response(200)

    web = serve(body, monitor=monitor, handler={"roles": (FCGI_FILTER,)}).connect()
    web.begin(params_for(), role=FCGI_FILTER)
    web.body(b"12345", end=True)
    web.send(b"".join(stream(FCGI_DATA, 1, b"d" * 1000)))
    assert web.response().status == 200
    assert [info.bytes_in for info in watcher.ends] == [5]


def test_files_count(serve: Serve) -> None:
    monitor, watcher = watched()

    async def body(handler: Handler) -> None:
        with open(__file__, "rb") as file:
            await handler.write(HEAD)
            sent = handler.real.request.send_file(file.fileno(), 0, 1000)
            if sent is not None:
                await sent

    answer = serve(body, monitor=monitor).request()
    assert len(answer.body) == 1000
    assert [(info.status, info.bytes_out) for info in watcher.ends] == [(200, 1000)]


def test_failures_are_told(serve: Serve, log: Log) -> None:
    monitor, watcher = watched()

    async def body(handler: Handler) -> None:
        if handler.environ["PATH_INFO"] != "/before":
            await handler.write(HEAD + b"a part", flush=handler.environ["PATH_INFO"] == "/during")
        raise RuntimeError("on purpose")

    running = serve(body, monitor=monitor)
    assert running.request("/before").status == 500
    assert running.request("/written").status == 500
    running.connect().send(encode_request(params_for("/during")))
    until(lambda: len(watcher.ends) == 3)
    assert [(info.status, info.failed) for info in watcher.ends] == [(500, True), (500, True), (200, True)]
    assert [info.bytes_out for info in watcher.ends] == [22, 22, 6]
    log.claim_failure("GET /written failed")
    log.claim_failure("GET /before failed")
    log.claim_failure("GET /during failed")


class Failing(Watcher):
    """With an error in one of its methods."""

    def __init__(self, step: str) -> None:
        super().__init__()
        setattr(self, step, self.fail)

    def fail(self, info: RequestInfo) -> None:
        raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("step", ["arrived", "started", "responding", "ended"])
def test_an_observer_that_fails_spoils_no_request(serve: Serve, log: Log, step: str) -> None:
    watcher = Watcher()
    monitor = Monitor([Failing(step), watcher])

    async def body(handler: Handler) -> None:
        await handler.send_response(200, "text/plain", "fine")

    running = serve(body, monitor=monitor)
    for _ in range(2):
        answer = running.request()
        assert (answer.status, answer.body) == (200, b"fine")
    until(lambda: len(watcher.ends) == 2)
    assert [info.failed for info in watcher.ends] == [False, False]
    assert not monitor.in_flight
    # Once.
    assert "ZeroDivisionError: on purpose" in log.claim_failure("the observer Failing.fail failed")


LONG = b"X-Long: " + b"x" * 20_000 + b"\r\n"


@pytest.mark.parametrize(
    ("pieces", "status", "size"),
    [
        ((b"Content-Type: text/html\r\n", b"Status: 500 Oops\r\n", b"\r\n", b"<p>no"), 500, 5),
        ((b"Set-Cookie: a=b\r\n", b"Location: /login\r\n\r\n"), 302, 0),
        ((b"Status: 404 Not Found\r\n", b"Content-Type: text/html\r", b"\n\r\n<p>", b"no"), 404, 5),
        ((b"Content-Type: text/html\n", b"Status: 418 Teapot\n", b"\n", b"", b"short"), 418, 5),
        # No more than that is looked at.
        ((b"Content-Type: text/html\r\n", LONG, b"Status: 404 Not Found\r\n", b"\r\n"), 200, 25),
        # One that never ends.
        ((b"Status: 404 Not Found\r\n", b"Content-Type: text/html\r\n"), 404, 0),
    ],
)
def test_a_head_may_be_written_in_pieces(serve: Serve, pieces: tuple[bytes, ...], status: int, size: int) -> None:
    """What is told is what the visitor sees, and told when it is known."""
    watcher, told = Watcher(), []

    class Early(Watcher):
        def responding(self, info: RequestInfo) -> None:
            told.append((info.stage, info.status))

    monitor = Monitor([watcher, Early()])

    async def body(handler: Handler) -> None:
        for piece in pieces:
            await handler.write(piece)

    answer = serve(body, monitor=monitor).request()
    assert answer.stdout == b"".join(pieces)
    assert [(info.status, info.bytes_out) for info in watcher.ends] == [(status, size)]
    assert told == [(Stage.RESPONDING, status)]


def test_a_head_that_fails_in_the_middle(serve: Serve, log: Log) -> None:
    monitor, watcher = watched()

    async def body(handler: Handler) -> None:
        await handler.write(b"Content-Type: text/html\r\n", flush=handler.environ["PATH_INFO"] == "/sent")
        raise RuntimeError("on purpose")

    running = serve(body, monitor=monitor)
    assert running.request("/kept").status == 500
    running.connect().send(encode_request(params_for("/sent")))
    until(lambda: len(watcher.ends) == 2)
    assert [(info.failed, info.bytes_out) for info in watcher.ends] == [(True, 22), (True, 0)]
    assert watcher.ends[0].status == 500
    log.claim_failure("GET /kept failed")
    log.claim_failure("GET /sent failed")


@CONCURRENT
def test_an_abort_is_told_once_the_handler_has_ended(serve: Serve) -> None:
    monitor, watcher = watched()
    begun, seen = Flag(), Flag()

    async def body(handler: Handler) -> None:
        begun.set()
        await handler.until_aborted()
        seen.set()

    running = serve(body, monitor=monitor)
    web = running.connect()
    web.begin(params_for("/slow"))
    begun.wait()
    (info,) = monitor.in_flight
    assert info.uri == "/slow"
    web.abort()
    seen.wait()
    until(lambda: watcher.ends)
    assert [(info.aborted, info.status) for info in watcher.ends] == [(True, 0)]
    assert not monitor.in_flight


def test_a_page_is_answered_without_the_handler(serve: Serve) -> None:
    monitor, watcher = watched()

    def pong(params: Mapping[str, str]) -> bytes:
        return HEAD + b"pong to " + params["QUERY_STRING"].encode()

    monitor.pages["/ping"] = pong

    async def body(handler: Handler) -> None:
        await handler.send_response(200, "text/plain", "the handler")

    running = serve(body, monitor=monitor)
    assert running.request("/ping?x").body == b"pong to x"
    assert running.request("/pings").body == b"the handler"
    with running.connect() as web:
        stock = {"SCRIPT_NAME": "/ping", "QUERY_STRING": "stock"}
        assert web.request(stock).body == b"pong to stock"
        mounted = {"SCRIPT_NAME": "/app", "PATH_INFO": "/ping", "REQUEST_URI": "/app/ping", "QUERY_STRING": ""}
        assert web.request(mounted).body == b"pong to "
    assert [info.is_page for info in watcher.ends] == [True, False, True, True]


@pytest.mark.usefixtures("attentive")
def test_what_is_refused_is_counted(serve: Serve, log: Log) -> None:
    board, seat = own_process()
    monitor = Monitor(seat=seat)

    async def body(handler: Handler) -> None:
        await handler.readall()
        await handler.write(HEAD)

    def verify_request(self: Any, request: Any, client_address: Any) -> bool:
        return bool(request.params["PATH_INFO"] == "/good")

    more = {"verify_request": serve.kind.method(verify_request)}
    running = serve(body, monitor=monitor, server=more, limits={"max_requests_per_connection": 1})
    web = running.connect()
    assert web.request(params_for("/bad")).status == 403
    assert board.sums()[REJECTED] == 1
    web.send(encode_request(params_for("/good"), role=2))
    assert web.response().status == 500
    log.claim("requests in role 2 (Authorizer) are refused")
    until(lambda: board.sums()[REJECTED] == 2)
    web.begin(params_for("/good"))
    web.send(encode_request(params_for("/good"), request_id=2) + encode_request(params_for("/good"), request_id=3))
    assert {response.status for response in web.responses([2, 3]).values()} == {503}
    web.body(b"", end=True)
    assert web.response().status == 200
    until(lambda: board.sums()[REJECTED] == 4)
    assert board.sums()[ENDED] == 2


def test_connections_that_are_refused_are_counted(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1")
    board, seat = own_process()
    assert serve(never, monitor=Monitor(seat=seat)).connect().at_eof()
    until(lambda: board.sums()[REJECTED] == 1)
    assert board.sums()[ACCEPTED] == 0
    log.claim("connection from a unix socket refused")


def test_a_server_that_is_full_counts_it(serve: Serve, log: Log) -> None:
    board, seat = own_process()
    running = serve(never, monitor=Monitor(seat=seat), limits={"max_connections": 1})
    webs = [running.connect() for _ in range(2)]
    until(lambda: board.sums()[SATURATED] == 1)
    log.claim("1 connections are open (max_connections)")
    for web in webs:
        web.close()
    until(lambda: board.sums()[ACCEPTED] == 2)


async def never(handler: Handler) -> None:
    raise AssertionError(handler)


@pytest.mark.parametrize("name", ("PATH_INFO", "SCRIPT_NAME"))
def test_a_uri_is_put_together_where_none_was_sent(name: str) -> None:
    assert RequestInfo({name: "/x"}).uri == "/x"
    assert RequestInfo({}).method == "-"


@kinds("threads")
def test_what_is_cut_off_is_told_as_its_visitor_sees_it(
    serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and nothing of another server's requests, which may share the monitor."""
    monkeypatch.setattr(threading_server, "_ENDING_SECONDS", 0.1)
    monitor, watcher = watched()
    others = monitor.arrived(params_for("/other"))
    begun = {path: Flag() for path in ("/silent", "/unsent", "/begun", "/left")}
    release = Flag()

    async def body(handler: Handler) -> None:
        path = handler.environ["PATH_INFO"]
        if path == "/unsent":
            await handler.write(HEAD)
        elif path == "/begun":
            await handler.write(HEAD, flush=True)
        begun[path].set()
        release.wait()
        if path == "/begun":
            with suppress(ConnectionAbortedError):
                await handler.write(b"too late")

    running = serve(body, monitor=monitor, limits={"graceful_timeout": 0.1})
    webs = {path: running.connect() for path in begun}
    for path, web in webs.items():
        web.begin(params_for(path))
        begun[path].wait()
    webs["/left"].abort()
    until(lambda: any(connection.core._leaving for connection in running.connections()))
    running.ask_to_stop()
    running.wait_for_end()
    assert [webs[path].response().status for path in ("/silent", "/unsent")] == [500, 500]
    release.set()
    until(lambda: not any(thread.name.startswith("fcgi-handler-") for thread in threading.enumerate()))
    told = {info.uri: (info.status, info.aborted, info.failed) for info in watcher.ends}
    assert told == {
        "/silent": (500, False, True),
        "/unsent": (500, False, True),
        "/begun": (200, False, True),
        "/left": (0, True, False),
    }
    assert len(watcher.ends) == len(told)
    assert list(monitor.in_flight) == [others]
    for path in ("/silent", "/unsent", "/begun"):
        log.claim(f"cut off (graceful_timeout): GET {path}, ")
    log.claim("connections cut off after 0.1 s")
    log.claim("some handlers still run after 0.1 s")
