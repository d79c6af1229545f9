"""`FcgiTransport` on good and on bad days: addresses, timeouts, errors, the pool, aborts."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from simple_fastcgi import FcgiHandler, HttpResponseMixin
from simple_fastcgi.client import AsyncFcgiTransport, FcgiProxy, FcgiTransport
from simple_fastcgi.client.target import explain, parse_target
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.protocol.constants import FCGI_OVERLOADED, FCGI_STDIN, FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_end_request, encode_record
from simple_fastcgi.testing import AppServer
from tests.client.support import HEAD, answers, played, read_request, response, sends, waits
from tests.gateways.support import Flag, listening
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

PATIENT = ClientLimits(keepalive_expiry=10 * TIMEOUT)
SHORT = httpx.Timeout(TIMEOUT, read=0.05, write=0.05, connect=0.05, pool=0.05)


def client_of(address: str, *, limits: ClientLimits | httpx.Limits = PATIENT, **options: object) -> httpx.Client:
    transport = FcgiTransport(address, limits=limits, **options)  # type: ignore[arg-type]
    return httpx.Client(transport=transport, base_url="http://app", timeout=TIMEOUT)


def pool_of(client: httpx.Client) -> FcgiTransport:
    transport = client._transport
    assert isinstance(transport, FcgiTransport)
    return transport


class Echo(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        self.write(HEAD)
        while piece := self.read(65536):
            self.write(piece)


class Params(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        self.write_err(b"a line\nanother\n")
        self.send_response(200, "application/json", self.environ)


# ------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nowhere", 'neither an address with a port nor a socket file: write .* or ".::1.:9000"$'),
        ("/run/app.sock", "needs its prefix"),
        ("fd://0", "connects to a name"),
        (":9000", 'write "127.0.0.1:9000"$'),
        (":99999", r"'99999' is no port: give a number from 0 to 65535"),
        ("127.0.0.1:0", "give the port"),
        ("http://127.0.0.1:80", "no such scheme"),
        (9000, "give a string"),
        ("unix:" + "x" * 200, "has 200 bytes"),
    ],
)
def test_an_address_that_is_none(address: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        FcgiTransport(address)
    assert str(caught.value).startswith("address ")


@pytest.mark.parametrize("host", ("127.0.0.1", "localhost"))
def test_tcp(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=lambda: _serve_one(sock))
        thread.start()
        with client_of(f"{host}:{sock.getsockname()[1]}") as client:
            assert client.get("/").text == "tcp"
        thread.join(TIMEOUT)


def _serve_one(sock: socket.socket) -> None:
    connection, _ = sock.accept()
    with connection:
        answers(b"tcp")(connection)


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        name = f"simple-fastcgi-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.listen()
        thread = threading.Thread(target=lambda: _serve_one(sock))
        thread.start()
        with client_of(f"unix:@{name}") as client:
            assert client.get("/").text == "tcp"
        thread.join(TIMEOUT)


def test_nobody_is_there(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with client_of(f"unix:{path}") as client:
        with pytest.raises(httpx.ConnectError, match=rf"cannot connect to unix:{path}: there is no such socket file"):
            client.get("/")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            with pytest.raises(httpx.ConnectError, match="nobody listens on this file") as caught:
                client.get("/")
            assert caught.value.request.url == "http://app/"
        assert pool_of(client).active_connections == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with client_of(f"127.0.0.1:{port}") as client, pytest.raises(httpx.ConnectError, match="nobody listens there"):
        client.get("/")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "listen.mode"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EPROTOTYPE, "wrong type"), "datagrams"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (socket.gaierror(-2, "Name or service not known"), "the name 'app' cannot be resolved"),
    ],
)
def test_why_there_is_no_connection(error: OSError, told: str) -> None:
    assert told in explain(error, parse_target("app:9000"))


def test_a_full_listen_queue() -> None:
    with listening() as (sock, path), socket.socket(socket.AF_UNIX) as other:
        sock.listen(0)
        other.connect(path)
        with client_of(f"unix:{path}") as client:
            with pytest.raises(httpx.ConnectTimeout, match=r"within 0.05 s \(connect timeout\): its listen queue"):
                client.get("/", timeout=SHORT)

            # It is tried again until there is room.
            def make_room() -> None:
                sock.accept()[0].close()
                _serve_one(sock)

            room = threading.Thread(target=make_room)
            room.start()
            assert client.get("/").text == "tcp"
            room.join(TIMEOUT)


# ------------------------------------------------------------------------- requests


def test_parameters_of_a_transport_and_of_a_request() -> None:
    with AppServer(Params) as server, client_of(server.address, params={"A": "1", "B": "2", "C": "3"}) as client:
        extensions = {"fastcgi_params": {"B": "ä", "C": None, "SERVER_NAME": b"\xff"}}
        response = client.get("/a%20b?c=d", extensions=extensions)
        facts = response.json()
        assert (facts["A"], facts["B"], facts["SERVER_NAME"]) == ("1", "ä", "\udcff")
        assert "C" not in facts
        assert (facts["SCRIPT_NAME"], facts["PATH_INFO"], facts["QUERY_STRING"]) == ("", "/a b", "c=d")
        assert facts["REQUEST_URI"] == "/a%20b?c=d"
        assert (facts["REMOTE_ADDR"], facts["HTTP_HOST"]) == ("127.0.0.1", "app")
        assert response.extensions["fastcgi_stderr"] == b"a line\nanother\n"
        assert response.extensions["fastcgi_app_status"] == 0
        assert client.options("/", extensions={"target": b"*"}).json()["REQUEST_URI"] == "*"
        for wrong in ("A=1", {"A": 1}, {1: "A"}):
            with pytest.raises(TypeError, match="fastcgi_params"):
                client.get("/", extensions={"fastcgi_params": wrong})


def test_stderr_forges_no_log(caplog: pytest.LogCaptureFixture) -> None:
    evil = b"oh\n2026-01-01 ERROR forged\x1b[2J\r\xc2\x9bgone\xe2\x80\xa8end\n\n"
    with played(sends(response(b"fine", stderr=evil))) as address, client_of(address) as client:
        answer = client.get("/")
        assert answer.extensions["fastcgi_stderr"] == evil
    (record,) = caplog.records
    assert record.getMessage() == (
        "GET http://app/, stderr: oh\n    2026-01-01 ERROR forged\\x1b[2J\\x0d\\x9bgone\\u2028end"
    )


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with client_of(f"unix:{tmp_path}/app.sock", document_root="/var/www") as client:
        with pytest.raises(httpx.UnsupportedProtocol, match="give an http"):
            client.get("ftp://app/")
        with pytest.raises(httpx.LocalProtocolError, match=r"'\.\.'"):
            client.get("/a/%2e%2e/b.php")
        with pytest.raises(httpx.LocalProtocolError, match="Content-Length"):
            client.post("/", headers={"Content-Length": "x"}, content=b"x")
    with pytest.raises(ConfigurationError, match="root_path"):
        FcgiTransport("unix:app.sock", script="/a.php", root_path="/app")
    for wrong in ("127.0.0.1", (), ("127.0.0.1",), ("127.0.0.1", "80"), 5):
        with pytest.raises(ConfigurationError, match="client="):
            FcgiTransport("127.0.0.1:9000", client=wrong)  # type: ignore[arg-type]
    for params in ("A=1", {"A": 1}, ["A"]):
        with pytest.raises(ConfigurationError, match="params"):
            FcgiTransport("127.0.0.1:9000", params=params)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="give httpx.Limits"):
        FcgiTransport("unix:app.sock", limits=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "told"), [("9", "1 bytes shorter"), ("7", "longer than its Content-Length")])
def test_a_body_of_another_length(length: str, told: str) -> None:
    with AppServer(Echo) as server, client_of(server.address) as client:
        with pytest.raises(httpx.LocalProtocolError, match=told):
            client.post("/", headers={"Content-Length": length}, content=iter([b"1234", b"5678"]))
        assert pool_of(client).active_connections == pool_of(client).idle_connections == 0


@pytest.mark.parametrize("length", ("9", "7", "0"))
def test_a_body_in_memory_of_another_length(length: str) -> None:
    with client_of("unix:/nowhere") as client, pytest.raises(httpx.LocalProtocolError, match="has 8 bytes"):
        client.post("/", headers={"Content-Length": length}, content=b"12345678")


def test_a_body_that_cannot_even_begin() -> None:
    class Closed(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            raise KeyError("of the body")

    with AppServer(Echo) as server, client_of(server.address) as client:
        with pytest.raises(KeyError, match="of the body"):
            client.send(httpx.Request("POST", "http://app/", stream=Closed()))
        assert pool_of(client).active_connections == 0


def test_what_a_body_raises_is_raised() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise KeyError("of the body")

    with AppServer(Echo) as server, client_of(server.address) as client:
        with pytest.raises(KeyError, match="of the body"):
            client.post("/", content=pieces())
        assert pool_of(client).active_connections == 0
        assert client.post("/", content=b"again").text == "again"


def test_bodies_are_not_gathered() -> None:
    piece = bytes(65536)

    def pieces() -> Iterator[bytes]:
        for _ in range(400):
            yield piece

    with AppServer(Echo) as server, client_of(server.address) as client:
        tracemalloc.start()
        try:
            with client.stream("POST", "/", content=pieces()) as response:
                assert sum(len(data) for data in response.iter_bytes()) == 400 * len(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000


def test_a_script_gets_a_body_with_its_length() -> None:
    with AppServer(Params) as server:
        with client_of(server.address, script="/app.php") as client:
            assert client.post("/", content=iter([b"1234", b"5678"])).json()["CONTENT_LENGTH"] == "8"
        with client_of(server.address, script="/app.php", request_buffering=False) as client:
            assert "CONTENT_LENGTH" not in client.post("/", content=iter([b"1234"])).json()
        with client_of(server.address, request_buffering=True) as client:
            assert client.post("/", content=iter([b"x" * 3_000_000])).json()["CONTENT_LENGTH"] == "3000000"


def test_a_body_without_end_is_not_spooled() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1000)

    with client_of("unix:/nowhere", script="/app.php", limits=ClientLimits(max_spooled_bytes=99_999)) as client:
        with pytest.raises(httpx.LocalProtocolError, match=r"more than 99999 bytes \(max_spooled_bytes\)"):
            client.post("/", content=endless())


def test_an_answer_before_the_end_of_the_body() -> None:
    """Nobody reads the rest, and the answer comes all the same."""
    taken = []

    def pieces() -> Iterator[bytes]:
        for number in range(10_000):
            taken.append(number)
            yield bytes(65536)

    def refuse(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(response(b"too large", head=b"Status: 413\r\n\r\n"))
        waits(sock)

    with played(refuse) as address, client_of(address) as client:
        answer = client.post("/", content=pieces())
        assert (answer.status_code, answer.text) == (413, "too large")
        assert len(taken) < 1000
        assert pool_of(client).idle_connections == 0


def test_an_answer_from_one_who_has_stopped_reading() -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(response(b"too large"))
        sock.shutdown(socket.SHUT_RD)

    with played(refuse) as address, client_of(address) as client:
        assert client.post("/", content=(bytes(65536) for _ in range(1000))).text == "too large"


def stops_reading(sock: socket.socket) -> None:
    """Answer once there is no way to send more of the request; the connection stays open."""
    sock.recv(1000)
    sock.shutdown(socket.SHUT_RD)
    sock.sendall(response(b"enough"))
    # Until the client has closed it.
    hung_up = select.poll()
    hung_up.register(sock, 0)
    hung_up.poll(TIMEOUT * 1000)


def test_a_connection_that_takes_no_more_is_not_kept() -> None:
    with played(stops_reading) as address, client_of(address) as client:
        assert client.post("/", content=bytes(10_000_000)).text == "enough"
        assert pool_of(client).idle_connections == 0

    async def main(address: str) -> None:
        transport, proxy = AsyncFcgiTransport(address), FcgiProxy(address)
        for each, pool in ((transport, transport._pool), (httpx.ASGITransport(proxy), proxy.pool)):
            async with httpx.AsyncClient(transport=each, base_url="http://app", timeout=TIMEOUT) as client:
                assert (await client.post("/", content=bytes(10_000_000))).text == "enough"
                assert (pool.state.in_use, pool.state.idle) == (0, 0)

    with played(stops_reading, stops_reading) as address:
        anyio.run(main, address)


def says_too_much(sock: socket.socket) -> None:
    """Answer, with the beginning of another answer behind it, whose rest comes when the next request has."""
    another = response(b"stale")
    read_request(sock)
    sock.sendall(response(b"first") + another[:6])
    try:
        read_request(sock)
    except EOFError:
        return
    sock.sendall(another[6:])


def test_an_answer_to_nobody_is_not_the_next_ones() -> None:
    answer_again = answers(b"second")
    with played(says_too_much, answer_again) as address, client_of(address) as client:
        assert [client.get("/").text for _ in range(2)] == ["first", "second"]

    async def main(address: str) -> None:
        async with FcgiProxy(address) as proxy:
            for transport in (AsyncFcgiTransport(address), httpx.ASGITransport(proxy)):
                async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=TIMEOUT) as client:
                    assert [(await client.get("/")).text for _ in range(2)] == ["first", "second"]

    with played(*2 * (says_too_much, answer_again)) as address:
        anyio.run(main, address)


def test_both_ways_at_once() -> None:
    """The answer begins before the body has ended, whose rest is sent while the answer is read."""
    taken = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield bytes(16384)

    def count(sock: socket.socket) -> None:
        sock.recv(1, socket.MSG_PEEK)
        sock.sendall(encode_record(FCGI_STDOUT, 1, HEAD + b"begun "))
        size = len(read_request(sock))
        sock.sendall(encode_record(FCGI_STDOUT, 1, b"%d" % size) + encode_end_request(1, 0, 0))

    with played(count) as address, client_of(address) as client:
        with client.stream("POST", "/", content=pieces()) as answer:
            assert len(taken) < 100
            assert answer.read() == b"begun 1638400"
        assert pool_of(client).idle_connections == 1


def test_an_async_body_is_refused(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b""

    with client_of(f"unix:{tmp_path}/app.sock") as client, pytest.raises(RuntimeError, match="async"):
        client.send(httpx.Request("POST", "http://app/", content=pieces()))


# ------------------------------------------------------------------ timeouts, errors


def test_nothing_comes() -> None:
    with played(waits, waits, waits) as address, client_of(address) as client:
        with pytest.raises(httpx.ReadTimeout, match=r"GET http://app/ \(unix:.*0.05 s \(read timeout\)") as caught:
            client.get("/", timeout=SHORT)
        assert isinstance(caught.value.__cause__, TimeoutError)
        with pytest.raises(httpx.ReadTimeout):
            pool_of(client).handle_request(httpx.Request("GET", "http://app/", extensions={"timeout": {"read": 0.05}}))
        with pytest.raises(httpx.ReadTimeout):
            client.post("/", timeout=SHORT, content=iter([b"1"]))
        assert pool_of(client).active_connections == 0


def test_timeouts_of_the_limits() -> None:
    limits = ClientLimits(read_timeout=0.05)
    with played(waits) as address, FcgiTransport(address, limits=limits) as transport:
        with pytest.raises(httpx.ReadTimeout, match=r"0.05 s"):
            transport.handle_request(httpx.Request("GET", "http://app/"))


def test_nothing_is_taken() -> None:
    gone = Flag()
    with played(lambda _: gone.wait()) as address, client_of(address) as client:
        with pytest.raises(httpx.WriteTimeout, match=r"nothing could be sent .* 0.05 s \(write timeout\)"):
            client.post("/", content=bytes(10_000_000), timeout=SHORT)
        gone.set()


def test_no_connection_is_free() -> None:
    limits = ClientLimits(max_connections=1)
    with played(sends(encode_record(FCGI_STDOUT, 1, HEAD + b"begun"))) as address:
        with client_of(address, limits=limits) as client, client.stream("GET", "/"):
            with pytest.raises(httpx.PoolTimeout, match=r"all 1 connections to unix:.*0.05 s.*max_connections"):
                client.get("/", timeout=SHORT)


def test_who_waits_gets_the_next_free_connection() -> None:
    with played(answers(b"first", b"second", b"third")) as address:
        with client_of(address, limits=ClientLimits(max_connections=1)) as client:
            got: list[str] = []
            with client.stream("GET", "/") as answer:
                threads = [threading.Thread(target=lambda: got.append(client.get("/").text)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                answer.read()
            for thread in threads:
                thread.join(TIMEOUT)
            assert sorted(got) == ["second", "third"]


@pytest.mark.parametrize("keep_conn", [True, False])
def test_threads_get_a_connection_in_turn(keep_conn: bool) -> None:
    """Who gives it back waits behind those who came before, however quick it is."""

    def app(environ: dict[str, str], start_response: Callable[..., object]) -> list[bytes]:
        served.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    served: list[str] = []
    with (
        AppServer(app) as server,
        client_of(server.address, limits=ClientLimits(max_connections=1), keep_conn=keep_conn) as client,
    ):
        pool = pool_of(client)._pool
        connection = pool.acquire(connect_timeout=None, pool_timeout=None)
        threads = [
            threading.Thread(target=lambda name=name: [client.get(f"/{name}") for _ in range(3)]) for name in "abc"
        ]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while pool.waiting < number:
                time.sleep(0.001)
        pool.release(connection, reusable=keep_conn)
        for thread in threads:
            thread.join(TIMEOUT)
    assert served[:3] == ["/a", "/b", "/c"]
    assert sorted(served) == [f"/{name}" for name in "aaabbbccc"]


def test_who_fails_hands_its_turn_on(tmp_path: Path) -> None:
    """The one who was called finds nobody at the address; the next one is called."""
    with client_of(f"unix:{tmp_path}/app.sock", limits=ClientLimits(max_connections=1)) as client:
        pool = pool_of(client)._pool
        pool._state.reserve()
        failed: list[type[Exception]] = []

        def ask() -> None:
            try:
                client.get("/")
            except httpx.ConnectError as error:
                failed.append(type(error))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while pool.waiting < 3:
            time.sleep(0.001)
        with pytest.raises(httpx.PoolTimeout):
            client.get("/", timeout=SHORT)
        with pool._lock:
            pool._state.lose()
        for thread in threads:
            thread.join(TIMEOUT)
        assert failed == 3 * [httpx.ConnectError]
        assert (pool.in_use, pool.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "closed the connection before any response; if that is not a restart, its error log tells more"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "this is an HTTP server"),
        (b"\x02\x06\x00\x01", "version 2"),
        (encode_record(FCGI_STDOUT, 1, b"Content-Ty"), "within the response's head"),
        (encode_record(FCGI_STDOUT, 1, HEAD + b"begun"), "within the response's body"),
        (response(head=b"nonsense\r\n\r\n"), "no header field"),
        (response(b"12", head=b"Content-Length: 3\r\n\r\n"), "1 bytes shorter"),
        (encode_end_request(1, 0, FCGI_OVERLOADED), "FCGI_OVERLOADED"),
        (encode_end_request(1, 3, 0), "without a response, application status 3"),
        (encode_record(FCGI_STDIN, 1, b"x"), "FCGI_STDIN"),
    ],
)
def test_no_proper_response(data: bytes, told: str) -> None:
    with played(sends(data)) as address, client_of(address) as client:
        with pytest.raises(httpx.RemoteProtocolError, match=told) as caught:
            client.get("/")
        assert str(caught.value).startswith(f"GET http://app/ ({address}): ")
        assert pool_of(client).active_connections == 0


# ------------------------------------------------------------------------- the pool


def test_a_connection_is_kept_and_closed() -> None:
    with played(answers(b"1", b"2", b"3"), answers(b"4")) as address, client_of(address) as client:
        assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
        # It has been closed: found out before anything is sent, so even this may be sent on another one.
        deadline = threading.Event()
        while not _is_closed(pool_of(client)):
            deadline.wait(0.001)
        assert client.post("/", content=iter([b"x"])).text == "4"


def _is_closed(transport: FcgiTransport) -> bool:
    ((connection, _),) = transport._pool._state._idle
    return connection.receive() == b""


@pytest.mark.parametrize("limits", [httpx.Limits(max_keepalive_connections=0), httpx.Limits(keepalive_expiry=0)])
def test_nothing_is_kept(limits: httpx.Limits) -> None:
    with played(answers(b"1"), answers(b"2")) as address, client_of(address, limits=limits) as client:
        assert [client.get("/").text for _ in range(2)] == ["1", "2"]
        assert pool_of(client).idle_connections == 0


def test_limits_of_httpx() -> None:
    with played(answers(b"1", b"2")) as address, client_of(address, limits=httpx.Limits()) as client:
        assert [client.get("/").text for _ in range(2)] == ["1", "2"]
        assert pool_of(client).idle_connections == 1


def breaks(sock: socket.socket) -> None:
    """Answer one request, and close when the next one has come."""
    answers(b"first")(sock)
    sock.recv(1)


def test_a_stale_connection_is_not_noticed() -> None:
    with played(breaks, answers(b"second")) as address, client_of(address) as client:
        assert [client.get("/").text for _ in range(2)] == ["first", "second"]


@pytest.mark.parametrize("body", (b"all", None))
def test_a_stale_connection_is_told_of_where_a_repetition_might_do_harm(body: bytes | None) -> None:
    with played(breaks) as address, client_of(address) as client:
        client.get("/")
        with pytest.raises(httpx.RemoteProtocolError, match="before any response"):
            client.request("PUT" if body is None else "POST", "/", content=iter([b"once"]) if body is None else body)


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"once")])
def test_a_body_that_was_asked_for_is_not_asked_again(pieces: tuple[bytes, ...]) -> None:
    """Be there nothing in it: an iterator can be had once."""

    def body() -> Iterator[bytes]:
        yield from pieces

    async def async_body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def main(address: str) -> None:
        transport = AsyncFcgiTransport(address)
        async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=TIMEOUT) as client:
            await client.get("/")
            with pytest.raises(httpx.RemoteProtocolError, match="before any response"):
                await client.put("/", content=async_body())

    with played(breaks, breaks) as address:
        with client_of(address) as client:
            client.get("/")
            with pytest.raises(httpx.RemoteProtocolError, match="before any response"):
                client.put("/", content=body())
        anyio.run(main, address)


def test_a_body_in_memory_is_sent_again() -> None:
    def tell(sock: socket.socket) -> None:
        sock.sendall(response(read_request(sock)))

    with played(breaks, tell) as address, client_of(address) as client:
        client.get("/")
        assert client.put("/", content=b"whole").content == b"whole"
    with played(breaks, tell) as address, client_of(address, script="/a.php", keep_conn=True) as client:
        client.get("/")
        assert client.put("/", content=iter([b"spo", b"oled"])).content == b"spooled"


def test_a_response_that_nobody_reads_is_aborted() -> None:
    gone = Flag()

    class Endless(FcgiHandler):
        def handle(self) -> None:
            self.write(HEAD, flush=True)
            try:
                while True:
                    self.write(bytes(1000), flush=True)
            except ConnectionError:
                gone.set()

    with AppServer(Endless) as server, client_of(server.address) as client:
        with client.stream("GET", "/") as answer:
            next(answer.iter_bytes())
        gone.wait()
        assert answer.extensions["fastcgi_app_status"] is None
        assert pool_of(client).active_connections == pool_of(client).idle_connections == 0
    assert server.errors == []


def test_a_closed_transport() -> None:
    with played(answers(b"1")) as address:
        transport = FcgiTransport(address, limits=PATIENT)
        client = httpx.Client(transport=transport, base_url="http://app", timeout=TIMEOUT)
        with client.stream("GET", "/") as answer:
            transport.close()
            assert answer.read() == b"1"
        assert transport.idle_connections == 0
        with pytest.raises(RuntimeError, match="closed"):
            transport.handle_request(httpx.Request("GET", "http://app/"))
        client.close()
        assert repr(transport) == f"<FcgiTransport {address}>"


FORKING = """\
import os, sys
import httpx
from simple_fastcgi.client import FcgiTransport

transport = FcgiTransport(sys.argv[1])
client = httpx.Client(transport=transport, base_url="http://app", timeout=60)
with client.stream("GET", "/") as under_way:
    pieces = under_way.iter_raw()
    begun = next(pieces)
    assert len(client.get("/").content) == 1_000_000
    assert (transport.idle_connections, transport.active_connections) == (1, 1)
    child = os.fork()
    if child == 0:
        try:
            assert (transport.idle_connections, transport.active_connections) == (0, 0)
            # That of the parent goes on all the same.
            under_way.close()
            assert len(client.get("/").content) == 1_000_000
            assert transport.idle_connections == 1
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(begun) + sum(map(len, pieces)) == 1_000_000
assert len(client.get("/").content) == 1_000_000
assert transport.idle_connections == 2
client.close()
"""


def test_behind_a_fork_nothing_is_shared() -> None:
    """In a program without threads, as it should be."""

    def app(_: object, start_response: Callable[..., object]) -> Iterator[bytes]:
        start_response("200 OK", [])
        return (bytes(10_000) for _ in range(100))

    with AppServer(app) as server:
        subprocess.run([sys.executable, "-c", FORKING, server.address], check=True, timeout=TIMEOUT)


# ------------------------------------------------------------------ a bare install


@pytest.mark.parametrize("module", ("simple_fastcgi.client", "simple_fastcgi.testing"))
def test_without_httpx(module: str, unmeasured: None) -> None:
    name = "FcgiTransport" if module.endswith("client") else "AppServer"
    code = f"import sys; sys.modules['httpx'] = None; import simple_fastcgi.client; from {module} import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: simple_fastcgi.client.FcgiTransport needs httpx, which is not installed: "
        "pip install 'simple_fastcgi[client]'"
    )


def test_names_of_the_package() -> None:
    import simple_fastcgi.client as package

    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="Nothing"):
        package.Nothing  # noqa: B018
