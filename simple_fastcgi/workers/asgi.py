"""`AsgiWorker`: ASGI applications over FastCGI in gunicorn's worker processes."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from gunicorn import util

from ..aio.server import AsyncFcgiServer
from ..gateways.asgi import AsgiHandler
from ..serving.loops import loop_factory
from .base import FcgiWorker
from .wsgi import WsgiService

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ..aio.request import AsyncFcgiRequest
    from .base import Service


class AsgiWorker(FcgiWorker):
    """Runs an ASGI application on an event loop, uvloop where it is installed.

    An application that keeps the loop from turning for ``timeout`` seconds counts as hung, and the worker is replaced.
    """

    def threads(self) -> int:
        """None."""
        return 0

    def make_service(self) -> Service:
        """An event loop around the application."""
        if getattr(self.wsgi, "__module__", None) == util.__name__:
            # With --reload, gunicorn's own WSGI application shows the SyntaxError that it met instead of ours.
            return WsgiService(self)
        self.warn_unless("asgi", "run it with -k simple_fastcgi.workers.WsgiWorker")
        return AsgiService(self)


class AsgiService:
    """An event loop with a server for each listening socket; the application's lifespan is around them all."""

    def __init__(self, worker: FcgiWorker) -> None:
        self.worker = worker
        self._handler = AsgiHandler.for_app(
            worker.wsgi,
            root_path=worker.mount_point(),
            lifespan=worker.lifespan or worker.setting("asgi_lifespan", "auto"),
            unbuffered_events=worker.unbuffered_events,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[_Server] = []
        self._serving: asyncio.Future[list[None]] | None = None
        self._endings: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Serve until told to stop; then let the requests under way end."""
        worker = self.worker
        factory = loop_factory(worker.loop or worker.setting("asgi_loop", "auto"))
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._main())

    def stop(self) -> None:
        """Ask :meth:`run` to end; called by signal handlers."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._look)
            except RuntimeError:
                # It has been closed: this is the end already.
                pass

    async def _main(self) -> None:
        worker = self.worker
        self._loop = asyncio.get_running_loop()
        limits, served = worker.bounds(), _without_lifespan(self._handler)
        # No beats before the end of this: a start may take its time.
        async with self._handler.lifespan(self):
            for sock in worker.listening_sockets():
                server = _Server(served, sock, limits=limits, allow_from=worker.allow_from, monitor=worker.monitor)
                server.worker = worker
                self._servers.append(server)
            serving = self._serving = asyncio.gather(*(server.serve_forever() for server in self._servers))
            worker.serving()
            self._beat()
            try:
                await serving
            except asyncio.CancelledError:
                if not worker.quick:
                    raise
            finally:
                for server in self._servers:
                    server.socket.close()
        # Beats go on until here: the application's shutdown may take its time too.
        assert self._timer is not None
        self._timer.cancel()

    def _beat(self) -> None:
        assert self._loop is not None
        self.worker.beat()
        self._look()
        self._timer = self._loop.call_later(self.worker.beat_seconds, self._beat)

    def _look(self) -> None:
        """Stop the servers if the worker is to end."""
        if self._serving is None:
            return
        if self.worker.quick:
            self._serving.cancel()
        elif not self.worker.alive and not self._endings:
            self._endings = [asyncio.create_task(server.shutdown()) for server in self._servers]


def _without_lifespan(handler: type[AsgiHandler]) -> type[AsgiHandler]:
    """The same handler for servers that are not to start the application, each on its own."""

    class Served(handler):  # type: ignore[valid-type, misc]
        @classmethod
        def lifespan(cls, server: object) -> AbstractAsyncContextManager[object]:
            return nullcontext()

    return Served


class _Server(AsyncFcgiServer):
    """Tells its worker of each request."""

    worker: FcgiWorker
    # Who is busy leaves the next connection to another worker.
    accepts_a_turn = 1

    def is_last_on_socket(self) -> bool:
        """Whether no other worker takes over."""
        return not self.worker.is_replaced

    def begin(self, request: AsyncFcgiRequest) -> None:
        """Serve a request in a task of its own, and count it."""
        super().begin(request)
        self.worker.count_request()

    async def _wind_down(self) -> None:
        self.limits = self.worker.bounds_at_the_end()
        await super()._wind_down()
