"""`AsyncFcgiServer`: requests that are served in tasks of an asyncio event loop, from its beginning to its end."""

from __future__ import annotations

import os
import sys

from ..cgi.environ import describe_request, failure_fields
from ..cgi.handler import check_handler
from ..cgi.parting import LAST_CALL_SECONDS
from ..log import logger, report_failure
from ..net import FCGI_LISTENSOCK_FILENO, end_if_forked
from ..net.heap import keep_freed_blocks
from .connections import SERVED_BY, ConnectionServer, log_late
from .handler import AsyncFcgiHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from asyncio import Task
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..limits import Limits
    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from .request import AsyncFcgiRequest

# Of all tasks that serve a request: to number them takes asyncio a sixth of the time to make one.
_TASK_NAME = "FastCGI request"
_END_SECONDS = 1.0
"""For tasks that are cancelled, to take leave."""


class AsyncFcgiServer(ConnectionServer):
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

    def __init__(
        self,
        handler: type[AsyncFcgiHandler],
        sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO,
        *,
        limits: Limits | None = None,
        allow_from: AllowFrom | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        check_handler(handler, AsyncFcgiHandler)
        keep_freed_blocks()
        super().__init__(handler, sockfd, limits, allow_from, monitor)
        self.RequestHandlerClass = handler
        # Whether verify_request is somebody's own, of a subclass or of this object: looked at when it begins to serve.
        self._verifies = True
        self._make_task: Callable[..., Task[None]] = self._asyncio.Task
        # Its tasks can begin at once.
        self._is_eager = sys.version_info >= (3, 12)
        self._pid = 0
        self._make_events()

    # What users call

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
        if SERVED_BY.get(None) is self:
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
            log_late(error)
        finally:
            # Here rather than in a callback, which would take one more turn of the loop.
            if request.task is not None:
                self._tasks.discard(request.task)
                if self.stopping and not self._tasks:
                    self._check_quiet()

    # Time and the end

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

    async def _abandon(self) -> None:
        """Close everything, whatever goes on."""
        self._pause_accepting()
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await self._asyncio.wait(tasks, timeout=_END_SECONDS)
            # One that was cancelled before its first step takes no leave.
            self._tasks.difference_update([task for task in tasks if task.done()])
        for connection in list(self._connections):
            connection.cut_off()
        # Transports tell of their end in the loop's next turn.
        await self._asyncio.sleep(0)


# What tells the tasks of requests from others.
_SERVE = AsyncFcgiServer._serve.__code__
