"""AsyncFcgiTransport on asyncio and trio: what it does as the blocking one does, errors, and being cancelled."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from simple_fastcgi.client import AsyncFcgiTransport, FcgiTransport
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.testing import AppServer
from tests.client.apps import flask_app, starlette_app
from tests.client.cases import CASES, NOT_LIKE_WSGI_TRANSPORT, outcome
from tests.support.lying import Peer, application, end, stderr, stdout
from tests.support.webserver import TIMEOUT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have another client than httpx
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.client.cases import Ask
    from tests.support.php import PhpFpm

PATIENT = ClientLimits(keepalive_expiry=10 * TIMEOUT)
HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client_of(transport: AsyncFcgiTransport, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, base_url="http://testserver", **{"timeout": TIMEOUT, **options})


# ------------------------------------------------------------------------------------- the same as in-process


@pytest.fixture
def starlette(tmp_path: Path) -> Iterator[AppServer]:
    with AppServer(starlette_app(tmp_path), loop="asyncio") as server:
        yield server


async def outcomes(address: str, cases: dict[str, list[Ask]]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    async with client_of(AsyncFcgiTransport(address)) as client:
        for name, asks in cases.items():
            client.cookies.clear()
            found[name] = [outcome(await ask.send_async(client)) for ask in asks]
    return found


# Those of bodies whose length was told: an answer may come before they are asked for what is behind it.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_starlette(starlette: AppServer, tmp_path: Path, backend: str) -> None:
    """One server and one client for all cases, which keep their connections."""
    expected: dict[str, list[object]] = {}
    for name, asks in CASES.items():
        with TestClient(starlette_app(tmp_path), raise_server_exceptions=False, follow_redirects=False) as direct:
            expected[name] = [outcome(ask.send(direct)) for ask in asks]
    found = anyio.run(outcomes, starlette.address, CASES, backend=backend)
    for name in CASES:
        assert found[name] == expected[name], name


def test_flask(tmp_path: Path) -> None:
    cases = {name: asks for name, asks in CASES.items() if name not in NOT_LIKE_WSGI_TRANSPORT}
    expected: dict[str, list[object]] = {}
    for name, asks in cases.items():
        transport = httpx.WSGITransport(flask_app(tmp_path), raise_app_exceptions=False)
        with httpx.Client(transport=transport, base_url="http://testserver") as direct:
            expected[name] = [outcome(ask.send(direct)) for ask in asks]
    with AppServer(flask_app(tmp_path)) as server:
        found = anyio.run(outcomes, server.address, cases)
    for name in cases:
        assert found[name] == expected[name], name


def test_php(php: PhpFpm, backend: str) -> None:
    php.add(
        "async.php", "error_log('told'); echo $_SERVER['REQUEST_METHOD'], strlen(file_get_contents('php://input'));"
    )

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(50_000)

    async def main() -> None:
        async with client_of(AsyncFcgiTransport(php.address, document_root=str(php.document_root))) as client:
            response = await client.get("/async.php")
            assert response.text == "GET0"
            assert response.extensions["fastcgi_stderr"] == b"PHP message: told"
            assert response.extensions["fastcgi_app_status"] == 0
            assert (await client.post("/async.php", content=bytes(3_000_000))).text == "POST3000000"
            assert (await client.put("/async.php", content=pieces())).text == f"PUT{count * 50_000}"

    # More goes to a file by a thread, and trio's wait for ten seconds before they end.
    count = 30 if backend == "asyncio" else 20

    anyio.run(main, backend=backend)


# ----------------------------------------------------------------------------------------- what an app can do


def ok(peer: Peer) -> None:
    peer.request()
    peer.send(stdout(HEAD + b"fine"), end())


def answering(*records: bytes) -> Any:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*records)

    return script


def silent(peer: Peer) -> None:
    peer.request()
    peer.eof()


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        (answering(stdout(b"no header\r\n\r\n"), end()), httpx.RemoteProtocolError, "no header field"),
        (answering(b"\xff" * 20), httpx.RemoteProtocolError, "version 255"),
        (answering(stderr(b"segfault\n")), httpx.RemoteProtocolError, "closed the connection"),
        (answering(stdout(HEAD + b"some")), httpx.RemoteProtocolError, "closed the connection"),
        (answering(end(0, 2)), httpx.RemoteProtocolError, "FCGI_OVERLOADED"),
        (silent, httpx.ReadTimeout, "read timeout"),
    ],
    ids=["no-head", "garbage", "crash", "cut", "overloaded", "silent"],
)
def test_errors(script: Any, error: type[Exception], told: str, backend: str) -> None:
    async def main(address: str) -> None:
        timeout = httpx.Timeout(TIMEOUT, read=0.1 if script is silent else TIMEOUT)
        async with client_of(transport := AsyncFcgiTransport(address), timeout=timeout) as client:
            with pytest.raises(error, match=told):
                await client.get("/")
            assert transport._pool.state.in_use == 0
            assert (await client.get("/", timeout=TIMEOUT)).text == "fine"

    with application(script, ok) as address:
        anyio.run(main, address, backend=backend)


def test_an_answer_that_must_be_taken_before_the_body_is(backend: str) -> None:
    """The application says a lot before it reads, and stops until somebody listens."""
    large = bytes(60_000)

    def script(peer: Peer) -> None:
        for _ in range(50):
            peer.send(stderr(large))
        body = peer.request()
        peer.send(stdout(HEAD + str(len(body)).encode()), end())

    async def main(address: str) -> None:
        async with client_of(AsyncFcgiTransport(address)) as client:
            assert (await client.post("/", content=bytes(3_000_000))).text == "3000000"

    with application(script) as address:
        anyio.run(main, address, backend=backend)


def test_an_answer_without_the_body(backend: str) -> None:
    async def main(address: str) -> None:
        async with client_of(AsyncFcgiTransport(address)) as client:
            response = await client.post("/", content=bytes(10_000_000))
            assert (response.status_code, response.text) == (413, "no")

    def script(peer: Peer) -> None:
        peer.send(stdout(b"Status: 413 No\r\n\r\nno"), end())
        peer.eof()

    with application(script) as address:
        anyio.run(main, address, backend=backend)


def test_no_connection(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        for address in (f"unix:{tmp_path}/none.sock", "unix:@nobody-listens-here", f"127.0.0.1:{port}", "[::1]:1"):
            async with client_of(transport := AsyncFcgiTransport(address)) as client:
                with pytest.raises(httpx.ConnectError, match="cannot connect to"):
                    await client.get("/")
                assert transport._pool.state.in_use == 0

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    anyio.run(main, backend=backend)


def test_every_kind_of_address(backend: str) -> None:
    async def main(address: str) -> None:
        async with client_of(AsyncFcgiTransport(address, limits=PATIENT)) as client:
            for _ in range(2):
                assert (await client.get("/")).text == "fine"

    name = f"\0simple-fastcgi-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract, socket.create_server(("127.0.0.1", 0)) as tcp:
        abstract.bind(name)
        abstract.listen()
        port = tcp.getsockname()[1]
        addresses = [(abstract, f"unix:@{name[1:]}"), (tcp, f"127.0.0.1:{port}")]
        if backend == "asyncio":  # names are looked up in a thread, and trio's wait for ten seconds before they end
            addresses.append((tcp, f"localhost:{port}"))
        for listening, address in addresses:
            thread = threading.Thread(target=serve_two, args=(listening,))
            thread.start()
            anyio.run(main, address, backend=backend)
            thread.join()


def serve_two(listening: socket.socket) -> None:
    listening.settimeout(TIMEOUT)
    sock, _ = listening.accept()
    sock.settimeout(TIMEOUT)
    peer = Peer(sock)
    ok(peer)
    ok(peer)
    peer.eof()
    peer.close()


def test_a_kept_connection_that_was_closed(backend: str) -> None:
    def closes_at_the_second(peer: Peer) -> None:
        ok(peer)
        peer.request()

    async def main(address: str) -> None:
        async with client_of(AsyncFcgiTransport(address, limits=PATIENT)) as client:
            assert (await client.get("/")).text == "fine"
            assert (await client.get("/")).text == "fine"
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/", content=b"x")
            assert (await client.get("/")).text == "fine"

    with application(closes_at_the_second, closes_at_the_second, ok) as address:
        anyio.run(main, address, backend=backend)


def test_blocking_bodies_are_refused() -> None:
    async def main() -> None:
        async with AsyncFcgiTransport("unix:/nowhere") as transport:
            with pytest.raises(RuntimeError, match="blocking body"):
                await transport.handle_async_request(httpx.Request("POST", "http://x/", content=iter([b"x"])))

    anyio.run(main)
    with pytest.raises(RuntimeError, match="AsyncFcgiTransport"):
        FcgiTransport("unix:/nowhere").handle_request(httpx.Request("POST", "http://x/", content=aiter_nothing()))


def test_bodies_that_cannot_be_sent(starlette: AppServer, backend: str) -> None:
    class Closed(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise KeyError("of the body")

    async def main() -> None:
        async with client_of(transport := AsyncFcgiTransport(starlette.address)) as client:
            with pytest.raises(KeyError, match="of the body"):
                await client.send(httpx.Request("POST", "http://app/", stream=Closed()))
            with pytest.raises(httpx.LocalProtocolError, match="has 8 bytes"):
                await client.post("/echo", headers={"Content-Length": "7"}, content=b"12345678")
            assert transport._pool.state.in_use == 0

    anyio.run(main, backend=backend)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_a_body_without_end_is_not_spooled(backend: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async def main() -> None:
        limits = ClientLimits(max_spooled_bytes=99_999)
        async with client_of(AsyncFcgiTransport("unix:/nowhere", script="/app.php", limits=limits)) as client:
            with pytest.raises(httpx.LocalProtocolError, match="max_spooled_bytes"):
                await client.post("/", content=endless())

    anyio.run(main, backend=backend)


async def aiter_nothing() -> AsyncIterator[bytes]:
    for _ in range(0):
        yield b""


def test_after_the_end() -> None:
    async def main() -> None:
        transport = AsyncFcgiTransport("unix:/nowhere")
        await transport.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client_of(transport).get("/")

    anyio.run(main)


# -------------------------------------------------------------------------------------------------- the pool


def test_waiting_for_a_connection(starlette: AppServer, backend: str) -> None:
    """Whoever waits gets a connection in turn; those who leave take none with them."""

    async def main() -> None:
        limits = ClientLimits(max_connections=2, pool_timeout=TIMEOUT)
        async with client_of(transport := AsyncFcgiTransport(starlette.address, limits=limits)) as client:
            pool = transport._pool
            first = await pool.acquire(pool_timeout=None, connect_timeout=None)
            second = await pool.acquire(pool_timeout=None, connect_timeout=None)
            with pytest.raises(httpx.PoolTimeout, match="max_connections"):
                await client.get("/facts", timeout=httpx.Timeout(TIMEOUT, pool=0.01))
            turns: list[int] = []

            async def ask(number: int) -> None:
                await client.get("/facts")
                turns.append(number)

            async with anyio.create_task_group() as tasks:
                leaving = anyio.CancelScope()

                async def leave() -> None:
                    with leaving:
                        await ask(-1)

                tasks.start_soon(leave)
                await anyio.wait_all_tasks_blocked()
                for number in range(20):
                    tasks.start_soon(ask, number)
                await anyio.wait_all_tasks_blocked()
                # Promised a connection, and gone before it was taken.
                pool.release(first, reusable=False)
                leaving.cancel()
                pool.release(second, reusable=True)
            assert sorted(turns) == list(range(20))
            assert (pool.state.in_use, pool.state.promised, pool.state.waiting) == (0, 0, 0)
            waiting = [await pool.acquire(pool_timeout=None, connect_timeout=None) for _ in range(2)]
            async with anyio.create_task_group() as tasks:

                async def fails() -> None:
                    with pytest.raises(RuntimeError, match="closed"):
                        await client.get("/facts")

                tasks.start_soon(fails)
                await anyio.wait_all_tasks_blocked()
                await transport.aclose()
            for connection in waiting:
                pool.release(connection, reusable=True)
            assert (pool.state.in_use, pool.state.idle, pool.state.promised) == (0, 0, 0)

    anyio.run(main, backend=backend)


FORKED = """
import os, sys, anyio, httpx
from simple_fastcgi.client import AsyncFcgiTransport
from simple_fastcgi.limits import ClientLimits

transport = AsyncFcgiTransport(sys.argv[1], limits=ClientLimits(keepalive_expiry=600))
pool = transport._pool

async def get():
    response = await transport.handle_async_request(httpx.Request("GET", "http://x/"))
    return (await response.aread()).decode()

async def both():
    print(await get(), flush=True)
    kept = await pool.acquire(pool_timeout=None, connect_timeout=None)
    child = os.fork()
    if child == 0:
        # The parent's connection is nobody's here.
        assert (pool.state.in_use, pool.state.idle, kept.sock.fileno()) == (0, 0, -1)
        pool.release(kept, reusable=True)
        assert (pool.state.in_use, pool.state.idle) == (0, 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.release(kept, reusable=True)
    assert pool.state.idle == 1

anyio.run(both)
child = os.fork()
if child == 0:
    assert pool.state.idle == 0
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(anyio.run(get))
"""


def test_behind_a_fork_nothing_is_shared(unmeasured: None) -> None:
    def twice(peer: Peer) -> None:
        ok(peer)
        ok(peer)

    with application(twice) as address:
        done = subprocess.run(
            [sys.executable, "-c", FORKED, address], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    assert (done.stdout, done.stderr) == ("fine\nfine\n", "")


# Those of bodies: nobody has to close what httpx is given (nor does httpx).
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("seed", range(4))
def test_cancelled_at_any_point(starlette: AppServer, backend: str, seed: int) -> None:
    chance = random.Random(seed)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
            yield bytes(50_000)

    async def main() -> None:
        limits = ClientLimits(max_connections=4)
        async with client_of(transport := AsyncFcgiTransport(starlette.address, limits=limits)) as client:
            pool = transport._pool

            async def ask(scope: anyio.CancelScope, kind: int) -> None:
                with scope:
                    if kind == 0:
                        await client.get("/facts")
                    elif kind == 1:
                        await client.post("/echo", content=pieces())
                    else:
                        await client.get("/stream")

            for _ in range(30):
                async with anyio.create_task_group() as tasks:
                    for _ in range(6):
                        scope = anyio.CancelScope()
                        tasks.start_soon(ask, scope, chance.randrange(3))
                        for _ in range(chance.randrange(25)):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()
                assert (pool.state.in_use, pool.state.promised, pool.state.waiting) == (0, 0, 0)
            assert (await client.post("/echo", content=b"whole")).content == b"whole"

    anyio.run(main, backend=backend)


# ------------------------------------------------------------------------------------------------- many


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked, in a length that the query says."""
    if scope["type"] != "http":
        return
    name, _, size = scope["query_string"].partition(b"&")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-name", name)]})
    text = (name + b"," + body + b";") * int(size)
    for at in range(0, len(text), 20_000):
        await send({"type": "http.response.body", "body": text[at : at + 20_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.once
def test_ten_thousand_requests_over_eight_connections() -> None:
    """With aborts at random: nothing is mixed up, and nothing is left."""
    count, tasks_at_once, chance = 10_000, 32, random.Random(7)
    whole = aborted = 0

    async def main(address: str) -> None:
        limits = ClientLimits(max_connections=8, max_keepalive_connections=8, pool_timeout=TIMEOUT)
        transport = AsyncFcgiTransport(address, limits=limits)
        numbers = iter(range(count))

        async def ask_on() -> None:
            nonlocal whole, aborted
            for number in numbers:
                await ask(str(number).encode())

        async def ask(name: bytes) -> None:
            nonlocal whole, aborted
            size = chance.choice((1, 10, 5000))
            request = httpx.Request("POST", f"http://x/?{name.decode()}&{size}", content=name)
            abort = chance.random() < 0.1
            with anyio.CancelScope() as scope:
                if abort and chance.random() < 0.5:
                    # Somewhere in its midst.
                    scope.deadline = anyio.current_time() + chance.random() * 0.005
                response = await transport.handle_async_request(request)
                assert response.headers["x-name"].encode() == name
                if abort:
                    await response.aclose()
                    aborted += 1
                    return
                assert await response.aread() == (name + b"," + name + b";") * size
                await response.aclose()
                whole += 1
            aborted += scope.cancelled_caught

        async with anyio.create_task_group() as tasks:
            for _ in range(tasks_at_once):
                tasks.start_soon(ask_on)
        assert transport._pool.state.in_use == 0
        assert 0 < transport._pool.state.idle <= 8
        await transport.aclose()

    with AppServer(tell, interface="asgi", loop="asyncio") as server:
        anyio.run(main, server.address)
        assert not server.errors
    assert whole + aborted == count
    assert aborted > 500
