"""The gateways' handlers on servers in threads of their own, and the ways in which a test and an application meet."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

from simple_fastcgi import AsyncFcgiServer, FcgiServer, FcgiThreadingServer
from simple_fastcgi.limits import Limits
from tests.support import webserver
from tests.support.loops import ask_to_shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simple_fastcgi import AsyncFcgiHandler, FcgiHandler
    from simple_fastcgi.monitor.monitor import Monitor

TIMEOUT = webserver.TIMEOUT
PATIENT: dict[str, Any] = {name: 10 * TIMEOUT for name in Limits.DEFAULTS if name.endswith("_timeout")}
"""Limits that no test meets by chance, however long the machine stands still."""
LIMITS = Limits(**{**PATIENT, "graceful_timeout": TIMEOUT, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT})
TEXT = [("Content-Type", "text/plain")]


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

    async def seen(self) -> None:
        await asyncio.to_thread(self.wait)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A unix socket that listens, and its path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as sock:
        path = f"{folder}/app.sock"
        sock.bind(path)
        sock.listen()
        yield sock, path


@contextmanager
def in_thread(target: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run `target` meanwhile; whatever ends the block must end it too."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


@contextmanager
def sync_server(
    handler: type[FcgiHandler], *, threads: int = 1, limits: Limits = LIMITS, monitor: Monitor | None = None
) -> Iterator[str]:
    """The address of a running server: an `FcgiServer` if `threads` is 1."""
    with listening() as (sock, path):
        server = (
            FcgiServer(handler, sock, limits=limits, monitor=monitor)
            if threads == 1
            else FcgiThreadingServer(handler, sock, threads=threads, limits=limits, monitor=monitor)
        )
        with server, in_thread(server.serve_forever):
            try:
                yield path
            finally:
                server.shutdown()


class _Telling(AsyncFcgiServer):
    ready: Flag

    def started(self) -> None:
        self.ready.set()


@contextmanager
def async_server(
    handler: type[AsyncFcgiHandler],
    loop: Callable[[], asyncio.AbstractEventLoop],
    *,
    limits: Limits = LIMITS,
    monitor: Monitor | None = None,
) -> Iterator[str]:
    """The address of a running `AsyncFcgiServer`; what its `serve_forever` raises is raised in here."""
    ready = Flag()
    servers: list[AsyncFcgiServer] = []
    errors: list[BaseException] = []

    async def main(sock: socket.socket) -> None:
        async with _Telling(handler, sock, limits=limits, monitor=monitor) as server:
            servers.append(server)
            server.ready = ready
            await server.serve_forever()

    def run(sock: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(main(sock))
        except BaseException as error:
            errors.append(error)
        finally:
            ready.set()

    with listening() as (sock, path):
        with in_thread(lambda: run(sock)) as thread:
            ready.wait()
            try:
                if not errors:
                    yield path
            finally:
                if not errors and thread.is_alive():
                    ask_to_shut_down(servers[0])
        if errors:
            raise errors[0]


class Validated:
    """A WSGI application under the standard library's validator, and what that found."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = validator(app)
        self.found: list[AssertionError] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        try:
            return _Watched(self._app(environ, start_response), self.found)
        except AssertionError as error:
            self.found.append(error)
            raise


class _Watched:
    def __init__(self, blocks: Any, found: list[AssertionError]) -> None:
        self._blocks = blocks
        self._found = found

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> bytes:
        try:
            block: bytes = next(self._blocks)
        except AssertionError as error:
            self._found.append(error)
            raise
        return block

    def close(self) -> None:
        self._blocks.close()
