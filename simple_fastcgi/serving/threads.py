"""Runs a blocking handler until it is told to stop."""

from __future__ import annotations

from ..net import OutOfRoom
from ..sync.server import FcgiServer
from .lasting import note_end
from .refuse import is_the_end, refuse_more
from .signals import TellAll, deliver_held, stop_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

    from ..limits import Limits
    from ..net import ListeningSocket
    from ..sync.handler import FcgiHandler
    from .observe import Observed
    from .restart import Restart

_STOP_POLL_SECONDS = 0.1


class _Server(FcgiServer):
    """Refuses those who come behind its end, where nobody else is there for them."""

    listening: ListeningSocket
    stop: threading.Event | None = None
    restart: Restart | None = None

    def shut_down_if_told(self) -> None:
        """Shut down when `stop` or `restart` is set."""
        if self.stop is not None and self.stop.is_set():
            self.shutdown()
        if self.restart is not None and self.restart.is_set():
            self.shutdown()

    def _wind_down(self, poll_interval: float) -> None:
        if self.restart is not None and self.restart.refuse_more():
            while self._take_waiting():
                super()._wind_down(poll_interval)
        elif is_the_end(self.listening, self.stop):
            self._take_waiting()
            refuse_more(self.socket)
        super()._wind_down(poll_interval)

    def _take_waiting(self) -> bool:
        """Accept what has connected before others were refused; whether something had."""
        found = False
        try:
            while (accepted := self._acceptor.accept(self.socket, len(self._connections))) is not None:
                self._add(*accepted)
                found = True
        except (OSError, OutOfRoom):
            # None waits any more; or some do, and have to until others have ended.
            pass
        return found


def run_wsgi(
    handler: type[FcgiHandler],
    listening: ListeningSocket,
    limits: Limits,
    *,
    threads: int,
    stop: threading.Event | None,
    ready: Callable[[], object],
    restart: Restart | None = None,
    observed: Observed | None = None,
) -> None:
    """Serve on `listening`; returns when the last request has ended behind a stop signal, `stop` or `restart`.

    `ready` is called just before the first request is accepted.
    """
    options: dict[str, Any] = {"limits": limits, "allow_from": listening.allow}
    if observed is not None:
        options["monitor"] = observed.monitor
    server: _Server
    if threads == 1:
        server = _Server(handler, listening.socket, **options)
    else:
        from ..sync.threading_server import FcgiThreadingServer

        class _ThreadingServer(FcgiThreadingServer, _Server):
            pass

        server = _ThreadingServer(handler, listening.socket, threads=threads, **options)
    server.listening = listening
    server.stop = stop
    server.restart = restart
    if stop is not None or restart is not None:
        # Only then, for a method of the class would be called behind every turn.
        server.service_actions = server.shut_down_if_told  # type: ignore[method-assign]

    def stop_serving() -> None:
        note_end()
        listening.close()
        server.shutdown()

    if observed is not None:
        observed.stop_serving = stop_serving
    # Around the server, whose end waits for handlers: one that is stuck is to be ended too.
    stopping = stop_signals(stop_serving, listening, limits, server.monitor, restart)
    with TellAll(server.monitor), stopping, server:
        ready()
        deliver_held()
        server.serve_forever(_STOP_POLL_SECONDS if stop is not None else 0.5)
