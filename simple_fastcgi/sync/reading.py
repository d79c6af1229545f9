"""Handlers take the input of their requests from a connection, and wait for it."""

from __future__ import annotations

from os import set_blocking
from socket import MSG_WAITALL
from threading import Condition, get_ident
from time import monotonic

from ..net.files import limit_waits, widen
from .link import Link
from .poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from socket import SocketType
    from typing import Any

    from ..protocol.spool import Chunk
    from ..protocol.streams import InputStream, Request

LOOK_SECONDS = 0.1
"""How long nobody may look at what the peer has sent, while a handler keeps the loop's thread busy with its output."""


class Pace:
    """A connection has one from its first long body on: most never need it. Its lock is held in all calls.

    Where only the loop's thread has to do with the socket it may block: the kernel waits then, for a moment at most,
    until it has taken or got data. To go on in the middle of a system call takes much less than to come back here and
    ask when the next one is due, where a web server sends a body, or takes a response, slower than we could.
    """

    __slots__ = ("_is_wide", "_waits_are_limited", "blocks_for", "may_block", "next_look", "receive", "thread")

    receive: Callable[..., tuple[int, Any, int, Any]]
    """While it waits: the socket's `recvmsg_into`."""
    thread: int
    """And the thread that has it wait."""

    def __init__(self, *, may_block: bool) -> None:
        self.may_block = may_block
        """The kernel may wait."""
        self.blocks_for = 0
        """What it waits for: READ in the midst of a body, WRITE behind it, or nothing."""
        self.next_look = 0.0
        """When a handler in the loop's thread sees to the input next in the course of its output."""
        self._waits_are_limited = False
        # The socket was made to hold more.
        self._is_wide = False

    def begin_to_block(self, sock: SocketType, blocks_for: int) -> None:
        """Have the kernel wait from now on, if it may.

        All that comes behind a body is an abort, at the most, which can wait for a moment. In the midst of one, nothing
        is to be sent: a web server may want to be rid of more of it before it takes what is written.
        """
        if self.may_block and not self._waits_are_limited:
            self._waits_are_limited = self.may_block = limit_waits(sock, LOOK_SECONDS)
        if self.may_block and (fd := sock.fileno()) >= 0:
            self.blocks_for = blocks_for
            self.receive = sock.recvmsg_into
            self.thread = get_ident()
            set_blocking(fd, True)

    def end_to_block(self, fd: int) -> None:
        """Before anything else is done with the socket of `fd`, which is negative when that was closed."""
        if self.blocks_for:
            self.blocks_for = 0
            if fd >= 0:
                set_blocking(fd, False)

    def widen(self, sock: SocketType) -> bool:
        """Once the socket was full: let more wait in it. Whether it takes more now."""
        if self._is_wide:
            return False
        self._is_wide = True
        return widen(sock)


class Reading(Link):
    """The handlers' side of what is received on one connection.

    In a thread of its own a handler that waits is woken by the loop; in the loop's thread nobody else reads the socket
    meanwhile, so it does that itself.
    """

    __slots__ = ("_pace",)

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

        That is where the socket blocks, which nobody but the loop's thread, this one, has to do with, and the records
        are alike. So many bytes come, and none are buffered. If it cannot be done, what was read is buffered as ever.
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

        The lock is held before and after, not meanwhile. In the loop's own thread nobody else reads the socket, so this
        does. ConnectionAbortedError when the request is aborted, or its response has ended, before its input;
        TimeoutError after `read_timeout` without any.
        """
        core = self.core
        limits = core.terms.limits
        timeout = limits.read_timeout
        before = -1
        while (buffered := stream.buffered) < size and not stream.ended:
            if request.aborted:
                raise ConnectionAbortedError("the web server aborted the request before its input ended")
            if request.ended:
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
            if left <= 0:
                raise TimeoutError(f"no input for {timeout:g} s (read_timeout)")
            if in_loop:
                self._wait_in_loop(left, reading=wants_input)
            else:
                if self._changed is None:
                    self._changed = Condition(self.lock)
                self._changed.wait(left)
        if stream.ended:
            self._end_to_block()

    def _wait_in_loop(self, timeout: float, *, reading: bool) -> None:
        """Wait for input, and do meanwhile what the loop does for other connections; the lock is held.

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
            if (not reading or not self.receive()) and self._wait(timeout, reading=reading, sending=bool(self._unsent)):
                self.receive()
        finally:
            self.lock.acquire()
        if self._unsent or self.core.out:
            self._end_to_block()
            self._send()

    def look(self) -> None:
        """See, without waiting, what the peer has sent and whether it is still there."""
        with self.lock:
            self._end_to_block()
            wants_input = self.wants_input
        if wants_input:
            self.receive()
        elif self.has_hung_up():
            self.lose()

    # Long bodies

    def _keep_pace(self) -> Pace:
        """What tells how long bodies pass, from now on."""
        if self._pace is None:
            self._pace = Pace(may_block=not self.core.terms.concurrent)
        return self._pace

    def _end_to_block(self) -> None:
        """Before anything else is done with the socket; the lock is held."""
        if self._pace is not None:
            self._pace.end_to_block(self.fd)
