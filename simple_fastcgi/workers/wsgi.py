"""`WsgiWorker`: WSGI applications over FastCGI in gunicorn's worker processes."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING

from ..gateways.wsgi import WsgiHandler
from ..sync.server import FcgiServer
from ..sync.threading_server import FcgiThreadingServer
from .base import FcgiWorker

if TYPE_CHECKING:
    from typing import Any

    from ..sync.request import FcgiRequest


class WsgiWorker(FcgiWorker):
    """Runs a WSGI application, one request after the other or, with ``--threads N``, N at once.

    Without threads, a request that takes longer than ``timeout`` counts as hung, and the worker is replaced; the
    visitor gets a 500 and the log a traceback that tells where it hung. With threads, only the worker as a whole can
    be hung.
    """

    def make_service(self) -> WsgiService:
        """Threads around the application, or none."""
        self.warn_unless("wsgi", "run it with -k simple_fastcgi.workers.AsgiWorker")
        return WsgiService(self)

    def is_one_thread(self) -> bool:
        """Unless it was told to have several."""
        return bool(self.cfg.threads == 1)


class WsgiService:
    """A server for each listening socket: the first one in the main thread, others in threads of their own."""

    def __init__(self, worker: FcgiWorker) -> None:
        self.worker = worker
        handler = WsgiHandler.for_app(
            worker.wsgi,
            root_path=worker.mount_point(),
            multiprocess=worker.cfg.workers > 1,
            unbuffered_events=worker.unbuffered_events,
        )
        options: dict[str, Any] = {
            "limits": worker.bounds(),
            "allow_from": worker.allow_from,
            "monitor": worker.monitor,
        }
        threads = worker.cfg.threads
        self._servers: list[_Server] = []
        for sock in worker.listening_sockets():
            server: _Server
            if threads > 1:
                server = _ThreadingServer(handler, sock, threads=threads, **options)
            else:
                server = _Server(handler, sock, **options)
            server.service = self
            self._servers.append(server)
        # Without threads an application may count on being alone, however many sockets there are.
        self.alone = threading.Lock() if threads == 1 and len(self._servers) > 1 else None
        self._last_turns = dict.fromkeys(self._servers, monotonic())

    def run(self) -> None:
        """Serve until told to stop; then let the requests under way end."""
        worker = self.worker
        worker.serving()
        # From the first beat on this worker can be found hung; its first request may be the one.
        worker.beat()
        first, *others = self._servers
        for server in others:
            threading.Thread(target=self._serve, args=(server,), name="fcgi-socket", daemon=True).start()
        self._serve(first)
        # Each waits for the requests of its server; meanwhile this worker is still alive.
        closers = [threading.Thread(target=server.server_close, daemon=True) for server in self._servers]
        for closer in closers:
            closer.start()
        for closer in closers:
            while closer.is_alive():
                worker.beat()
                closer.join(worker.beat_seconds)

    def stop(self) -> None:
        """Ask :meth:`run` to end; called by signal handlers."""
        for server in self._servers:
            server.shutdown()

    def _serve(self, server: _Server) -> None:
        try:
            server.serve_forever(self.worker.beat_seconds)
        finally:
            # One socket that is not served any more is reason enough for a new worker.
            self.worker.end()

    def turned(self, server: _Server) -> None:
        """A server's loop has made a turn."""
        worker = self.worker
        self._last_turns[server] = now = monotonic()
        # If one of several is stuck the worker is as good as dead, although others turn.
        if len(self._servers) == 1 or now - min(self._last_turns.values()) < 3 * worker.beat_seconds:
            worker.beat()
        if worker.quick:
            sys.exit(0)
        if not worker.alive:
            self.stop()


class _Server(FcgiServer):
    """Tells its worker of each turn and of each request."""

    service: WsgiService
    # Whoever is busy leaves the next connection to another worker.
    accepts_a_turn = 1

    def is_last_on_socket(self) -> bool:
        return not self.service.worker.is_replaced

    def service_actions(self) -> None:
        self.service.turned(self)

    def _wind_down(self, poll_interval: float) -> None:
        self.limits = self.service.worker.bounds_at_the_end()
        super()._wind_down(poll_interval)

    def process_request(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
        service = self.service
        service.worker.count_request()
        if service.alone is None:
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            with service.alone:
                super().process_request(request, client_address)  # type: ignore[arg-type]


class _ThreadingServer(_Server, FcgiThreadingServer):  # type: ignore[misc]
    pass
