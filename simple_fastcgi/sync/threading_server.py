"""`FcgiThreadingServer`: the server whose handlers run in the threads of a pool."""

from __future__ import annotations

from collections import OrderedDict
from socketserver import ThreadingMixIn
from time import monotonic

from ..errors import ConfigurationError
from ..log import logger
from ..net import FCGI_LISTENSOCK_FILENO
from .pool import ThreadPool
from .server import FcgiServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ..limits import Limits
    from ..net.allow import AllowFrom
    from ..protocol.events import Event
    from ..protocol.streams import Request
    from .connection import Connection
    from .handler import FcgiHandler
    from .request import FcgiRequest


class FcgiThreadingServer(ThreadingMixIn, FcgiServer):
    """A :class:`FcgiServer` which runs handlers in at most `threads` threads (default 8).

    Requests beyond that wait in the order in which they came. One of the threads is kept for requests whose input has
    arrived whole, or ``max_buffered_input`` of it, so that clients which send theirs slowly, or never, do not hold up
    everybody.
    """

    def __init__(
        self,
        handler: type[FcgiHandler],
        sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO,
        *,
        threads: int = 8,
        limits: Limits | None = None,
        allow_from: AllowFrom | None = None,
    ) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ConfigurationError(f"threads={threads!r}: give a whole number above 0")
        super().__init__(handler, sockfd, limits=limits, allow_from=allow_from)
        self.threads = threads
        self._pool = ThreadPool(threads, "fcgi-handler")
        # Begun before their input was there: those being served, and those that wait for it or for their turn.
        self._unready: set[Request] = set()
        self._waiting: OrderedDict[Request, FcgiRequest] = OrderedDict()

    def process_request(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
        """Serve the request in a thread; in the loop's own where the host allows no threads at all."""
        try:
            self._pool.submit(lambda: self._process(request, client_address))
        except RuntimeError as error:
            logger().warning("no thread can be started, going on without: %s", error)
            FcgiServer.process_request(self, request, client_address)  # type: ignore[arg-type]

    def _process(self, request: FcgiRequest, client_address: object) -> None:
        self.process_request_thread(request, client_address)  # type: ignore[arg-type]
        if self._waiting:
            self._wake()

    def _begin(self, request: FcgiRequest) -> None:
        core = request.core
        if self._is_ready(core):
            super()._begin(request)
        elif self._has_room_for_unready():
            self._unready.add(core)
            super()._begin(request)
        else:
            self._waiting[core] = request

    def _is_ready(self, core: Request) -> bool:
        # Whoever has sent as much as can be received beforehand may go on while it is read.
        return core.input_ended or core.aborted or core.buffered_input >= self.limits.max_buffered_input

    def _has_room_for_unready(self) -> bool:
        self._unready = {core for core in self._unready if not core.input_ended and not core.ended}
        return len(self._unready) < max(1, self.threads - 1)

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        super()._on_events(connection, events)
        if self._waiting:
            for event in events:
                core = event.request
                if self._is_ready(core) and (request := self._waiting.pop(core, None)) is not None:
                    self._begun.append(request)

    def _turn(self, timeout: float) -> None:
        super()._turn(timeout)
        while self._waiting and self._has_room_for_unready():
            self._begin(self._waiting.popitem(last=False)[1])

    def _end_handlers(self) -> None:
        if not self._pool.close(max(0.1, self._graceful_until - monotonic())):
            logger().warning("some handlers still run after %g s (graceful_timeout)", self.limits.graceful_timeout)
