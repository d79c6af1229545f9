"""The end: `shutdown` from everywhere, what it lets finish, and what it cuts off."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, FcgiHandler, FcgiServer, FcgiThreadingServer
from simple_fastcgi.cgi import parting
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.constants import FCGI_BEGIN_REQUEST, FCGI_PARAMS
from simple_fastcgi.protocol.records import encode_begin_request, encode_record
from simple_fastcgi.sync import threading_server
from tests.servers.support import (
    ASYNC,
    CONCURRENT,
    HEAD,
    SYNC,
    TIMEOUT,
    Flag,
    MixedServer,
    child_environment,
    kinds,
    listening_socket,
    python,
    until,
)
from tests.support.webserver import WebServer, encode_request, params_for

if TYPE_CHECKING:
    from types import FrameType

    from tests.servers.support import Handler, Log, Serve


loop_factories = pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


# ------------------------------------------------------------------------------------------ from where


def test_from_another_thread(serve: Serve) -> None:
    running = serve(echo_path)
    assert running.request("/x").body == b"/x"
    running.ask_to_stop()
    running.wait_for_end()


def test_from_a_handler(serve: Serve) -> None:
    """Its own response, and what comes behind it in that handler, is not cut off."""

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        result = h.real.server.shutdown()
        if result is not None:
            await result
        await h.write(b"said after shutdown")

    running = serve(body)
    web = running.connect()
    assert web.request(params_for()).body == b"said after shutdown"
    running.wait_for_end()
    assert web.at_eof()


async def gathered(asked: Any) -> None:
    await asyncio.gather(asked)


async def grouped(asked: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asked)


async def bounded(asked: Any) -> None:
    await asyncio.wait_for(asked, 10 * TIMEOUT)


async def from_a_thread(asked: Any) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(asked, loop).result(TIMEOUT))


@ASYNC
@pytest.mark.parametrize("wait", [gathered, grouped, bounded, from_a_thread])
def test_from_a_task_that_a_handler_waits_for(serve: Serve, wait: Any) -> None:
    """Neither waits for the other."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/last":
            await wait(h.real.server.shutdown())
        await echo_path(h)

    running = serve(body, limits={"graceful_timeout": 10 * TIMEOUT})
    web = running.connect()
    assert web.request(params_for("/first")).body == b"/first"
    assert web.request(params_for("/last")).body == b"/last"
    running.wait_for_end()


@SYNC
def test_it_returns_at_once(serve: Serve) -> None:
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    for _ in range(1000):
        running.server.shutdown()
    assert running.thread.is_alive()
    release.set()
    assert web.response().body == b"/slow"
    running.wait_for_end()


@ASYNC
def test_it_waits_for_the_end(serve: Serve) -> None:
    """Whoever awaits it: there may be several."""
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    futures = [running.submit(running.server.shutdown()) for _ in range(3)]
    until(lambda: running.server.stopping)
    assert not any(future.done() for future in futures)
    release.set()
    assert web.response().body == b"/slow"
    for future in futures:
        assert future.result(TIMEOUT) is None
    running.wait_for_end()


def test_before_serve_forever() -> None:
    with listening_socket(socket.AF_UNIX) as (sock, _):
        with FcgiServer(FcgiHandler, sock) as server:
            server.shutdown()
            server.shutdown()
            server.serve_forever()
        with FcgiThreadingServer(FcgiHandler, sock) as server:
            server.shutdown()
            server.serve_forever()

        async def main() -> None:
            async with AsyncFcgiServer(AsyncFcgiHandler, sock) as server:
                await server.shutdown()
                await server.shutdown()
                await server.serve_forever()

        asyncio.run(main())


def test_without_serve_forever() -> None:
    """Making and closing is all right, closing twice too."""
    with listening_socket(socket.AF_UNIX) as (sock, _):
        with FcgiServer(FcgiHandler, sock) as server:
            pass
        server.server_close()
        server.shutdown()

        async def main() -> None:
            async with AsyncFcgiServer(AsyncFcgiHandler, sock) as server:
                pass
            await server.shutdown()

        asyncio.run(main())


def test_twice_and_afterwards(serve: Serve) -> None:
    running = serve(echo_path)
    running.ask_to_stop()
    running.wait_for_end()
    if not running.kind.is_async:
        running.server.shutdown()


PROGRAM = """
import asyncio, signal, sys
from simple_fastcgi import *

class Slow(FcgiHandler):
    def handle(self):
        self.write(b"Status: 200 OK\\r\\n\\r\\n", flush=True)
        self.write(self.read())

class AsyncSlow(AsyncFcgiHandler):
    async def handle(self):
        await self.write(b"Status: 200 OK\\r\\n\\r\\n", flush=True)
        await self.write(await self.read())

async def main():
    async with AsyncFcgiServer(AsyncSlow) as server:
        stop = lambda: asyncio.ensure_future(server.shutdown())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        print("ready", flush=True)
        await server.serve_forever()

if sys.argv[1].startswith("Async"):
    asyncio.run(main())
else:
    with globals()[sys.argv[1]](Slow) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
        print("ready", flush=True)
        server.serve_forever()
print("ended", flush=True)
"""


@pytest.mark.parametrize("server", ["FcgiServer", "FcgiThreadingServer", "AsyncFcgiServer"])
@pytest.mark.parametrize("busy", [False, True])
def test_from_a_signal_handler(server: str, busy: bool) -> None:
    """While the server waits, and while a handler of the same thread reads."""
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(
            python("-c", PROGRAM, server),
            stdin=sock.fileno(),
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        ) as child,
        WebServer(address) as web,
    ):
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        web.begin(params_for())
        assert web.record().content.startswith(b"Status")
        if not busy:
            web.body(b"body", end=True)
            assert web.response().stdout == b"body"
        child.send_signal(signal.SIGTERM)
        if busy:
            web.body(b"body", end=True)
            assert web.response().stdout == b"body"
        assert web.at_eof()
        assert child.stdout.read() == "ended\n"
        assert child.wait(TIMEOUT) == 0


# ------------------------------------------------------------------------------------------ what it lets finish


def test_requests_in_flight_complete(serve: Serve, family: socket.AddressFamily) -> None:
    """However far they have come; idle kept connections are closed, and no further one is accepted."""
    begun = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            begun.set()
        await h.write(HEAD + await h.read())

    running = serve(body, family=family)
    idle, slow, sent = running.connect(), running.connect(), running.connect()
    for web in (idle, slow, sent):
        web.request(params_for())
    slow.begin(params_for("/slow"))
    slow.body(b"the first ")
    begun.wait()
    # This one has not been read by the server when it is told to stop: if nothing runs at once, not even looked at.
    sent.send(encode_request(params_for(), b"sent before"))
    running.ask_to_stop()
    if running.kind.concurrent:
        idle.eof()
    slow.body(b"and the rest", end=True)
    assert slow.response().body == b"the first and the rest"
    assert sent.response().body == b"sent before"
    for web in (idle, slow, sent):
        web.eof()
    running.wait_for_end()


def test_who_has_connected_in_the_meantime_is_served(serve: Serve, family: socket.AddressFamily) -> None:
    """The socket is another program's, who knows nothing of the end: what waits in its queue would be reset."""
    begun = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            begun.set()
            await h.read()
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    running = serve(body, family=family)
    slow, idle = running.connect(), running.connect()
    idle.request(params_for())
    slow.begin(params_for("/slow"))
    begun.wait()
    running.ask_to_stop()
    if running.kind.concurrent:
        idle.eof()
    late = [running.connect() for _ in range(3)]
    for web in late:
        web.send(encode_request(params_for("/late")))
    slow.body(b"", end=True)
    assert slow.response().body == b"/slow"
    for web in late:
        assert web.response().body == b"/late"
        web.eof()
    running.wait_for_end()


def test_a_request_that_has_just_been_sent_is_served(serve: Serve) -> None:
    """On a connection that was idle: the web server had no way to know."""
    for _ in range(5):
        running = serve(echo_path)
        web = running.connect()
        web.request(params_for())
        web.send(encode_request(params_for("/sent")))
        running.ask_to_stop()
        assert web.response().body == b"/sent"
        assert web.at_eof()
        running.wait_for_end()


def test_a_connection_that_has_just_been_made_is_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment: whoever connects has a request for us."""
    monkeypatch.setattr(parting, "FRESH_SECONDS", 1000)
    running = serve(echo_path)
    web, silent = running.connect(), running.connect()
    until(lambda: len(running.connections()) == 2)
    running.ask_to_stop()
    web.send(encode_request(params_for("/x")))
    assert web.response().body == b"/x"
    web.eof()
    running.age_until_closed(1100)
    silent.eof()
    running.wait_for_end()


def test_parameters_in_part_are_waited_for(serve: Serve) -> None:
    running = serve(echo_path)
    web = running.connect()
    request = encode_request(params_for("/x"))
    web.send(request[:30])
    until(lambda: any(not connection.core.idle for connection in running.connections()))
    running.ask_to_stop()
    web.send(request[30:])
    assert web.response().body == b"/x"
    running.wait_for_end()


def test_a_large_answer_is_not_cut(serve: Serve) -> None:
    """The web server takes its time to read it."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.write(HEAD + bytes(5_000_000))

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for(), keep=False))
    begun.wait()
    running.ask_to_stop()
    assert len(web.response().body) == 5_000_000
    running.wait_for_end()


@pytest.mark.parametrize("where", ["_wind_down", "_sweep"])
def test_an_answer_of_which_a_part_has_been_sent_is_not_cut(where: str) -> None:
    """The loop looks at the connection when the request is forgotten already, and the kernel has not taken all."""
    body = bytes(4 << 20)

    class Slow(FcgiHandler):
        def handle(self) -> None:
            connection, core = self.request.connection, self.request.connection.core
            # It has taken its time.
            connection.last_active -= 3600
            # As Connection.end() does it, a step at a time.
            with connection.lock:
                core.write(self.request.core, HEAD + body)
                core.end(self.request.core)
                if where == "_wind_down":
                    server.shutdown()
                until(is_looking)
                connection._send()
            connection.drain(in_loop=False)

    def is_looking() -> bool:
        """Whether the loop's thread is there."""
        frame: FrameType | None = sys._current_frames()[thread.ident or 0]
        while frame is not None and frame.f_code.co_name not in {where, "_turn"}:
            frame = frame.f_back
        return frame is not None and frame.f_code.co_name == where

    with listening_socket(socket.AF_UNIX) as (listening, address):
        with FcgiThreadingServer(Slow, listening) as server:
            if where == "_wind_down":
                # The loop might wait for the lock there, and never come to what is looked for.
                server._next_sweep = math.inf
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with WebServer(address) as web:
                assert web.request(params_for("/x")).body == body
            server.shutdown()
            thread.join(TIMEOUT)


def test_an_early_answer_is_not_reset(serve: Serve, family: socket.AddressFamily) -> None:
    """The connection is still being read when the server is told to stop."""
    running = serve(echo_path, family=family)
    web = running.connect()
    web.begin(params_for("/early"), keep=False)
    web.body(bytes(1000))
    until(lambda: any(connection.core.lingering for connection in running.connections()))
    running.ask_to_stop()
    web.body(bytes(1000))
    assert web.response().body == b"/early"
    web.eof()
    web.body(b"", end=True)
    running.wait_for_end()


@CONCURRENT
def test_several_requests_of_one_connection_complete(serve: Serve) -> None:
    begun = [Flag(), Flag()]
    release = Flag()

    async def body(h: Handler) -> None:
        begun[int(h.environ["PATH_INFO"][1:])].set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/0"), request_id=1) + encode_request(params_for("/1"), request_id=2))
    for flag in begun:
        flag.wait()
    running.ask_to_stop()
    release.set()
    assert [response.body for response in web.responses([1, 2]).values()] == [b"/0", b"/1"]
    running.wait_for_end()


# ------------------------------------------------------------------------------------------ what it cuts off


@CONCURRENT
def test_graceful_timeout(serve: Serve, log: Log) -> None:
    """Beyond it requests are cut off: their handlers see it, their web servers too."""
    begun, cut = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        try:
            await h.read()
        except (ConnectionAbortedError, asyncio.CancelledError):
            cut.set()
            raise

    running = serve(body, limits={"graceful_timeout": 0.1})
    web = running.connect()
    web.begin(params_for())
    begun.wait()
    running.ask_to_stop()
    running.wait_for_end()
    cut.wait()
    log.claim("1 connections cut off after 0.1 s (graceful_timeout)")
    if running.kind.is_async:
        log.claim_failure("GET / failed")
    assert web.response().status == 500
    assert web.at_eof()


@CONCURRENT
def test_the_graceful_time_cuts_visibly_although_another_request_is_incomplete(serve: Serve, log: Log) -> None:
    begun = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD + b"a part", flush=True)
        begun.set()
        await h.read()

    running = serve(body, limits={"graceful_timeout": 0.1})
    web = running.connect()
    web.begin(params_for(), request_id=1)
    web.send(encode_begin_request(2, 1, 0) + encode_record(FCGI_PARAMS, 2, b"\1\1"))
    begun.wait()
    running.ask_to_stop()
    running.wait_for_end()
    log.claim("1 connections cut off after 0.1 s (graceful_timeout)")
    if running.kind.is_async:
        log.claim_failure("GET / failed")
    while (record := web.record()).id == 1:
        pass
    # An id that nobody uses: see ApplicationConnection.cut().
    assert record.id != 2
    assert web.at_eof()


@kinds("mixin", "threads")
def test_graceful_timeout_while_a_handler_writes(serve: Serve, log: Log) -> None:
    """To one who does not read: it comes free."""
    cut = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(ConnectionAbortedError):
            await h.write(bytes(5_000_000))
        cut.set()

    running = serve(body, limits={"graceful_timeout": 0.1})
    web = running.connect()
    web.send(encode_request(params_for()))
    assert web.record().id == 1
    running.ask_to_stop()
    running.wait_for_end()
    cut.wait()
    log.claim("1 connections cut off after 0.1 s (graceful_timeout)")


@kinds("threads")
def test_who_was_turned_away_is_not_served_afterwards(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread comes free behind the graceful time: whoever was told a 500 may have tried again elsewhere by then."""
    monkeypatch.setattr(threading_server, "_ENDING_SECONDS", TIMEOUT)
    begun, release = Flag(), Flag()
    served: list[str] = []

    async def body(h: Handler) -> None:
        served.append(h.environ["PATH_INFO"])
        begun.set()
        release.wait()

    running = serve(body, threads=1, limits={"graceful_timeout": 0.1})
    busy = running.connect()
    busy.send(encode_request(params_for("/busy")))
    begun.wait()
    queued = [running.connect() for _ in range(3)]
    for web in queued:
        web.send(encode_request(params_for("/pay", REQUEST_METHOD="POST")))
    until(lambda: running.server._pool.waiting == len(queued))
    running.ask_to_stop()
    assert [web.response().status for web in (busy, *queued)] == [500] * 4
    release.set()
    running.wait_for_end()
    log.claim("4 connections cut off after 0.1 s (graceful_timeout)")
    assert served == ["/busy"]


@kinds("threads")
def test_a_handler_that_never_ends(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left behind: nothing can end a thread."""
    monkeypatch.setattr(threading_server, "_ENDING_SECONDS", 0.1)
    begun, release = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        release.wait()

    running = serve(body, limits={"graceful_timeout": 0.1})
    web = running.connect()
    web.send(encode_request(params_for()))
    begun.wait()
    running.ask_to_stop()
    running.wait_for_end()
    log.claim("1 connections cut off after 0.1 s")
    log.claim("some handlers still run after 0.1 s")
    log.claim("threads and tasks are busy")
    assert web.response().status == 500
    assert web.at_eof()
    release.set()
    until(lambda: not any(thread.name.startswith("fcgi-handler-") for thread in threading.enumerate()))


@ASYNC
def test_a_handler_that_clings_to_life(serve: Serve, log: Log) -> None:
    """It swallows its cancellation; the server ends without it, and hears of its end."""
    begun, release, done = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        for _ in range(2):
            try:
                await asyncio.sleep(TIMEOUT)
            except asyncio.CancelledError:
                if release.is_set:
                    raise
                release.set()
        done.set()

    running = serve(body, limits={"graceful_timeout": 0.05})
    web = running.connect()
    web.send(encode_request(params_for()))
    begun.wait()
    running.ask_to_stop()
    release.wait()
    assert web.at_eof()
    running.wait_for_end()
    log.claim("1 connections cut off")
    assert not done.is_set
    log.claim("GET / failed")


def test_connections_that_have_begun_nothing_are_cut_off(serve: Serve, log: Log) -> None:
    """Half of a record is no request in flight for ever."""
    running = serve(echo_path, limits={"graceful_timeout": 0.1})
    web = running.connect()
    web.send(encode_record(FCGI_BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0"))
    until(lambda: any(not connection.core.idle for connection in running.connections()))
    running.ask_to_stop()
    running.wait_for_end()
    log.claim("1 connections cut off after 0.1 s (graceful_timeout)")
    assert web.at_eof()


@loop_factories
def test_cancelling_serve_forever_stops_at_once(factory: Any) -> None:
    begun, cancelled = Flag(), Flag()

    class Slow(AsyncFcgiHandler):
        async def handle(self) -> None:
            begun.set()
            try:
                await self.read()
            except asyncio.CancelledError:
                cancelled.set()
                await self.write(b"Status: 503 Service Unavailable\r\n\r\n")

    async def main(sock: socket.socket, web: WebServer) -> None:
        async with AsyncFcgiServer(Slow, sock) as server:
            serving = asyncio.create_task(server.serve_forever())
            web.begin(params_for())
            while not begun.is_set:
                await asyncio.sleep(0.001)
            # One that is only just being accepted, too.
            with WebServer(sock.getsockname()):
                serving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await serving
        assert cancelled.is_set

    with listening_socket(socket.AF_UNIX) as (sock, address), WebServer(address) as web:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(sock, web))
        assert web.response().status == 503
        assert web.at_eof()


@loop_factories
def test_cancelling_serve_forever_in_the_middle_of_accepting(factory: Any) -> None:
    """No socket is left behind, wherever the cancellation meets it (the leak check sees to it)."""

    async def main(sock: socket.socket, turns: int) -> None:
        async with AsyncFcgiServer(AsyncFcgiHandler, sock) as server:
            serving = asyncio.create_task(server.serve_forever())
            for _ in range(turns):
                await asyncio.sleep(0)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving

    for turns in range(8):
        with listening_socket(socket.AF_UNIX) as (sock, address), WebServer(address) as web:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main(sock, turns))
            sock.close()
            assert web.at_eof()


# ------------------------------------------------------------------------------------------ and again


@pytest.mark.parametrize("server_class", [FcgiServer, MixedServer, FcgiThreadingServer])
def test_serve_forever_again(server_class: type[FcgiServer]) -> None:
    """In another thread even; what came meanwhile has waited."""

    class Hello(FcgiHandler):
        def handle(self) -> None:
            self.write(HEAD + b"hello")

    with listening_socket(socket.AF_UNIX) as (sock, address), server_class(Hello, sock) as server:
        for _ in range(3):
            with WebServer(address) as web:
                web.send(encode_request(params_for()))
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                assert web.response().body == b"hello"
                server.shutdown()
                assert web.at_eof()
                thread.join(TIMEOUT)
                assert not thread.is_alive()


@loop_factories
def test_serve_forever_again_on_a_loop(factory: Any) -> None:
    class Hello(AsyncFcgiHandler):
        async def handle(self) -> None:
            await self.write(HEAD + b"hello")

    async def main(sock: socket.socket, address: Any) -> None:
        async with AsyncFcgiServer(Hello, sock) as server:
            for _ in range(3):
                serving = asyncio.create_task(server.serve_forever())
                with WebServer(address) as web:
                    response = await asyncio.to_thread(web.request, params_for())
                    assert response.body == b"hello"
                    await server.shutdown()
                    assert await asyncio.to_thread(web.at_eof)
                await serving

    with listening_socket(socket.AF_UNIX) as (sock, address), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(sock, address))


@loop_factories
def test_serve_forever_on_one_loop_after_another(factory: Any) -> None:
    """A server that was made outside of all of them."""

    class Hello(AsyncFcgiHandler):
        async def handle(self) -> None:
            await self.write(HEAD + b"hello")

    async def main(server: AsyncFcgiServer, address: Any) -> None:
        serving = asyncio.create_task(server.serve_forever())
        with WebServer(address) as web:
            response = await asyncio.to_thread(web.request, params_for())
            assert response.body == b"hello"
            assert server.get_loop() is asyncio.get_running_loop()
            # What is waited for is bound to the loop.
            for ended in [asyncio.create_task(server.shutdown()) for _ in range(2)]:
                await ended
        await serving

    with listening_socket(socket.AF_UNIX) as (sock, address):
        server = AsyncFcgiServer(Hello, sock)
        with closing(server.socket):
            for _ in range(3):
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(main(server, address))


@SYNC
def test_leaving_the_with_block_stops_the_server(serve: Serve) -> None:
    """Closing while serve_forever runs in another thread: it is stopped, waited for, and everything is closed."""
    begun, release = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    closing = threading.Thread(target=running.server.server_close)
    closing.start()
    release.set()
    assert web.response().body == b"/slow"
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    running.wait_for_end()


@SYNC
def test_an_error_in_serve_forever_leaves_the_with_block(serve: Serve) -> None:
    """Connections are closed with it, and handlers that still run are told."""

    def service_actions(_: Any) -> None:
        if fail.is_set:
            raise LookupError("of the subclass")

    fail, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await echo_path(h)

    running = serve(body, server={"service_actions": service_actions})
    web = running.connect()
    assert web.request(params_for("/x")).body == b"/x"
    fail.set()
    with pytest.raises(LookupError):
        running.wait_for_end()
    assert web.at_eof()


def test_exceptions_pass_through_the_with_block() -> None:
    with listening_socket(socket.AF_UNIX) as (sock, _):
        with pytest.raises(LookupError), FcgiServer(FcgiHandler, sock) as server:
            raise LookupError
        assert server.fileno() == -1

        async def main() -> None:
            with pytest.raises(LookupError):
                async with AsyncFcgiServer(AsyncFcgiHandler, sock) as server:
                    raise LookupError
            assert server.fileno() == -1

        asyncio.run(main())


def test_limits_are_shared() -> None:
    limits = Limits(max_connections=7)
    with listening_socket(socket.AF_UNIX) as (sock, _):
        with FcgiServer(FcgiHandler, sock, limits=limits) as server:
            assert server.limits is limits
        with FcgiServer(FcgiHandler, sock) as server:
            assert server.limits == Limits()
