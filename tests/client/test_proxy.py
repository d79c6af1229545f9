"""FcgiProxy under uvicorn, before our own server and before PHP-FPM."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from simple_fastcgi.client import FcgiProxy
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.testing import AppServer
from tests.support.asgi_server import serving_http
from tests.support.lying import Peer, application, end, stderr, stdout
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping

    from starlette.requests import Request

    from tests.support.php import PhpFpm

    Message = MutableMapping[str, Any]

HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"
PATIENT = ClientLimits(
    read_timeout=10 * TIMEOUT, write_timeout=10 * TIMEOUT, pool_timeout=TIMEOUT, keepalive_expiry=10 * TIMEOUT
)


@contextmanager
def browsing(app: Any, **options: Any) -> Iterator[httpx.Client]:
    with serving_http(app, **options) as port:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, verify=False) as client:
            yield client


# --------------------------------------------------------------------------------- our own server behind it


class Told:
    """What the application behind the proxy has met."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.disconnected = threading.Event()
        self.produced = 0


TOLD = Told()


async def facts(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "url": str(request.url),
            "own": str(request.url_for("facts")),
            "root_path": request.scope["root_path"],
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode("latin-1"),
            "query": request.scope["query_string"].decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
            "body": body.decode("latin-1"),
            "client": list(request.client or ()),
            "server": list(request.scope["server"]),
        },
        headers={"Connection": "x-inner", "X-Inner": "1", "Keep-Alive": "timeout=5"},
    )


async def cookies(request: Request) -> Response:
    response = PlainTextResponse("cookies", 201)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def empty(request: Request) -> Response:
    return Response(status_code=204)


async def stepwise(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        while not TOLD.go_on.is_set():
            await asyncio.sleep(0.005)
        yield b"second"

    return StreamingResponse(pieces())


async def echo(request: Request) -> Response:
    return StreamingResponse(request.stream())


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65536)
                TOLD.produced += 65536
        finally:
            TOLD.disconnected.set()

    return StreamingResponse(pieces())


async def waits(request: Request) -> Response:
    TOLD.begun.set()
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    TOLD.disconnected.set()
    return Response()


async def early(request: Request) -> Response:
    return PlainTextResponse("too large", 413)


async def breaks(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"some"
        raise RuntimeError("in the midst of it")

    return StreamingResponse(pieces(), headers={"Content-Length": "10"} if "length" in request.query_params else {})


INNER = Starlette(
    routes=[
        Route("/facts", facts, methods=["GET", "POST", "PUT"]),
        Route("/facts/{rest:path}", facts),
        Route("/cookies", cookies),
        Route("/empty", empty),
        Route("/stepwise", stepwise),
        Route("/echo", echo, methods=["POST"]),
        Route("/endless", endless),
        Route("/waits", waits),
        Route("/early", early, methods=["POST"]),
        Route("/breaks", breaks),
    ]
)


@pytest.fixture(scope="module")
def inner() -> Iterator[AppServer]:
    with AppServer(INNER, loop="asyncio") as server:
        yield server


@pytest.fixture
def client(inner: AppServer) -> Iterator[httpx.Client]:
    with browsing(FcgiProxy(inner.address, limits=PATIENT)) as client:
        yield client


@pytest.fixture(autouse=True)
def _told() -> None:
    TOLD.__init__()  # type: ignore[misc]


def test_requests_arrive_as_they_were_sent(client: httpx.Client) -> None:
    response = client.get(
        "/facts/a%20b/%C3%A4?q=1&q=%20",
        headers=[
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("Cookie", "a=b"),
            ("Proxy", "evil"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
        ],
    )
    told = response.json()
    headers = dict(told["headers"])
    port = client.base_url.port
    assert (told["raw_path"], told["query"]) == ("/facts/a%20b/%C3%A4", "q=1&q=%20")
    assert (told["path"], told["root_path"]) == ("/facts/a b/ä", "")
    assert (headers["x-twice"], headers["cookie"]) == ("1, 2", "a=b")
    assert not headers.keys() & {"proxy", "x-hop", "connection", "te"}
    assert told["server"] == ["127.0.0.1", port]
    assert told["client"][0] == "127.0.0.1"
    # And back: what is meant for one connection stays there.
    assert not response.headers.keys() & {"x-inner", "keep-alive"}
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_of_known_and_unknown_length(client: httpx.Client, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert client.post("/echo", content=body).content == body
    pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    assert client.post("/echo", content=pieces).content == body


def test_responses_come_as_they_are(client: httpx.Client) -> None:
    response = client.get("/cookies")
    assert (response.status_code, response.text) == (201, "cookies")
    assert [value.split(";")[0] for value in response.headers.get_list("set-cookie")] == ["a=1", "b=2"]
    response = client.head("/facts")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0
    response = client.get("/empty")
    assert (response.status_code, response.content) == (204, b"")


def test_pieces_come_when_they_are_sent(client: httpx.Client) -> None:
    with client.stream("GET", "/stepwise") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"first"
        TOLD.go_on.set()
        assert b"".join(pieces) == b"second"


def test_a_length_beside_a_transfer_encoding_is_none(client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port), TIMEOUT) as sock, sock.makefile("rb") as file:
        sock.sendall(
            b"POST /facts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        answer = file.read()
    assert b'"body":"hello"' in answer
    assert b'"content-length"' not in answer


def test_pieces_go_when_they_are_sent(client: httpx.Client) -> None:
    """The answer to one piece comes before the next one is sent."""
    port = client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock, sock.makefile("rb") as file:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for piece in (b"one", b"two", b"three"):
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            while piece not in (line := file.readline()):
                assert line
        sock.sendall(b"0\r\n\r\n")
        assert file.read().endswith(b"0\r\n\r\n")


def test_a_slow_client_holds_up_the_application(client: httpx.Client) -> None:
    read = 0
    with client.stream("GET", "/endless") as response:
        for piece in response.iter_raw():
            read += len(piece)
            assert TOLD.produced - read < 16 * 1024 * 1024
            if read > 8 * 1024 * 1024:
                break
    assert TOLD.disconnected.wait(TIMEOUT)


def test_a_client_that_leaves_aborts_the_request(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        assert TOLD.begun.wait(TIMEOUT)
    assert TOLD.disconnected.wait(TIMEOUT)


def test_a_client_that_leaves_within_its_body(client: httpx.Client) -> None:
    port = client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nsome")
        with sock.makefile("rb") as file:
            while b"some" not in file.readline():
                pass
    assert client.get("/cookies").status_code == 201


def test_an_answer_before_the_body(client: httpx.Client) -> None:
    assert client.post("/early", content=bytes(3_000_000)).status_code == 413
    assert client.get("/cookies").status_code == 201


@pytest.mark.parametrize("query", ["", "?length"])
def test_what_breaks_off_is_seen_to_be_cut(client: httpx.Client, caplog: pytest.LogCaptureFixture, query: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"/breaks{query}")
    assert "the response was cut" in caplog.text


@pytest.mark.parametrize("root_path", ["", "/outer"])
def test_mounted(inner: AppServer, root_path: str) -> None:
    proxy = FcgiProxy(inner.address)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with proxy:
            yield

    app = Starlette(routes=[Mount("/sub dir", proxy)], lifespan=lifespan)
    with browsing(app, root_path=root_path) as client:
        told = client.get("/sub%20dir/facts/x?y=z").json()
    base = f"http://127.0.0.1:{client.base_url.port}"
    assert told["root_path"] == f"{root_path}/sub dir"
    assert told["path"] == f"{root_path}/sub dir/facts/x"
    assert told["own"] == f"{base}{root_path}/sub dir/facts"


def test_a_mount_point_that_is_told(inner: AppServer) -> None:
    with browsing(FcgiProxy(inner.address, root_path="/app")) as client:
        told = client.get("/app/facts").json()
        assert (told["root_path"], told["path"]) == ("/app", "/app/facts")
        assert client.get("/facts").status_code == 400


# ------------------------------------------------------------------------------------------------------ PHP


def test_php(php: PhpFpm, caplog: pytest.LogCaptureFixture) -> None:
    php.add(
        "proxy/all.php",
        """
        header('X-Twice: 1'); header('X-Twice: 2', false); setcookie('a', 'b');
        error_log('to the log');
        $names = ['REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'REQUEST_URI', 'PHP_SELF', 'DOCUMENT_ROOT',
                  'SCRIPT_FILENAME', 'SERVER_PROTOCOL', 'CONTENT_TYPE', 'HTTP_X_A', 'QUERY_STRING', 'HTTPS'];
        $told = [];
        foreach ($names as $name) $told[$name] = $_SERVER[$name] ?? null;
        $told['post'] = $_POST;
        $told['files'] = array_map(fn($file) => md5_file($file['tmp_name']), $_FILES);
        $told['size'] = strlen(file_get_contents('php://input'));
        echo json_encode($told);
        """,
    )
    php.add("proxy/index.php", "echo 'index of ', $_SERVER['SCRIPT_NAME'];")
    app = Starlette()
    app.mount("/php", FcgiProxy(php.address, document_root=f"{php.document_root}/proxy"))
    with browsing(app) as client:
        response = client.get("/php/all.php/more/%C3%A4?a=1", headers={b"X-A": "ä".encode()})
        told = response.json()
        assert response.headers.get_list("x-twice") == ["1", "2"]
        assert response.headers["set-cookie"] == "a=b"
        assert told["SCRIPT_NAME"] == "/php/all.php"
        assert told["PATH_INFO"] == "/more/ä"
        assert told["PHP_SELF"] == "/php/all.php/more/ä"
        assert told["REQUEST_URI"] == "/php/all.php/more/%C3%A4?a=1"
        assert told["SCRIPT_FILENAME"] == f"{php.document_root}/proxy/all.php"
        assert (told["HTTP_X_A"], told["HTTPS"], told["SERVER_PROTOCOL"]) == ("ä", None, "HTTP/1.1")
        assert "FCGI_STDERR: PHP message: to the log" in caplog.text

        told = client.post("/php/all.php", data={"a": ["1"], "b": "ä"}).json()
        assert told["post"] == {"a": "1", "b": "ä"}
        upload = b"\0\xff" * 500_000
        told = client.post("/php/all.php", files={"one": upload}).json()
        assert told["files"] == {"one": hashlib.md5(upload).hexdigest()}

        # A length that is not told: spooled, in memory and in a file.
        for count in (0, 1, 20):
            told = client.post("/php/all.php", content=(bytes(50_000) for _ in range(count))).json()
            assert told["size"] == 50_000 * count

        assert client.get("/php/").text == "index of /php/index.php"
        assert client.head("/php/").status_code == 200
        missing = client.get("/php/none.php")
        assert (missing.status_code, missing.text) == (404, "File not found.\n")


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.once
def test_a_thousand_requests_at_once(php: PhpFpm) -> None:
    php.add("many.php", "usleep(1000); echo $_GET['n'], '|', str_repeat($_GET['n'], 100);")
    limits = ClientLimits(max_connections=50, pool_timeout=TIMEOUT, read_timeout=TIMEOUT)
    proxy = FcgiProxy(php.address, document_root=str(php.document_root), limits=limits)

    async def main(port: int) -> None:
        async def ask(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /many.php?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % number)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"%d|%s" % (number, b"%d" % number * 100) in answer

        await asyncio.gather(*map(ask, range(1000)))

    with serving_http(proxy, backlog=2048) as port:
        asyncio.run(main(port))
    assert proxy.pool.state.in_use == 0


def test_a_front_controller(php: PhpFpm) -> None:
    php.add("front/index.php", "echo $_SERVER['SCRIPT_NAME'], '|', $_SERVER['PATH_INFO'] ?? '-';")
    proxy = FcgiProxy(php.address, script=f"{php.document_root}/front/index.php")
    with browsing(Starlette(routes=[Mount("/shop", proxy)])) as client:
        assert client.get("/shop/item/7").text == "/shop/index.php|-"
        assert client.get("/shop/index.php/item/7").text == "/shop/index.php|/item/7"


def test_bodies_that_are_too_large_to_spool(php: PhpFpm) -> None:
    proxy = FcgiProxy(php.address, document_root=str(php.document_root), limits=ClientLimits(max_spooled_bytes=99_999))
    with browsing(proxy) as client:
        response = client.post("/none.php", content=(bytes(50_000) for _ in range(2)))
        assert (response.status_code, response.text) == (413, "413 Content Too Large\n")


@pytest.mark.parametrize("target", [b"/../x.php", b"/a/%2e%2E/x.php", b"/%00.php", b"*"])
def test_targets_that_name_no_script(target: bytes) -> None:
    with browsing(FcgiProxy("unix:/nowhere", document_root="/srv")) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port), TIMEOUT) as sock, sock.makefile("rb") as f:
            sock.sendall(b"OPTIONS %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
            assert f.read().startswith(b"HTTP/1.1 400 ")


# -------------------------------------------------------------------------------------------- what goes wrong


def ok(peer: Peer) -> None:
    peer.request()
    peer.send(stdout(HEAD + b"fine"), end())


def keeps(peer: Peer) -> None:
    ok(peer)
    peer.eof()


def answering(*records: bytes) -> Any:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*records)

    return script


@pytest.mark.parametrize(
    ("script", "status", "told"),
    [
        (answering(stdout(b"no header\r\n\r\n"), end()), 502, "no header field"),
        (answering(stdout(b"\r\nbody"), end()), 502, "has no field"),
        (answering(stdout(b"Status: 999 Odd\r\n\r\n"), end()), 502, "999"),
        (answering(stdout(b"X-A: " + b"x" * 65_400), stdout(b"x" * 200)), 502, "max_head_bytes"),
        (answering(end(255)), 502, "without a response, application status 255"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 502, "this is an HTTP server"),
        (answering(b"\xff" * 20), 502, "version 255"),
        (answering(stderr(b"segfault\n")), 502, "closed the connection"),
        (answering(), 502, "closed the connection before any response"),
        (lambda peer: None, 502, "closed the connection"),
        (answering(end(0, 2)), 503, "FCGI_OVERLOADED"),
        (answering(end(0, 3)), 502, "FCGI_UNKNOWN_ROLE"),
        (lambda peer: (peer.request(), peer.eof()), 504, "read_timeout"),
        (lambda peer: (peer.request(), peer.send(stdout(b"Status: 2")), peer.eof()), 504, "read_timeout"),
    ],
    ids=[
        "no-head",
        "empty-head",
        "odd-status",
        "large-head",
        "no-output",
        "http",
        "garbage",
        "crash",
        "closes",
        "closes-at-once",
        "overloaded",
        "role",
        "silent",
        "silent-in-head",
    ],
)
def test_servers_that_do_not_answer_as_they_should(
    caplog: pytest.LogCaptureFixture, script: Any, status: int, told: str
) -> None:
    with application(script, ok) as address:
        limits = ClientLimits(read_timeout=0.1) if status == 504 else PATIENT
        with browsing(FcgiProxy(address, limits=limits)) as client:
            response = client.get("/some?query")
            assert response.status_code == status
            assert response.text.startswith(f"{status} ")
            assert re.search(f"GET '/some': {status}: .*{address}.*{told}", caplog.text)
        with browsing(FcgiProxy(address, limits=PATIENT)) as client:
            assert client.get("/").text == "fine"


@pytest.mark.parametrize(
    "records",
    [
        [stdout(HEAD + b"some")],
        [stdout(b"Content-Length: 10\r\n\r\n" + b"some"), end()],
        [stdout(b"Content-Length: 2\r\n\r\n" + b"some"), end()],
        [stdout(HEAD + b"some"), b"\xff" * 8],
        [stdout(HEAD + b"some"), end(0, 2)],
    ],
    ids=["closed", "short", "long", "garbage", "refused"],
)
def test_responses_that_are_cut(caplog: pytest.LogCaptureFixture, records: list[bytes]) -> None:
    with application(answering(*records), ok) as address:
        with browsing(FcgiProxy(address, limits=PATIENT)) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/")
            assert "the response was cut" in caplog.text
            assert client.get("/").text == "fine"


def test_a_response_that_stops_in_its_midst(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        peer.send(stdout(HEAD + b"some"))
        peer.eof()

    with application(script) as address, browsing(FcgiProxy(address, limits=ClientLimits(read_timeout=0.1))) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port), TIMEOUT) as sock, sock.makefile("rb") as f:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            # Time does not count before the request has ended.
            while b"some" not in (line := f.readline()):
                assert line
            sock.sendall(b"0\r\n\r\n")
            assert f.read() == b""
    assert "the response was cut" in caplog.text


def test_a_server_that_takes_no_body(caplog: pytest.LogCaptureFixture) -> None:
    limits = ClientLimits(write_timeout=0.1, read_timeout=10 * TIMEOUT)
    taken = threading.Event()
    with (
        application(lambda peer: taken.wait(TIMEOUT)) as address,
        browsing(FcgiProxy(address, limits=limits)) as client,
    ):
        try:
            assert client.post("/", content=bytes(10_000_000)).status_code == 504
        except httpx.WriteError:
            pass  # uvicorn answered, and closed
        finally:
            taken.set()
    assert "nothing could be sent" in caplog.text


def test_absent_and_dead_servers(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "php.sock"
    with browsing(FcgiProxy(f"unix:{path}", document_root="/srv")) as client:
        assert client.get("/x.php").status_code == 502
        assert f"GET '/x.php': 502: cannot connect to unix:{path}: there is no such socket file" in caplog.text
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        assert client.get("/x.php").status_code == 502
        assert "nobody listens on this file" in caplog.text
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with browsing(FcgiProxy(f"127.0.0.1:{port}")) as client:
        assert client.get("/").status_code == 502
        assert f"cannot connect to 127.0.0.1:{port}: nobody listens there" in caplog.text


def test_servers_that_have_no_room(caplog: pytest.LogCaptureFixture) -> None:
    with application(lambda peer: peer.eof(), backlog=0) as address:
        path = address.removeprefix("unix:")
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(path)
            second.connect(path)
            filling = []
            while True:
                sock = socket.socket(socket.AF_UNIX)
                filling.append(sock)
                sock.setblocking(False)
                try:
                    sock.connect(path)
                except BlockingIOError:
                    break
            with browsing(FcgiProxy(address, limits=ClientLimits(connect_timeout=0.05))) as client:
                assert client.get("/").status_code == 503
                assert "its listen queue is full" in caplog.text
            for sock in filling:
                sock.close()


def test_all_connections_in_use(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        begun.set()
        go_on.wait(TIMEOUT)
        peer.send(stdout(HEAD + b"fine"), end())

    limits = ClientLimits(max_connections=1, pool_timeout=0.05)
    with application(script) as address, browsing(FcgiProxy(address, limits=limits)) as client:
        results: list[str] = []
        first = threading.Thread(target=lambda: results.append(client.get("/").text))
        first.start()
        assert begun.wait(TIMEOUT)
        assert client.get("/").status_code == 503
        assert "max_connections" in caplog.text
        go_on.set()
        first.join()
        assert results == ["fine"]


def test_kept_connections_that_the_server_closes() -> None:
    """Each serves one request, although it was asked to be kept."""
    closed = threading.Semaphore(0)

    def closes(peer: Peer) -> None:
        ok(peer)
        peer.close()
        closed.release()

    with application(*[closes] * 4) as address, browsing(FcgiProxy(address, limits=PATIENT)) as client:
        for _ in range(2):
            assert client.get("/").text == "fine"
            assert closed.acquire(timeout=TIMEOUT)
            assert client.post("/", content=b"x").text == "fine"
            assert closed.acquire(timeout=TIMEOUT)


def test_a_request_that_meets_the_end_of_a_kept_connection() -> None:
    def closes_at_the_second(peer: Peer) -> None:
        ok(peer)
        peer.request()

    with application(closes_at_the_second, closes_at_the_second, ok) as address:
        with browsing(FcgiProxy(address, limits=PATIENT)) as client:
            assert client.get("/").text == "fine"
            # Repeated on a new connection, which is kept ...
            assert client.get("/").text == "fine"
            # ... but not what might be done twice.
            assert client.post("/", content=b"x").status_code == 502
            assert client.get("/").text == "fine"


async def forwarded(proxy: FcgiProxy, method: str, *pieces: bytes) -> int:
    """The status of the answer to a request whose body comes in these messages, of a client that stays."""
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    statuses: list[int] = []

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await proxy({"type": "http", "method": method, "path": "/", "headers": []}, receive, send)
    (status,) = statuses
    return status


@pytest.mark.parametrize("pieces", [(b"first ", b"second"), (b"", b"all of it"), (b"all but its end", b"")])
def test_a_body_that_came_in_pieces_is_not_repeated_without_them(pieces: tuple[bytes, ...]) -> None:
    def closes_at_the_second(peer: Peer) -> None:
        ok(peer)
        bodies.append(peer.request())

    async def main(address: str) -> None:
        async with FcgiProxy(address, limits=PATIENT) as proxy:
            assert await forwarded(proxy, "GET", b"") == 200
            assert await forwarded(proxy, "PUT", *pieces) == 502
            assert await forwarded(proxy, "GET", b"") == 200

    bodies: list[bytes] = []
    with application(closes_at_the_second, ok) as address:
        asyncio.run(main(address))
    assert bodies == [b"".join(pieces)]


@pytest.mark.parametrize(("pieces", "status"), [((b"first ", b"second"), 502), ((b"whole",), 200)])
def test_a_connection_that_ends_before_a_post_begins(pieces: tuple[bytes, ...], status: int) -> None:
    """Nothing of it was sent: it is repeated, if its body is still there."""

    def ending(proxy: FcgiProxy) -> None:
        acquire = proxy.pool.acquire

        async def acquire_and_end(**timeouts: Any) -> Any:
            connection = await acquire(**timeouts)
            if connection.kept:
                connection.sock.shutdown(socket.SHUT_RDWR)
            return connection

        proxy.pool.acquire = acquire_and_end  # type: ignore[method-assign]

    def told(peer: Peer) -> None:
        bodies.append(peer.request())
        peer.send(stdout(HEAD + b"fine"), end())

    async def main(address: str) -> None:
        async with FcgiProxy(address, limits=PATIENT) as proxy:
            assert await forwarded(proxy, "GET", b"") == 200
            ending(proxy)
            assert await forwarded(proxy, "POST", *pieces) == status

    bodies: list[bytes] = []
    with application(keeps, told) as address:
        asyncio.run(main(address))
    assert bodies == ([b"".join(pieces)] if status == 200 else [])


# ----------------------------------------------------------------------------------------- ASGI's other scopes


async def talk(proxy: FcgiProxy, scope: Message, *messages: Message) -> list[Message]:
    told = iter(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        return next(told)

    async def send(message: Message) -> None:
        sent.append(message)

    await proxy(scope, receive, send)
    return sent


def test_websockets_are_refused() -> None:
    proxy = FcgiProxy("unix:/nowhere")
    scope = {"type": "websocket", "path": "/ws"}
    (close,) = asyncio.run(talk(proxy, scope, {"type": "websocket.connect"}))
    assert close["type"] == "websocket.close"
    scope["extensions"] = {"websocket.http.response": {}}  # type: ignore[assignment]
    start, body = asyncio.run(talk(proxy, scope, {"type": "websocket.connect"}))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 501)
    assert b"WebSockets" in body["body"]


def test_unknown_scopes() -> None:
    with pytest.raises(ValueError, match="not 'telegraph'"):
        asyncio.run(talk(FcgiProxy("unix:/nowhere"), {"type": "telegraph"}))


def test_the_lifespan_closes_connections() -> None:
    startup, shutdown = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    complete = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    with application(keeps, ok) as address:
        proxy = FcgiProxy(address)
        for _ in range(2):
            # The same object may serve again.
            with browsing(proxy) as client:
                assert client.get("/").text == "fine"
        assert proxy.pool.state.idle == 0
        assert asyncio.run(talk(proxy, {"type": "lifespan"}, startup, shutdown)) == complete


def test_servers_that_leave_the_mount_point_out_of_the_path(inner: AppServer) -> None:
    async def main() -> httpx.Response:
        async with FcgiProxy(inner.address) as proxy:
            transport = httpx.ASGITransport(proxy, root_path="/outer")
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.get("/facts/a%20b")

    told = asyncio.run(main()).json()
    assert (told["root_path"], told["path"]) == ("/outer", "/outer/facts/a b")
    assert told["raw_path"] == "/outer/facts/a%20b"


def test_servers_that_raise_when_the_client_has_gone() -> None:
    """As ASGI 2.4 has it: the request is aborted, and nobody else hears of it."""
    aborted = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(stdout(HEAD + b"some"))
        peer.eof()
        aborted.set()

    async def main(address: str) -> None:
        proxy = FcgiProxy(address)
        messages = iter([{"type": "http.request"}])

        async def receive() -> Message:
            for message in messages:
                return message
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            raise BrokenPipeError

        await proxy({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        assert (proxy.pool.state.in_use, proxy.pool.state.idle) == (0, 0)

    with application(script) as address:
        asyncio.run(main(address))
        assert aborted.wait(TIMEOUT)


def test_closed() -> None:
    async def main() -> int:
        async with FcgiProxy("unix:/nowhere") as proxy:
            pass
        async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://x") as client:
            return (await client.get("/")).status_code

    assert asyncio.run(main()) == 503


@pytest.mark.parametrize(
    "options",
    [
        {"document_root": "www"},
        {"script": "/a.php", "document_root": "/srv"},
        {"root_path": "http://x/"},
        {"index": ""},
        {"limits": httpx.Limits()},
        {"params": {"A": 1}},
        {"params": ["A"]},
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        FcgiProxy("unix:/run/x.sock", **options)
    with pytest.raises(ConfigurationError, match="address"):
        FcgiProxy("fd://0")
