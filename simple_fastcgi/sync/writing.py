"""Handlers write the output of their requests to a connection, wait until it has left, and end the requests."""

from __future__ import annotations

from time import monotonic

from ..cgi.response import FORBIDDEN, INTERNAL_SERVER_ERROR, loses_ranges
from ..net.files import ENDED, IOV_MAX, TURN, record_size, send_records, widen_for
from ..protocol.constants import FCGI_AUTHORIZER
from ..protocol.records import COPY_LIMIT, MAX_ALIGNED_CONTENT
from .link import NOTHING_UNSENT
from .pace import LOOK_SECONDS
from .poller import READ, WRITE
from .reading import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..net.files import SourceFile
    from ..protocol.streams import Request

_TRY_SECONDS = 1.0
_NO_BOUND = 1 << 63
# Sizes of blocks of which nothing is copied, and which leave with one system call.
_FRAMED = range(COPY_LIMIT + 1, (IOV_MAX // 2 - 1) * MAX_ALIGNED_CONTENT + 1)


class Writing(Reading):
    """The handlers' side of what is sent on one connection.

    It stands on what is received: who waits until the peer takes more must see that the peer sends, or has gone.
    """

    __slots__ = ("watched",)

    watched: int
    """The events for which the server's poller is asked."""

    # Output

    def write(self, request: Request, data: bytes, *, stderr: bool = False, flush: bool = False, in_loop: bool) -> None:
        """Hand `data` to the core; sends when `flush`, or when enough has gathered.

        ConnectionAbortedError when the request is aborted.
        """
        with self.lock:
            if flush and not stderr:
                sent = self._write_through(request, data)
            else:
                if request.aborted or self._pace is not None:
                    self._check_can_write(request)
                core = self.core
                full = core.write_err(request, data) if stderr else core.write(request, data)
                if not full and not flush:
                    return
                core.flush(request)
                sent = self._send()
        self._see_through(request, sent=sent, in_loop=in_loop)

    def write_blocks(
        self, request: Request, blocks: Iterator[bytes], room: int | None, *, in_loop: Callable[[], bool]
    ) -> tuple[bytes | None, int | None]:
        """Write each of `blocks` and send it, while they are less than `room` bytes; most of a long body so passes.

        The first that is too long, or is no bytes, with its turn still to come, or None behind the last one; and what
        is left of `room`. Raises as :meth:`write`.
        """
        lock, core, pace, left = self.lock, self.core, self._keep_pace(), _NO_BOUND if room is None else room
        framed = 0
        for block in blocks:
            if type(block) is not bytes or not 0 < (size := len(block)) < left:
                if block:
                    return block, None if room is None else left
                # A pause of the application's (PEP 3333), which may be its last word for a long time.
                self._see_through(request, sent=True, in_loop=in_loop())
                continue
            left -= size
            with lock:
                if (
                    size not in _FRAMED
                    or self._unsent
                    or core.out
                    or request.unsent
                    or request.ended
                    or request.aborted
                    or pace.blocks_for == READ
                ):
                    sent = self._write_through(request, block)
                else:
                    # Nothing is to be done but to send it: mostly as the last one.
                    if size != framed:
                        frame, framed = core.announce_chunks(request, size), size
                    sent = self._send_several(frame.around(block), frame.total)
            if not sent or request.aborted or monotonic() > pace.next_look:
                self._see_through(request, sent=sent, in_loop=in_loop())
        return None, None if room is None else left

    def _check_can_write(self, request: Request) -> None:
        """Before anything is written for `request`; the lock is held."""
        if request.aborted:
            raise ConnectionAbortedError("the web server aborted the request")
        pace = self._pace
        if pace is not None and pace.blocks_for == READ:
            pace.end_to_block(self.fd)

    def _write_through(self, request: Request, data: bytes) -> bool:
        """Send `data` behind all that is due; whether everything has left. The lock is held."""
        if request.aborted or ((pace := self._pace) is not None and pace.blocks_for == READ):
            self._check_can_write(request)
        if self._unsent:
            self.core.write(request, data)
            self.core.flush(request)
            return self._send()
        buffer = self.core.write_at_once(request, data)
        if buffer is None:
            return self._send_buffers(self.core.write_through(request, data))
        return self._send_one(buffer)

    def _see_through(self, request: Request, *, sent: bool, in_loop: bool) -> None:
        """Wait until all has left, unless it was `sent`; ConnectionAbortedError when the request is aborted."""
        if not sent:
            self.drain(in_loop=in_loop)
            # A loan has the socket block for its own thread alone.
            if in_loop and request.input_ended and not (request.ended or self.is_lent):
                with self.lock:
                    self._keep_pace().begin_to_block(self._socket(), WRITE)
        elif (now := monotonic()) > (pace := self._keep_pace()).next_look:
            # A long response must not keep an abort, or its connection's other questions, from being seen.
            pace.next_look = now + LOOK_SECONDS
            if in_loop and now - self.last_active > LOOK_SECONDS:
                self.look()
        if request.aborted:
            raise ConnectionAbortedError("the web server is gone")

    # Files

    def send_file(self, request: Request, file: SourceFile, start: int, stop: int, *, in_loop: bool) -> None:
        """Send `file` from `start` to `stop`, behind what was written before.

        ConnectionAbortedError when the request is aborted, OSError when the file does not have so much any more.
        """
        with self.lock:
            widen_for(stop - start, self._socket(), sparingly=loses_ranges(request.params))
        while start < stop:
            end = min(start + TURN, stop)
            file.check_size(end)
            if not file.is_at_hand(start, end):
                # Now, rather than under the lock, which the loop needs, too.
                file.fetch(start, end)
            while start < end:
                start = self._send_records(request, file, start, end, in_loop=in_loop)

    def _send_records(self, request: Request, file: SourceFile, start: int, stop: int, *, in_loop: bool) -> int:
        """Send records of a file, behind all that is due, until the kernel takes no more; where to go on when it does.

        Raises as :meth:`send_file`.
        """
        with self.lock:
            self._check_can_write(request)
            if request.ended:
                raise RuntimeError(ENDED)
            if not self._unsent or self._send():
                try:
                    while start < stop and not (self._unsent or request.aborted or file.error):
                        lead = self.core.announce(request, record_size(start, stop))
                        start, self._unsent = send_records(self._socket(), lead, file, start, stop)
                except OSError as error:
                    self._lose_to(error)
                self.stalled_since = monotonic()
            if sent := not self._unsent:
                self._unsent = NOTHING_UNSENT
        self._see_through(request, sent=sent, in_loop=in_loop)
        file.check()
        return start

    # Ends of requests

    def end(self, request: Request, data: bytes, app_status: int, head: bytes = b"") -> bool:
        """End the request on the wire, behind `head` and `data`; whether the connection is settled.

        If it is not, :meth:`drain` is due.

        An Authorizer that has said nothing has refused: some web servers take silence for consent.
        """
        with self.lock:
            if request.ended:
                return self._end_again(request)
            if self._pace is not None:
                self._give_back()
            if not data and request.role == FCGI_AUTHORIZER and request.silent and not head:
                data = FORBIDDEN
            # Before anybody sees the end: the time to be idle does not begin when the request did.
            self.last_active = monotonic()
            core = self.core
            if self._changed is not None:
                self._wake_readers()
            if core.out or self._unsent or (whole := core.end_at_once(request, app_status, data, head)) is None:
                core.write(request, head)
                core.end(request, app_status, data)
                self._send()
                return self.settled()
            # At rest it is calm, too: there was no other request.
            return self._send_one(whole) and self.watched == READ and (core.at_rest or core.is_calm())

    def _end_again(self, request: Request) -> bool:
        """As :meth:`end`, of a request that has ended: another one may have its id by now. The lock is held."""
        if not request.aborted:
            # Another thread of the application was quicker.
            return True
        # It was answered at once; that its handler has ended, too, is all that is new.
        self._give_back()
        self.last_active = monotonic()
        self.core.end(request)
        return self.settled()

    def fail(self, request: Request, error: bytes) -> None:
        """End the request, whose handler failed, on the wire; `error` goes to FCGI_STDERR. :meth:`drain` is due."""
        with self.lock:
            self._give_back()
            self.last_active = monotonic()
            self.core.fail(request, INTERNAL_SERVER_ERROR, error)
            if self._changed is not None:
                self._wake_readers()
            self._send()

    def settled(self) -> bool:
        """Whether the connection waits for input, as it should, and for nothing else.

        Looked at without the lock: a thread that changes any of it settles the connection itself.
        """
        # Of a peer that is gone the core is closing, which is not calm. Not by `is_lent`: it is asked at each end.
        pace = self._pace
        return (
            self.watched == READ and not (self._unsent or (pace is not None and pace.lent_to)) and self.core.is_calm()
        )

    # What has not left

    def drain(self, *, in_loop: bool) -> None:
        """Wait until what the kernel did not take, if anything, has left; the lock is not held meanwhile.

        The connection is given up when nothing at all moves for `write_timeout`.
        """
        if not self._unsent:
            return
        with self.lock:
            # A web server may want to be rid of its input before it reads, which the loop takes then.
            self._return_loan()
            if self._keep_pace().widen(self._socket()) and self._send():
                return
        timeout = self.core.limits.write_timeout
        while True:
            left = self.stalled_since + timeout - monotonic()
            if left <= 0:
                with self.lock:
                    self.error = TimeoutError(f"it took nothing for {timeout:g} s (write_timeout)")
                    self._lose()
                return
            # The loop cannot help when it is us. Asked without the lock, since it may change behind it as well; that it
            # is lent, by nobody else.
            reading = in_loop and not self.is_lent and self.wants_input
            # Unix sockets tell of room late, when most of what waited has left: slow is not dead.
            if self._wait(min(left, _TRY_SECONDS), reading=reading, sending=True):
                self.receive()
            with self.lock:
                if self._send():
                    self.last_active = monotonic()
                    return
                # At first it was held, perhaps, or it has been lent since.
                self._return_loan()
