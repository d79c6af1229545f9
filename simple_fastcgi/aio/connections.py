"""The connections of an asynchronous server: accepted, looked after and closed; of handlers it knows nothing.

asyncio itself is imported when a server is made: importing this module costs a synchronous program nothing.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar
from functools import partial

from ..cgi.handler import UnservedRoles
from ..cgi.parting import PARTING_INTERVAL, ROOM_SECONDS, GivingWay
from ..cgi.response import SERVICE_UNAVAILABLE
from ..limits import Limits, given_limits
from ..log import log_error, logger
from ..net import Acceptor, OutOfRoom, adopt, connection_spool, is_awaited
from ..net.saturation import Saturation
from ..protocol.runs import PairDecoder
from ..protocol.terms import Terms
from .request import AsyncFcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event, Task, TimerHandle
    from collections.abc import Callable

    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from ..protocol.application import ApplicationConnection
    from .connection import Connection
    from .handler import AsyncFcgiHandler

    MakeRequest = Callable[[], AsyncFcgiRequest]

_SWEEP_SECONDS = 1.0
SERVED_BY: ContextVar[ConnectionServer] = ContextVar("SERVED_BY")
"""Whose request it is that led here: set once for a connection; tasks of requests, and those of theirs, inherit it."""


class ConnectionServer:
    """What of a server has to do with its connections; what begins a request is a subclass's."""

    accepts_a_turn = 64
    """How many connections are taken at once from the listen queue; few leave more to other processes."""

    _quiet: Event
    """Nothing is open, and nothing goes on; whoever waits for that clears it first."""

    def __init__(
        self,
        handler: type[AsyncFcgiHandler],
        sockfd: int | socket.socket,
        limits: Limits | None,
        allow_from: AllowFrom | None,
        monitor: Monitor | None,
    ) -> None:
        import asyncio

        from .connection import Connection

        self._asyncio = asyncio
        self._make_connection = Connection
        self._acceptor = Acceptor(allow_from)
        self.limits = given_limits(limits, Limits)
        self.socket = adopt(sockfd, server="AsyncFcgiServer")
        self.server_address = self.socket.getsockname()
        self.monitor = monitor
        self._saturation = Saturation()
        make_request: MakeRequest = AsyncFcgiRequest
        if monitor is not None:
            from .monitored import MonitoredRequest

            make_request = partial(MonitoredRequest, monitor)
            self._acceptor.refused = monitor.rejected
            self._saturation.begun = monitor.saturated
        self.terms = Terms(
            self.limits,
            handler.roles,
            make_spool=connection_spool,
            decode=PairDecoder().decode,
            refusal=SERVICE_UNAVAILABLE,
            unserved=UnservedRoles(handler, log_error),
            begun=make_request,
        )
        self._connections: set[Connection] = set()
        self._giving_way = GivingWay()
        self._opening = 0
        # Those in which connections are opened, and requests served.
        self._tasks: set[Task[None]] = set()
        self._accepting = False
        self._accept_again = 0.0
        self._timer: TimerHandle | None = None
        self._serving = False
        self.stopping = False
        """:meth:`shutdown` was called: no connection is accepted, and none is kept when its requests have ended."""
        self.stopping_since = 0.0
        """The loop's time at which it began to stop."""
        self._loop: AbstractEventLoop | None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def fileno(self) -> int:
        """The descriptor of the listening socket."""
        return self.socket.fileno()

    def get_loop(self) -> AbstractEventLoop:
        """The event loop that the server runs on; RuntimeError if it was made outside of one and does not run yet."""
        if self._loop is None:
            raise RuntimeError("the server does not run on an event loop yet")
        return self._loop

    def begin(self, request: AsyncFcgiRequest) -> None:
        """Serve a request that has come."""
        raise NotImplementedError

    # What connections tell

    def connection_made(self, connection: Connection) -> None:
        """A connection's transport is there."""
        self._connections.add(connection)
        if self.monitor is not None:
            self.monitor.connected()

    def connection_lost(self, connection: Connection) -> None:
        """A connection's transport is closed."""
        self._connections.discard(connection)
        if self.monitor is not None:
            self.monitor.disconnected()
        self._check_quiet()
        self._resume_accepting()

    def count_refused(self, core: ApplicationConnection) -> None:
        """Count the requests that it has refused."""
        if self.monitor is not None:
            self.monitor.rejected(core.refused)
        core.refused = 0

    def cut_off(self, connection: Connection) -> None:
        """End what is under way on it, when the time for that is over."""
        tell = None
        if self.monitor is not None:
            from ..monitor.ending import CutOff

            tell = CutOff(self.monitor)
        connection.cut(tell)
        if tell is not None:
            tell.log()

    def log_closed(self, connection: Connection, why: Exception) -> None:
        """One line for a connection that has to be closed."""
        logger().warning("connection from %s closed: %s", connection.address or "a unix socket", why)

    # Accepting them

    def _resume_accepting(self) -> None:
        room = len(self._connections) + self._opening < self.limits.max_connections
        if room and not self._accepting and self._serving and not self.stopping:
            loop = self.get_loop()
            if loop.time() >= self._accept_again:
                self._accepting = True
                loop.add_reader(self.socket.fileno(), self._accept)

    def _pause_accepting(self) -> None:
        """Leave further connections in the listen queue."""
        if self._accepting:
            self._accepting = False
            self.get_loop().remove_reader(self.socket.fileno())

    def _accept(self) -> None:
        for taken in range(self.accepts_a_turn):
            count = len(self._connections) + self._opening
            if count >= self.limits.max_connections:
                # Behind another one it is not known whether anybody waits: if so, the next turn comes at once.
                if not taken:
                    self._pause_accepting()
                    self._saturation.reached(self.limits.max_connections)
                return
            try:
                accepted = self._acceptor.accept(self.socket, count)
            except OutOfRoom as error:
                if not taken:
                    self._pause_accepting()
                    self._accept_again = self.get_loop().time() + error.seconds
                return
            if accepted is None:
                return
            descriptor, address = accepted
            # The kernel is asked for what is left out.
            sock = socket.socket(-1, socket.SOCK_STREAM, 0, descriptor)
            task = self.get_loop().create_task(self._open(sock, address))
            self._opening += 1
            self._tasks.add(task)
            task.add_done_callback(partial(self._opened, sock))

    async def _open(self, sock: socket.socket, address: object) -> None:
        SERVED_BY.set(self)
        await self.get_loop().connect_accepted_socket(lambda: self._make_connection(self, address), sock)

    def _opened(self, sock: socket.socket, task: Task[None]) -> None:
        self._opening -= 1
        if task.cancelled():
            # Perhaps before it had begun.
            sock.close()
        self._task_done(task)
        self._resume_accepting()

    def _task_done(self, task: Task[None]) -> None:
        self._tasks.discard(task)
        self._check_quiet()
        if not task.cancelled() and (error := task.exception()) is not None:
            log_late(error)

    # Time and the end

    def _sweep(self) -> None:
        loop = self.get_loop()
        self._timer = loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = loop.time()
        if late := [connection for connection in list(self._connections) if connection.is_late(now)]:
            # A handler may have kept the loop busy: what has come until now is read first, in the loop's next turn.
            loop.call_soon(loop.call_soon, self._close_late, late)
        if not self.stopping:
            self._make_room(now)
        self._resume_accepting()

    def _make_room(self, now: float) -> None:
        """Have idle connections give way if others wait for room."""
        if self._accepting or not is_awaited(self.socket):
            self._giving_way.forget()
            return
        idle = [connection for connection in self._connections if connection.is_at_rest()]
        to_tell, to_close = self._giving_way.choose(idle, now)
        for connection in to_tell:
            connection.part()
        if to_close:
            # As those that are late.
            loop = self.get_loop()
            loop.call_soon(loop.call_soon, self._close_idle, to_close)

    def _close_idle(self, connections: list[Connection]) -> None:
        latest = self.get_loop().time() - ROOM_SECONDS
        for connection in connections:
            if connection in self._connections and connection.last_active < latest:
                connection.close_if_idle()

    def _close_late(self, late: list[Connection]) -> None:
        now = self.get_loop().time()
        for connection in late:
            if connection in self._connections:
                connection.close_late(now)

    def _check_quiet(self) -> None:
        if not self._connections and not self._tasks:
            self._quiet.set()

    async def _part(self) -> None:
        while True:
            for connection in list(self._connections):
                connection.close_if_idle()
            await self._asyncio.sleep(PARTING_INTERVAL)


def log_late(error: BaseException) -> None:
    """Nobody waits for the task that failed."""
    logger().error("error while a request ended", exc_info=error)
