"""`WsgiHandler` over real sockets: PEP 3333 to the letter, single-threaded and with threads."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
import threading
import time
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

import pytest

import simple_fastcgi
from simple_fastcgi.cgi.response import INTERNAL_SERVER_ERROR
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways import WsgiHandler, response
from simple_fastcgi.limits import Limits
from simple_fastcgi.net import accept
from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_record
from simple_fastcgi.sync import link
from tests.gateways.support import LIMITS, PATIENT, TEXT, Flag, Validated, sync_server
from tests.support.webserver import Response as Answer
from tests.support.webserver import WebServer, collect, encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
    HostMaker = Callable[..., "Host"]

PACKAGE = os.path.dirname(simple_fastcgi.__file__)
# PEP 3333, "environ Variables", and what a web server need not send.
OUR_KEYS = {
    *("wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess"),
    *("wsgi.run_once", "wsgi.file_wrapper", "wsgi.input_terminated"),
}


@pytest.fixture(params=(1, 2), ids=("single", "threads"))
def host(request: pytest.FixtureRequest) -> HostMaker:
    """Serve an application on a server of either kind."""

    def make(app: App, *, raw: bool = False, **settings: Any) -> Host:
        return Host(app, request.param, raw=raw, **settings)

    return make


class Host:
    """A server that runs an application, and one connection to it; `raw` applications are not validated."""

    def __init__(self, app: App, threads: int, *, raw: bool = False, **settings: Any) -> None:
        self.validated = Validated(app)
        self._server = sync_server(
            WsgiHandler.for_app(app if raw else self.validated, **settings), threads=threads, limits=LIMITS
        )

    def __enter__(self) -> WebServer:
        self.web = WebServer(self._server.__enter__())
        return self.web

    def __exit__(self, *exc_info: Any) -> None:
        self.web.close()
        self._server.__exit__(*exc_info)
        assert not self.validated.found


def text(blocks: Iterable[bytes], status: str = "200 OK", headers: list[tuple[str, str]] | None = None) -> App:
    """An application which answers always the same."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, TEXT if headers is None else headers)
        return blocks

    return app


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


class Blocks:
    """An iterable that counts its close() calls."""

    def __init__(self, blocks: Iterable[bytes], *, error: BaseException | None = None) -> None:
        self._blocks = iter(blocks)
        self._error = error
        self.closed = 0
        self.was_closed = Flag()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        self.closed += 1
        self.was_closed.set()
        if self._error is not None:
            raise self._error


# ------------------------------------------------------------------------------ environ


def test_environ(host: HostMaker) -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.update(environ)
        start_response("200 OK", TEXT)
        return [environ["PATH_INFO"].encode("latin-1")]

    params = params_for("/caf%C3%A9?q=1", PATH_INFO="/cafÃ©", HTTP_X_ONE="1", CONTENT_LENGTH="", HTTP_PROXY="evil")
    server = host(app)
    assert answer(server, params).body == "/café".encode()
    assert type(seen) is dict
    assert {key for key in seen if "." in key} == OUR_KEYS
    assert seen.keys() - OUR_KEYS == params.keys() - {"CONTENT_LENGTH", "HTTP_PROXY"}
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("", "/cafÃ©", "q=1")
    assert (seen["wsgi.version"], seen["wsgi.url_scheme"], seen["wsgi.run_once"]) == ((1, 0), "http", False)
    assert seen["wsgi.input_terminated"] is True
    assert seen["wsgi.multiprocess"] is True


def test_environ_is_a_new_one_for_each_request(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["mine"] = environ.get("mine", "") + "x"
        start_response("200 OK", TEXT)
        return [environ["mine"].encode()]

    with host(app) as web:
        assert [web.request(params_for()).body for _ in range(3)] == [b"x"] * 3


@pytest.mark.parametrize("multiprocess", (True, False))
def test_what_the_server_is(host: HostMaker, request: pytest.FixtureRequest, multiprocess: bool) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [repr((environ["wsgi.multithread"], environ["wsgi.multiprocess"])).encode()]

    threads = request.node.callspec.params["host"] > 1
    assert answer(host(app, multiprocess=multiprocess)).body == repr((threads, multiprocess)).encode()


@pytest.mark.parametrize(
    ("told", "expected"), ((None, "|/app/x"), ("/app", "/app|/x"), ("/app/", "/app|/x"), ("/", "|/app/x"))
)
def test_root_path(host: HostMaker, told: str | None, expected: str) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    assert answer(host(app, root_path=told), params_for("/app/x")).body.decode() == expected


def test_root_path_that_cannot_be_one() -> None:
    with pytest.raises(ConfigurationError, match="root_path="):
        WsgiHandler.for_app(text([]), root_path="http://example.org/app")


def test_bound_methods_and_classes_are_applications(host: HostMaker) -> None:
    class Page:
        def __init__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
            start_response("200 OK", TEXT)

        def __iter__(self) -> Iterator[bytes]:
            yield b"page"

    class Site:
        def page(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            return Page(environ, start_response)

    assert answer(host(Page)).body == b"page"
    assert answer(host(Site().page)).body == b"page"


# ------------------------------------------------------------------------------ the response


@pytest.mark.parametrize(
    "blocks",
    ([], [b""], [b"block"], [b"", b"", b"one ", b"", b"two"], [bytes(200_000), bytes(200_000)]),
    ids=("empty", "empty block", "one", "several", "large"),
)
@pytest.mark.parametrize("make", (list, tuple, iter, Blocks), ids=lambda make: make.__name__)
@pytest.mark.parametrize("raw", (True, False), ids=("raw", "validated"))
def test_bodies(
    host: HostMaker, make: Callable[[list[bytes]], Iterable[bytes]], blocks: list[bytes], raw: bool
) -> None:
    got = answer(host(text(make(blocks)), raw=raw))
    assert (got.head, got.body) == ({"status": "200 OK", "content-type": "text/plain"}, b"".join(blocks))
    assert (got.app_status, got.protocol_status, got.stderr) == (0, 0, b"")


def test_a_generator_that_starts_the_response_itself(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("203 Other", [*TEXT, ("X-One", "1"), ("x-one", "2")])
        yield from (b"", b"one ", b"", b"two", b"")

    got = answer(host(app))
    assert got.stdout == b"Status: 203 Other\r\nContent-Type: text/plain\r\nX-One: 1\r\nx-one: 2\r\n\r\none two"


def test_write(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"")
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert answer(host(app)).body == b"one two three"


def test_write_reaches_the_web_server_at_once(host: HostMaker) -> None:
    seen = Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"now")
        seen.wait()
        return []

    with host(app) as web:
        web.send(encode_request(params_for()))
        assert web.record().content.endswith(b"\r\n\r\nnow")
        seen.set()
        assert web.response().stdout == b""


@pytest.mark.parametrize("first", ([], [b"", b""]), ids=("at once", "behind empty blocks"))
def test_each_block_arrives_before_the_next_is_asked_for(host: HostMaker, first: list[bytes]) -> None:
    arrived = [Flag(), Flag(), Flag()]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield from first
        for number, flag in enumerate(arrived):
            yield b"block %d" % number
            flag.wait()

    with host(app) as web:
        web.send(encode_request(params_for()))
        for number, flag in enumerate(arrived):
            record = web.record()
            assert (record.type, record.content.rpartition(b"\r\n")[2]) == (FCGI_STDOUT, b"block %d" % number)
            flag.set()
        assert web.response().ended


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each system call of the server has sent."""
    calls: list[bytes] = []

    class RecordingSocket(socket.SocketType):
        def sendmsg(self, buffers: Any, *rest: Any) -> int:
            calls.append(b"".join(buffers))
            return super().sendmsg(buffers, *rest)

    def write(descriptor: int, data: bytes) -> int:
        calls.append(bytes(data))
        return os.write(descriptor, data)

    monkeypatch.setattr(link, "write", write)
    monkeypatch.setattr(accept, "SocketType", RecordingSocket)
    return calls


@pytest.mark.parametrize("keep", (True, False))
@pytest.mark.parametrize(
    ("blocks", "headers", "raw"),
    (
        ([b"small"], [], True),
        ([b"sm", b"all"], [], True),
        ((b"sm", b"all"), [], True),
        ([b"small"], [("Content-Length", "5")], True),
        ([b"small"], [("Content-Length", "5")], False),
    ),
    ids=("list", "longer list", "tuple", "list with its length", "iterator with its length, as Flask's"),
)
def test_a_small_answer_leaves_in_one_write(
    host: HostMaker,
    sends: list[bytes],
    keep: bool,
    blocks: Iterable[bytes],
    headers: list[tuple[str, str]],
    raw: bool,
) -> None:
    with host(text(blocks, headers=[*TEXT, *headers]), raw=raw) as web:
        got = web.request(params_for(), keep=keep)
    assert got.body == b"small"
    assert len(sends) == 1
    assert sends[0].endswith(encode_record(FCGI_END_REQUEST, 1, bytes(8)))


# ------------------------------------------------------------------------------ start_response


def failing(*starts: Any) -> App:
    """An application that calls start_response with each of these arguments in turn."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        for arguments in starts:
            start_response(*arguments)
        return [b"body"]

    return app


@pytest.mark.parametrize("secret", ("secret\r\nSet-Cookie: a=b", "secret\n", "secret\r", "secret\0"))
@pytest.mark.parametrize("place", ("status", "name", "value"))
def test_nothing_ends_a_line_of_the_head_early(
    host: HostMaker, caplog: pytest.LogCaptureFixture, secret: str, place: str
) -> None:
    status = f"200 {secret}" if place == "status" else "200 OK"
    name = secret if place == "name" else "X-One"
    app = failing((status, [*TEXT, (name, secret if place == "value" else "1")]))
    # Also the second time, when what was good of it is known.
    for _ in range(2):
        caplog.clear()
        got = answer(host(app, raw=True))
        assert got.stdout == INTERNAL_SERVER_ERROR
        assert b"ValueError" in got.stderr
        assert messages(caplog) == ["GET / failed"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    (
        ((200, TEXT), b"TypeError: status 200: give a str"),
        ((b"200 OK", TEXT), b"TypeError: status b'200 OK': give a str"),
        (("", TEXT), b"ValueError: status ''"),
        (("OK", TEXT), b"ValueError: status 'OK'"),
        (("20", TEXT), b"ValueError: status '20'"),
        (("2000 OK", TEXT), b"ValueError: status '2000 OK'"),
        (("200OK", TEXT), b"ValueError: status '200OK'"),
        (("100 Continue", TEXT), b"ValueError: status '100 Continue'"),
        (("101 Switching Protocols", TEXT), b"ValueError: status '101"),
        (("600 Odd", TEXT), b"ValueError: status '600 Odd'"),
        (("²00 OK", TEXT), b"ValueError: status"),
        (("200 €", TEXT), b"ValueError: status '200 "),
        (("200 OK", [("X-One", "€")]), b"ValueError: the response head has a character above U+00FF"),
        (("200 OK", [("", "1")]), b"ValueError: field name ''"),
        (("200 OK", [("X One", "1")]), b"ValueError: field name 'X One'"),
        (("200 OK", [("X-One:", "1")]), b"ValueError: field name 'X-One:'"),
        (("200 OK", [(b"X-One", "1")]), b"TypeError: "),
        (("200 OK", [("X-One", b"1")]), b"TypeError: "),
        (("200 OK", [("X-One", 1)]), b"TypeError: "),
        (("200 OK", [("Content-Length", 4)]), b"TypeError: "),
        (("200 OK", [("X-One", None)]), b"TypeError: "),
        (("200 OK", [(None, "1")]), b"TypeError: "),
        (("200 OK", None), b"TypeError: "),
        (("200 OK",), b"TypeError: "),
    ),
    ids=repr,
)
@pytest.mark.usefixtures("caplog")
def test_heads_that_cannot_be_sent(host: HostMaker, arguments: tuple[Any, ...], error: bytes) -> None:
    got = answer(host(failing(arguments), raw=True))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert error in got.stderr


@pytest.mark.parametrize("status", ("200 OK", "404 Not Found", "599 Odd", "299", "200 "))
def test_statuses(host: HostMaker, status: str) -> None:
    assert answer(host(text([b"x"], status), raw=True)).head["status"] == status.strip()


def test_a_second_start_without_exc_info(host: HostMaker) -> None:
    got = answer(host(failing(("200 OK", TEXT), ("404 Not Found", TEXT))))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert b"start_response was called a second time without exc_info" in got.stderr


def test_a_second_start_behind_the_first_block(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"block"
        start_response("200 OK", TEXT)

    with host(app) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"block"
    assert b"start_response was called a second time without exc_info" in got.stderr


def test_an_empty_exc_info_behind_the_start(host: HostMaker) -> None:
    """Never a second head in the middle of the body."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"block"
        start_response("500 Error", TEXT, sys.exc_info())
        yield b"more"

    with host(app) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"block"
    assert b"start_response was called behind the head" in got.stderr


@pytest.mark.parametrize("started", (True, False), ids=("second", "first"))
def test_exc_info_before_anything_was_sent_replaces_the_head(host: HostMaker, started: bool) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        if started:
            start_response("200 OK", [*TEXT, ("Content-Length", "1000"), ("X-One", "1")])
            yield b""
        try:
            raise LookupError
        except LookupError:
            start_response("503 Later", TEXT, sys.exc_info())
        yield b"later"

    got = answer(host(app))
    assert (got.stdout, got.stderr) == (b"Status: 503 Later\r\nContent-Type: text/plain\r\n\r\nlater", b"")


@pytest.mark.parametrize("by_write", (True, False), ids=("write", "yield"))
def test_exc_info_behind_the_start_is_raised(host: HostMaker, by_write: bool) -> None:
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        write = start_response("200 OK", TEXT)
        if by_write:
            write(b"begun")
        else:
            yield b"begun"
        try:
            raise LookupError("mine")
        except LookupError as error:
            try:
                start_response("500 Error", TEXT, sys.exc_info())
            except LookupError as again:
                raised.extend((error, again))
                raise
        yield b"never"

    with host(app) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"begun"
    assert got.stderr.rstrip().endswith(b"LookupError: mine")
    assert raised[0] is raised[1]


def test_exc_info_of_nothing(host: HostMaker) -> None:
    """`sys.exc_info()` where no exception is handled."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        start_response("404 Not Found", TEXT, sys.exc_info())
        return [b"x"]

    assert answer(host(app)).status == 404


def test_start_response_may_fail_and_be_called_again(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            start_response("200 OK", [("X-One", "1\n2")])
        except ValueError:
            start_response("400 Bad Request", TEXT)
        return [b"x"]

    assert answer(host(app, raw=True)).status == 400


@pytest.mark.parametrize("blocks", ([], [b""], [b"block"]), ids=repr)
def test_no_start_at_all(host: HostMaker, blocks: list[bytes]) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return blocks

    got = answer(host(app, raw=True))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert b"start_response" in got.stderr


@pytest.mark.parametrize(
    "blocks", (None, 5, "text", b"bytes", [5], ["text"], [bytearray(b"x")], [None, b"x"]), ids=repr
)
def test_bodies_that_are_none(host: HostMaker, blocks: Any) -> None:
    got = answer(host(text(blocks), raw=True))
    if blocks == [None, b"x"]:
        assert got.body == b"x"  # as harmless as an empty block
    else:
        assert got.stdout == INTERNAL_SERVER_ERROR
        assert b"TypeError: " in got.stderr


# ------------------------------------------------------------------------------ special fields


@pytest.fixture
def _not_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_warned", set())


@pytest.mark.usefixtures("_not_warned_yet")
@pytest.mark.parametrize("field", (("Transfer-Encoding", "chunked"), ("Status", "404 Not Found")), ids=repr)
def test_fields_that_are_the_web_servers_to_set(
    host: HostMaker, caplog: pytest.LogCaptureFixture, field: tuple[str, str]
) -> None:
    with host(text([b"x"], headers=[field, *TEXT, (field[0].upper(), field[1])]), raw=True) as web:
        for _ in range(3):
            assert web.request(params_for()).stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nx"
    (message,) = messages(caplog)
    assert field[0] in message


@pytest.mark.parametrize(
    ("headers", "settings", "expected"),
    (
        ([("Content-Type", "text/event-stream")], {}, "no"),
        ([("content-type", "Text/Event-Stream; charset=utf-8")], {}, "no"),
        ([("Content-Type", "text/event-stream"), ("X-accel-buffering", "yes")], {}, "yes"),
        ([("X-Accel-Buffering", "yes"), ("Content-Type", "text/event-stream")], {}, "yes"),
        ([("Content-Type", "text/event-stream")], {"unbuffered_events": False}, None),
        ([("Content-Type", "text/plain")], {}, None),
    ),
)
def test_events_are_not_buffered(
    host: HostMaker, headers: list[tuple[str, str]], settings: dict[str, bool], expected: str | None
) -> None:
    got = answer(host(text([b"x"], headers=headers), **settings))
    assert got.head.get("x-accel-buffering") == expected
    assert got.stdout.lower().count(b"x-accel-buffering") == (expected is not None)


# ------------------------------------------------------------------------------ Content-Length


def test_a_response_is_complete_when_its_length_is_met(host: HostMaker) -> None:
    """The web server has all of it, end included, before the iterator has ended."""
    done = Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "6")])
        yield b"one"
        yield b"two"
        done.wait()
        yield b""

    with host(app) as web:
        assert web.request(params_for()).body == b"onetwo"
        done.set()
        assert web.request(params_for()).body == b"onetwo"


def test_what_fails_behind_a_complete_response_does_not_spoil_it(
    host: HostMaker, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "3")])
        yield b"one"
        raise LookupError

    with host(app) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert (got.body, got.stderr) == (b"one", b"")
    assert messages(caplog) == ["GET / failed"] * 2


@pytest.mark.parametrize("raw", (True, False), ids=("list", "iterator"))
@pytest.mark.parametrize("blocks", ([], [b""], [b"x" * 9]), ids=repr)
def test_a_response_shorter_than_its_length(host: HostMaker, blocks: list[bytes], raw: bool) -> None:
    with host(text(blocks, headers=[*TEXT, ("Content-Length", "10")]), raw=raw) as web:
        web.send(encode_request(params_for()))
        if raw or not any(blocks):
            # Nothing has been sent yet, so it can be told properly.
            got = web.response()
            assert got.stdout == INTERNAL_SERVER_ERROR
        else:
            got = read_to_the_cut(web)
            assert got.body == b"x" * 9
    assert b"bytes shorter than its Content-Length" in got.stderr


@pytest.mark.parametrize("raw", (True, False), ids=("list", "iterator"))
@pytest.mark.parametrize("blocks", ([b"onetwothree"], [b"one", b"twothree"], [b"onetwo", b"three", b"four"]), ids=repr)
def test_a_response_longer_than_its_length(
    host: HostMaker, caplog: pytest.LogCaptureFixture, blocks: list[bytes], raw: bool
) -> None:
    with host(text(blocks, headers=[*TEXT, ("Content-Length", "6")]), raw=raw) as web:
        got = web.request(params_for())
        assert (got.body, got.head["content-length"], got.stderr) == (b"onetwo", "6", b"")
        # Only when the iterator has ended is another request served.
        web.request(params_for())
    told = "GET /: the response's body is longer than its Content-Length; the rest is dropped"
    assert messages(caplog) == [told, told]


@pytest.mark.parametrize("raw", (True, False), ids=("list", "iterator"))
@pytest.mark.parametrize("by_write", (True, False), ids=("write", "return"))
def test_a_body_where_none_was_promised(
    host: HostMaker, caplog: pytest.LogCaptureFixture, by_write: bool, raw: bool
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", [*TEXT, ("Content-Length", "0")])
        if not by_write:
            return [b"body"]
        write(b"body")
        return []

    got = answer(host(app, raw=raw))
    assert got.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
    assert messages(caplog) == ["GET /: the response's body is longer than its Content-Length; the rest is dropped"]


@pytest.mark.parametrize("length", ("", "x", "-1", "+1", "1.0", "1_0", " 1", "٣", "0x1", "9" * 19))
def test_lengths_that_are_none(host: HostMaker, length: str) -> None:
    got = answer(host(text([b"x"], headers=[*TEXT, ("Content-Length", length)]), raw=True))
    assert got.stdout == INTERNAL_SERVER_ERROR
    assert b"is not a number of bytes" in got.stderr


def test_two_lengths(host: HostMaker) -> None:
    same = answer(host(text([b"x"], headers=[*TEXT, ("Content-Length", "1"), ("content-length", "1")])))
    # nginx refuses a response that says it twice.
    assert same.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx"
    other = answer(host(text([b"x"], headers=[*TEXT, ("Content-Length", "1"), ("content-length", "2")])))
    assert other.stdout == INTERNAL_SERVER_ERROR
    assert b"two Content-Length fields that differ: 1 and 2" in other.stderr


@pytest.mark.parametrize("length", (None, "5", "1000", "1"))
@pytest.mark.parametrize("blocks", ([], [b"block"], [b"bl", b"ock"]), ids=repr)
@pytest.mark.parametrize("by_write", (True, False), ids=("write", "return"))
def test_the_body_of_head_is_dropped(
    host: HostMaker, caplog: pytest.LogCaptureFixture, length: str | None, blocks: list[bytes], by_write: bool
) -> None:
    headers = [*TEXT, *([("Content-Length", length)] if length else [])]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", headers)
        if not by_write:
            return blocks
        for block in blocks:
            write(block)
        return []

    got = answer(host(app), params_for(REQUEST_METHOD="HEAD"))
    assert (got.body, got.head.get("content-length"), got.stderr) == (b"", length, b"")
    assert not messages(caplog)


@pytest.mark.parametrize("status", ("204 No Content", "304 Not Modified"))
def test_bodies_of_statuses_that_have_none(host: HostMaker, caplog: pytest.LogCaptureFixture, status: str) -> None:
    for headers in ([], [("Content-Length", "1000")]):
        got = answer(host(text([b"block"], status, headers)))
        assert (got.head["status"], got.body, got.stderr) == (status, b"", b"")
    assert not messages(caplog)


@pytest.mark.parametrize(("method", "status"), (("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Odd")))
@pytest.mark.parametrize("length", (None, "5", "1000"))
def test_a_body_without_an_end_that_nobody_wants(
    host: HostMaker, caplog: pytest.LogCaptureFixture, method: str, status: str, length: str | None
) -> None:
    """The response is complete with its head: the rest of the body is not asked for."""
    closed = Flag()
    asked: list[bytes] = []

    def endless() -> Iterator[bytes]:
        try:
            for block in (b"", b"", *[b"more"] * 10):
                asked.append(block)
                yield block
        finally:
            closed.set()

    headers = [*TEXT, *([("Content-Length", length)] if length else [])] if method == "HEAD" else []
    with host(text(endless(), status, headers)) as web:
        got = web.request(params_for(REQUEST_METHOD=method))
        assert (got.head["status"], got.body, got.stderr, got.app_status) == (status, b"", b"", 0)
        closed.wait()
        assert asked == [b"", b"", b"more"]
    assert not messages(caplog)


def test_the_response_to_head_is_complete_before_more_is_written(host: HostMaker) -> None:
    answered = Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"one")
        answered.wait()
        write(b"two")
        return [b"three"]

    with host(app) as web:
        assert web.request(params_for(REQUEST_METHOD="HEAD")).body == b""
        answered.set()
        assert web.request(params_for()).body == b"onetwothree"


# ------------------------------------------------------------------------------ close()


def test_close_is_called_once(host: HostMaker) -> None:
    blocks = [Blocks([]), Blocks([b"one"]), Blocks([b"", b"one", b"two"])]
    for each in blocks:
        assert answer(host(text(each))).ended
        assert answer(host(text(each), raw=True)).ended
    assert [each.closed for each in blocks] == [2, 2, 2]


def test_close_is_called_behind_the_end_of_the_response(host: HostMaker) -> None:
    answered = Flag()

    class Late(Blocks):
        def close(self) -> None:
            answered.wait()
            super().close()

    blocks = Late([b"one"])
    with host(text(blocks)) as web:
        assert web.request(params_for()).body == b"one"
        assert not blocks.closed
        answered.set()
        blocks.was_closed.wait()


def test_close_is_called_where_start_response_was_not(host: HostMaker) -> None:
    blocks = Blocks([b"one"])
    assert answer(host(lambda environ, start_response: blocks, raw=True)).stdout == INTERNAL_SERVER_ERROR
    assert blocks.closed == 1


def test_close_is_called_when_the_iterator_fails(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    def failing_blocks() -> Iterator[bytes]:
        yield b""
        raise LookupError("first")

    # An error in close() hides nothing.
    for error in (None, RuntimeError("second")):
        blocks = Blocks(failing_blocks(), error=error)
        got = answer(host(text(blocks)))
        assert got.stdout == INTERNAL_SERVER_ERROR
        assert got.stderr.rstrip().endswith(b"LookupError: first")
        assert blocks.closed == 1
    assert messages(caplog) == ["GET / failed", "GET /: close() of the response failed", "GET / failed"]


@pytest.mark.parametrize("error", (LookupError, SystemExit, KeyboardInterrupt, GeneratorExit))
def test_errors_in_close_are_failures_behind_a_whole_response(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return Blocks([b"one"], error=error())

    with host(app) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert (got.body, got.stderr) == (b"one", b"")
    assert messages(caplog) == ["GET / failed"] * 2
    assert "in close\n" in caplog.text


def test_a_web_server_that_hangs_up(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    gone, closed = Flag(), Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            yield b"one"
            gone.wait()
            while True:
                yield b"more"
        finally:
            environ["wsgi.errors"].write("closed\n")
            closed.set()

    with host(app) as web:
        web.send(encode_request(params_for()))
        assert web.record().content.endswith(b"one")
        web.close()
        gone.set()
        closed.wait()
    # The web server's error log is out of reach; that it hung up is no failure.
    assert messages(caplog) == ["closed"]


def test_a_web_server_that_aborts(caplog: pytest.LogCaptureFixture) -> None:
    """With threads it is noticed while the application writes; without, when it reads (see below)."""
    closings: list[str] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            while True:
                yield b"more"
        finally:
            closings.append("closed")

    with Host(app, 2) as web:
        web.send(encode_request(params_for()))
        assert web.record().content.endswith(b"more")
        web.abort()
        assert web.response().protocol_status == 0
    assert closings == ["closed"]
    assert not messages(caplog)


@pytest.mark.parametrize(("method", "first"), [("GET", b"more"), ("GET", b""), ("HEAD", b"")])
@pytest.mark.parametrize("hangs_up", [False, True])
def test_an_application_that_pauses_when_nobody_waits_for_it(
    host: HostMaker, caplog: pytest.LogCaptureFixture, method: str, first: bytes, *, hangs_up: bool
) -> None:
    """Blocks of no bytes are pauses, and the only moments at which it can be told."""
    begun, closed = Flag(), Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            yield first
            begun.set()
            while True:
                time.sleep(0.001)
                yield b""
        finally:
            closed.set()

    with host(app) as web:
        web.send(encode_request(params_for(REQUEST_METHOD=method)))
        begun.wait()
        if hangs_up:
            web.close()
        else:
            web.abort()
        closed.wait()
    assert not messages(caplog)


# ------------------------------------------------------------------------------ failures


class OddError(BaseException):
    """Not even an Exception."""


ERRORS = (LookupError, SystemExit, KeyboardInterrupt, OddError, GeneratorExit)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ("call", "behind the start", "first block", "behind an empty block"))
def test_failures_before_anything_was_sent(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException], where: str
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if where == "call":
            raise error("mine")
        start_response("200 OK", TEXT)
        if where == "behind the start":
            raise error("mine")
        return blocks()

    def blocks() -> Iterator[bytes]:
        if where == "behind an empty block":
            yield b""
        raise error("mine")

    with host(app) as web:
        for _ in range(2):
            got = web.request(params_for())
            assert got.stdout == INTERNAL_SERVER_ERROR
            assert (got.app_status, got.protocol_status) == (0, 0)
            assert got.stderr.startswith(b"Traceback (most recent call last):\n")
            assert error.__name__.encode() in got.stderr.splitlines()[-1]
            # The application's own code alone.
            assert PACKAGE not in got.stderr.decode()
    assert messages(caplog) == ["GET / failed"] * 2
    assert all(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("by_write", (True, False), ids=("write", "yield"))
def test_failures_behind_the_start_are_visible(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException], by_write: bool
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        if by_write:
            write(b"onetwo")
            raise error("mine")
        return blocks()

    def blocks() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise error("mine")

    with host(app) as web:
        web.send(encode_request(params_for()))
        got = read_to_the_cut(web)
    assert got.body == b"onetwo"
    assert error.__name__.encode() in got.stderr.splitlines()[-1]
    assert messages(caplog) == ["GET / failed"]


# ------------------------------------------------------------------------------ wsgi.input


def echo(read: Callable[[Any], Iterable[bytes]]) -> App:
    """An application that answers what `read` gets out of wsgi.input, joined by bars."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [b"|".join(read(environ["wsgi.input"]))]

    return app


READERS: dict[str, tuple[Callable[[Any], Iterable[bytes]], bytes]] = {
    "read all": (lambda body: [body.read(-1), body.read(-1), body.read(5)], b"one\ntwo\n\nthree||"),
    "read some": (lambda body: [body.read(0), body.read(5), body.read(3), body.read(9)], b"|one\nt|wo\n|\nthree"),
    "read too much": (lambda body: [body.read(1000)], b"one\ntwo\n\nthree"),
    "readline": (lambda body: [body.readline() for _ in range(6)], b"one\n|two\n|\n|three||"),
    "readline of a size": (lambda body: [body.readline(2), body.readline(2), body.readline(99)], b"on|e\n|two\n"),
    "readlines": (lambda body: body.readlines(), b"one\n|two\n|\n|three"),
    "readlines with a hint": (lambda body: [*body.readlines(5), body.read(-1)], b"one\n|two\n|\nthree"),
    "iteration": (lambda body: list(body), b"one\n|two\n|\n|three"),
    "mixed": (lambda body: [body.read(1), body.readline(), next(iter(body)), body.read(-1)], b"o|ne\n|two\n|\nthree"),
}


@pytest.mark.parametrize("late", (True, False), ids=("late", "there"))
@pytest.mark.parametrize("length", ("14", ""), ids=repr)
@pytest.mark.parametrize("reader", READERS)
def test_input(host: HostMaker, reader: str, length: str, late: bool) -> None:
    """Whether or not its length is known, and whether or not it is there when the application starts."""
    read, expected = READERS[reader]
    params = params_for(REQUEST_METHOD="POST", CONTENT_LENGTH=length)
    begun = Flag()

    def reading(body: Any) -> Iterable[bytes]:
        begun.set()
        return read(body)

    with host(echo(reading)) as web:
        if late:
            web.begin(params)
            begun.wait()
            for line in (b"o", b"ne\ntw", b"o\n\n", b"three"):
                web.body(line)
            web.body(b"", end=True)
            got = web.response()
        else:
            got = web.request(params, b"one\ntwo\n\nthree")
    assert got.body == expected


def read_as_a_file(body: Any) -> Iterator[bytes]:
    """What a buffered file can do besides."""
    buffer = bytearray(3)
    assert body.readable()
    assert body.readinto(buffer) == 3
    yield bytes(buffer)
    yield body.read1(1)
    yield body.readline(None)
    yield body.read1(1)
    yield next(body)
    yield body.read(2)
    # Another reader on top of it.
    with io.TextIOWrapper(body) as text:
        yield text.read().encode()
    assert body.closed
    for read in (body.read, body.readline, lambda: next(iter(body))):
        with pytest.raises(ValueError, match="closed"):
            read()


@pytest.mark.parametrize("late", (True, False), ids=("late", "there"))
def test_input_is_a_file(host: HostMaker, late: bool) -> None:
    begun = Flag()

    def reading(body: Any) -> Iterable[bytes]:
        begun.set()
        return read_as_a_file(body)

    with host(echo(reading), raw=True) as web:
        params = params_for(REQUEST_METHOD="POST")
        if late:
            web.begin(params)
            begun.wait()
            web.body(b"one\ntwo\n\nth")
            web.body(b"ree\nfour")
            web.body(b"", end=True)
            got = web.response()
        else:
            got = web.request(params, b"one\ntwo\n\nthree\nfour")
    assert got.body == b"one|\n|two\n|\n|three\n|fo|ur"


def test_input_without_a_size(host: HostMaker) -> None:
    """PEP 3333 has the size optional; the validator asks for it."""
    assert answer(host(echo(lambda body: [body.read(), body.read()]), raw=True), stdin=b"body").body == b"body|"


def test_no_input(host: HostMaker) -> None:
    assert answer(host(echo(lambda body: [body.read(-1), body.readline(), *body]))).body == b"|"


def test_input_is_handed_over_as_it_comes(host: HostMaker) -> None:
    """A body that is slower than the application, which answers each line before the next one is sent."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        while line := environ["wsgi.input"].readline():
            yield b"got " + line

    with host(app) as web:
        web.begin(params_for(REQUEST_METHOD="POST"))
        for number in range(5):
            web.body(b"%d\n" % number)
            assert web.record().content.endswith(b"got %d\n" % number)
        web.body(b"", end=True)
        assert web.response().ended


def test_large_input(host: HostMaker) -> None:
    def read(body: Any) -> Iterator[bytes]:
        sizes = []
        for wanted in cycle((65536, 300_000, 3, 131_072)):
            block = body.read(wanted)
            assert block.count(b"x") == len(block)
            sizes.append(len(block))
            if len(block) < wanted:
                break
        assert sizes[:5] == [65536, 300_000, 3, 131_072, 65536]
        yield b"%d" % sum(sizes)

    params = params_for(REQUEST_METHOD="POST")
    with host(echo(read)) as web:
        for request_id in (1, 2):
            assert web.request(params, b"x" * 5_000_000, request_id=request_id).body == b"5000000"


def test_input_that_lies_in_a_file(host: HostMaker) -> None:
    """It had to wait for the one of another request, and is read in blocks."""
    sent = bytes(range(256)) * 8192

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [b"".join(iter(partial(environ["wsgi.input"].read, 100_000), b""))]

    with host(app) as web:
        for request_id in (1, 2):
            web.begin(params_for(REQUEST_METHOD="POST"), request_id=request_id)
        web.body(sent, request_id=2, end=True)
        web.body(b"first", request_id=1, end=True)
        responses = web.responses([1, 2])
    assert responses[1].body == b"first"
    assert responses[2].body == sent


@pytest.mark.parametrize("keep", (True, False))
@pytest.mark.parametrize("size", (0, 10, 3_000_000))
def test_input_that_nobody_reads_to_its_end(host: HostMaker, size: int, keep: bool) -> None:
    params = params_for(REQUEST_METHOD="POST", CONTENT_LENGTH=str(size))
    with host(echo(lambda body: [body.read(5)])) as web:
        assert web.request(params, b"x" * size, keep=keep).body == b"x" * min(5, size)
        if keep:
            assert web.request(params, b"y" * size).body == b"y" * min(5, size)
        else:
            assert web.at_eof()


@pytest.mark.parametrize(
    ("sent", "rest"), ((b"abc", 1), (b"abc", -1), (b"abcde", 3), (b"abcde", -1)), ids=lambda value: repr(value)
)
def test_input_behind_the_end_of_the_response(
    host: HostMaker, caplog: pytest.LogCaptureFixture, sent: bytes, rest: int
) -> None:
    """Whoever met its Content-Length gets no more of the body, and does not wait for it either."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", "3")])
        yield environ["wsgi.input"].read(3)
        environ["wsgi.input"].read(rest)

    with host(app) as web:
        web.begin(params_for(REQUEST_METHOD="POST"))
        web.body(sent)
        assert web.response().body == b"abc"
        web.body(b"def", end=True)
        web.request(params_for(REQUEST_METHOD="POST"), b"abc")
    assert messages(caplog) == ["POST / failed"]
    assert caplog.records[-1].exc_info is not None
    assert isinstance(caplog.records[-1].exc_info[1], ConnectionAbortedError)


def test_input_of_an_aborted_request(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    begun = Flag()
    errors: list[BaseException] = []

    def read(body: Any) -> Iterator[bytes]:
        yield body.read(3)
        begun.set()
        try:
            body.read(1)
        except ConnectionAbortedError as error:
            errors.append(error)
            raise

    with host(echo(read)) as web:
        web.begin(params_for(REQUEST_METHOD="POST"))
        web.body(b"abc")
        begun.wait()
        web.abort()
        assert web.response().stdout == b""
    assert len(errors) == 1
    assert not messages(caplog)


@pytest.mark.parametrize("threads", (1, 2))
def test_a_block_for_all_of_which_memory_has_no_room(threads: int) -> None:
    """It comes all the same, in parts that have room."""
    begun = Flag()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"]
        first = body.read(1)
        begun.set()
        start_response("200 OK", TEXT)
        return [first, body.read(20_000), body.read(20_000)]

    body = bytes(range(250)) * 100
    limits = Limits(**PATIENT, max_buffered_input=1000)
    with sync_server(WsgiHandler.for_app(app), threads=threads, limits=limits) as address, WebServer(address) as web:
        web.begin(params_for())
        web.body(body[:2001])
        begun.wait()
        web.body(body[2001:], end=True)
        assert web.response().body == body


# ------------------------------------------------------------------------------ wsgi.errors


def test_errors_reach_the_web_server(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        errors = environ["wsgi.errors"]
        errors.write("grün \udc80\n")
        errors.writelines(["one\n", "two\n"])
        errors.flush()
        start_response("200 OK", TEXT)
        return [b"x"]

    got = answer(host(app))
    assert (got.body, got.stderr) == (b"x", "grün \\udc80\none\ntwo\n".encode())


def test_printing_to_errors(host: HostMaker) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        print("hello", file=environ["wsgi.errors"], flush=True)
        handler = logging.StreamHandler(environ["wsgi.errors"])
        handler.handle(logging.makeLogRecord({"msg": "from a logger"}))
        start_response("200 OK", TEXT)
        return [b"x"]

    assert answer(host(app)).stderr == b"hello\nfrom a logger\n"


def test_errors_go_to_the_log_too_where_the_web_server_has_none(
    host: HostMaker, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        print("hello", file=environ["wsgi.errors"])
        start_response("200 OK", TEXT)
        return [b"x"]

    assert answer(host(app), params_for("/", SERVER_SOFTWARE="Caddy/2.6.2")).stderr == b"hello\n"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["hello"]


def test_errors_behind_the_end_go_to_the_log(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    class Late(Blocks):
        errors: Any

        def close(self) -> None:
            self.errors.write("late\n")
            self.errors.flush()
            super().close()

    blocks = Late([b"one"])

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        blocks.errors = environ["wsgi.errors"]
        return blocks

    got = answer(host(app))
    assert (got.body, got.stderr) == (b"one", b"")
    assert messages(caplog) == ["late"]


def writing_twice(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    for text in ("one\n", "two\n"):
        environ["wsgi.errors"].write(text)
    start_response("200 OK", TEXT)
    return [b"x"]


CADDY = params_for("/", SERVER_SOFTWARE="Caddy/2.6.2")


class LogsToErrors:
    """Sends what the package logs to the `wsgi.errors` of whichever request is served, as Flask's stream does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *others: logging.Handler) -> None:
        self._errors: Any = None
        ours = logging.getLogger("simple_fastcgi")
        monkeypatch.setattr(ours, "propagate", False)
        handler = logging.StreamHandler(self)
        handler.setFormatter(logging.Formatter("told: %(message)s"))
        monkeypatch.setattr(ours, "handlers", [handler, *others])

    def write(self, text: str) -> None:
        self._errors.write(text)

    def flush(self) -> None:
        self._errors.flush()

    def around(self, app: App) -> App:
        def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            self._errors = environ["wsgi.errors"]
            return app(environ, start_response)

        return wrapped


def test_a_log_that_leads_to_errors_tells_what_is_lost_once(
    host: HostMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = LogsToErrors(monkeypatch)
    assert answer(host(logs.around(writing_twice)), CADDY).stderr == b"one\ntwo\n"
    assert capsys.readouterr().err == "told: one\ntold: two\n"


def test_another_handler_of_that_log_is_enough(
    host: HostMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = io.StringIO()
    logs = LogsToErrors(monkeypatch, logging.StreamHandler(seen))
    answer(host(logs.around(writing_twice)), CADDY)
    assert (seen.getvalue(), capsys.readouterr().err) == ("one\ntwo\n", "")


def test_what_a_handler_of_that_log_has_to_say_itself_is_not_lost(
    host: HostMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Complaining(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("cannot send", file=logs)

    logs = LogsToErrors(monkeypatch)
    monkeypatch.setattr(logging.getLogger("simple_fastcgi"), "handlers", [Complaining(), logging.NullHandler()])
    answer(host(logs.around(writing_twice)), CADDY)
    assert capsys.readouterr().err == "cannot send\n" * 2


def test_standard_error_that_is_errors_itself(host: HostMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = LogsToErrors(monkeypatch)
    monkeypatch.setattr(sys, "stderr", logs)
    assert answer(host(logs.around(writing_twice)), CADDY).body == b"x"


def test_another_thread_writes_while_the_log_is_busy(host: HostMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """That thread's text is no echo of this one's."""
    told, second = [], Flag()

    class Busy(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            # Without the lock that others would wait for.
            self.emit(record)
            return True

        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())
            if told[-1] == "one":
                threading.Thread(target=errors[0].write, args=("two",)).start()
                second.wait()
            else:
                second.set()

    errors: list[Any] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        errors.append(environ["wsgi.errors"])
        environ["wsgi.errors"].write("one")
        start_response("200 OK", TEXT)
        return [b"x"]

    LogsToErrors(monkeypatch)
    monkeypatch.setattr(logging.getLogger("simple_fastcgi"), "handlers", [Busy()])
    answer(host(app, raw=True), CADDY)
    assert told == ["one", "two"]


# ------------------------------------------------------------------------------ wsgi.file_wrapper


def test_file_wrapper(host: HostMaker) -> None:
    content = bytes(range(256)) * 1000
    files: list[io.BytesIO] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(content)))])
        files.append(io.BytesIO(content))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](files[-1], 1000)
        return wrapped

    for raw in (True, False):
        assert answer(host(app, raw=raw)).body == content
    assert [file.closed for file in files] == [True, True]


def test_file_wrapper_around_something_without_close(host: HostMaker) -> None:
    class Source:
        def __init__(self) -> None:
            self._blocks = [b"", b"two", b"one"]

        def read(self, size: int) -> bytes:
            assert size == 65536
            return self._blocks.pop()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](Source())
        return wrapped

    assert answer(host(app)).body == b"onetwo"
