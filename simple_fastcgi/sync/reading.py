"""Handlers take the input of their requests from a connection, and wait for it."""

from __future__ import annotations

from socket import MSG_WAITALL
from threading import Condition, get_ident
from time import monotonic

from .link import Link
from .pace import LOOK_SECONDS, Pace
from .poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.spool import Chunk
    from ..protocol.streams import InputStream, Request


# So long requests may wait for a thread while their input is in the way of others: mostly one is free soon.
_CLOGGED_SECONDS = 1.0


class Reading(Link):
    """The handlers' side of what is received on one connection.

    In a thread of its own a handler that waits is woken by the loop; in the loop's thread nobody else reads the socket
    meanwhile, so it does that itself. To be woken for each part of a long body takes longer than to receive it, so a
    loop that `lends` has the handler's thread do that, too, as long as it comes without a break.
    """

    __slots__ = ("_pace",)

    lends = False
    """Whether it does: it must hear what other threads receive, and :meth:`reclaim` what they have left alone."""
    # From the first long body on, in either direction.
    _pace: Pace | None

    def read(self, request: Request, stream: InputStream, size: int, *, in_loop: bool) -> list[Chunk]:
        """Up to `size` bytes of input, all that has arrived if `size` < 0, waiting for the first; none at the end."""
        with self.lock:
            if not stream.buffered:
                self.wait_for_input(request, stream, 1, in_loop=in_loop)
            return stream.take_chunks(size)

    def readinto(
        self, request: Request, stream: InputStream, view: memoryview, *, wanted: int = 1, in_loop: bool
    ) -> int:
        """As :meth:`read`, into `view`, waiting for `wanted` bytes if there is room for them; the count of bytes."""
        with self.lock:
            if stream.buffered < wanted and not stream.ended:
                self.wait_for_input(request, stream, wanted, in_loop=in_loop)
            return stream.take_into(view)

    def put_back(self, request: Request, stream: InputStream, chunks: Sequence[Chunk]) -> None:
        """As that of `request`."""
        with self.lock:
            request.put_back(stream, chunks)

    def read_right_into(self, request: Request, view: memoryview) -> bool:
        """Fill `view`, at most MOST bytes, with input of a long body that passes through no other memory, if possible.

        That is where the socket blocks, which nobody but this thread has to do with, and the records are alike. So many
        bytes come, and none are buffered. If it cannot be done, what was read is buffered as ever.
        """
        pace = self._pace
        # A request that has ended might take the body of the next one.
        if pace is None or pace.blocks_for != READ or request.ended or get_ident() != pace.thread:
            return False
        core = self.core
        scatter = core.scatter or core.begin_scatter(request)
        if scatter is None:
            return False
        try:
            buffers = scatter.buffers(view)
            # All of them: the first would be there as soon as a record's header is.
            count = pace.receive(buffers, 0, MSG_WAITALL)[0]
            # Without the lock: with the records nobody has to do but whoever receives.
            if scatter.received(count):
                return True
            data = b"".join(buffers)[:count]
        except BlockingIOError:
            return False
        except BaseException as error:
            if not isinstance(error, OSError) or error.errno is None:
                # A signal's handler raised it, or there was no memory: what was read is lost.
                self.lose()
                raise
            self.error = error.with_traceback(None)
            self.lose()
            return False
        events = self.receive_events(data)
        if events:
            self.on_events(self, events)
        if self._unsent or core.out:
            self._end_to_block()
        return False

    def wait_for_input(self, request: Request, stream: InputStream, size: int, *, in_loop: bool) -> None:
        """Wait until `size` bytes are in `stream`, or its end, or some and no room in memory for more.

        The lock is held before and after, not meanwhile; the connection is to be settled then. ConnectionAbortedError
        when the request is aborted, or its response has ended, before its input; TimeoutError after `read_timeout`
        without any, or as soon as it is clear that none can come.
        """
        core = self.core
        limits = core.terms.limits
        timeout = limits.read_timeout
        before, clogged_since = -1, 0.0
        while (buffered := stream.buffered) < size and not stream.ended:
            if request.aborted or request.ended:
                self._return_loan()
                if request.aborted:
                    raise ConnectionAbortedError("the web server aborted the request before its input ended")
                raise ConnectionAbortedError("the response is complete: no more of the input comes")
            # The first is the same, for what it does not tell apart, and mostly enough.
            wants_input = core.is_calm() or self.wants_input
            if buffered and not (wants_input and stream.in_memory):
                break
            if not wants_input:
                request.check_input_can_follow(limits)
            now = monotonic()
            if buffered != before:
                before, deadline = buffered, now + timeout
            left = deadline - now
            if not (wants_input or in_loop):
                clogged_since = (clogged_since or now) if core.is_clogged_for(request) else 0.0
                if clogged_since and now - clogged_since >= _CLOGGED_SECONDS:
                    raise TimeoutError(
                        "the input of other requests on this connection, which wait for a thread, fills "
                        "max_spooled_input"
                    )
                # Nobody wakes whoever waits when others begin to wait.
                left = min(left, _CLOGGED_SECONDS)
            if left <= 0:
                raise TimeoutError(f"no input for {timeout:g} s (read_timeout)")
            if in_loop and not self.is_lent:
                self._wait_here(left, reading=wants_input)
            elif wants_input and (fd := self._hold_loan()) >= 0:
                self._wait_with_loan(fd, stream, left)
            elif not self._return_loan():
                # What another thread holds it may leave alone at any time.
                self._wait_for_loop(request, min(left, LOOK_SECONDS) if self.is_lent else left)
        if stream.ended:
            self._give_back()

    def _wait_for_loop(self, request: Request, timeout: float) -> None:
        """Wait until another thread has received something, and for the loan of the next; the lock is held."""
        if self._changed is None:
            self._changed = Condition(self.lock)
        if self.lends and self.core.is_in_body(request):
            self._keep_pace().asked_by = get_ident(), request, monotonic()
        try:
            self._changed.wait(timeout)
        finally:
            if self._pace is not None:
                self._pace.asked_by = None

    def _wait_with_loan(self, fd: int, stream: InputStream, timeout: float) -> None:
        """Wait for input in the thread that was lent the reading, and holds it, for a moment; the lock is held.

        When nothing comes, or others may have to do with what does, it is given back: while it waits for the loop,
        whatever happens wakes this thread.
        """
        before = stream.buffered
        try:
            self._wait_here(timeout, reading=True)
        finally:
            self._release_loan(fd)
        if not stream.ended and (stream.buffered == before or len(self.core.requests) > 1):
            self._return_loan()

    def _wait_here(self, timeout: float, *, reading: bool) -> None:
        """Wait for input in the thread that reads the socket; the lock is held.

        The socket may block from then on: the next part of a long body is waited for soon.
        """
        if not reading and not self._unsent:
            # Nobody else can take it, for one request is served at a time here.
            raise TimeoutError("the input of other requests on this connection fills max_spooled_input")
        if not reading or self._unsent or timeout <= LOOK_SECONDS:
            self._end_to_block()
        elif not (pace := self._keep_pace()).blocks_for:
            pace.begin_to_block(self._socket(), READ)
        self.lock.release()
        try:
            # More of a body has mostly come while the handler was busy with the last of it, or comes soon.
            if not reading or not self.receive():
                timeout = min(timeout, LOOK_SECONDS) if self.is_lent else timeout
                if self._wait(timeout, reading=reading, sending=bool(self._unsent)):
                    self.receive()
        finally:
            self.lock.acquire()
        if self._unsent or self.core.out:
            self._end_to_block()
            self._send()

    def look(self) -> None:
        """See, in the loop's thread, without waiting, what the peer has sent and whether it is still there."""
        with self.lock:
            if self.is_lent and not self._give_back():
                return
            self._end_to_block()
            wants_input = self.wants_input
        if wants_input:
            self.receive()
        elif self.has_hung_up():
            self.lose()

    # The loop lends the reading

    @property
    def is_lent(self) -> bool:
        """Whether a handler's thread reads the socket instead of the loop's."""
        return self._pace is not None and self._pace.lent_to != 0

    def is_lent_here(self) -> bool:
        """Whether this one does."""
        return self._pace is not None and self._pace.lent_to == get_ident()

    def is_lent_for(self, request: Request) -> bool:
        """Whether it does for the body of `request`."""
        return self._pace is not None and self._pace.lent_for is request

    def reclaim(self) -> None:
        """Have the loop read the socket again, unless a handler's thread is receiving right now."""
        with self.lock:
            self._return_loan()

    def _lend(self) -> None:
        pace = self._pace
        if pace is None or pace.asked_by is None or pace.lent_to:
            return
        _, request, since = pace.asked_by
        # A body that comes slower is waited for by the loop: to take turns would cost more.
        if self.core.is_in_body(request) and monotonic() - since < LOOK_SECONDS:
            pace.lend()

    def _give_back(self) -> bool:
        """End to block, and any loan unless it is held; whether there was one. The lock is held.

        Nobody reads the socket then until the connection is settled.
        """
        return self._pace is not None and self._pace.give_back(self.fd)

    def _return_loan(self) -> bool:
        """The same, and the loop settles the connection."""
        if not self._give_back():
            return False
        self.on_events(self, [])
        return True

    def _hold_loan(self) -> int:
        """As :meth:`_hold`, and keep the loan of this thread, which reads the socket; -1 if it has none, too."""
        pace = self._pace
        if pace is None or pace.lent_to != get_ident() or (fd := self._hold()) < 0:
            return -1
        pace.held = True
        return fd

    def _release_loan(self, fd: int) -> None:
        """What :meth:`_hold_loan` gave is not used any more; the lock is held."""
        if self._pace is not None:
            self._pace.held = False
        self._release(fd)

    # Long bodies

    def _keep_pace(self) -> Pace:
        """What tells how long bodies pass, from now on."""
        if self._pace is None:
            self._pace = Pace(may_block=self.core.terms.in_turn)
        return self._pace

    def _end_to_block(self) -> None:
        """Before anything else is done with the socket; the lock is held."""
        if self._pace is not None:
            self._pace.end_to_block(self.fd)
