"""`FcgiThreadingServer`: the server whose handlers run in the threads of a pool."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from socketserver import ThreadingMixIn
from time import monotonic

from ..errors import ConfigurationError
from ..log import application_traceback, logger
from ..net import FCGI_LISTENSOCK_FILENO
from ..protocol.streams import NO_INPUT
from .connection import LendingConnection
from .lead import STUCK_SECONDS, Lead
from .poller import READ
from .pool import ThreadPool
from .server import _SWEEP_SECONDS, FcgiServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ..limits import Limits
    from ..monitor.monitor import Monitor
    from ..net.allow import AllowFrom
    from ..protocol.events import Event
    from ..protocol.streams import Request
    from .connection import Connection
    from .handler import FcgiHandler
    from .request import FcgiRequest

# Quick calls before a thread leads, at first and at most; slow ones count so many times. A lead is worth the trouble
# if it lasts for so many times as many calls.
_ENOUGH_CALLS = 16
_MOST_CALLS = 65_536
_PENALTY = 8
_LASTING = 16
# Requests that wait so long for a thread tell that there are too few.
_WAITED_SECONDS = 1.0
# Threads that have nothing to do any more need a moment to end.
_ENDING_SECONDS = 0.1


class FcgiThreadingServer(ThreadingMixIn, FcgiServer):
    """A :class:`FcgiServer` which runs handlers in at most `threads` threads (default 8).

    While handlers are quick one of the threads does everything, for to hand a request on takes longer than to serve
    it; as soon as one takes long the others join in. Requests beyond that wait in the order in which they came. One of
    the threads is kept for requests whose input has arrived whole, or ``max_buffered_input`` of it, so that clients
    which send theirs slowly, or never, do not hold up everybody.

    While handlers are quick ``service_actions`` is called every `poll_interval` seconds, in the thread of
    ``serve_forever``, and not after each turn: a handler may be running at the same time.
    """

    _make_connection = LendingConnection

    def __init__(
        self,
        handler: type[FcgiHandler],
        sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO,
        *,
        threads: int = 8,
        limits: Limits | None = None,
        allow_from: AllowFrom | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ConfigurationError(f"threads={threads!r}: give a whole number above 0")
        super().__init__(handler, sockfd, limits=limits, allow_from=allow_from, monitor=monitor)
        self.threads = threads
        # A single one serves requests in turn, as the loop of a server without threads does.
        self._terms.concurrent = threads > 1
        self._terms.is_served = self._is_served
        self._pool = ThreadPool(threads, "fcgi-handler")
        # When it was last looked whether requests wait, and how many there had been.
        self._looked_at = 0.0
        self._submitted_before = 0
        # Whether threads could be started last time; where not it is told once.
        self._has_threads = True
        # The thread of the pool that runs the loop; None while it is the thread of serve_forever.
        self._lead: Lead | None = None
        self._watching_thread: int | None = None
        # How many more calls were quick than slow, which count more, and how many it takes until a thread leads.
        self._quick_calls = self._enough_calls = _ENOUGH_CALLS
        # Begun before their input was there: those being served, and those that wait for it or for their turn.
        self._unready: set[Request] = set()
        self._waiting: OrderedDict[Request, FcgiRequest] = OrderedDict()
        # Handed to the pool while all of its threads were busy, and not begun since.
        self._queued: set[Request] = set()
        # What threads that were lent a connection have received for others, or that its loan has ended.
        self._told: deque[tuple[Connection, list[Event]]] = deque()
        # Whether a method that is called for a request in its thread is somebody's own, as `_processes`.
        self._processes_in_threads = True
        self._tell = self._tell_loop

    def process_request(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
        """Serve the request in one of the threads; in the loop's own where the host allows no threads at all."""
        lead, core = self._lead, request.core
        # A subclass may call this in a thread of its own.
        if (
            lead is not None
            and (core.stdin is NO_INPUT or core.input_ended)
            and threading.get_ident() == self._loop_thread
        ):
            self._serve_as_leader(lead, request, client_address)
            return
        if not self._pool.has_room:
            # Before a thread can take it.
            self._queued.add(core)
        try:
            is_free = self._pool.submit(lambda: self._process(request, client_address))
        except RuntimeError as error:
            if self._has_threads:
                self._has_threads = False
                logger().warning(
                    "no thread can be started (%s): requests are served one after the other. The host limits processes "
                    "and threads (ulimit -u); threads=1 (--threads 1) needs none",
                    error,
                )
            self._queued.discard(core)
            FcgiServer.process_request(self, request, client_address)  # type: ignore[arg-type]
        else:
            self._has_threads = True
            if lead is not None and not is_free:
                # It is the leader who should do it.
                lead.recalled = True

    def _process(self, request: FcgiRequest, client_address: object) -> None:
        core = request.core
        if self._queued:
            self._queued.discard(core)
        if core.aborted or core.ended:
            # While it waited for a thread: nobody is to be kept waiting for it, nor is it to be done behind a 500.
            self._pass_over(request)
        else:
            started = monotonic()
            self._handle(request, client_address)
            if monotonic() - started < STUCK_SECONDS:
                self._quick_calls += 1
            else:
                self._quick_calls = max(0, self._quick_calls - _PENALTY)
        if self._waiting:
            self._waker.wake()

    def _pass_over(self, request: FcgiRequest) -> None:
        try:
            self.shutdown_request(request)
        except BaseException as error:
            self._end_failed(request, error)

    def _handle(self, request: FcgiRequest, client_address: object) -> None:
        core = request.core
        try:
            if self._processes_in_threads:
                self.process_request_thread(request, client_address)  # type: ignore[arg-type]
                return
            # What ThreadingMixIn does there.
            try:
                self.finish_request(request, client_address)
            except Exception:
                self.handle_error(request, client_address)
            finally:
                if not core.ended or core.aborted or request.failed:
                    self.shutdown_request(request)
        except BaseException as error:
            # Whichever thread it is, the leader or not: it goes on.
            self._end_failed(request, error)

    def _end_failed(self, request: FcgiRequest, error: BaseException) -> None:
        """A method beside the handler has raised, in whose hands it was to end the request."""
        log = logger()
        traceback = application_traceback(error)
        method = traceback.tb_frame.f_code.co_name if traceback else "process_request_thread"
        log.error("error in %s.%s", type(self).__name__, method, exc_info=error)
        try:
            request.failed = True
            FcgiServer.shutdown_request(self, request)
        except Exception:
            log.exception("a request could not be ended because of an error of this package; please report it")

    def _serve_as_leader(self, lead: Lead, request: FcgiRequest, client_address: object) -> None:
        # Whatever the handler asks for, others may have to run the loop meanwhile.
        thread, self._loop_thread = self._loop_thread, None
        lead.begin_call()
        try:
            self._handle(request, client_address)
        finally:
            lead.end_call()
            if not lead.lost:
                self._loop_thread = thread
        if not lead.lost and (connection := request.connection).core.closing:
            self._settle(connection)

    def _serve(self, poll_interval: float) -> None:
        # Ctrl-C may have ended the last time anywhere.
        self._lead = None
        self._processes_in_threads = self._has_own("process_request_thread", ThreadingMixIn) or self._has_own(
            "shutdown_request", FcgiServer
        )
        while not self.stopping:
            if self._quick_calls >= self._enough_calls and self._pool.has_room:
                self._follow(poll_interval)
            else:
                self._turn(poll_interval)
                if self._acts:
                    self.service_actions()

    def _follow(self, poll_interval: float) -> None:
        """Let a thread of the pool lead, until its handlers take long."""
        lead = self._lead = Lead()
        self._loop_thread = None
        self._watching_thread = threading.get_ident()
        try:
            try:
                is_free = self._pool.submit(lambda: self._run_as_leader(lead, poll_interval))
            except RuntimeError:
                # No thread can be started, as requests will tell.
                is_free = False
            # A thread that is busy may wait for input, which comes by way of the loop.
            if is_free or not lead.take():
                lead.watch(poll_interval, self.service_actions)
        except BaseException:
            # Ctrl-C, for one.
            self._recall(lead)
            raise
        finally:
            self._lead = None
            self._loop_thread = threading.get_ident()
        self._quick_calls = 0
        # Where leading never lasts, it is tried ever more rarely.
        lasted = lead.calls >= _LASTING * self._enough_calls
        self._enough_calls = _ENOUGH_CALLS if lasted else min(2 * self._enough_calls, _MOST_CALLS)
        if lead.error is not None:
            raise lead.error

    def _recall(self, lead: Lead) -> None:
        """Have the loop back in the thread of `serve_forever`, which is this one."""
        lead.recalled = True
        self._waker.wake()
        if not lead.take():
            lead.watch(_SWEEP_SECONDS, lambda: None)
        self._loop_thread = threading.get_ident()

    def server_close(self) -> None:
        """As that of `FcgiServer`."""
        lead = self._lead
        if lead is not None and threading.get_ident() == self._watching_thread:
            # From service_actions or a signal handler: to wait for the end of serve_forever would be to wait for ever.
            self._recall(lead)
        super().server_close()

    def _run_as_leader(self, lead: Lead, poll_interval: float) -> None:
        if not lead.begin():
            return
        self._loop_thread = threading.get_ident()
        try:
            while not (lead.lost or lead.recalled or self.stopping):
                self._turn(poll_interval)
        except BaseException as error:
            if lead.lost:
                raise
            self._loop_thread = None
            lead.end(error)
        else:
            if not lead.lost:
                # The handler that this thread runs next must not take itself for the loop.
                self._loop_thread = None
                lead.end(None)

    def _begin(self, request: FcgiRequest) -> bool:
        lead, core = self._lead, request.core
        if core.stdin is NO_INPUT or self._is_ready(core):
            # Not super(), which takes as long as a small method; here and below.
            FcgiServer._begin(self, request)
        elif self._has_room_for_unready():
            self._unready.add(core)
            FcgiServer._begin(self, request)
        else:
            self._waiting[core] = request
        return lead is None or not lead.lost

    def _is_served(self, core: Request) -> bool:
        return core not in self._queued and core not in self._waiting

    def _is_ready(self, core: Request) -> bool:
        # Whoever has sent as much as can be received beforehand may go on while it is read.
        return core.input_ended or core.aborted or core.buffered_input >= self.limits.max_buffered_input

    def _has_room_for_unready(self) -> bool:
        self._unready = {core for core in self._unready if not core.input_ended and not core.ended}
        return len(self._unready) < max(1, self.threads - 1)

    def _tell_loop(self, connection: Connection, events: list[Event]) -> None:
        """As :meth:`_on_events`, for connections to call in any thread."""
        if threading.get_ident() == self._loop_thread:
            self._on_events(connection, events)
        elif (
            # Most is more of the body that its handler is just receiving.
            not events
            or connection.gone
            or connection.core.closing
            or not all(connection.is_lent_for(event.request) for event in events)
            # Its end may be what another one waits for.
            or (self._waiting and events[-1].request.input_ended)
        ):
            self._told.append((connection, events))
            self._waker.wake()

    def _on_events(self, connection: Connection, events: list[Event]) -> None:
        FcgiServer._on_events(self, connection, events)
        if self._waiting:
            for event in events:
                core = event.request
                if self._is_ready(core) and (request := self._waiting.pop(core, None)) is not None:
                    self._begun.append(request)

    def _turn(self, timeout: float) -> None:
        lead = self._lead
        if self._told:
            self._hear()
        FcgiServer._turn(self, timeout)
        while self._waiting and (lead is None or not lead.lost) and self._has_room_for_unready():
            self._begin(self._waiting.popitem(last=False)[1])

    def _hear(self) -> None:
        """Act upon what other threads have told, so far."""
        for _ in range(len(self._told)):
            connection, events = self._told.popleft()
            try:
                self._on_events(connection, events)
            except Exception as error:
                self._close_after(connection, error)
            else:
                self._settle(connection)

    def _sweep(self) -> None:
        for connection in list(self._connections.values()):
            if connection.is_lent:
                # Its handler may take long with what it has read, and something else may come meanwhile.
                connection.reclaim()
            if not connection.watched & READ:
                # Or whoever gave it back has failed before that was settled.
                self._settle(connection)
        super()._sweep()
        if self.monitor is not None:
            # Who looks after requests tells of this, too, and knows more.
            return
        seconds = self._now - self._looked_at
        if seconds < _WAITED_SECONDS:
            return
        waiting = self._pool.waiting
        if self._submitted_before > self._pool.submitted - waiting:
            self._saturation.waited(self.threads, waiting + len(self._waiting), seconds)
        self._submitted_before, self._looked_at = self._pool.submitted, self._now

    def _end_handlers(self) -> None:
        if not self._pool.close(max(_ENDING_SECONDS, self._graceful_until - monotonic())):
            logger().warning("some handlers still run after %g s (graceful_timeout)", self.limits.graceful_timeout)
            if self.monitor is None:
                from ..monitor.stacks import tell_all

                tell_all(None)
