"""`FcgiServer`: a listening socket, its connections, and the loop that serves them."""

from __future__ import annotations

import sys
import threading
from collections import deque
from os import close, pipe, read, set_blocking, write
from socketserver import BaseServer, ThreadingMixIn
from threading import get_ident
from time import monotonic

from ..cgi.environ import describe_request, failure_fields
from ..cgi.parting import PARTING_INTERVAL, heeds_parting, patience
from ..cgi.response import FORBIDDEN
from ..limits import LINGERS, Limits
from ..log import logger, report_failure
from ..net import FCGI_LISTENSOCK_FILENO, Acceptor, OutOfRoom, adopt
from ..net.heap import keep_freed_blocks
from ..net.saturation import Saturation
from ..protocol.roles import check_roles
from ..protocol.runs import PairDecoder
from .connection import Connection
from .handler import is_plain
from .poller import READ, UNKNOWN, WRITE, Poller
from .request import FcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from types import TracebackType
    from typing import Self

    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from ..protocol.events import Event
    from .handler import FcgiHandler

_SWEEP_SECONDS = 1.0
# Whoever has just connected has a request for us.
_FRESH_SECONDS = 1.0
# What a connection awaits of the web server when it is finished.
_ITS_END = object()
# At the end those who have connected meanwhile are served, for so long at most.
_LAST_CALL_SECONDS = 1.0
_new = object.__new__
# So many turns that take as many connections as they may, and the next ones may take twice as many.
_BUSY_TURNS = 8


class FcgiServer(BaseServer):
    """Serves an already listening socket, one request after the other.

    Connections stay open when the web server asks for it, and an idle one costs no thread and keeps nobody waiting.

    `handler`: the handler class, instantiated for each request. `sockfd`: a descriptor or socket object, by default
    FCGI_LISTENSOCK_FILENO (0), where web servers and spawn-fcgi put it; the server works on a duplicate and never
    closes what it was given. `limits`: all bounds, see :class:`~simple_fastcgi.limits.Limits`. `allow_from`: which
    peers may connect over TCP, None for all: addresses and networks, IPv4 or IPv6, in a str with commas or a list, or
    a container that is asked for each peer's address. FCGI_WEB_SERVER_ADDRS in the environment (section 3.2)
    restricts it further, and allows no unix socket. `monitor`: who is told of each
    request, a :class:`~simple_fastcgi.monitor.monitor.Monitor`.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` when `sockfd` is no listening socket, when the handler's
    `roles` are none, and when `allow_from` or FCGI_WEB_SERVER_ADDRS cannot be read.
    """

    # Beside the dict of a BaseServer, which with many keys takes its time to tell that it does not shadow a method.
    __slots__ = (
        "_accept_again",
        "_accepting",
        "_acceptor",
        "_accepts",
        "_begun",
        "_busy_turns",
        "_connections",
        "_decode",
        "_graceful_until",
        "_has_plain_handler",
        "_listening",
        "_loop_ended",
        "_loop_thread",
        "_next_sweep",
        "_now",
        "_poll",
        "_poller",
        "_processes",
        "_request_kind",
        "_saturation",
        "_serves_in_turn",
        "_tell",
        "_verifies",
        "_wake_receiver",
        "_wake_sender",
        "limits",
        "monitor",
        "multithread",
        "socket",
        "stopping",
    )

    RequestHandlerClass: type[FcgiHandler]
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
        check_roles(handler)
        keep_freed_blocks()
        self._acceptor = Acceptor(allow_from)
        self.socket = adopt(sockfd)
        super().__init__(self.socket.getsockname(), handler)
        self.limits = Limits() if limits is None else limits
        self.monitor = monitor
        self._saturation = Saturation()
        self._request_kind = FcgiRequest
        if monitor is not None:
            from .monitored import MonitoredRequest

            self._request_kind = MonitoredRequest
            self._acceptor.refused = monitor.rejected
            self._saturation.begun = monitor.saturated
        self.multithread = isinstance(self, ThreadingMixIn)
        """Whether handlers run concurrently, in threads."""
        # Whether these methods are somebody's own, of a subclass or of this object: looked at when it begins to serve.
        self._verifies = self._processes = True
        # Whether a handler does nothing but what BaseRequestHandler does, and handle().
        self._has_plain_handler = False
        # Whether a request is served within the turn in which it is told of.
        self._serves_in_turn = False
        self._connections: dict[int, Connection] = {}
        self._begun: deque[FcgiRequest] = deque()
        # Made once for all connections, as a bound method is an object.
        self._decode = PairDecoder().decode
        self._tell = self._on_events
        self._poller = Poller()
        self._poll = self._poller.poll
        self._listening = self.socket.fileno()
        self._poller.register(self._listening, READ)
        self._accepting = True
        self._accept_again = 0.0
        # How many are taken this turn, and how many turns in a row had as many.
        self._accepts = 1
        self._busy_turns = 0
        # A pipe rather than an Event: it ends a wait in the poller, and writing to it is safe in a signal handler.
        self._wake_receiver, self._wake_sender = pipe()
        set_blocking(self._wake_receiver, False)
        set_blocking(self._wake_sender, False)
        self._poller.register(self._wake_receiver, READ)
        self._loop_thread: int | None = None
        self._loop_ended = threading.Event()
        self._loop_ended.set()
        self.stopping = False
        """It is winding down."""
        self._graceful_until = 0.0
        self._now = monotonic()
        self._next_sweep = 0.0

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
        self._processes = self._has_own("process_request", BaseServer) or self._has_own("shutdown_request", FcgiServer)
        self._has_plain_handler = is_plain(self.RequestHandlerClass)
        self._serves_in_turn = not (self.multithread or self._processes)
        self._loop_thread = get_ident()
        self._loop_ended.clear()
        try:
            self._serve(poll_interval)
            self._wind_down(poll_interval)
        finally:
            self.stopping = False
            self._loop_thread = None
            self._loop_ended.set()

    def _has_own(self, name: str, base: type[BaseServer]) -> bool:
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
            self._wake()

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
            sender, self._wake_sender = self._wake_sender, -1
            close(sender)
            close(self._wake_receiver)

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
            replaced = not (core.stdout_begun or core.aborted)
            fields = failure_fields(request.log_fields(), replaced=replaced, aborted=core.aborted)
            trace = report_failure(error, describe_request(core.params), aborted=core.aborted, fields=fields)
            if trace is not None:
                request.fail(trace)

    # The loop

    def in_loop(self) -> bool:
        """Whether this is the thread that runs :meth:`serve_forever`."""
        return get_ident() == self._loop_thread

    def _wake(self) -> None:
        try:
            write(self._wake_sender, b"\0")
        except OSError:
            # Full: it will wake up anyway. Closed: nobody is left to be woken.
            pass

    def _serve(self, poll_interval: float) -> None:
        while not self.stopping:
            self._turn(poll_interval)
            self.service_actions()

    def _turn(self, timeout: float) -> None:
        """Wait for what is ready, serve it, and look after the time."""
        begun = self._begun
        poll = self._poll
        ready = poll(0 if begun else timeout)
        self._now = monotonic()
        for fd, events in ready:
            connection = self._connections.get(fd)
            if connection is not None:
                self._attend(connection, events)
                # While all of it is still in the processor's caches.
                if begun and not (self._begin(begun.popleft()) and (not begun or self._begin_all())):
                    # What else was ready is told again.
                    return
            elif fd == self._wake_receiver:
                read(fd, 4096)
            elif fd == self._listening and self._accepting and not self._accept():
                return
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
            self._pause_accepting()
            self._saturation.reached(self.limits.max_connections)
            return True
        # To ask whether another one waits, and hear that none does, costs as much as to accept one.
        for count in range(min(self._accepts, room)):
            try:
                accepted = self._acceptor.accept(self.socket)
            except OutOfRoom:
                self._pause_accepting(_SWEEP_SECONDS)
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

    def _add(self, fd: int, address: object) -> None:
        roles = self.RequestHandlerClass.roles
        tell, request_kind = self._tell, self._request_kind
        connection = Connection(
            fd, address, self.limits, roles, self.multithread, self._decode, request_kind, tell, self._now
        )
        self._connections[fd] = connection
        if self.monitor is not None:
            self.monitor.connected()
        # Mostly the request is there already: no need to hear so from the poller.
        self._attend(connection, READ)

    def _pause_accepting(self, seconds: float = 0.0) -> None:
        """Leave further connections in the listen queue until one closes, or for some time."""
        if self._accepting:
            self._accepting = False
            self._poller.unregister(self.socket.fileno())
        self._accept_again = self._now + seconds if seconds else 0.0

    def _resume_accepting(self) -> None:
        if self._accepting or self.stopping or self._now < self._accept_again:
            return
        if len(self._connections) < self.limits.max_connections:
            self._accepting = True
            self._poller.register(self.socket.fileno(), READ)

    def _attend(self, connection: Connection, events: int) -> None:
        """Read what came, and send what was waiting."""
        told: list[Event] | None = None
        try:
            if events & WRITE:
                connection.send_owed()
            if events != WRITE:
                if not connection.watched & READ:
                    # Nobody listens, so this is the peer hanging up.
                    connection.lose()
                elif (told := connection.receive_events()) is not None:
                    connection.last_active = self._now
                    if told:
                        self._on_events(connection, told)
            # Requests that are served in this turn settle the connection at their end.
            if not (told and self._serves_in_turn):
                if connection.core.refused:
                    self._count_refused(connection)
                self._settle(connection)
        except Exception as error:
            logger().exception("a connection is closed because of an error of this package; please report it")
            connection.error = error
            self._close(connection)

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

    def input_taken(self, connection: Connection) -> None:
        """Listen to a connection again once its handlers have caught up with their input; called by any thread."""
        if not connection.watched & READ:
            try:
                connection.settle(self._poller)
            except OSError as error:
                # The loop closes it.
                connection.error = error
                connection.lose()
                self._wake()

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        """Take note of what came, or of what a lost connection ends."""
        for event in events:
            if isinstance(event, FcgiRequest):
                event.begin(self, connection)
                if connection.heeds_parting is None and event.core.keep_conn:
                    connection.heeds_parting = heeds_parting(event.params)
                self._begun.append(event)

    def _begin(self, request: FcgiRequest) -> bool:
        """Serve a request that has begun; whether this thread still runs the loop."""
        connection, core = request.connection, request.core
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
                if connection.watched == UNKNOWN and not connection.gone:
                    # Somebody else serves it: its connection is to be watched meanwhile.
                    self._settle(connection)
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
        return True

    def request_ended(self, connection: Connection, *, in_loop: bool) -> None:
        """Go on with a connection one of whose requests has ended; called by any thread."""
        if in_loop and not self.multithread and connection.is_over():
            # Nobody else has to do with it.
            self._close(connection)
            return
        core = connection.core
        if core.finished and (core.lingering or not in_loop):
            # The web server's answer to this, the end of its own sending, wakes the loop, which closes.
            connection.stop_sending()
        if in_loop:
            self._settle(connection)
        else:
            self.input_taken(connection)
            if connection.gone or self.stopping:
                self._wake()

    def _sweep(self) -> None:
        """Close what took too long."""
        now, limits = self._now, self.limits
        for connection in list(self._connections.values()):
            core = connection.core
            if core.refused:
                # While a handler received by itself.
                self._count_refused(connection)
            with connection.lock:
                # Otherwise a handler's thread might just have ended its request, and not have sent all of it yet.
                unsent, finished, idle = connection.unsent, core.finished, core.idle
                awaited = _ITS_END if finished else core.awaited
            quiet = now - connection.last_active
            if awaited is not connection.awaited:
                connection.awaited, connection.awaited_since = awaited, now
            if connection.gone:
                self._close(connection)
            elif awaited is not None and not finished and now - connection.awaited_since > limits.params_timeout:
                self._give_up(connection, f"its parameters took more than {limits.params_timeout:g} s (params_timeout)")
            elif unsent:
                if now - connection.stalled_since > limits.write_timeout:
                    self._give_up(connection, f"it took nothing for {limits.write_timeout:g} s (write_timeout)")
            elif finished:
                if quiet > limits.linger_timeout or now - connection.awaited_since > LINGERS * limits.linger_timeout:
                    self._close(connection)
            elif idle and quiet > limits.idle_timeout:
                self._close(connection)
            elif not connection.watched and connection.has_hung_up():
                # Not every poller tells of one that it does not watch.
                self._close(connection)
        self._resume_accepting()

    def _give_up(self, connection: Connection, why: str) -> None:
        connection.error = TimeoutError(why)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        fd = connection.fd
        if fd < 0:
            # Closed already.
            return
        del self._connections[fd]
        if connection.core.refused:
            self._count_refused(connection)
        if self.monitor is not None:
            self.monitor.disconnected()
        if connection.error is not None and not isinstance(connection.error, ConnectionError):
            logger().warning("connection from %s closed: %s", connection.address or "a unix socket", connection.error)
        if self.multithread:
            # First, so that no handler's thread asks the poller for it any more.
            connection.lose()
        if connection.watched != UNKNOWN:
            self._poller.unregister(fd)
        connection.close()
        if not self._accepting:
            self._resume_accepting()

    def _wind_down(self, poll_interval: float) -> None:
        """Stop accepting, and serve on until no request is under way.

        Whoever has connected in the meantime comes last: a socket that another program has made, and knows, may be
        closed nowhere else, and closing it would reset those connections.
        """
        self._pause_accepting()
        began = monotonic()
        self._graceful_until = began + self.limits.graceful_timeout
        last_call_until = 0.0
        # When web servers were last told.
        parted_at: dict[Connection, float] = {}
        while True:
            for connection in list(self._connections.values()):
                # A request that has reached us is served: look once more before an idle connection is closed.
                with connection.lock:
                    # See _sweep.
                    at_rest = connection.core.idle and not connection.core.lingering and not connection.unsent
                if at_rest and not connection.receive() and self._has_parted(connection, began, parted_at):
                    self._close(connection)
            if not self._connections and not self._begun:
                self._now = monotonic()
                last_call_until = last_call_until or self._now + _LAST_CALL_SECONDS
                if self._now < last_call_until and self.is_last_on_socket():
                    self._accept()
                if not self._connections:
                    break
            if monotonic() >= self._graceful_until:
                logger().warning(
                    "%d connections cut off after %g s (graceful_timeout)",
                    len(self._connections),
                    self.limits.graceful_timeout,
                )
                for connection in self._connections.values():
                    connection.cut_off()
                break
            self._turn(min(poll_interval, PARTING_INTERVAL))
            self.service_actions()
        for connection in list(self._connections.values()):
            self._close(connection)
        # It may be started again.
        self._accepting = True
        self._poller.register(self.socket.fileno(), READ)

    def is_last_on_socket(self) -> bool:
        """Whether those who connect while this server ends might find nobody else; for subclasses that know better."""
        return True

    def _has_parted(self, connection: Connection, began: float, parted_at: dict[Connection, float]) -> bool:
        """Whether no request can be on its way on an idle connection any more; its web server is told of the end."""
        now, last_active = monotonic(), connection.last_active
        if connection.heeds_parting is None:
            # Nothing has come yet.
            return now - last_active > _FRESH_SECONDS
        if not connection.heeds_parting or now - max(last_active, began) > patience(self.limits.graceful_timeout):
            return True
        before = parted_at.get(connection, 0.0)
        if before < last_active or now - before >= PARTING_INTERVAL:
            parted_at[connection] = now
            connection.part()
        return connection.gone


def _is_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt here comes from the keyboard, not from a handler's own `raise`."""
    import signal

    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
