"""Every kind of server under one roof, so that a case is written once and runs on all of them.

A handler's body is an ``async def`` over a :class:`Handler`. On an asynchronous server it is awaited; on a synchronous
one it is run to its end in one go, for there nothing in it ever waits but by blocking.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Self

import pytest
import uvloop

from simple_fastcgi import (
    AsyncAuthorizerMixin,
    AsyncFcgiHandler,
    AsyncFcgiServer,
    AsyncHttpResponseMixin,
    AuthorizerMixin,
    FcgiHandler,
    FcgiServer,
    FcgiThreadingServer,
    HttpResponseMixin,
)
from simple_fastcgi.limits import Limits
from tests.support import webserver
from tests.support.loops import ask_to_shut_down
from tests.support.webserver import Response, WebServer, params_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    Body = Callable[["Handler"], Awaitable[None]]
    Address = str | tuple[str, int]

TIMEOUT = webserver.TIMEOUT
"""Seconds until a test gives up waiting for something that should happen at once."""
TINY = 0.05
"""A limit, in seconds, that is meant to be hit."""
PATIENT = {
    **{name: 10 * TIMEOUT for name in Limits.DEFAULTS if name.endswith("_timeout")},
    "graceful_timeout": TIMEOUT,
}
"""Limits that no test meets by chance, however long the machine stands still: a test makes tiny what it is about."""
HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class Flag:
    """Something that has happened, told between threads and event loops."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        assert self._event.wait(TIMEOUT), "it never happened"


def until(happened: Callable[[], object], *, within: float = TIMEOUT) -> None:
    """Wait for what has no event of its own."""
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


# ------------------------------------------------------------------------------------------ kinds of servers


@dataclass(frozen=True)
class Kind:
    """One kind of server."""

    name: str
    is_async: bool = False
    concurrent: bool = True
    """A handler that waits keeps no other from running."""
    server_class: type[Any] = FcgiServer
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    once: bool = False
    """A variant of another kind: tests of it say no more of another Python than those of that one do."""

    def method(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as a method that the asynchronous server has as a coroutine."""
        if not self.is_async:
            return function

        async def coroutine(*arguments: Any) -> Any:
            return function(*arguments)

        return coroutine


class MixedServer(ThreadingMixIn, FcgiServer):
    """The composition that is promised to work."""


# libuv keeps a pipe from its first loop to the end of the process: no test is to answer for it.
uvloop.new_event_loop().close()

KINDS = [
    Kind("sync", concurrent=False),
    Kind("selector", concurrent=False, once=True),
    Kind("mixin", server_class=MixedServer, once=True),
    Kind("threads", server_class=FcgiThreadingServer),
    Kind("asyncio", is_async=True, server_class=AsyncFcgiServer, loop_factory=asyncio.new_event_loop),
    Kind("uvloop", is_async=True, server_class=AsyncFcgiServer, loop_factory=uvloop.new_event_loop),
]


PARAMETERS = [pytest.param(kind, id=kind.name, marks=[pytest.mark.once] if kind.once else []) for kind in KINDS]


def kinds(*names: str) -> pytest.MarkDecorator:
    """For cases that only some kinds have."""
    chosen = [parameter for parameter in PARAMETERS if parameter.id in names]
    return pytest.mark.parametrize("server_kind", chosen, indirect=True)


SYNC = kinds("sync", "selector", "mixin", "threads")
ASYNC = kinds("asyncio", "uvloop")
CONCURRENT = kinds("mixin", "threads", "asyncio", "uvloop")


# ------------------------------------------------------------------------------------------ handlers


async def settled(value: Any) -> Any:
    """What a member of a handler gives, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value


class Handler:
    """A handler of either sort as a body sees it."""

    def __init__(self, real: Any, running: Running) -> None:
        self.real = real
        self.running = running

    @property
    def environ(self) -> dict[str, str]:
        environ: dict[str, str] = self.real.environ
        return environ

    def aborted(self) -> bool:
        aborted: bool = self.real.aborted()
        return aborted

    async def read(self, *arguments: Any, **keywords: Any) -> bytes:
        data: bytes = await settled(self.real.read(*arguments, **keywords))
        return data

    async def readinto(self, buffer: Any) -> int:
        size: int = await settled(self.real.readinto(buffer))
        return size

    async def readall(self) -> bytes:
        data: bytes = await settled(self.real.readall())
        return data

    async def read_data(self, *arguments: Any, **keywords: Any) -> bytes:
        data: bytes = await settled(self.real.read_data(*arguments, **keywords))
        return data

    async def readinto_data(self, buffer: Any) -> int:
        size: int = await settled(self.real.readinto_data(buffer))
        return size

    async def write(self, data: Any, **keywords: Any) -> None:
        assert await settled(self.real.write(data, **keywords)) is None

    async def write_err(self, data: Any) -> None:
        assert await settled(self.real.write_err(data)) is None

    async def send_response(self, *arguments: Any, **keywords: Any) -> None:
        assert await settled(self.real.send_response(*arguments, **keywords)) is None

    async def send_redirect(self, target: Any) -> None:
        assert await settled(self.real.send_redirect(target)) is None

    async def allow(self, *arguments: Any, **keywords: Any) -> None:
        assert await settled(self.real.allow(*arguments, **keywords)) is None

    async def deny(self, *arguments: Any, **keywords: Any) -> None:
        assert await settled(self.real.deny(*arguments, **keywords)) is None

    def generator(self, *chunks: Any, between: Callable[[], Awaitable[None]] | None = None) -> Callable[[], Any]:
        """A generator function of the sort that this handler's `send_response` wants."""

        async def asynchronous() -> Any:
            for chunk in chunks:
                yield chunk
                if between is not None:
                    await between()

        def synchronous() -> Any:
            for chunk in chunks:
                yield chunk
                if between is not None:
                    run_to_its_end(between())

        return asynchronous if self.running.kind.is_async else synchronous

    async def pause(self, seconds: float = 0.001) -> None:
        """Let others run for a moment."""
        if self.running.ending:
            raise RuntimeError("the test is over")
        if self.running.kind.is_async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)

    async def wait(self, *flags: Flag) -> None:
        """Wait, as an application does for a database: by blocking, or on the event loop."""
        deadline = time.monotonic() + TIMEOUT
        while not all(flag.is_set for flag in flags):
            assert time.monotonic() < deadline, "it never happened"
            await self.pause()

    async def until_aborted(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not self.aborted():
            assert time.monotonic() < deadline, "nobody aborted"
            await self.pause()


def run_to_its_end(body: Awaitable[None]) -> None:
    """Run a coroutine that never really waits."""
    assert inspect.iscoroutine(body)
    with closing(body):
        try:
            body.send(None)
        except StopIteration:
            return
    raise AssertionError("the body of a synchronous handler waited for an event loop")


def handler_class(running: Running, body: Body, members: dict[str, Any], *, authorizer: bool = False) -> type[Any]:
    """The handler class with this body, and with further members."""

    async def handle_async(self: Any) -> None:
        await body(Handler(self, running))

    def handle(self: Any) -> None:
        run_to_its_end(body(Handler(self, running)))

    if running.kind.is_async:
        async_mixin = AsyncAuthorizerMixin if authorizer else AsyncHttpResponseMixin
        return type("Tested", (async_mixin, AsyncFcgiHandler), {"handle": handle_async, **members})
    mixin = AuthorizerMixin if authorizer else HttpResponseMixin
    return type("Tested", (mixin, FcgiHandler), {"handle": handle, **members})


# ------------------------------------------------------------------------------------------ running servers


@dataclass
class Running:
    """A server in a thread of its own."""

    kind: Kind
    address: Address
    listening: socket.socket
    ready: Flag = field(default_factory=Flag)
    ending: bool = False
    error: BaseException | None = None
    resources: ExitStack = field(default_factory=ExitStack)
    server: Any = None
    thread: threading.Thread = field(init=False)

    def start(self, make_server: Callable[[], Any]) -> None:
        run = self._run_async if self.kind.is_async else self._run

        def target() -> None:
            try:
                run(make_server)
            except BaseException as error:
                self.error = error
            finally:
                self.ready.set()

        self.thread = threading.Thread(target=target, name=f"server-{self.kind.name}", daemon=True)
        self.thread.start()
        self.ready.wait()
        if self.server is None:
            self.check()

    def _run(self, make_server: Callable[[], Any]) -> None:
        with make_server() as self.server:
            self.ready.set()
            self.server.serve_forever()

    def _run_async(self, make_server: Callable[[], Any]) -> None:
        async def main() -> None:
            async with make_server() as self.server:
                self.ready.set()
                await self.server.serve_forever()

        with asyncio.Runner(loop_factory=self.kind.loop_factory) as runner:
            runner.run(main())

    def check(self) -> None:
        """Raise what came out of the server's thread."""
        if self.error is not None:
            raise self.error

    def ask_to_stop(self) -> None:
        """Call `shutdown` from another thread; an asynchronous server is asked by way of its loop."""
        if self.kind.is_async:
            ask_to_shut_down(self.server)
        else:
            self.server.shutdown()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's loop; its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.server.get_loop())

    def wait_for_end(self) -> None:
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "serve_forever does not return"
        self.check()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.ask_to_stop()
        self.wait_for_end()

    def close(self) -> None:
        """End everything, after a failed test too."""
        self.ending = True
        self.resources.close()
        if self.server is not None and self.thread.is_alive():
            self.ask_to_stop()
        self.thread.join(TIMEOUT)
        self.listening.close()
        assert not self.thread.is_alive(), "the server's thread still runs"

    def connect(self) -> WebServer:
        """A connection, closed with the test."""
        return self.resources.enter_context(WebServer(self.address))

    def request(self, url: str = "/", stdin: bytes = b"", **options: bool | int) -> Response:
        """One request on a connection of its own."""
        with WebServer(self.address) as web:
            return web.request(params_for(url), stdin, **options)

    def connections(self) -> list[Any]:
        """The server's own view of its connections."""
        held = self.server._connections
        return list(held if self.kind.is_async else held.values())

    def age(self, seconds: float) -> None:
        """Make it so long ago that anything came over any connection."""
        for connection in self.connections():
            connection.last_active -= seconds

    def age_until_closed(self, seconds: float) -> None:
        """The same until all are closed: a handler's thread may tell late that it was busy just now."""

        def closed() -> bool:
            self.age(seconds)
            return not self.connections()

        until(closed)

    def wait_for_sweeps(self) -> None:
        """Wait until the server has looked at the time again; it has to be an attentive one."""
        seen = [self._next_sweep()]
        while len(seen) < 4:
            until(lambda: self._next_sweep() != seen[-1])
            seen.append(self._next_sweep())

    def _next_sweep(self) -> float:
        when: float = self.server._timer.when() if self.kind.is_async else self.server._next_sweep
        return when

    def is_busy_for_nothing(self) -> bool:
        """Whether the server's thread burns time although nothing happens."""
        clock = time.pthread_getcpuclockid(self.thread.ident)  # type: ignore[arg-type]
        for _ in range(300):
            # What has just happened may still take its time; a loop that spins does so for ever.
            before = time.clock_gettime(clock)
            time.sleep(_WATCHED_SECONDS)
            if time.clock_gettime(clock) - before < _WATCHED_SECONDS / 10:
                return False
        return True


_WATCHED_SECONDS = 0.1


@contextmanager
def listening_socket(family: socket.AddressFamily, backlog: int = 128) -> Iterator[tuple[socket.socket, Address]]:
    """A listening socket and its address; a unix socket's path is short, whatever the temporary folder."""
    with ExitStack() as stack:
        if family == socket.AF_UNIX:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
            address: Address = f"{folder}/app.sock"
        else:
            address = ("127.0.0.1", 0)
        sock = stack.enter_context(socket.socket(family))
        sock.bind(address)
        sock.listen(backlog)
        yield sock, sock.getsockname()


class Serve:
    """Makes running servers of one kind: the fixture `serve`."""

    def __init__(self, kind: Kind, resources: ExitStack) -> None:
        self.kind = kind
        self._resources = resources

    def __call__(
        self,
        body: Body,
        *,
        family: socket.AddressFamily = socket.AF_UNIX,
        limits: dict[str, float] | None = None,
        handler: dict[str, Any] | None = None,
        authorizer: bool = False,
        server: dict[str, Any] | None = None,
        backlog: int = 128,
        **options: Any,
    ) -> Running:
        """Start a server with `body` as its handler; `handler` and `server` are members for subclasses of the two.

        The handler can send responses, or, with `authorizer`, grant and refuse access.
        """
        sock, address = self._resources.enter_context(listening_socket(family, backlog))
        running = Running(self.kind, address, sock)
        server_class = type("TestedServer", (self.kind.server_class,), dict(server or {}))
        bounds = Limits(**{**PATIENT, **(limits or {})})

        def make_server() -> Any:
            handlers = handler_class(running, body, handler or {}, authorizer=authorizer)
            return server_class(handlers, sock, limits=bounds, **options)

        running.start(make_server)
        self._resources.callback(running.close)
        return running


# ------------------------------------------------------------------------------------------ the log


class Log(logging.Handler):
    """What the package logs as a warning or worse; each line has to be claimed by the test."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def claim(self, text: str) -> logging.LogRecord:
        """Wait for the one record with `text` in it, and take it away."""
        until(lambda: any(text in record.getMessage() for record in list(self.records)))
        record = next(record for record in self.records if text in record.getMessage())
        self.records.remove(record)
        return record

    def claim_failure(self, text: str) -> str:
        """The same of an error with a traceback; the traceback."""
        record = self.claim(text)
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        return logging.Formatter().formatException(record.exc_info)

    def __enter__(self) -> Self:
        logging.getLogger("simple_fastcgi").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("simple_fastcgi").removeHandler(self)


# ------------------------------------------------------------------------------------------ child processes


def child_environment() -> dict[str, str]:
    """For programs that import the package as it stands here, whatever their folder."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": root}


def python(*arguments: str) -> list[str]:
    """The command that runs Python."""
    return [sys.executable, *arguments]
