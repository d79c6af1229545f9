"""`AsgiHandler` over real sockets: the ASGI specification to the letter, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

import simple_fastcgi
from simple_fastcgi import gateways
from simple_fastcgi.cgi.response import INTERNAL_SERVER_ERROR
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways import AsgiHandler, response
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDIN, FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_record
from tests.gateways.asgi_support import LOOPS, Host, body, respond, start
from tests.gateways.support import LIMITS, Flag
from tests.support.webserver import BASE_PARAMS, WebServer, collect, encode_request, params_for, stream
from tests.support.webserver import Response as Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateways.asgi_support import App, LoopFactory, Receive, Scope, Send

    HostMaker = Callable[..., Host]

PACKAGE = os.path.dirname(simple_fastcgi.__file__)
POST = params_for(REQUEST_METHOD="POST")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> LoopFactory:
    return LOOPS[request.param]


@pytest.fixture
def host(loop: LoopFactory) -> HostMaker:
    """Serve an application on either loop."""
    return lambda app, **settings: Host(app, loop, **settings)


def answer(host: Host, params: dict[str, str] | None = None, stdin: bytes = b"") -> Answer:
    with host as web:
        return web.request(params or params_for(), stdin)


def read_to_the_cut(web: WebServer) -> Answer:
    """What came of a response that breaks off: a record of nobody, then the end of the connection."""
    got = Answer()
    while (record := web.record()).id == 1:
        collect(got, record)
    assert (record.type, record.content, got.ended) == (FCGI_STDOUT, b"", False)
    assert web.at_eof()
    return got


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def sending(*sent: dict[str, Any] | type[BaseException]) -> App:
    """An application that sends these messages, and raises these errors, in turn."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            if isinstance(message, type):
                raise message("mine")
            await send(message)

    return app


def starting(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(data: bytes | bytearray | memoryview, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


# ------------------------------------------------------------------------------ scope


def scope_of(host: HostMaker, params: dict[str, str], **settings: Any) -> Scope:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await respond(send)

    answer(host(app, **settings), params)
    return seen[0]


def test_scope(host: HostMaker) -> None:
    params = params_for(
        "/caf%C3%A9/x?q=%20",
        PATH_INFO="/cafÃ©/x",
        HTTP_X_ONE="1",
        HTTP_COOKIE="a=b",
        HTTP_PROXY="evil",
        CONTENT_TYPE="",
        CONTENT_LENGTH="",
        SERVER_PROTOCOL="HTTP/2.0",
        HTTPS="on",
    )
    scope = scope_of(host, params)
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": "GET",
        "scheme": "https",
        "path": "/café/x",
        "raw_path": b"/caf%C3%A9/x",
        "query_string": b"q=%20",
        "root_path": "",
        "headers": [(b"host", b"example.org"), (b"x-one", b"1"), (b"cookie", b"a=b")],
        "client": ("192.0.2.7", 51234),
        "server": ("example.org", 80),
        "extensions": {
            "fastcgi": {"params": scope["extensions"]["fastcgi"]["params"]},
            "http.response.pathsend": {},
        },
    }
    sent = scope["extensions"]["fastcgi"]["params"]
    assert sent.keys() == params.keys() - {"HTTP_PROXY"}
    assert sent["PATH_INFO"] == "/cafÃ©/x"


@pytest.mark.parametrize(
    "params",
    (
        {},
        {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "0"},
        {"REMOTE_ADDR": "unix:", "REMOTE_PORT": "", "SERVER_NAME": "", "SERVER_PORT": ""},
        {"REQUEST_URI": "http://example.org/x?y"},
        {"REQUEST_URI": "", "REQUEST_METHOD": "", "SERVER_PROTOCOL": "INCLUDED"},
        {"HTTP_X_A_B": "ÿ", "PATH_INFO": "/ÿ", "REQUEST_URI": "/%ff"},
        {"SERVER_NAME": "unix:/run/app.sock"},
    ),
    ids=range(7),
)
def test_scopes_of_odd_requests_are_scopes(host: HostMaker, params: dict[str, str]) -> None:
    assert scope_of(host, {**BASE_PARAMS, **params})["type"] == "http"


def test_scope_of_no_parameters_at_all(host: HostMaker) -> None:
    assert scope_of(host, {"X": ""})["path"] == "/"


@pytest.mark.parametrize(("told", "expected"), ((None, ""), ("/app", "/app"), ("app/", "/app"), ("/", ""), ("", "")))
def test_root_path(host: HostMaker, told: str | None, expected: str) -> None:
    scope = scope_of(host, params_for("/app/x"), root_path=told)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (expected, "/app/x", b"/app/x")


def test_root_path_that_cannot_be_one() -> None:
    with pytest.raises(ConfigurationError, match="root_path="):
        AsgiHandler.for_app(sending(), root_path="a?b")


def test_scopes_are_of_one_request_alone(host: HostMaker) -> None:
    """What an application puts in is gone with the request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "mine" not in scope
        assert "mine" not in scope["extensions"]
        scope["mine"] = scope["extensions"]["mine"] = {}
        scope["headers"].append((b"mine", b"1"))
        await respond(send, b"%d" % len(scope["headers"]))

    with host(app) as web:
        assert [web.request(params_for()).body for _ in range(3)] == [b"2"] * 3


# ------------------------------------------------------------------------------ receive


def test_no_body(host: HostMaker) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await respond(send)
        seen.append(await receive())
        seen.append(await receive())

    answer(host(app))
    disconnect = {"type": "http.disconnect"}
    assert seen == [{"type": "http.request", "body": b"", "more_body": False}, disconnect, disconnect]


def test_a_body_that_is_there(host: HostMaker) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await respond(send)

    answer(host(app), POST, b"body")
    assert seen == [{"type": "http.request", "body": b"body", "more_body": False}]


def test_a_body_in_parts(host: HostMaker) -> None:
    """Each is handed over when it comes, and what is not there is waited for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await body(send, b"%s %d" % (message["body"], more), more=True)
        await body(send)

    with host(app) as web:
        web.begin(POST)
        assert web.record().content == b"Status: 200 OK\r\n\r\n"
        for data in (b"one", b"two", b"three"):
            web.body(data)
            assert web.record().content == data + b" 1"
        web.body(b"", end=True)
        assert web.record().content == b" 0"
        assert web.response().ended


class Watching(AsgiHandler):
    """Shows what its connection holds."""

    seen: list[Any]

    async def handle(self) -> None:
        self.seen.append(self.request.connection)
        await super().handle()


def test_a_large_body_meets_an_application_that_is_in_no_hurry(loop: LoopFactory) -> None:
    """What nobody has read waits with the web server, not in memory."""
    size = 20_000_000
    peak = largest = got = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal peak, largest, got
        connection = Watching.seen[0]
        # The web server may be the slower of the two.
        while connection.core.buffered_input < LIMITS.max_buffered_input:
            await asyncio.sleep(0)
        more = True
        while more:
            for _ in range(20):
                # The loop reads as much as it likes.
                await asyncio.sleep(0)
                peak = max(peak, connection.core.buffered_input)
            message = await receive()
            more = message["more_body"]
            largest = max(largest, len(message["body"]))
            got += len(message["body"])
        await respond(send, b"%d" % got)

    Watching.seen = []
    with Host(app, loop, handler=Watching) as web:
        assert web.request(POST, bytes(size)).body == b"20000000"
    # A read more than allowed, since one cannot know how much will come.
    assert LIMITS.max_buffered_input <= peak <= LIMITS.max_buffered_input + 256 * 1024
    # What comes while it waits, the application has not looked at before.
    assert largest <= LIMITS.max_buffered_input + 256 * 1024


def test_several_wait_for_the_body_at_once(host: HostMaker) -> None:
    """Each part goes to one of them, nothing is lost, and all hear of the end."""
    waiting = Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(receive()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting.set()
        parts: list[dict[str, Any]] = []
        while all(message["more_body"] for message in parts):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            parts.extend(task.result() for task in done)
            tasks = [task for task in tasks if task not in done]
        await respond(send, b"".join(message["body"] for message in parts))
        assert {(await task)["type"] for task in tasks} == {"http.disconnect"}

    with host(app) as web:
        web.begin(POST)
        waiting.wait()
        web.body(b"one", end=True)
        assert web.response().body == b"one"


# ------------------------------------------------------------------------------ disconnect


@pytest.mark.parametrize("unread", (b"", b"unread"), ids=repr)
@pytest.mark.parametrize("way", ("abort", "hang-up"))
def test_a_web_server_that_gives_up_is_noticed(
    host: HostMaker, caplog: pytest.LogCaptureFixture, way: str, unread: bytes
) -> None:
    waiting, done = Flag(), Flag()
    errors: list[Exception] = []
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
        seen.append(await receive())
        for message in (starting(), part(b"x"), part(b"x", more=True), {"type": "odd"}):
            try:
                await send(message)
            except OSError as error:
                errors.append(error)
        done.set()

    with host(app) as web:
        web.begin(POST)
        waiting.wait()
        web.body(unread)
        if way == "abort":
            web.abort()
            got = web.response()
            assert (got.stdout, got.stderr, got.protocol_status) == (b"", b"", 0)
        else:
            web.close()
        done.wait()
    assert seen == [{"type": "http.disconnect"}]
    assert len(errors) == 4
    assert not messages(caplog)


def test_a_body_that_does_not_come(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    """`read_timeout`: once the application was told of a disconnect no more of the body comes; it may still answer."""
    told, more = Flag(), Flag()
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()
        await more.seen()
        seen.append(await receive())
        await respond(send, b"too late", status=408)

    with host(app, limits=Limits(read_timeout=0.05)) as web:
        web.begin(POST)
        web.body(b"half")
        told.wait()
        web.body(b"the other half")
        more.set()
        assert web.response().body == b"too late"
    assert seen == [{"type": "http.disconnect"}]
    assert len(messages(caplog)) == 1


def test_an_application_that_lets_the_error_of_send_out(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    """That the visitor has left is no failure."""
    gone, ended = Flag(), Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        gone.set()
        await receive()
        try:
            await body(send, b"x")
        finally:
            ended.set()

    with host(app) as web:
        web.send(encode_request(params_for()))
        gone.wait()
        web.close()
        ended.wait()
    assert not messages(caplog)


def test_a_stream_hears_at_once_of_a_web_server_that_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Where the loop sends within the call, as that of asyncio does, also in a turn in which it has not heard of it."""
    streaming, gone, ended = Flag(), Flag(), Flag()
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send)
        for _ in range(3):
            await body(send, b"event", more=True)
        streaming.set()
        gone.wait()
        try:
            while True:
                await body(send, b"event", more=True)
                sent += 1
        finally:
            ended.set()

    with Host(app, LOOPS["asyncio"]) as web:
        web.send(encode_request(params_for()))
        streaming.wait()
        web.close()
        gone.set()
        ended.wait()
    assert sent == 0
    assert not messages(caplog)


def test_a_stream_ends_when_the_web_server_hangs_up(host: HostMaker) -> None:
    ended = Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        try:
            while True:
                await body(send, bytes(10_000), more=True)
                await asyncio.sleep(0)
        except OSError:
            ended.set()
            raise

    with host(app) as web:
        web.send(encode_request(params_for()))
        assert web.record().content
        web.close()
        ended.wait()


def test_sending_behind_the_end(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = []
    done = Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x")
        for message in (starting(), part(b"y"), part(b"y", more=True), {"type": "odd"}):
            try:
                await send(message)
            except RuntimeError as error:
                errors.append(error)
        done.set()

    with host(app) as web:
        assert web.request(params_for()).body == b"x"
        done.wait()
    assert len(errors) == 4
    assert not messages(caplog)


# ------------------------------------------------------------------------------ send


@pytest.mark.parametrize(
    ("sent", "error"),
    (
        ((part(b"x"),), b"http.response.body was sent before http.response.start"),
        ((part(b"", more=True),), b"http.response.body was sent before http.response.start"),
        ((starting(), starting()), b"http.response.start was sent a second time"),
        (({"type": "http.response.trailers"},), b"'http.response.trailers' is not a message that can be sent here"),
        (({"type": "websocket.accept"},), b"'websocket.accept' is not a message that can be sent here"),
        (({"type": None},), b"None is not a message"),
        (({},), b"KeyError: 'type'"),
        ((None,), b"TypeError"),
        (({"type": "http.response.start"},), b"KeyError: 'status'"),
        ((starting(status=100),), b"ValueError: status code 100"),
        ((starting(status=600),), b"ValueError: status code 600"),
        ((starting(status="200"),), b"ValueError: status code '200'"),  # type: ignore[arg-type]
        ((starting(status=True),), b"ValueError: status code True"),
        ((starting(status=None),), b"ValueError: status code None"),  # type: ignore[arg-type]
        ((starting(("x-one", "1")),), b"TypeError: header names and values are bytes, not str: 'x-one'"),  # type: ignore[arg-type]
        ((starting((b"x-one", "1")),), b"TypeError: header names and values are bytes, not str: '1'"),  # type: ignore[arg-type]
        ((starting((b"x-one", 1)),), b"TypeError"),  # type: ignore[arg-type]
        ((starting((b"x-one",)),), b"ValueError"),  # type: ignore[arg-type]
        ((starting((b"x one", b"1")),), b"ValueError: field name 'x one'"),
        ((starting((b"", b"1")),), b"ValueError: field name ''"),
        ((starting((b"x-one", b"1\r\nset-cookie: a=b")),), b"ValueError: CR, LF or NUL"),
        ((starting((b"x-one", b"1\n")),), b"ValueError: CR, LF or NUL"),
        ((starting((b"x-one", b"\0")),), b"ValueError: CR, LF or NUL"),
        ((starting((b"x\none", b"1")),), b"ValueError: field name"),
        ((starting((b"content-length", b"x")),), b"ValueError: Content-Length 'x'"),
        ((starting((b"content-length", b"-1")),), b"ValueError: Content-Length '-1'"),
        ((starting((b"content-length", b"1"), (b"content-length", b"2")),), b"two Content-Length fields that differ"),
        ((starting(), part("text")), b"TypeError: bytes are wanted here, not str"),  # type: ignore[arg-type]
        ((starting(), part(None)), b"TypeError: bytes are wanted here, not NoneType"),  # type: ignore[arg-type]
        ((starting(), part(5)), b"TypeError: bytes are wanted here, not int"),  # type: ignore[arg-type]
    ),
    ids=repr,
)
@pytest.mark.usefixtures("caplog")
def test_messages_that_cannot_be_sent(host: HostMaker, sent: tuple[dict[str, Any], ...], error: bytes) -> None:
    got = answer(host(sending(*sent)))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert error in got.stderr


def test_a_message_that_cannot_be_sent_may_be_followed_by_a_better_one(host: HostMaker) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for bad in (starting((b"x", b"\n")), part(b"x"), {"type": "odd"}):
            with pytest.raises((ValueError, RuntimeError)):
                await send(bad)
        await respond(send, b"good", (b"x", b"y"))

    assert answer(host(app)).stdout == b"Status: 200 OK\r\nx: y\r\n\r\ngood"


@pytest.mark.parametrize(
    ("sent", "stdout"),
    (
        ((starting(), part(b"x")), b"Status: 200 OK\r\n\r\nx"),
        ((starting(), part(b"")), b"Status: 200 OK\r\n\r\n"),
        ((starting(), {"type": "http.response.body"}), b"Status: 200 OK\r\n\r\n"),
        (({"type": "http.response.start", "status": 404}, part(b"x")), b"Status: 404 Not Found\r\n\r\nx"),
        ((starting(status=299), part(b"x")), b"Status: 299 Unknown\r\n\r\nx"),
        ((starting((b"a", b"1"), (b"A", b"\xe9")), part(b"x")), b"Status: 200 OK\r\na: 1\r\nA: \xe9\r\n\r\nx"),
        ((starting(), part(b"x", more=True), part(b"y", more=True), part(b"z")), b"Status: 200 OK\r\n\r\nxyz"),
        ((starting(), part(b"", more=True), part(b"", more=True), part(b"")), b"Status: 200 OK\r\n\r\n"),
        ((starting(), part(bytearray(b"x"), more=True), part(memoryview(b"y"))), b"Status: 200 OK\r\n\r\nxy"),
        ((starting(), part(bytes(500_000), more=True), part(bytes(9))), b"Status: 200 OK\r\n\r\n" + bytes(500_009)),
        (
            (starting((b"content-length", b"2"), (b"Content-Length", b"2")), part(b"xy")),
            b"Status: 200 OK\r\ncontent-length: 2\r\n\r\nxy",
        ),
    ),
    ids=range(11),
)
def test_responses(host: HostMaker, sent: tuple[dict[str, Any], ...], stdout: bytes) -> None:
    got = answer(host(sending(*sent)))
    assert (got.stdout, got.stderr, got.app_status, got.protocol_status) == (stdout, b"", 0, 0)


def test_headers_as_other_iterables(host: HostMaker) -> None:
    sent = {"type": "http.response.start", "status": 200, "headers": iter([[b"x-one", b"1"], [b"x-two", b"2"]])}
    assert answer(host(sending(sent, part(b"")))).head == {"status": "200 OK", "x-one": "1", "x-two": "2"}


def test_each_part_arrives_before_the_next_is_sent(host: HostMaker) -> None:
    arrived = [Flag(), Flag(), Flag()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for number, flag in enumerate(arrived):
            await body(send, b"part %d" % number, more=True)
            await flag.seen()
        await body(send)

    with host(app) as web:
        web.send(encode_request(params_for()))
        for number, flag in enumerate(arrived):
            assert web.record().content.rpartition(b"\r\n")[2] == b"part %d" % number
            flag.set()
        assert web.response().ended


@pytest.mark.parametrize("status", (200, 500))
def test_a_stream_has_parts_of_any_kind_and_ends_once(host: HostMaker, status: int) -> None:
    sizes = (1, 7, 8, 0, 16_384, 16_385, 100_000, 3)
    parts = [kind(b"%d" % (size % 10) * size) for size in sizes for kind in (bytes, bytearray, bytes, memoryview)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, status=status)
        for data in parts:
            await body(send, data, more=True)
        await body(send)
        for more in (True, False):
            with pytest.raises(RuntimeError, match="behind the end"):
                await body(send, b"late", more=more)
        with pytest.raises(RuntimeError, match="behind the end"):
            await start(send)

    got = answer(host(app))
    assert (got.status, got.stderr, got.app_status) == (status, b"", 0)
    assert got.body == b"".join(parts)


@pytest.mark.parametrize("length", ((), ((b"content-length", b"5"),)), ids=("stream", "length"))
def test_a_head_without_a_body_yet(host: HostMaker, length: tuple[tuple[bytes, bytes], ...]) -> None:
    """A stream's head goes out while its first event is awaited; one with a length waits for its body."""
    seen, later = Flag(), Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, *length)
        await asyncio.sleep(0)
        seen.set()
        await later.seen()
        await body(send, b"event")

    with host(app) as web:
        web.send(encode_request(params_for()))
        seen.wait()
        if not length:
            assert web.record().content == b"Status: 200 OK\r\n\r\n"
            later.set()
            assert web.response().stdout == b"event"
        else:
            later.set()
            first = web.record().content
            assert first == b"Status: 200 OK\r\ncontent-length: 5\r\n\r\nevent"
            assert web.response().stdout == b""


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each system call of asyncio's loop has sent."""
    calls: list[bytes] = []
    send, sendmsg = socket.socket.send, socket.socket.sendmsg

    def recording_send(self: socket.socket, data: Any, *rest: Any) -> int:
        # The loop wakes itself through a socket.
        if len(data) > 1:
            calls.append(bytes(data))
        return send(self, data, *rest)

    def recording_sendmsg(self: socket.socket, buffers: Any, *rest: Any) -> int:
        calls.append(b"".join(buffers))
        return sendmsg(self, buffers, *rest)

    monkeypatch.setattr(socket.socket, "send", recording_send)
    monkeypatch.setattr(socket.socket, "sendmsg", recording_sendmsg)
    return calls


@pytest.mark.parametrize("keep", (True, False))
@pytest.mark.parametrize("headers", ((), ((b"content-length", b"5"),)), ids=("plain", "length"))
def test_a_small_answer_leaves_in_one_write(
    sends: list[bytes], keep: bool, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    with Host(sending(starting(*headers), part(b"small")), asyncio.new_event_loop) as web:
        got = web.request(params_for(), keep=keep)
    assert got.body == b"small"
    assert len(sends) == 1
    assert sends[0].endswith(encode_record(FCGI_END_REQUEST, 1, bytes(8)))


def test_a_slow_reader_makes_the_application_wait(loop: LoopFactory) -> None:
    """What the web server does not take is not produced: memory stays flat."""
    count, size = 60, 50_000
    peak = 0
    stalled = Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def look() -> None:
            nonlocal peak
            while True:
                peak = max(peak, Watching.seen[0].transport.get_write_buffer_size())
                if peak:
                    stalled.set()
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await start(send)
        for _ in range(count):
            await body(send, bytes(size), more=True)
        looking.cancel()
        await body(send)

    Watching.seen = []
    with Host(app, loop, handler=Watching, limits=Limits(max_buffered_output=100_000)) as web:
        web.send(encode_request(params_for()))
        stalled.wait()
        assert len(web.response().body) == count * size
    assert 0 < peak <= 100_000 + 2 * size


# ------------------------------------------------------------------------------ what applications do wrong


def test_returning_without_a_response(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    got = answer(host(sending()))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert got.stderr.endswith(b"RuntimeError: the application returned without a response\n")
    assert messages(caplog) == ["GET / failed"]


def test_returning_behind_the_start(host: HostMaker) -> None:
    got = answer(host(sending(starting())))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert got.stderr.endswith(b"RuntimeError: the application returned in the middle of its response\n")


def test_returning_in_the_middle(host: HostMaker) -> None:
    with host(sending(starting(), part(b"one", more=True))) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"one"
    assert got.stderr.endswith(b"RuntimeError: the application returned in the middle of its response\n")


class OddError(BaseException):
    """Not even an Exception."""


ERRORS = (LookupError, SystemExit, KeyboardInterrupt, OddError, GeneratorExit, asyncio.CancelledError)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("sent", ((), (starting(),), (starting((b"content-length", b"9")),)), ids=range(3))
def test_errors_before_anything_was_sent(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException], sent: tuple[dict[str, Any], ...]
) -> None:
    with host(sending(*sent, error)) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert got.stdout == INTERNAL_SERVER_ERROR
            assert (got.app_status, got.protocol_status) == (0, 0)
            assert got.stderr.startswith(b"Traceback (most recent call last):\n")
            assert error.__name__.encode() in got.stderr.splitlines()[-1]
            assert PACKAGE not in got.stderr.decode()
    assert messages(caplog).count("GET / failed") == 2


@pytest.mark.parametrize("error", ERRORS)
def test_errors_behind_the_start_are_visible(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    with host(sending(starting(), part(b"one", more=True), error)) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"one"
    assert error.__name__.encode() in got.stderr.splitlines()[-1]
    assert messages(caplog).count("GET / failed") == 1


def test_an_error_behind_a_head_that_went_out_early(host: HostMaker) -> None:
    seen = Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await seen.seen()
        raise LookupError

    with host(app) as web:
        web.send(encode_request(params_for()))
        assert web.record().content == b"Status: 200 OK\r\n\r\n"
        seen.set()
        assert b"LookupError" in read_to_the_cut(web).stderr


def test_an_error_behind_a_whole_response(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    with host(sending(starting(), part(b"whole"), LookupError)) as web:
        for _ in range(2):
            assert web.request(params_for()).body == b"whole"
    assert messages(caplog) == ["GET / failed"] * 2


def test_an_error_page_and_then_the_error(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    """As Starlette does it: the page is the visitor's, the traceback goes to the web server's error log."""
    with host(sending(starting(status=500), part(b"sorry"), LookupError)) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert (got.status, got.body, got.app_status) == (500, b"sorry", 0)
            assert got.stderr.endswith(b"LookupError: mine\n")
    assert messages(caplog) == ["GET / failed"] * 2


def test_an_error_page_without_an_error(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await respond(send, b"sorry", status=503)
        with pytest.raises(RuntimeError):
            await body(send)
        seen.append(await waiting)
        seen.append(await receive())

    with host(app) as web:
        got = web.request(params_for())
    assert (got.status, got.body, got.stderr) == (503, b"sorry", b"")
    assert seen == [{"type": "http.disconnect"}] * 2
    assert not messages(caplog)


def test_background_work_behind_the_response(host: HostMaker) -> None:
    """The answer and its end do not wait for it, and the server does."""
    answered = Flag()
    works: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"x")
        await answered.seen()
        works.append("done")

    with host(app) as web:
        assert web.request(params_for()).body == b"x"
        assert web.request(params_for()).body == b"x"
        answered.set()
    assert works == ["done"] * 2


# ------------------------------------------------------------------------------ Content-Length, special fields


LENGTH_6 = starting((b"content-length", b"6"))


@pytest.mark.parametrize("sent", ((part(b""),), (part(b"one"),), (part(b"", more=True), part(b"one"))), ids=range(3))
def test_shorter_than_its_length(host: HostMaker, sent: tuple[dict[str, Any], ...]) -> None:
    with host(sending(LENGTH_6, *sent)) as web:
        web.send(encode_request(params_for()))
        if len(sent) == 1:
            got = web.response()
            assert got.stdout == INTERNAL_SERVER_ERROR
        else:
            got = read_to_the_cut(web)
    assert b"bytes shorter than its Content-Length" in got.stderr


@pytest.mark.parametrize(
    "sent",
    (
        (part(b"onetwothree"),),
        (part(b"onetwothree", more=True), part(b"four")),
        (part(b"one", more=True), part(b"twothree"), part(b"four")),
        (part(b"onetwo", more=True), part(b"three", more=True), part(b"")),
    ),
    ids=range(4),
)
def test_longer_than_its_length(
    host: HostMaker, caplog: pytest.LogCaptureFixture, sent: tuple[dict[str, Any], ...]
) -> None:
    with host(sending(LENGTH_6, *sent)) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert (got.body, got.app_status) == (b"onetwo", 0)
    assert messages(caplog) == ["GET / failed"] * 2
    assert "longer than its Content-Length" in caplog.text


def test_as_long_as_its_length(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    """The application's last word is its own, as of a stream without a length."""
    assert (
        answer(host(sending(LENGTH_6, part(b"one", more=True), part(b"two", more=True), part(b"")))).body == b"onetwo"
    )
    assert not messages(caplog)


@pytest.mark.parametrize("length", (None, b"0", b"3", b"1000"))
@pytest.mark.parametrize("sent", ((part(b""),), (part(b"one"),), (part(b"one", more=True), part(b"two"))), ids=range(3))
def test_the_body_of_head_is_dropped(
    host: HostMaker, caplog: pytest.LogCaptureFixture, length: bytes | None, sent: tuple[dict[str, Any], ...]
) -> None:
    headers = () if length is None else ((b"content-length", length),)
    got = answer(host(sending(starting(*headers), *sent)), params_for(REQUEST_METHOD="HEAD"))
    assert (got.body, got.stderr) == (b"", b"")
    assert got.head.get("content-length") == (None if length is None else length.decode())
    assert not messages(caplog)


@pytest.mark.parametrize("status", (204, 304))
def test_bodies_of_statuses_that_have_none(host: HostMaker, caplog: pytest.LogCaptureFixture, status: int) -> None:
    for headers in ((), ((b"content-length", b"1000"),)):
        got = answer(host(sending(starting(*headers, status=status), part(b"one", more=True), part(b"two"))))
        assert (got.status, got.body, got.stderr) == (status, b"", b"")
    assert not messages(caplog)


NO_BODY = pytest.mark.parametrize(("method", "status"), (("HEAD", 200), ("GET", 204), ("GET", 304)))


@NO_BODY
@pytest.mark.parametrize("headers", ((), ((b"content-length", b"6"),)), ids=("stream", "length"))
def test_the_rest_of_a_body_that_nobody_wants(
    host: HostMaker,
    caplog: pytest.LogCaptureFixture,
    method: str,
    status: int,
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    """The response is complete with its head; an application that comes to its end need not know."""
    answered, done = Flag(), Flag()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        await start(send, *headers, status=status)
        await body(send, b"one", more=True)
        assert await receive() == {"type": "http.disconnect"}
        await answered.seen()
        for data in (b"two", b"", b"more than its length"):
            await body(send, data, more=True)
        await body(send)
        with pytest.raises(RuntimeError, match="behind the end"):
            await body(send, b"three")
        with pytest.raises(RuntimeError, match="behind the end"):
            await start(send)
        done.set()

    with host(app) as web:
        got = web.request(params_for(REQUEST_METHOD=method))
        assert (got.status, got.body, got.stderr, got.app_status) == (status, b"", b"", 0)
        answered.set()
        done.wait()
    assert not messages(caplog)


def test_a_file_behind_a_part_that_nobody_wants(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    sent = (starting(), part(b"one", more=True), {"type": "http.response.pathsend", "path": "/nowhere"})
    assert answer(host(sending(*sent)), params_for(REQUEST_METHOD="HEAD")).body == b""
    assert not messages(caplog)


def test_a_second_start_behind_a_response_that_is_complete_with_its_head(
    host: HostMaker, caplog: pytest.LogCaptureFixture
) -> None:
    sent = (starting(), part(b"one", more=True), starting())
    assert answer(host(sending(*sent)), params_for(REQUEST_METHOD="HEAD")).body == b""
    assert messages(caplog) == ["HEAD / failed"]


@pytest.mark.parametrize("lets_out", (True, False))
def test_a_body_without_an_end_that_nobody_wants(
    host: HostMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, lets_out: bool
) -> None:
    """The application learns of it as when a visitor leaves, and that is no failure of it; others get their turn."""
    monkeypatch.setattr(gateways.asgi, "_PATIENCE_SECONDS", 0.0)
    ends = [Flag(), Flag()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await respond(send, b"whole")
            return
        await start(send)
        try:
            while True:
                await body(send, b"more", more=True)
        except OSError:
            with pytest.raises(OSError, match="aborted"):
                await body(send, b"more", more=True)
            if lets_out:
                raise
        finally:
            ends[int(scope["query_string"])].set()

    with host(app) as web:
        for number, ended in enumerate(ends):
            assert web.request(params_for(f"/?{number}", REQUEST_METHOD="HEAD")).body == b""
            ended.wait()
            assert web.request(params_for()).body == b"whole"
    assert not messages(caplog)


def test_a_stream_that_tells_of_an_error_keeps_its_traceback(host: HostMaker) -> None:
    """Of a response without a body, too."""
    sent = (starting(status=500), part(b"one", more=True), part(b"two"), LookupError)
    got = answer(host(sending(*sent)), params_for(REQUEST_METHOD="HEAD"))
    assert (got.status, got.body) == (500, b"")
    assert b"LookupError: mine" in got.stderr


@pytest.mark.parametrize("field", ((b"Transfer-Encoding", b"chunked"), (b"status", b"404 Not Found")), ids=repr)
def test_fields_that_are_the_web_servers_to_set(
    host: HostMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, field: tuple[bytes, bytes]
) -> None:
    monkeypatch.setattr(response, "_warned", set())
    with host(sending(starting(field, (b"x", b"y"), field), part(b"x"))) as web:
        for _ in range(3):
            assert web.request(params_for()).stdout == b"Status: 200 OK\r\nx: y\r\n\r\nx"
    assert len(messages(caplog)) == 1


@pytest.mark.parametrize(
    ("headers", "settings", "expected"),
    (
        ([(b"content-type", b"text/event-stream; charset=utf-8")], {}, "no"),
        ([(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"yes")], {}, "yes"),
        ([(b"content-type", b"text/event-stream")], {"unbuffered_events": False}, None),
        ([(b"content-type", b"text/html")], {}, None),
    ),
    ids=range(4),
)
def test_events_are_not_buffered(
    host: HostMaker, headers: list[tuple[bytes, bytes]], settings: dict[str, bool], expected: str | None
) -> None:
    got = answer(host(sending(starting(*headers), part(b"x")), **settings))
    assert got.head.get("x-accel-buffering") == expected


# ------------------------------------------------------------------------------ many at once


def test_requests_run_side_by_side(host: HostMaker) -> None:
    """On one connection: each waits until all have come."""
    count = 20
    here = 0
    all_here: list[asyncio.Event] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal here
        if not all_here:
            all_here.append(asyncio.Event())
        here += 1
        if here == count:
            all_here[0].set()
        await all_here[0].wait()
        message = await receive()
        await respond(send, scope["query_string"] + b" " + message["body"])

    ids = range(1, count + 1)
    with host(app) as web:
        for number in ids:
            web.send(encode_request(params_for(f"/?{number}"), b"%d" % number, request_id=number))
        got = web.responses(ids)
    assert {number: each.body for number, each in got.items()} == {n: b"%d %d" % (n, n) for n in ids}


def test_input_of_several_requests_on_one_connection(host: HostMaker) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        data, more = b"", True
        while more:
            message = await receive()
            data, more = data + message["body"], message["more_body"]
        await respond(send, data)

    with host(app) as web:
        for number in (1, 2, 3):
            web.begin(POST, request_id=number)
        for letter in (b"a", b"b", b"c"):
            for number in (1, 2, 3):
                web.send(b"".join(stream(FCGI_STDIN, number, letter * number, end=letter == b"c")))
        got = web.responses((1, 2, 3))
    assert {number: each.body for number, each in got.items()} == {1: b"abc", 2: b"aabbcc", 3: b"aaabbbccc"}


# ------------------------------------------------------------------------------ shapes of applications


class Double:
    """An application of ASGI 2."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        message = await receive()
        await respond(send, self.scope["path"].encode() + b" " + message["body"])


def run_unchecked(app: Any, loop: LoopFactory, params: dict[str, str], stdin: bytes = b"") -> Answer:
    from tests.gateways.support import async_server

    with async_server(AsgiHandler.for_app(app, lifespan="off"), loop) as address, WebServer(address) as web:
        return web.request(params, stdin)


def test_a_double_callable(loop: LoopFactory) -> None:
    assert run_unchecked(Double, loop, params_for("/x", REQUEST_METHOD="POST"), b"body").body == b"/x body"


def test_a_double_callable_without_asgiref(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asgiref.compatibility", None)
    with pytest.raises(ConfigurationError, match=r"install simple_fastcgi\[asgi2\]"):
        AsgiHandler.for_app(Double)


def test_an_application_whose_shape_says_nothing(loop: LoopFactory) -> None:
    """It was said to be ASGI by whoever made a handler for it."""
    plain = sending(starting(), part(b"x"))
    assert run_unchecked(lambda *arguments: plain(*arguments), loop, params_for()).body == b"x"


def test_names_of_the_package() -> None:
    assert gateways.AsgiHandler is AsgiHandler
    with pytest.raises(AttributeError, match="no attribute 'CgiHandler'"):
        gateways.CgiHandler  # noqa: B018
