"""The connections of a synchronous server: opened, read, watched and closed; of handlers it knows nothing."""

from __future__ import annotations

from collections import deque
from socketserver import BaseServer, ThreadingMixIn
from threading import get_ident
from time import monotonic

from ..cgi.handler import UnservedRoles
from ..cgi.parting import GivingWay, heeds_parting
from ..cgi.response import SERVICE_UNAVAILABLE
from ..limits import Limits, given_limits
from ..log import log_error, logger
from ..net import adopt, connection_spool, is_awaited
from ..protocol.runs import PairDecoder
from ..protocol.terms import Terms
from .connection import Connection
from .poller import READ, UNKNOWN, WRITE, Listening, Poller, Waker
from .request import FcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ..monitor.monitor import Monitor
    from ..protocol.events import Event
    from .handler import FcgiHandler


class ConnectionServer(BaseServer):
    """What of a server has to do with its connections. Requests that begin on them wait in `_begun` for the loop."""

    # Beside the dict of a BaseServer, which with many keys takes its time to tell that it does not shadow a method.
    __slots__ = (
        "_begun",
        "_connections",
        "_giving_way",
        "_listening",
        "_loop_thread",
        "_now",
        "_poller",
        "_serves_in_turn",
        "_tell",
        "_terms",
        "_waker",
        "limits",
        "monitor",
        "multithread",
        "socket",
    )

    _make_connection: type[Connection] = Connection
    RequestHandlerClass: type[FcgiHandler]
    stopping: bool

    def __init__(
        self, handler: type[FcgiHandler], sockfd: int | socket.socket, limits: Limits | None, monitor: Monitor | None
    ) -> None:
        self.limits = given_limits(limits, Limits)
        self.socket = adopt(sockfd, server="FcgiServer")
        super().__init__(self.socket.getsockname(), handler)
        self.monitor = monitor
        self.multithread = isinstance(self, ThreadingMixIn)
        """Whether handlers run concurrently, in threads."""
        request_kind = FcgiRequest
        if monitor is not None:
            from .monitored import MonitoredRequest

            request_kind = MonitoredRequest
        self._terms = Terms(
            self.limits,
            handler.roles,
            concurrent=self.multithread,
            in_turn=not self.multithread,
            make_spool=connection_spool,
            decode=PairDecoder().decode,
            refusal=SERVICE_UNAVAILABLE,
            unserved=UnservedRoles(handler, log_error),
            begun=request_kind,
        )
        # Whether a request is served within the turn in which it is told of.
        self._serves_in_turn = False
        self._loop_thread: int | None = None
        self._connections: dict[int, Connection] = {}
        self._begun: deque[FcgiRequest] = deque()
        # Made once for all connections, as a bound method is an object.
        self._tell = self._on_events
        self._poller = Poller()
        self._listening = Listening(self.socket.fileno(), self._poller)
        self._waker = Waker(self._poller)
        self._giving_way = GivingWay()
        # The time at which the turn of the loop began, or, later in it, the last request of a new connection ended.
        self._now = monotonic()

    def in_loop(self) -> bool:
        """Whether this is the thread that runs :meth:`serve_forever`."""
        return get_ident() == self._loop_thread

    def _add(self, fd: int, address: object) -> None:
        """A connection was accepted."""
        connection = self._connections[fd] = self._make_connection()
        connection.open(fd, address, self._terms, self._tell, self._now)
        if self.monitor is not None:
            self.monitor.connected()
        # Mostly the request is there already: no need to hear so from the poller.
        self._attend(connection, READ)

    def _attend(self, connection: Connection, events: int) -> None:
        """Read what came, and send what was waiting."""
        try:
            told = connection.receive_events() if events == READ else self._attend_to_more(connection, events)
            if told is not None:
                connection.last_active = self._now
                if told:
                    self._on_events(connection, told)
                    if self._serves_in_turn:
                        # Requests that are served in this turn settle the connection at their end.
                        return
            if connection.core.refused:
                self._count_refused(connection)
            if not connection.settled():
                self._settle(connection)
        except Exception as error:
            self._close_after(connection, error)

    def _close_after(self, connection: Connection, error: Exception) -> None:
        if isinstance(error, MemoryError):
            # Whoever has taken it all, it is the application's or the limits' to mend.
            error = MemoryError("there was no memory for what it sends")
        else:
            logger().exception("a connection is closed because of an error of this package; please report it")
        connection.error = error
        self._close(connection)

    def _attend_to_more(self, connection: Connection, events: int) -> list[Event] | None:
        """The same where `events` are not just that something came; what came, as `receive_events` tells it."""
        if events & WRITE:
            connection.send_owed()
        if events == WRITE:
            return None
        if not connection.watched & READ:
            # Nobody listens, so this is the peer hanging up.
            connection.lose()
            return None
        return connection.receive_events()

    def _count_refused(self, connection: Connection) -> None:
        with connection.lock:
            refused, connection.core.refused = connection.core.refused, 0
        if self.monitor is not None:
            self.monitor.rejected(refused)

    def _settle(self, connection: Connection) -> None:
        """Decide what a connection waits for next; only the loop's thread closes one."""
        try:
            if connection.settle(self._poller):
                return
        except OSError as error:
            # The poller has no room for it.
            connection.error = error
        self._close(connection)

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        """Take note of what came, or of what a lost connection ends."""
        for event in events:
            if isinstance(event, FcgiRequest):
                event.begin(self, connection)
                if connection.heeds_parting is None and event.core.keep_conn:
                    connection.heeds_parting = heeds_parting(event.params)
                self._begun.append(event)

    def input_taken(self, connection: Connection) -> None:
        """Listen to a connection again once its handlers have caught up with their input; called by any thread."""
        if not connection.watched & READ:
            try:
                connection.settle(self._poller)
            except OSError as error:
                # The loop closes it.
                connection.error = error
                connection.lose()
                self._waker.wake()

    def request_ended(self, connection: Connection) -> None:
        """See to what the end of a request leaves to be done on its connection; called by any thread."""
        in_loop = get_ident() == self._loop_thread
        if in_loop and not self.multithread and connection.is_over():
            # Nobody else has to do with it.
            self._close(connection)
            return
        if not in_loop:
            # With a loan this thread may have been the one that received: what still comes is the loop's.
            self.input_taken(connection)
        connection.drain(in_loop=in_loop)
        core = connection.core
        if core.finished and (core.lingering or not in_loop):
            # The web server's answer to this, the end of its own sending, wakes the loop, which closes.
            connection.stop_sending()
        if in_loop:
            self._settle(connection)
        else:
            self.input_taken(connection)
            if connection.gone or self.stopping:
                self._waker.wake()

    def _make_room(self) -> None:
        """Have idle connections give way if others wait for room; called once a second or so."""
        if self._listening.is_watched or not is_awaited(self.socket):
            self._giving_way.forget()
            return
        idle = [connection for connection in self._connections.values() if connection.is_at_rest()]
        to_tell, to_close = self._giving_way.choose(idle, self._now)
        for connection in to_tell:
            connection.part()
            # The web server may not have taken all of the last answer yet, so that there is no room for this.
            self._settle(connection)
        for connection in to_close:
            # A request that has reached us is served.
            self._attend(connection, READ)
            if connection.fd >= 0 and connection.is_at_rest():
                self._close(connection)

    def _resume_accepting(self) -> None:
        """Take further connections if there is room for them again."""
        if not self.stopping and len(self._connections) < self.limits.max_connections:
            self._listening.resume(self._now)

    def _close(self, connection: Connection) -> None:
        fd = connection.fd
        if fd < 0:
            # Closed already.
            return
        self._connections.pop(fd, None)
        if self.monitor is not None:
            try:
                if connection.core.refused:
                    self._count_refused(connection)
                self.monitor.disconnected()
            except Exception:
                # What is counted of one connection is worth neither its descriptor nor all others.
                logger().exception("the end of a connection is not counted because of an error; please report it")
        if connection.error is not None and not isinstance(connection.error, ConnectionError):
            logger().warning("connection from %s closed: %s", connection.address or "a unix socket", connection.error)
        if self.multithread:
            # First, so that no handler's thread asks the poller for it any more.
            connection.lose()
        if connection.watched != UNKNOWN:
            try:
                self._poller.unregister(fd)
            except FileNotFoundError:
                # A child that the application has forked, and that goes on, has closed it in the poller that it shares.
                pass
        connection.close()
        if not self._listening.is_watched:
            self._resume_accepting()
