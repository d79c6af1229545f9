"""Files as answers: `wsgi.file_wrapper` and ``http.response.pathsend`` on servers of every kind."""

# ruff: noqa: SIM115, it is the server that closes the files
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import gzip
import io
import logging
import os
import tempfile
import termios
import time
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import FcgiHandler
from simple_fastcgi.cgi.response import INTERNAL_SERVER_ERROR
from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from simple_fastcgi.gateways.files import SMALL
from simple_fastcgi.limits import Limits
from simple_fastcgi.net import files
from simple_fastcgi.net.files import RECORD, TURN
from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDOUT
from tests.gateways.asgi_support import LOOPS
from tests.gateways.support import LIMITS, TIMEOUT, Flag, async_server, sync_server
from tests.support.webserver import Response, WebServer, collect, encode_request, params_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Serve = Callable[..., AbstractContextManager[WebServer]]

MIB = 1 << 20
# More than the sockets between server and web server hold.
LARGE = 8 * MIB + 12345
NUMBERS = array("Q", range(LARGE // 8 + 1)).tobytes()
CHUNKS = [bytes([number]) * 65536 for number in range(100)]
THREADS = {"single": 1, "threads": 3}


class Application:
    """Answers with the file that the query names; what else is asked for stands in headers of the request."""

    def __init__(self) -> None:
        self.ended = Flag()
        self.greeted = Flag()
        self.errors: list[BaseException] = []
        self.files: list[Any] = []

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/hello":
            self.greeted.set()
            start_response("200 OK", [("Content-Length", "5")])
            return [b"hello"]
        if environ["PATH_INFO"] == "/chunks":
            start_response("200 OK", [])
            return iter(CHUNKS)
        path, length = environ["QUERY_STRING"], environ.get("HTTP_LENGTH")
        start_response("200 OK", [("Content-Length", length)] if length else [])
        file = _Watched(open(path, "rb"), self.ended)
        self.files.append(file)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    async def asgi(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"length", b"5" if scope["path"] == "/hello" else None)
        fields = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        if scope["path"] == "/hello":
            self.greeted.set()
            await send({"type": "http.response.body", "body": b"hello"})
            return
        if scope["path"] == "/chunks":
            for chunk in CHUNKS:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
            return
        try:
            message = {"type": "http.response.pathsend", "path": scope["query_string"].decode()}
            if b"seconds" in headers:
                async with asyncio.timeout(float(headers[b"seconds"])):
                    await send(message)
            else:
                await send(message)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.ended.set()


class _Watched:
    """A file that hands on what a file can do, as Django's do."""

    def __init__(self, file: io.BufferedReader, closed: Flag) -> None:
        self.file = file
        self.read = file.read
        self._closed = closed

    def close(self) -> None:
        self.file.close()
        self._closed.set()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture(params=("single", "threads", "asyncio", "uvloop"))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def serve(kind: str, application: Application) -> Serve:
    """Serve the application on a server of each kind; a connection to it."""

    @contextlib.contextmanager
    def serve(limits: Limits = LIMITS) -> Iterator[WebServer]:
        if kind in THREADS:
            handler = WsgiHandler.for_app(application.wsgi)
            server = sync_server(handler, threads=THREADS[kind], limits=limits)
        else:
            server = async_server(AsgiHandler.for_app(application.asgi, lifespan="off"), LOOPS[kind], limits=limits)
        with server as address, WebServer(address) as web:
            yield web

    return serve


def make(folder: Path, size: int) -> tuple[str, bytes]:
    """A file without repetition, and what is in it."""
    content = NUMBERS[:size]
    assert len(content) == size
    path = folder / f"{size}.bin"
    path.write_bytes(content)
    return str(path), content


def asking(path: str, **more: str) -> dict[str, str]:
    return params_for(f"/file?{path}", **more)


def read_to_the_cut(web: WebServer) -> Response:
    """What came of a response that breaks off: a record of nobody, then the end of the connection."""
    got = Response()
    while (record := web.record()).id == 1:
        collect(got, record)
    assert (record.type, record.content, got.ended) == (FCGI_STDOUT, b"", False)
    assert web.at_eof()
    return got


SIZES = (0, 1, SMALL, SMALL + 1, RECORD - 1, RECORD, RECORD + 1, TURN, 2 * TURN + 12345)


@pytest.mark.parametrize("promised", (True, False), ids=("length", "no-length"))
def test_files_of_any_size(serve: Serve, tmp_path: Path, promised: bool) -> None:
    with serve() as web:
        for size in SIZES:
            path, content = make(tmp_path, size)
            got = web.request(asking(path, **({"HTTP_LENGTH": str(size)} if promised else {})))
            assert (got.body == content, got.app_status, got.stderr) == (True, 0, b"")
            # None of our own making.
            assert ("content-length" in got.head) == promised


def test_files_where_there_is_no_sendfile(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_sendfile", None)
    monkeypatch.setattr(files, "_NOWAIT", 0)
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        assert web.request(asking(path)).body == content


def test_a_file_that_is_not_in_memory(serve: Serve, tmp_path: Path) -> None:
    path, content = make(tmp_path, LARGE)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with serve() as web:
        assert web.request(asking(path)).body == content


def test_the_head_leaves_with_the_file(serve: Serve, tmp_path: Path) -> None:
    """Neither kept back until the end, nor in the way of the request's end on the same connection."""
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        web.send(encode_request(asking(path)))
        got = Response()
        collect(got, web.record())
        assert got.status == 200
        while not got.ended:
            collect(got, web.record())
        assert got.body == content
        assert web.request(params_for("/hello")).body == b"hello"


@pytest.mark.parametrize("size", (1000, LARGE))
def test_head_requests(serve: Serve, tmp_path: Path, size: int) -> None:
    path, _ = make(tmp_path, size)
    with serve() as web:
        got = web.request(asking(path, REQUEST_METHOD="HEAD", HTTP_LENGTH=str(size)))
        assert (got.head["content-length"], got.body, got.app_status) == (str(size), b"", 0)


@pytest.mark.parametrize("size", (1000, LARGE))
def test_no_more_than_the_content_length(
    serve: Serve, tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The file may have grown since it was measured."""
    path, content = make(tmp_path, size)
    with serve() as web:
        assert web.request(asking(path, HTTP_LENGTH=str(size - 7))).body == content[:-7]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("size", (1000, LARGE))
def test_a_file_shorter_than_the_content_length_is_visibly_cut(serve: Serve, tmp_path: Path, size: int) -> None:
    path, content = make(tmp_path, size)
    with serve() as web:
        web.send(encode_request(asking(path, HTTP_LENGTH=str(size + 1))))
        got = Response()
        record = web.record()
        while record.id == 1 and record.type != FCGI_END_REQUEST:
            collect(got, record)
            record = web.record()
        if size == LARGE:
            assert got.body == content
            assert record.id != 1
            assert web.at_eof()
        assert b"1 bytes shorter than its Content-Length" in got.stderr or got.body != content


def differing(body: bytes, content: bytes) -> set[int]:
    """The bytes of `body` that are neither zero nor those of `content`; blocks that are equal cost little."""
    pieces = ((body[at : at + 4096], content[at : at + 4096]) for at in range(0, len(body), 4096))
    return {
        byte
        for piece, before in pieces
        if not before.startswith(piece)
        for byte, other in zip(piece, before, strict=False)
        if byte and byte != other
    }


@pytest.mark.parametrize("left", (0, RECORD + 5, LARGE - 5))
def test_a_file_that_shrinks_meanwhile_is_visibly_cut(
    serve: Serve, tmp_path: Path, application: Application, left: int
) -> None:
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        web.send(encode_request(asking(path, HTTP_LENGTH=str(LARGE))))
        first = web.record()
        os.truncate(path, left)
        got = Response()
        collect(got, first)
        rest = read_to_the_cut(web)
        assert b"the file became shorter while it was sent" in rest.stderr
        body = got.body + rest.stdout
        # What was lost is zeros, never anything else. The kernel clears the rest of the file's last page, also where a
        # socket holds that page already; what stands behind it there leaves as it was.
        assert len(body) < LARGE
        assert not differing(body, content)
        application.ended.wait()


def test_a_file_that_grows_meanwhile(serve: Serve, tmp_path: Path) -> None:
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        web.send(encode_request(asking(path)))
        got = Response()
        collect(got, web.record())
        with open(path, "ab") as file:
            file.write(b"more" * 1000)
        while not got.ended:
            collect(got, web.record())
        assert got.body == content


def wait_until_read(sock: socket.socket) -> None:
    """Wait until the peer of a unix socket has read all that was sent to it."""
    deadline = time.monotonic() + TIMEOUT
    unread = array("i", [1])
    while unread[0]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
        fcntl.ioctl(sock, termios.TIOCOUTQ, unread)


def test_an_abort_in_the_middle(serve: Serve, tmp_path: Path, application: Application) -> None:
    """The record under way leaves whole: what follows on the connection is understood."""
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        web.send(encode_request(asking(path)))
        got = Response()
        collect(got, web.record())
        web.abort()
        # The server finds it as soon as nobody takes more of the file.
        wait_until_read(web.socket)
        while not got.ended:
            collect(got, web.record())
        assert len(got.body) < LARGE
        assert content.startswith(got.body)
        application.ended.wait()
        assert web.request(params_for("/hello")).body == b"hello"


def test_a_web_server_that_leaves_in_the_middle(serve: Serve, tmp_path: Path, application: Application) -> None:
    path, _ = make(tmp_path, LARGE)
    with serve() as web:
        web.send(encode_request(asking(path)))
        web.record()
        web.close()
        application.ended.wait()
    assert all(isinstance(error, OSError) for error in application.errors)
    assert all(file.file.closed for file in application.files)


def test_a_web_server_that_takes_nothing(serve: Serve, tmp_path: Path, application: Application) -> None:
    path, _ = make(tmp_path, LARGE)
    with serve(Limits(write_timeout=0.5, graceful_timeout=TIMEOUT)) as web:
        web.send(encode_request(asking(path)))
        web.record()
        application.ended.wait()
    assert all(isinstance(error, OSError) for error in application.errors)


def test_several_on_one_connection(serve: Serve, tmp_path: Path) -> None:
    """Records of different requests never mix, and small answers come through."""
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        requests = [encode_request(asking(path), request_id=number) for number in (1, 2)]
        requests += [encode_request(params_for("/hello"), request_id=number) for number in range(3, 9)]
        web.send(b"".join(requests))
        got = web.responses(range(1, 9))
    assert [got[number].body == content for number in (1, 2)] == [True, True]
    assert {got[number].body for number in range(3, 9)} == {b"hello"}


def test_files_beside_a_stream(serve: Serve, tmp_path: Path) -> None:
    """What goes past an event loop's transport, and what goes through it, take turns."""
    path, content = make(tmp_path, LARGE)
    with serve() as web:
        requests = [encode_request(params_for("/chunks"), request_id=1), encode_request(asking(path), request_id=2)]
        requests += [encode_request(params_for("/chunks"), request_id=3)]
        web.send(b"".join(requests))
        got = web.responses((1, 2, 3))
    assert [got[1].body, got[3].body] == [b"".join(CHUNKS)] * 2
    assert got[2].body == content


@pytest.mark.parametrize("kind", ("threads", "asyncio", "uvloop"), indirect=True)
def test_a_small_answer_overtakes_a_large_file(serve: Serve, tmp_path: Path, application: Application) -> None:
    size = 64 * MIB
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, size)
    with serve() as web:
        web.send(encode_request(asking(str(path))))
        left = size - len(web.record().content.partition(b"\r\n\r\n")[2])
        web.send(encode_request(params_for("/hello"), request_id=2))
        # Nothing of the file goes on while nobody reads it.
        application.greeted.wait()
        answer = Response()
        while not answer.ended:
            # Not as fast as it comes: the thread that answers may stand still for a moment.
            time.sleep(0.01)
            record = web.record()
            if record.id == 2:
                collect(answer, record)
            else:
                assert record.type == FCGI_STDOUT
                left -= len(record.content)
        assert answer.body == b"hello"
        assert left > 0
        while (record := web.record()).type == FCGI_STDOUT:
            left -= len(record.content)
        assert left == 0


@pytest.mark.parametrize("why", ("shrinks", "leaves"))
def test_no_descriptor_outlives_a_failure(serve: Serve, tmp_path: Path, application: Application, why: str) -> None:
    """Not even until Python looks for garbage."""
    path, _ = make(tmp_path, LARGE)
    # pytest's handlers keep errors, and with them what their frames hold.
    root = logging.getLogger()
    root.handlers, handlers = [logging.NullHandler()], root.handlers
    gc.collect()
    gc.disable()
    try:
        with serve() as web:
            web.send(encode_request(asking(path)))
            web.record()
            if why == "shrinks":
                os.truncate(path, 0)
                read_to_the_cut(web)
            else:
                web.close()
            application.ended.wait()
        application.errors.clear()
        left = [link for link in map(_target, os.listdir("/proc/self/fd")) if link == path]
    finally:
        gc.enable()
        root.handlers = handlers
    assert left == []


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


# ------------------------------------------------------------------------------ WSGI alone


@pytest.fixture(params=(1, 3), ids=("single", "threads"))
def wsgi(request: pytest.FixtureRequest) -> Callable[[Callable[..., Any]], Response]:
    """What an application answers that gives its response to `wsgi.file_wrapper`."""

    def ask(
        make_file: Callable[[], Any], *headers: tuple[str, str], wrap: Callable[..., Any] | None = None
    ) -> Response:
        def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            start_response("200 OK", list(headers))
            wrapped = environ["wsgi.file_wrapper"](make_file())
            return wrapped if wrap is None else wrap(wrapped)

        server = sync_server(WsgiHandler.for_app(app), threads=request.param)
        with server as address, WebServer(address) as web:
            web.send(encode_request(params_for()))
            return web.response()

    return ask


OPENED: dict[str, Callable[[str], Any]] = {
    "buffered": lambda path: open(path, "rb"),
    "unbuffered": lambda path: open(path, "rb", buffering=0),
    "both ways": lambda path: open(path, "r+b"),
}


@pytest.mark.parametrize("how", OPENED)
def test_from_where_the_file_stands(wsgi: Callable[..., Response], tmp_path: Path, how: str) -> None:
    path, content = make(tmp_path, MIB)

    def opened() -> Any:
        file = OPENED[how](path)
        file.seek(100)
        assert file.read(11) == content[100:111]
        return file

    assert wsgi(opened).body == content[111:]
    assert wsgi(opened, ("Content-Length", "500000")).body == content[111:500111]


def test_what_was_written_to_the_file_before(wsgi: Callable[..., Response]) -> None:
    def written() -> Any:
        file = tempfile.TemporaryFile()
        file.write(b"x" * MIB)
        file.seek(0)
        file.write(b"y" * 10)
        return file

    assert wsgi(written).body == b"x" * (MIB - 10)


def test_a_file_at_its_end(wsgi: Callable[..., Response], tmp_path: Path) -> None:
    path, _ = make(tmp_path, MIB)

    def at_end() -> Any:
        file = open(path, "rb")
        file.seek(2 * MIB)
        return file

    assert wsgi(at_end).body == b""


class Reader:
    """Nothing but read()."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


class Subclass(io.FileIO):
    """Reads something else than the file holds."""

    def read(self, size: int | None = -1, /) -> bytes:
        return (super().read(size) or b"").swapcase()


def test_what_is_no_plain_file(wsgi: Callable[..., Response], tmp_path: Path) -> None:
    content = b"content " * 50000
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))

    def piped() -> Any:
        reader, writer = os.pipe()
        os.write(writer, content[:60000])
        os.close(writer)
        return open(reader, "rb")

    assert wsgi(lambda: io.BytesIO(content)).body == content
    assert wsgi(lambda: Reader(content)).body == content
    assert wsgi(lambda: gzip.open(packed)).body == content
    assert wsgi(lambda: tempfile.SpooledTemporaryFile()).body == b""
    assert wsgi(lambda: Subclass(plain)).body == content.swapcase()
    assert wsgi(lambda: io.BufferedReader(Subclass(plain))).body == content
    assert wsgi(piped).body == content[:60000]


def test_files_that_cannot_be_read(wsgi: Callable[..., Response], tmp_path: Path) -> None:
    path, _ = make(tmp_path, MIB)

    def closed() -> Any:
        file = open(path, "rb")
        file.close()
        return file

    for opened in (closed, lambda: open(path), lambda: open(path, "ab", buffering=0)):
        got = wsgi(opened)
        assert got.status == 500
        assert b"Traceback" in got.stderr


def test_no_more_is_read_than_the_content_length(wsgi: Callable[..., Response]) -> None:
    source = io.BytesIO(b"x" * MIB)
    source.close = lambda: None  # type: ignore[method-assign]
    assert wsgi(lambda: source, ("Content-Length", "100000")).body == b"x" * 100000
    assert source.tell() == 100000


def test_middleware_around_the_wrapper(wsgi: Callable[..., Response], tmp_path: Path) -> None:
    path, content = make(tmp_path, MIB)

    def turned(blocks: Any) -> Iterator[bytes]:
        yield from (block[::-1] for block in blocks)
        blocks.close()

    def listed(blocks: Any) -> list[bytes]:
        with contextlib.closing(blocks):
            return list(blocks)

    def after_the_first(blocks: Any) -> Any:
        next(blocks)
        return blocks

    opened = OPENED["buffered"]
    pieces = [content[start : start + 65536][::-1] for start in range(0, MIB, 65536)]
    assert wsgi(lambda: opened(path), wrap=turned).body == b"".join(pieces)
    assert wsgi(lambda: opened(path), wrap=listed).body == content
    assert wsgi(lambda: opened(path), wrap=after_the_first).body == content[65536:]


@pytest.mark.parametrize("threads", (1, 3))
def test_a_file_behind_what_was_written(tmp_path: Path, threads: int) -> None:
    path, content = make(tmp_path, MIB)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])(b"first ")
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    with sync_server(WsgiHandler.for_app(app), threads=threads) as address, WebServer(address) as web:
        assert web.request(params_for()).body == b"first " + content


@pytest.mark.parametrize("threads", (1, 3))
def test_a_wrapper_without_start_response(tmp_path: Path, threads: int) -> None:
    path, _ = make(tmp_path, MIB)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    with sync_server(WsgiHandler.for_app(app), threads=threads) as address, WebServer(address) as web:
        assert web.request(params_for()).stdout == INTERNAL_SERVER_ERROR


@pytest.mark.parametrize("threads", (1, 3))
def test_no_file_behind_the_end(tmp_path: Path, threads: int) -> None:
    """The next request may have the same id: it must not be given this one's file."""
    path, _ = make(tmp_path, MIB)
    raised: list[BaseException] = []

    class Handler(FcgiHandler):
        def handle(self) -> None:
            self.request.end(data=b"\r\nwhole")
            with open(path, "rb") as file:
                try:
                    self.request.send_file(file.fileno(), 0, MIB)
                except RuntimeError as error:
                    raised.append(error)

    with sync_server(Handler, threads=threads) as address, WebServer(address) as web:
        for _ in range(2):
            assert web.request(params_for()).stdout == b"\r\nwhole"
    assert len(raised) == 2


# ------------------------------------------------------------------------------ ASGI alone

asgi_kinds = pytest.mark.parametrize("kind", ("asyncio", "uvloop"), indirect=True)


@asgi_kinds
def test_paths_that_are_no_files(serve: Serve, tmp_path: Path, application: Application) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serve() as web:
        for path in (tmp_path / "missing", tmp_path, fifo):
            got = web.request(asking(str(path)))
            assert got.stdout == INTERNAL_SERVER_ERROR
    assert [isinstance(error, OSError) for error in application.errors] == [True] * 3


@asgi_kinds
def test_a_send_that_is_cancelled(serve: Serve, tmp_path: Path, application: Application) -> None:
    """The record under way leaves whole, other requests are served, and this one is cut."""
    path, _ = make(tmp_path, LARGE)
    with serve() as web:
        # In one piece: nothing begins any more on a connection that is about to be cut.
        requests = [
            encode_request(asking(path, HTTP_SECONDS="0.5")),
            encode_request(params_for("/hello"), request_id=2),
        ]
        web.send(b"".join(requests))
        application.ended.wait()
        got = {1: Response(), 2: Response()}
        while (record := web.record()).id in got:
            collect(got[record.id], record)
        assert (got[1].ended, got[2].body, got[2].ended) == (False, b"hello", True)
        assert b"TimeoutError" in got[1].stderr
        assert web.at_eof()


def test_messages_out_of_order(tmp_path: Path) -> None:
    path, content = make(tmp_path, MIB)
    pathsend = {"type": "http.response.pathsend", "path": path}
    start = {"type": "http.response.start", "status": 200, "headers": []}
    errors: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (pathsend, start, pathsend, pathsend, {"type": "http.response.body"}):
            try:
                await send(message)
            except RuntimeError as error:
                errors.append(str(error))

    with (
        async_server(AsgiHandler.for_app(app, lifespan="off"), LOOPS["asyncio"]) as address,
        WebServer(address) as web,
    ):
        assert web.request(params_for()).body == content
    assert errors == [
        "http.response.pathsend was sent before http.response.start",
        "http.response.pathsend was sent behind the end of the response",
        "http.response.body was sent behind the end of the response",
    ]


@asgi_kinds
def test_the_response_ends_while_a_file_is_sent(kind: str, tmp_path: Path) -> None:
    """By another task. The next request has the same id: it must not be given this one's file."""
    path, content = make(tmp_path, LARGE)
    begun, ending = Flag(), Flag()
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/hello":
            await send({"type": "http.response.body", "body": b"hello"})
            return
        file = asyncio.create_task(send({"type": "http.response.pathsend", "path": path}))
        await begun.seen()
        ending.set()
        await send({"type": "http.response.body", "body": b""})
        try:
            await file
        except RuntimeError as error:
            raised.append(error)

    with async_server(AsgiHandler.for_app(app, lifespan="off"), LOOPS[kind]) as address, WebServer(address) as web:
        web.send(encode_request(params_for("/file")))
        got = Response()
        collect(got, web.record())
        begun.set()
        # Whoever reads on has all of the file before a busy machine comes to its end.
        ending.wait()
        while not got.ended:
            collect(got, web.record())
        assert len(got.body) < LARGE
        assert content.startswith(got.body)
        assert web.request(params_for("/hello")).body == b"hello"
    assert len(raised) == 1
