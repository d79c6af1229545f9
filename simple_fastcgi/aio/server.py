"""`AsyncFcgiServer`: a listening socket and its connections on an asyncio event loop.

asyncio itself is imported when a server is made: importing this module costs a synchronous program nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from contextvars import ContextVar
from functools import partial

from ..cgi.environ import describe_request, failure_fields
from ..cgi.handler import UnservedRoles, check_handler
from ..cgi.parting import LAST_CALL_SECONDS, PARTING_INTERVAL, ROOM_SECONDS, GivingWay
from ..cgi.response import SERVICE_UNAVAILABLE
from ..limits import Limits, given_limits
from ..log import log_error, logger, report_failure
from ..net import FCGI_LISTENSOCK_FILENO, Acceptor, OutOfRoom, adopt, connection_spool, end_if_forked, is_awaited
from ..net.heap import keep_freed_blocks
from ..net.saturation import Saturation
from ..protocol.runs import PairDecoder
from ..protocol.terms import Terms
from .handler import AsyncFcgiHandler
from .request import AsyncFcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task, TimerHandle
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from ..protocol.application import ApplicationConnection
    from .connection import Connection

    MakeRequest = Callable[[], AsyncFcgiRequest]

_SWEEP_SECONDS = 1.0
# Of all tasks that serve a request: to number them takes asyncio a sixth of the time to make one.
_TASK_NAME = "FastCGI request"
# Whose request it is that led here: set once for a connection, from which tasks of requests, and theirs, inherit it.
_SERVED_BY: ContextVar[AsyncFcgiServer] = ContextVar("_SERVED_BY")


class AsyncFcgiServer:
    """Serves an already listening socket on the running event loop, any number of requests at once.

    `handler`: the handler class, instantiated for each request. `sockfd`: a descriptor or socket object, by default
    FCGI_LISTENSOCK_FILENO (0), where web servers and spawn-fcgi put it; the server works on a duplicate and never
    closes what it was given. `limits`: all bounds, see :class:`~simple_fastcgi.limits.Limits`. `allow_from`: which
    peers may connect over TCP, None for all: addresses and networks, IPv4 or IPv6, in a str with commas or a list, or
    a container that is asked for each peer's address. FCGI_WEB_SERVER_ADDRS in the environment (section 3.2)
    restricts it further, and allows no unix socket. `monitor`: who is told of each
    request, a :class:`~simple_fastcgi.monitor.monitor.Monitor`.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` when `sockfd` is no listening socket, when the handler
    class is written for another kind of server or its `roles` are none, when `limits` are none, and when `allow_from`
    or FCGI_WEB_SERVER_ADDRS cannot be read.
    """

    accepts_a_turn = 64
    """How many connections are taken at once from the listen queue; few leave more to other processes."""

    def __init__(
        self,
        handler: type[AsyncFcgiHandler],
        sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO,
        *,
        limits: Limits | None = None,
        allow_from: AllowFrom | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        import asyncio

        from .connection import Connection

        self._asyncio = asyncio
        # Whether verify_request is somebody's own, of a subclass or of this object: looked at when it begins to serve.
        self._verifies = True
        self._make_connection = Connection
        check_handler(handler, AsyncFcgiHandler)
        keep_freed_blocks()
        self._acceptor = Acceptor(allow_from)
        self.limits = given_limits(limits, Limits)
        self.socket = adopt(sockfd, server="AsyncFcgiServer")
        self.server_address = self.socket.getsockname()
        self.RequestHandlerClass = handler
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
        self._tasks: set[Task[None]] = set()
        self._make_task: Callable[..., Task[None]] = asyncio.Task
        # Its tasks can begin at once.
        self._is_eager = sys.version_info >= (3, 12)
        self._accepting = False
        self._accept_again = 0.0
        self._timer: TimerHandle | None = None
        self._serving = False
        self._pid = 0
        self.stopping = False
        """:meth:`shutdown` was called: no connection is accepted, and none is kept when its requests have ended."""
        self.stopping_since = 0.0
        """The loop's time at which it began to stop."""
        self._make_events()
        self._loop: AbstractEventLoop | None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    # What users call

    def fileno(self) -> int:
        """The descriptor of the listening socket."""
        return self.socket.fileno()

    def get_loop(self) -> AbstractEventLoop:
        """The event loop that the server runs on; RuntimeError if it was made outside of one and does not run yet."""
        if self._loop is None:
            raise RuntimeError("the server does not run on an event loop yet")
        return self._loop

    async def serve_forever(self) -> None:
        """Serve until :meth:`shutdown`; then let requests under way end, for at most ``graceful_timeout`` seconds.

        Cancelling it stops at once.
        """
        asyncio = self._asyncio
        self._loop = asyncio.get_running_loop()
        self._verifies = getattr(self.verify_request, "__func__", None) is not AsyncFcgiServer.verify_request
        self._serving = True
        self._pid = os.getpid()
        try:
            async with self.RequestHandlerClass.lifespan(self):
                try:
                    self._resume_accepting()
                    self._sweep()
                    self.started()
                    await self._stop.wait()
                    await self._wind_down()
                finally:
                    await self._abandon()
        finally:
            self._serving = False
            self.stopping = False
            self._ended.set()
            # It may be started again, on another loop.
            self._make_events()
        # Mostly this was the program's last act; whoever awaits shutdown() is to hear of it before the loop closes.
        for _ in range(3):
            await asyncio.sleep(0)

    def _make_events(self) -> None:
        """What is waited for while it serves, and bound to one loop by that."""
        event = self._asyncio.Event
        self._stop, self._ended, self._quiet = event(), event(), event()

    async def shutdown(self) -> None:
        """Stop :meth:`serve_forever` and wait for its end; called from a handler, only ask for it.

        So it is in the tasks that a handler starts, which it may wait for.
        """
        self.stopping = True
        self._stop.set()
        if self._serving and not self._is_in_handler():
            await self._ended.wait()

    def _is_in_handler(self) -> bool:
        if _SERVED_BY.get(None) is self:
            return True
        # Whoever lets a connection be read again may have done that from elsewhere.
        task = self._asyncio.current_task()
        # In its first step, which has begun at once, it is not among the others yet.
        return task in self._tasks or getattr(task and task.get_coro(), "cr_code", None) is _SERVE

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()
        self.socket.close()

    # What subclasses may extend

    def started(self) -> None:
        """Connections are accepted from now on: the handler class's lifespan has been entered."""

    async def verify_request(self, request: AsyncFcgiRequest, client_address: object) -> bool:
        """Whether the request is to be served; a refused one is answered with 403."""
        return True

    def handle_error(self, request: AsyncFcgiRequest, client_address: object) -> None:
        """Report the exception that is being handled: a handler raised it.

        The traceback goes to FCGI_STDERR and to the log; the visitor gets a plain 500, or a response that is visibly
        cut short if part of it was sent already. That a web server hung up is no error.
        """
        error = sys.exception()
        core = request.core
        if error is not None:
            fields = failure_fields(request.log_fields(), replaced=request.replaceable, aborted=core.aborted)
            trace = report_failure(error, describe_request(core.params), aborted=core.aborted, fields=fields)
            if trace is not None:
                request.fail(trace)

    # Requests

    def begin(self, request: AsyncFcgiRequest) -> None:
        """Serve a request in a task of its own, which begins at once where asyncio can do that (Python 3.12).

        A task factory that the program has given to the loop decides about that itself.
        """
        loop = request.connection.loop
        if loop.get_task_factory() is not None:
            task = loop.create_task(self._serve(request))
        elif self._is_eager:
            # Most handlers never wait: this saves them a turn of the loop.
            task = self._make_task(self._serve(request), loop=loop, name=_TASK_NAME, eager_start=True)
        else:
            task = self._make_task(self._serve(request), loop=loop, name=_TASK_NAME)
        if not task.done():
            request.task = task
            self._tasks.add(task)

    async def _serve(self, request: AsyncFcgiRequest) -> None:
        core, address = request.core, request.connection.address
        try:
            if core.aborted:
                # Before anybody has done anything for it.
                request.end()
                return
            try:
                if not self._verifies or await self.verify_request(request, address):
                    if self.monitor is not None and (page := self.monitor.start(request.info)) is not None:
                        request.end(data=page)
                        return
                    handler = self.RequestHandlerClass(request, address, self)
                    await handler.handle()
                    if not core.ended or core.aborted:
                        handler._handled()
                else:
                    from ..cgi.response import FORBIDDEN

                    if self.monitor is not None:
                        self.monitor.rejected()
                    await request.write(FORBIDDEN)
                    request.end()
            except BaseException:
                end_if_forked(self._pid)
                try:
                    self.handle_error(request, address)
                finally:
                    # Whatever that did, this is no whole response.
                    request.fail(b"")
        except Exception as error:
            _log_late(error)
        finally:
            # Here rather than in a callback, which would take one more turn of the loop.
            if request.task is not None:
                self._tasks.discard(request.task)
                if self.stopping and not self._tasks:
                    self._check_quiet()

    def _task_done(self, task: Task[None]) -> None:
        self._tasks.discard(task)
        self._check_quiet()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log_late(error)

    # Connections

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
        _SERVED_BY.set(self)
        await self.get_loop().connect_accepted_socket(lambda: self._make_connection(self, address), sock)

    def _opened(self, sock: socket.socket, task: Task[None]) -> None:
        self._opening -= 1
        if task.cancelled():
            # Perhaps before it had begun.
            sock.close()
        self._task_done(task)
        self._resume_accepting()

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

    async def _wind_down(self) -> None:
        """Stop accepting, and wait until no request is under way.

        Whoever has connected in the meantime comes last: a socket that another program has made, and knows, may be
        closed nowhere else, and closing it would reset those connections.
        """
        self._pause_accepting()
        self.stopping_since = self.get_loop().time()
        self._quiet.clear()
        parting = self._asyncio.create_task(self._part())
        self._check_quiet()
        try:
            async with self._asyncio.timeout(self.limits.graceful_timeout):
                await self._quiet.wait()
                last_call_until = self.get_loop().time() + LAST_CALL_SECONDS
                while self.get_loop().time() < last_call_until and self.is_last_on_socket():
                    self._accept()
                    if not self._opening:
                        break
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            logger().warning(
                "%d connections cut off after %g s (graceful_timeout)",
                len(self._connections),
                self.limits.graceful_timeout,
            )
        finally:
            parting.cancel()

    def is_last_on_socket(self) -> bool:
        """Whether those who connect while this server ends might find nobody else; for subclasses that know better."""
        return True

    async def _part(self) -> None:
        while True:
            for connection in list(self._connections):
                connection.close_if_idle()
            await self._asyncio.sleep(PARTING_INTERVAL)

    async def _abandon(self) -> None:
        """Close everything, whatever goes on."""
        self._pause_accepting()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await self._asyncio.wait(tasks, timeout=_SWEEP_SECONDS)
            # One that was cancelled before its first step takes no leave.
            self._tasks.difference_update([task for task in tasks if task.done()])
        for connection in list(self._connections):
            connection.cut_off()
        # Transports tell of their end in the loop's next turn.
        await self._asyncio.sleep(0)


# What tells the tasks of requests from others.
_SERVE = AsyncFcgiServer._serve.__code__


def _log_late(error: BaseException) -> None:
    """Nobody waits for the task that failed."""
    logger().error("error while a request ended", exc_info=error)
