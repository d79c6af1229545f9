"""Runs a WSGI handler until it is told to stop."""

from __future__ import annotations

from ..sync.server import FcgiServer
from .signals import StopSignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from ..gateways.wsgi import WsgiHandler
    from ..limits import Limits
    from ..net import ListeningSocket

_STOP_POLL_SECONDS = 0.1


class _Stoppable(FcgiServer):
    """Shuts down when an event is set."""

    stop: threading.Event | None = None

    def service_actions(self) -> None:
        if self.stop is not None and self.stop.is_set():
            self.shutdown()


def run_wsgi(
    handler: type[WsgiHandler],
    listening: ListeningSocket,
    limits: Limits,
    *,
    threads: int,
    stop: threading.Event | None,
    ready: Callable[[], object],
) -> None:
    """Serve on `listening`; returns when the last request has ended behind a stop signal or `stop`.

    `ready` is called just before the first request is accepted.
    """
    server: _Stoppable
    if threads == 1:
        server = _Stoppable(handler, listening.socket, limits=limits, allow_from=listening.allow)
    else:
        from ..sync.threading_server import FcgiThreadingServer

        class _ThreadingServer(FcgiThreadingServer, _Stoppable):
            pass

        server = _ThreadingServer(handler, listening.socket, threads=threads, limits=limits, allow_from=listening.allow)
    server.stop = stop

    def stop_serving() -> None:
        listening.close()
        server.shutdown()

    # Around the server, whose end waits for handlers: one that is stuck is to be ended too.
    on_signal = listening.arrange_end(stop_serving)
    with StopSignals(on_signal, graceful_timeout=limits.graceful_timeout, at_once=listening.close), server:
        ready()
        server.serve_forever(_STOP_POLL_SECONDS if stop is not None else 0.5)
