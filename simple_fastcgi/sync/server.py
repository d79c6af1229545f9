"""`FcgiServer`: what users call and extend, and the loop that serves requests."""

from __future__ import annotations

import os
import sys
import threading
from socketserver import BaseServer
from threading import get_ident
from time import monotonic

from ..cgi.environ import describe_request, failure_fields
from ..cgi.handler import check_handler
from ..cgi.parting import PARTING_INTERVAL
from ..cgi.response import FORBIDDEN
from ..log import logger, report_failure
from ..net import FCGI_LISTENSOCK_FILENO, Acceptor, OutOfRoom, end_if_forked
from ..net.heap import keep_freed_blocks
from ..net.saturation import Saturation
from ..protocol.terms import OTHERS
from .closing import WindingDown, why_to_close
from .connections import ConnectionServer
from .handler import FcgiHandler, is_plain
from .poller import READ, UNKNOWN, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from ..limits import Limits
    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from .connection import Connection
    from .request import FcgiRequest

_SWEEP_SECONDS = 1.0
# What is ready besides is told in the next turn; memory for many more takes long to be had in each one.
_EVENTS_A_TURN = 64
_new = object.__new__
# So many turns that take as many connections as they may, and the next ones may take twice as many.
_BUSY_TURNS = 8


class FcgiServer(ConnectionServer):
    """Serves an already listening socket, one request after the other.

    Connections stay open when the web server asks for it, and an idle one costs no thread and keeps nobody waiting.

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

    __slots__ = (
        "_acceptor",
        "_accepts",
        "_acts",
        "_busy_turns",
        "_graceful_until",
        "_has_plain_handler",
        "_loop_ended",
        "_next_sweep",
        "_pid",
        "_poll",
        "_processes",
        "_saturation",
        "_verifies",
        "stopping",
    )

    accepts_a_turn = 64
    """How many connections are taken at once from the listen queue, at most; few leave more to other processes."""

    def __init__(
        self,
        handler: type[FcgiHandler],
        sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO,
        *,
        limits: Limits | None = None,
        allow_from: AllowFrom | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        check_handler(handler, FcgiHandler, runs_handle=type(self).finish_request is FcgiServer.finish_request)
        keep_freed_blocks()
        self._acceptor = Acceptor(allow_from)
        self._saturation = Saturation()
        if monitor is not None:
            self._acceptor.refused = monitor.rejected
            self._saturation.begun = monitor.saturated
        super().__init__(handler, sockfd, limits, monitor)
        # Whether these methods are somebody's own, of a subclass or of this object: looked at when it begins to serve.
        self._verifies = self._processes = self._acts = True
        # Whether a handler does nothing but what BaseRequestHandler does, and handle().
        self._has_plain_handler = False
        # How many connections are taken this turn, and how many turns in a row had as many.
        self._accepts = 1
        self._busy_turns = 0
        self._poll = self._poller.poll
        self._next_sweep = 0.0
        self._pid = os.getpid()
        self._loop_ended = threading.Event()
        self._loop_ended.set()
        self.stopping = False
        """It is winding down."""
        self._graceful_until = 0.0

    # What users call

    def fileno(self) -> int:
        """The descriptor of the listening socket."""
        return self.socket.fileno()

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until :meth:`shutdown`; then let requests under way end, for at most ``graceful_timeout`` seconds.

        :meth:`service_actions` is called after each turn, at least every `poll_interval` seconds.
        """
        # The limits in seconds are looked after in the same turns.
        poll_interval = min(poll_interval, _SWEEP_SECONDS)
        self._verifies = self._has_own("verify_request", BaseServer)
        self._acts = self._has_own("service_actions", BaseServer)
        self._processes = self._has_own("process_request", BaseServer) or self._has_own("shutdown_request", FcgiServer)
        self._has_plain_handler = is_plain(self.RequestHandlerClass)
        self._serves_in_turn = not (self.multithread or self._processes)
        self._loop_thread = get_ident()
        # Whoever made it may have forked since.
        self._pid = os.getpid()
        self._loop_ended.clear()
        try:
            self._serve(poll_interval)
            self._wind_down(poll_interval)
        finally:
            self.stopping = False
            self._loop_thread = None
            self._loop_ended.set()

    def _has_own(self, name: str, base: type) -> bool:
        """Whether the method `name` is another one than that of `base`."""
        return getattr(getattr(self, name), "__func__", None) is not getattr(base, name)

    def shutdown(self) -> None:
        """Stop :meth:`serve_forever`.

        It only asks, and returns at once: so it may be called from another thread, from a handler and from a signal
        handler. :meth:`server_close`, and the end of a ``with`` block, wait until the server has stopped.
        """
        # Asking again must not keep the loop awake.
        if not self.stopping:
            self.stopping = True
            self._waker.wake()

    def server_close(self) -> None:
        """Stop a :meth:`serve_forever` that still runs in another thread, wait for its end, and close everything."""
        if not self.in_loop() and not self._loop_ended.is_set():
            self.shutdown()
            self._loop_ended.wait()
        self._end_handlers()
        super().server_close()
        for connection in list(self._connections.values()):
            self._close(connection)
        if self.socket.fileno() >= 0:
            self.socket.close()
            self._poller.close()
            self._waker.close()

    def _end_handlers(self) -> None:
        """Wait for handlers that are still busy behind the end of their requests; here there are none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    def handle_request(self) -> None:
        """Not for FastCGI: a connection outlives its request, so that serving just one would cut it off."""
        raise NotImplementedError("a FastCGI server is run with serve_forever()")

    # What BaseServer's subclasses may extend

    def finish_request(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
        """Make the handler, which serves the request."""
        try:
            if self.monitor is not None and (page := self.monitor.start(request.info)) is not None:
                request.end(data=page)
                return
            if self._has_plain_handler:
                # In half of the time.
                handler = _new(self.RequestHandlerClass)
                handler.request = request
                handler.client_address = client_address
                handler.server = self
                handler.handle()
            else:
                self.RequestHandlerClass(request, client_address, self)  # type: ignore[arg-type]
        except BaseException as error:
            end_if_forked(self._pid)
            request.failed = True
            if isinstance(error, Exception):
                raise
            # Of SystemExit, KeyboardInterrupt and the like BaseServer and ThreadingMixIn know nothing.
            self.handle_error(request, client_address)
            if isinstance(error, KeyboardInterrupt) and _is_ctrl_c():
                raise

    def shutdown_request(self, request: FcgiRequest) -> None:  # type: ignore[override]
        """End the request on the wire; one that failed never looks complete, whatever :meth:`handle_error` did."""
        if request.failed:
            request.fail(b"")
        elif not request.core.ended or request.core.aborted:
            request.end()

    def close_request(self, request: FcgiRequest) -> None:  # type: ignore[override]
        """As :meth:`shutdown_request`."""
        self.shutdown_request(request)

    def handle_error(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
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

    # The loop

    def _serve(self, poll_interval: float) -> None:
        while not self.stopping:
            self._turn(poll_interval)
            if self._acts:
                self.service_actions()

    def _turn(self, timeout: float) -> None:
        """Wait for what is ready, serve it, and look after the time."""
        begun = self._begun
        poll = self._poll
        ready = poll(0 if begun else timeout, _EVENTS_A_TURN)
        self._now = monotonic()
        for fd, events in ready:
            connection = self._connections.get(fd)
            if connection is not None:
                self._attend(connection, events)
                # While all of it is still in the processor's caches.
                if begun and not (self._begin(begun.popleft()) and (not begun or self._begin_all())):
                    # What else was ready is told again.
                    return
            elif fd == self._listening.fd:
                if self._listening.is_watched and not self._accept():
                    return
            elif fd == self._waker.fd:
                self._waker.heard()
        if begun and not self._begin_all():
            return
        if self._now >= self._next_sweep:
            self._next_sweep = self._now + _SWEEP_SECONDS
            self._sweep()

    def _begin_all(self) -> bool:
        """Serve the requests that have begun, not those that begin meanwhile: other connections have a right, too.

        Whether this thread still runs the loop.
        """
        begun = self._begun
        count = len(begun)
        while count and self._begin(begun.popleft()):
            count -= 1
        return not count

    def _accept(self) -> bool:
        """Take some connections, and serve their requests; whether this thread still runs the loop."""
        begun = self._begun
        room = self.limits.max_connections - len(self._connections)
        if room <= 0:
            self._listening.pause()
            self._saturation.reached(self.limits.max_connections)
            return True
        # To ask whether another one waits, and hear that none does, costs as much as to accept one.
        for count in range(min(self._accepts, room)):
            try:
                accepted = self._acceptor.accept(self.socket, len(self._connections))
            except OutOfRoom as error:
                # Behind another one it is not known whether anybody waits: if so, the next turn comes at once.
                if not count:
                    self._listening.pause(self._now + error.seconds)
                return True
            if accepted is None:
                # Next time as many may come again.
                self._accepts = max(1, count)
                self._busy_turns = 0
                return True
            fd, address = accepted
            self._add(fd, address)
            # Before the next one is taken, which meanwhile another process may do.
            if begun:
                if not (self._begin(begun.popleft()) and (not begun or self._begin_all())):
                    return False
                self._now = monotonic()
        self._busy_turns += 1
        if self._busy_turns >= _BUSY_TURNS:
            self._accepts = min(2 * self._accepts, self.accepts_a_turn)
        return True

    def _begin(self, request: FcgiRequest) -> bool:
        """Serve a request that has begun; whether this thread still runs the loop."""
        core = request.core
        connection = request.connection
        address = connection.address
        if core.aborted:
            # Before anybody has done anything for it.
            self.shutdown_request(request)
            return True
        try:
            if self._verifies and not self.verify_request(request, address):  # type: ignore[arg-type]
                if self.monitor is not None:
                    self.monitor.rejected()
                request.write(FORBIDDEN)
                self.shutdown_request(request)
            elif self._processes:
                self.process_request(request, address)  # type: ignore[arg-type]
            else:
                # What BaseServer.process_request does.
                self.finish_request(request, address)
                if not core.ended or core.aborted:
                    self.shutdown_request(request)
        except BaseException as error:
            request.failed = True
            try:
                if not isinstance(error, Exception):
                    raise
                self.handle_error(request, address)
            except Exception:
                logger().exception("error in %s.handle_error", type(self).__name__)
            finally:
                self.shutdown_request(request)
        if connection.watched == UNKNOWN and not connection.gone:
            # Another thread serves the request, or has ended it: the poller has not heard of its connection yet.
            self._settle(connection)
        return True

    # Time and the end

    def _sweep(self) -> None:
        """Close what took too long."""
        for connection in list(self._connections.values()):
            if connection.core.refused:
                # While a handler received by itself.
                self._count_refused(connection)
            why = why_to_close(connection, self.limits, self._now)
            if why is not None and not connection.gone and (events := connection.watched & (READ | WRITE)):
                # The time in which a handler kept the loop busy is none in which nothing came, or could leave.
                self._attend(connection, events)
                if connection.fd < 0:
                    continue
                why = why_to_close(connection, self.limits, self._now)
            if why is not None:
                if why:
                    connection.error = TimeoutError(why)
                if connection.awaited is OTHERS:
                    self._cut_off([connection])
                self._close(connection)
        if not self.stopping:
            self._make_room()
        self._resume_accepting()

    def _wind_down(self, poll_interval: float) -> None:
        """Stop accepting, and serve on until no request is under way.

        Whoever has connected in the meantime comes last: a socket that another program has made, and knows, may be
        closed nowhere else, and closing it would reset those connections.
        """
        self._listening.pause()
        ending = WindingDown(self.limits.graceful_timeout)
        self._graceful_until = ending.until
        while True:
            for connection in list(self._connections.values()):
                if ending.lets_go(connection):
                    self._close(connection)
            if not self._connections and not self._begun:
                self._now = monotonic()
                if ending.is_last_call(self._now) and self.is_last_on_socket():
                    self._accept()
                if not self._connections:
                    break
            if monotonic() >= ending.until:
                logger().warning(
                    "%d connections cut off after %g s (graceful_timeout)",
                    len(self._connections),
                    self.limits.graceful_timeout,
                )
                self._cut_off(self._connections.values())
                break
            self._turn(min(poll_interval, PARTING_INTERVAL))
            self.service_actions()
        for connection in list(self._connections.values()):
            self._close(connection)
        # It may be started again.
        self._listening.resume()

    def _cut_off(self, connections: Iterable[Connection]) -> None:
        """End what is under way still on `connections`, when the time for that is over."""
        tell = None
        if self.monitor is not None:
            from ..monitor.ending import CutOff

            tell = CutOff(self.monitor)
        for connection in connections:
            connection.cut_off(tell)
        if tell is not None:
            tell.log()

    def is_last_on_socket(self) -> bool:
        """Whether those who connect while this server ends might find nobody else; for subclasses that know better."""
        return True


def _is_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt here comes from the keyboard, not from a handler's own `raise`."""
    import signal

    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
