"""Runs an ASGI handler on an event loop until it is told to stop."""

from __future__ import annotations

import asyncio

from ..aio.server import AsyncFcgiServer
from ..errors import ConfigurationError
from .lasting import note_end
from .refuse import is_the_end, refuse_more
from .signals import TellAll, deliver_held, stop_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from ..gateways.asgi import AsgiHandler
    from ..limits import Limits
    from ..net import ListeningSocket
    from .observe import Observed
    from .restart import Restart

_STOP_POLL_SECONDS = 0.1
_TOUCH_POLL_SECONDS = 0.5


def run_asgi(
    handler: type[AsgiHandler],
    listening: ListeningSocket,
    limits: Limits,
    *,
    loop: str,
    stop: threading.Event | None,
    ready: Callable[[], object],
    restart: Restart | None = None,
    observed: Observed | None = None,
) -> None:
    """Serve on `listening`; returns when the last request has ended behind a stop signal, `stop` or `restart`.

    `ready` is called when the application has started.
    """
    runner = asyncio.Runner(loop_factory=loop_factory(loop))
    stopped = asyncio.Event()

    def stop_serving() -> None:
        note_end()
        listening.close()
        try:
            # A signal handler may come in the middle of anything.
            runner.get_loop().call_soon_threadsafe(stopped.set)
        except RuntimeError:
            # Closed already: there is nothing left to stop.
            pass

    monitor = None if observed is None else observed.monitor

    async def main() -> None:
        async with _Server(
            handler, listening.socket, limits=limits, allow_from=listening.allow, monitor=monitor
        ) as server:
            server.ready = ready
            server.listening = listening
            server.stop_event = stop
            server.restart = restart
            serving = asyncio.create_task(server.serve_forever())
            stopper = asyncio.create_task(_stop(server, serving, stopped, stop, restart))
            try:
                await serving
            except asyncio.CancelledError:
                if not server.given_up:
                    raise
            finally:
                stopper.cancel()

    # Around the runner, whose end waits for tasks and threads: what is stuck is to be ended too.
    stopping = stop_signals(stop_serving, listening, limits, monitor, restart)
    with TellAll(monitor), stopping, runner:
        runner.run(main())


async def _stop(
    server: _Server,
    serving: asyncio.Task[None],
    stopped: asyncio.Event,
    stop: threading.Event | None,
    restart: Restart | None,
) -> None:
    # Events between threads, and files, have nothing that a loop could wait for without a thread of its own.
    poll_seconds = _STOP_POLL_SECONDS if stop is not None else _TOUCH_POLL_SECONDS if restart is not None else None
    while not stopped.is_set():
        try:
            async with asyncio.timeout(poll_seconds):
                await stopped.wait()
        except TimeoutError:
            if (stop is not None and stop.is_set()) or (restart is not None and restart.is_set()):
                break
    if server.has_started:
        await server.shutdown()
    else:
        # The application is still starting, for as long as it likes.
        server.given_up = True
        serving.cancel()


class _Server(AsyncFcgiServer):
    """Tells when its application has started."""

    ready: Callable[[], object]
    listening: ListeningSocket
    stop_event: threading.Event | None = None
    restart: Restart | None = None
    has_started = False
    given_up = False

    def started(self) -> None:
        self.has_started = True
        self.ready()
        deliver_held()

    async def _wind_down(self) -> None:
        if self.restart is not None and self.restart.refuse_more():
            try:
                # What has connected before others were refused.
                self._accept()
            except OSError:
                # None waits.
                pass
        elif is_the_end(self.listening, self.stop_event):
            self._accept()
            refuse_more(self.socket)
        await super()._wind_down()


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop for the setting `loop`: "auto", "asyncio" or "uvloop"."""
    if loop == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if loop == "uvloop":
            raise ConfigurationError(
                "loop='uvloop': uvloop is not installed (pip install simple_fastcgi[uvloop])"
            ) from None
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
