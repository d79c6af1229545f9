"""One connection of an asynchronous server: an asyncio protocol around the protocol core."""

from __future__ import annotations

from asyncio import Protocol

from ..cgi.parting import has_waited, heeds_parting, is_fresh, is_to_be_told
from ..cgi.response import INTERNAL_SERVER_ERROR
from ..errors import ProtocolError
from ..net import count_untaken, has_hung_up, is_readable, peer_is_gone
from ..net.files import widen
from ..protocol.application import ApplicationConnection
from ..protocol.streams import NO_INPUT
from ..protocol.terms import OTHERS, PARAMETERS, Awaited, overdue
from .body import BodyReceiver
from .request import AsyncFcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Transport
    from asyncio.transports import BaseTransport
    from collections.abc import Callable

    from ..protocol.events import Event
    from ..protocol.records import Buffer
    from ..protocol.streams import Request
    from .connections import ConnectionServer
    from .files import FileSender

# Bytes: a transport keeps, or copies, whatever a kernel does not take of them.
_AT_ONCE = 256 * 1024


class Connection(Protocol):
    """What touches the transport or the core; used on the event loop only."""

    # No task and no timer of its own: thousands of idle connections cost little.
    __slots__ = (
        "__weakref__",
        "_at_eof",
        "_awaited",
        "_awaited_since",
        "_calm",
        "_closing_since",
        "_gathers",
        "_server",
        "_stalled_since",
        "address",
        "bypassed",
        "core",
        "files",
        "fresh",
        "heeds_parting",
        "in_body",
        "last_active",
        "loop",
        "parted_at",
        "paused",
        "reading",
        "transport",
        "unsent_before",
    )

    transport: Transport

    def __init__(self, server: ConnectionServer, address: object) -> None:
        self._server = server
        self.address = address
        self.loop = server.get_loop()
        self.core = ApplicationConnection(server.terms)
        # What comes is read: handlers are not too far behind.
        self.reading = True
        # There is nothing to be done for the connection beside its requests; looked at whenever something has come.
        self._calm = True
        self._at_eof = False
        # Another protocol stands for this one.
        self.in_body = False
        # While the web server is slow: done when it has caught up. The transport sets it or, while that is bypassed and
        # has nothing to send, the sender of files. Only who has set it may end it: a transport that has paused takes it
        # that writers wait until it resumes, and pauses them no second time.
        self.paused: Future[None] | None = None
        # Sends the files of requests, while there are any; and nothing may be handed to the transport meanwhile.
        self.files: FileSender | None = None
        self.bypassed = False
        self.last_active = self.loop.time()
        # Nothing has come yet.
        self.fresh = True
        # Whether the web server does, which its first request tells; when it was told last.
        self.heeds_parting: bool | None = None
        self.parted_at = 0.0
        # What the core awaited at the last look, and since when.
        self._awaited: object = None
        self._awaited_since = 0.0
        self._closing_since = 0.0
        # At the last look, and since when it has been so.
        self.unsent_before = 0
        self._stalled_since = 0.0

    # What the event loop calls

    def connection_made(self, transport: BaseTransport) -> None:
        """The transport is there."""
        self.transport = transport  # type: ignore[assignment]
        # asyncio's own writelines joins the buffers in Python 3.11, and forgets flow control in 3.12 and 3.13.
        self._gathers = type(transport).__module__.startswith("uvloop")
        self.set_write_buffer_limits()
        self._server.connection_made(self)

    def set_write_buffer_limits(self) -> None:
        """From how much on the transport asks writers to wait."""
        self.transport.set_write_buffer_limits(high=self.core.limits.max_buffered_output)

    def data_received(self, data: Buffer) -> None:
        """Hand `data` to the core, and act upon what it means."""
        core = self.core
        try:
            events = core.receive_data(data)
        except ProtocolError as error:
            # Without the frames that hold what came: it may lie in a buffer that others wait for.
            self._server.log_closed(self, error.with_traceback(None))
            self._dispatch(core.receive_eof())
            self.transport.abort()
            return
        if core.refused:
            self._server.count_refused(core)
        if len(events) == 1 and isinstance(request := events[0], AsyncFcgiRequest):
            # Nearly always. When it ends will be the time at which the connection was last active.
            self._begin(request)
            if self._calm and not core.out:
                stdin = request.core.stdin
                has_come_whole = stdin is NO_INPUT or (stdin.ended and core.at_rest and request.core.data is None)
                if has_come_whole or not core.requests:
                    # Whatever follows it is looked at then.
                    return
        else:
            self.fresh = False
            self.last_active = self.loop.time()
            self._dispatch(events)
        self._look_around()

    def _look_around(self) -> None:
        """See whether there is anything to be done for the connection itself."""
        core = self.core
        if core.body_lead and not (self.in_body or self._gathers):
            # uvloop has a buffer itself.
            self.in_body = True
            self.transport.set_protocol(BodyReceiver(self))
        self._calm = core.is_calm() and self.reading and self.paused is None and not self.bypassed
        if not self._calm:
            if core.out:
                self.send_now()
            self._settle()

    def eof_received(self) -> bool:
        """The web server ended its sending; True keeps the transport open for those answers it still waits for."""
        core = self.core
        self._at_eof = True
        self._calm = False
        waiting = bool(core.requests or core.out)
        sock = self.transport.get_extra_info("socket")
        half_closed = waiting and sock is not None and not peer_is_gone(sock)
        self._dispatch(core.receive_eof(half_closed=half_closed))
        if core.out:
            self.send_now()
        return half_closed and not (core.finished and not core.out)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, by whichever side."""
        self._dispatch(self.core.receive_eof())
        if self.files is not None:
            self.files.lost()
        self.resume_writing()
        self._server.connection_lost(self)

    def pause_writing(self) -> None:
        """The web server is slow: writers wait."""
        self._calm = False
        self.paused = self.loop.create_future()
        if (sock := self.transport.get_extra_info("socket")) is not None:
            widen(sock)

    def resume_writing(self) -> None:
        """The web server has caught up, or is gone."""
        # What is unsent may be as much as before, soon, and is not the same.
        self.unsent_before = -1
        drained, self.paused = self.paused, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self.core.out:
            self.send_now()
        self._settle()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AsyncFcgiRequest):
                self._begin(event)
            # None behind its end; not set before it begins, which it may be about to: this may be called within that.
            elif (request := getattr(event.request, "served_by", None)) is not None:
                request.changed()

    def _begin(self, request: AsyncFcgiRequest) -> None:
        if self.heeds_parting is None:
            self.fresh = False
            self.heeds_parting = heeds_parting(request.params)
        request.begin(self)
        request.core.served_by = request
        self._server.begin(request)

    def _settle(self) -> None:
        """Decide what the connection waits for next."""
        core, transport = self.core, self.transport
        if transport.is_closing():
            return
        if core.finished and not core.out:
            if not core.lingering:
                transport.close()
                return
            self._end_sending()
        if core.wants_input != self.reading and not self._at_eof:
            self.reading = not self.reading
            if self.reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _end_sending(self) -> None:
        """Tell the web server that nothing follows, while its own input is still read."""
        try:
            self.transport.write_eof()
        except OSError:
            # Gone already.
            self.transport.abort()

    # What requests call

    def bypass(self) -> None:
        """Keep the transport for whoever writes to its socket himself, until `bypassed` is False again."""
        self.bypassed = True
        self._calm = False

    def input_taken(self) -> None:
        """Read on once handlers have caught up."""
        if not self.reading:
            self._settle()

    def send_now(self) -> None:
        """Hand to the transport what is due, without waiting.

        While the web server is slow it stays in the core, which counts it; so does what is more than the transport
        takes at once.
        """
        if self.paused is None and not self.bypassed:
            core = self.core
            self._transmit(core.data_to_send(_AT_ONCE))
            while core.out and self.paused is None:
                self._transmit(core.data_to_send(_AT_ONCE))

    def write_through(self, request: Request, data: bytes) -> bool:
        """Write `data` for FCGI_STDOUT, and hand to the transport what is due; whether somebody should :meth:`send`.

        That is while the web server is slow, and when it may be gone.
        """
        core = self.core
        if self.paused is not None or self.bypassed:
            core.write(request, data)
            core.flush(request)
            return True
        buffer = core.write_at_once(request, data)
        if buffer is None:
            self._transmit(core.write_through(request, data))
            return self.paused is not None or request.aborted
        # What _transmit() does with a single buffer, without a list and a call.
        transport = self.transport
        if not transport.is_closing():
            transport.write(buffer)
        if transport.is_closing():
            self._dispatch(core.receive_eof())
            return True
        return self.paused is not None

    def _transmit(self, buffers: list[Buffer]) -> None:
        transport = self.transport
        if not transport.is_closing():
            if len(buffers) == 1:
                transport.write(buffers[0])
            elif buffers and self._gathers:
                # With nothing at all it would raise where the sending has ended.
                transport.writelines(buffers)
            elif buffers:
                transport.write(b"".join(buffers))
        if transport.is_closing():
            # The web server is gone; connection_lost would tell only when handlers let the loop turn.
            self._dispatch(self.core.receive_eof())

    async def send(self) -> None:
        """The same, and wait while the web server is slow."""
        self.send_now()
        if self.paused is not None:
            await self.drained()

    async def drained(self) -> None:
        """Wait while the web server is slow."""
        while self.paused is not None:
            # Shielded, for other writers may be waiting too.
            from asyncio import shield

            await shield(self.paused)

    def lose(self) -> None:
        """The web server is gone: sending has failed."""
        self.transport.abort()
        self._dispatch(self.core.receive_eof())

    def end(self, request: AsyncFcgiRequest, app_status: int, data: bytes) -> None:
        """Send the end of a response, and go on with the connection."""
        core, ended = self.core, request.core
        if (
            self._calm
            and ended.keep_conn
            and not core.out
            and (whole := core.end_at_once(ended, app_status, data)) is not None
        ):
            # Nearly always.
            self.transport.write(whole)
            self._forget(request)
        else:
            core.end(ended, app_status, data)
            self._go_on(request)

    def end_aborted(self, request: AsyncFcgiRequest) -> None:
        """The same where an abort was answered: another request may have its id, but its handler ends only now."""
        self.core.end(request.core)
        self._go_on(request)

    def fail(self, request: AsyncFcgiRequest, error: bytes) -> None:
        """The same for a request whose handler failed; `error` goes to FCGI_STDERR."""
        self.core.fail(request.core, INTERNAL_SERVER_ERROR, error)
        self._go_on(request)

    def _go_on(self, request: AsyncFcgiRequest) -> None:
        self._calm = False
        self.send_now()
        self._settle()
        self._forget(request)

    def _forget(self, request: AsyncFcgiRequest) -> None:
        # The garbage collector would have to deal with the circle between the two.
        request.core.served_by = None
        if request.waiters is not None:
            request.changed()
        self.last_active = self.loop.time()
        if self._server.stopping:
            self.close_if_idle()

    # What the server calls

    def is_at_rest(self) -> bool:
        """Whether no request is under way, and the transport, which is not about to close, has what is to be sent."""
        core, transport = self.core, self.transport
        return core.idle and not (core.lingering or core.out or transport.is_closing())

    def part(self) -> None:
        """Ask the web server to close."""
        self.parted_at = self.loop.time()
        self.core.part()
        self.send_now()

    def close_if_idle(self) -> None:
        """Close unless a request is under way, has reached us and was not read yet, or is about to come."""
        now = self.loop.time()
        if self.fresh and is_fresh(now, self.last_active):
            return
        if self.is_at_rest():
            if self.heeds_parting and not self._has_parted(now):
                return
            if not is_readable(self.transport.get_extra_info("socket")):
                self.transport.close()

    def _has_parted(self, now: float) -> bool:
        """Whether no request can be on its way any more; the web server is told of the end."""
        server, last_active = self._server, self.last_active
        if has_waited(now, last_active, server.stopping_since, server.limits.graceful_timeout):
            return True
        if is_to_be_told(now, last_active, self.parted_at):
            self.part()
        return False

    def cut(self, tell: Callable[[Request], object] | None) -> None:
        """End what is under way as failed, and close; `tell`, if given, is called with each request before."""
        self._abort(self.core.cut_off(INTERNAL_SERVER_ERROR, tell))

    def cut_off(self) -> None:
        """Close, whatever is under way, the handlers of which have been told."""
        # Requests whose parameters are not complete must not keep back the sign that an answer is cut.
        self._abort(self.core.receive_eof(half_closed=True))

    def _abort(self, events: list[Event]) -> None:
        """Close, behind what the web server takes now of what is to be sent; `events` are the last ones."""
        self._dispatch(events)
        if self.core.out:
            self.send_now()
        self.transport.abort()

    def is_late(self, now: float) -> bool:
        """Whether something took too long, for :meth:`close_late` to see to; a peer that has gone is lost at once."""
        if self._why_to_close(now) is not None:
            return True
        is_unread = self._at_eof or not self.reading
        if is_unread and not (self.unsent_before or self.core.finished):
            if has_hung_up(self.transport.get_extra_info("socket")):
                self.transport.abort()
        return False

    def close_late(self, now: float) -> None:
        """Close if something took too long, and nothing has come or left since that was seen."""
        why = self._why_to_close(now)
        if why is None:
            return
        if not why and not self.core.finished:
            self.transport.close()
            return
        if why:
            self._server.log_closed(self, TimeoutError(why))
        if self._awaited is OTHERS:
            self._server.cut_off(self)
        else:
            self._abort([])

    def _why_to_close(self, now: float) -> str | None:
        """As :func:`~simple_fastcgi.protocol.terms.overdue`, and remember how far all is."""
        core = self.core
        if (awaited := core.awaited) is not self._awaited:
            self._awaited, self._awaited_since = awaited, now
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            # The transport hears late that there is room.
            sock = self.transport.get_extra_info("socket")
            unsent += 0 if sock is None else count_untaken(sock)
        if self.files is not None:
            unsent += self.files.progress()
        if unsent != self.unsent_before:
            self.unsent_before = unsent
            self.last_active = self._stalled_since = now
        if awaited is None and core.requests and not unsent and not core.closing:
            # A request is under way, mostly a stream or one of many that wait: nobody but its handler is late.
            return None
        finished = core.finished
        if finished and not unsent:
            self._closing_since = self._closing_since or now
        return overdue(
            core.limits,
            now,
            last_active=self.last_active,
            awaited_since=None if finished or awaited is None else self._awaited_since,
            stalled_since=self._stalled_since if unsent else None,
            finished_since=self._closing_since if finished else None,
            idle=core.idle,
            awaited=awaited if isinstance(awaited, Awaited) else PARAMETERS,
        )
