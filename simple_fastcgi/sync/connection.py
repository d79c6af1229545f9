"""One connection of a synchronous server: a descriptor, the protocol core, and a lock between threads."""

from __future__ import annotations

import select
import threading
from os import close, read, write, writev
from socket import SHUT_RDWR, SHUT_WR, SOCK_STREAM, SocketType
from threading import Lock
from time import monotonic

from ..cgi.response import FORBIDDEN, INTERNAL_SERVER_ERROR
from ..errors import ProtocolError
from ..net import has_hung_up, peer_is_gone
from ..net.files import ENDED, IOV_MAX, TURN, after, record_size, send_all, send_records, widen_for
from ..protocol.application import ApplicationConnection
from ..protocol.constants import FCGI_AUTHORIZER
from .pace import LOOK_SECONDS, Pace
from .poller import READ, UNKNOWN, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..net.files import FilePart, SourceFile
    from ..protocol.events import Event
    from ..protocol.records import Buffer
    from ..protocol.spool import Chunk
    from ..protocol.streams import InputStream, Request
    from ..protocol.terms import Terms
    from .poller import EpollPoller, SelectorPoller

_IDLE_READ = 16 * 1024
# Bodies are worth a larger buffer; for the usual request a small one is allocated faster.
_BODY_READ = 256 * 1024
_TRY_SECONDS = 1.0
# Never written to: most connections have nothing to send, and need no list of their own for that.
_NOTHING: Sequence[Buffer | FilePart] = ()
_NO_BOUND = 1 << 63


class Connection:
    """Everything that touches the socket or the core, but no policy: that is the server's.

    The server's loop calls :meth:`receive`; handlers, in whichever thread, call the rest. `lock` guards the core.
    """

    __slots__ = (
        "_changed",
        "_pace",
        "_polling",
        "_sock",
        "_unsent",
        "_untold",
        "address",
        "awaited",
        "awaited_since",
        "core",
        "error",
        "fd",
        "gone",
        "half_closed",
        "heeds_parting",
        "last_active",
        "lock",
        "on_events",
        "stalled_since",
        "watched",
    )

    # Where it is read something has set it before, if not in the beginning.
    awaited_since: float
    stalled_since: float

    def __init__(
        self,
        fd: int,
        address: object,
        terms: Terms,
        on_events: Callable[[Connection, list[Event]], None],
        now: float,
    ) -> None:
        # -1 from its closing on, since the number may be another's then.
        self.fd = fd
        # As an object, once it is needed: most connections never need it.
        self._sock: SocketType | None = None
        self.address = address
        self.core = ApplicationConnection(terms)
        self.on_events = on_events
        # Without its traceback: the frames of whoever was sending a file keep that open.
        self.error: Exception | None = None
        self.gone = False
        # The peer has ended its sending, and still reads.
        self.half_closed = False
        # Whether the web server does, which its first request tells unless that is the last one, too.
        self.heeds_parting: bool | None = None
        # The events for which the server's poller is asked.
        self.watched = UNKNOWN
        # When something came last; it was opened `now`.
        self.last_active = now
        # What was awaited at the server's last look, and, if anything, since when.
        self.awaited: object = None
        self.lock = Lock()
        self._changed: threading.Condition | None = None
        # Threads that wait for the socket.
        self._polling = 0
        # From the first long body on.
        self._pace: Pace | None = None
        # Buffers that the kernel did not take. While there are any, `stalled_since` is when it last took something.
        self._unsent = _NOTHING
        # What the server has to hear when it closes the connection.
        self._untold: tuple[Event, ...] = ()

    def _socket(self) -> SocketType:
        """What `fd` stands for, as an object; all of whose methods fail from the closing on. The lock is held."""
        if self._sock is None:
            try:
                self._sock = SocketType(-1, SOCK_STREAM, 0, self.fd)
                # Whatever the program has said by socket.setdefaulttimeout().
                self._sock.setblocking(False)
            except (OSError, ValueError):
                # It is closed, or has gone, on systems which tell that here.
                self._sock = SocketType.__new__(SocketType)
        return self._sock

    # Receiving

    def receive(self) -> bool:
        """As :meth:`receive_events`, and tell `on_events` of it; whether there was something to read."""
        events = self.receive_events()
        if events:
            self.on_events(self, events)
        return events is not None

    def receive_events(self) -> list[Event] | None:
        """Read once, without waiting: what it means for the server; None when there was nothing to read.

        Handlers that wait for input are woken.
        """
        try:
            # Not the methods of a socket, which parse their arguments in twice the time.
            data = read(self.fd, _BODY_READ if self.core.requests else _IDLE_READ)
        except BlockingIOError:
            return None
        except OSError as error:
            # A reset; and EBADF, when the server has closed the connection under a handler that outlived it.
            self.error = error.with_traceback(None)
            self.lose()
            return []
        # Not acquire() and try, which take half the time: Ctrl-C may come between them.
        with self.lock:
            core = self.core
            try:
                events = core.receive_data(data) if data else self._receive_eof()
            except ProtocolError as error:
                self.error = error.with_traceback(None)
                self.gone = True
                events = core.receive_eof()
            if self._changed is not None:
                self._wake_readers()
            if core.out:
                self._send()
            return events

    def _receive_eof(self) -> list[Event]:
        self.half_closed = bool(self.core.requests or self._unsent) and not peer_is_gone(self._socket())
        self.gone = not self.half_closed
        return self.core.receive_eof(half_closed=self.half_closed)

    @property
    def wants_input(self) -> bool:
        """Whether more should be read; the lock is held, unless an answer that is soon out of date is good enough."""
        return not (self.half_closed or self.gone) and self.core.wants_input

    def look(self) -> None:
        """See, without waiting, what the peer has sent and whether it is still there."""
        with self.lock:
            self._end_to_block()
            wants_input = self.wants_input
        if wants_input:
            self.receive()
        elif self.has_hung_up():
            self.lose()

    def has_hung_up(self) -> bool:
        """Whether the peer has gone, of a connection that is not read for a while."""
        with self.lock:
            return has_hung_up(self._socket())

    def lose(self) -> None:
        """The peer is gone: all requests of this connection are aborted, which `on_events` is told."""
        with self.lock:
            self._lose()
            events = self._untold
            if not events:
                return
            self._untold = ()
        self.on_events(self, list(events))

    def _lose(self) -> None:
        """As :meth:`lose`, in any thread, for the loop to tell when it closes; the lock is held."""
        self.gone = True
        if events := self.core.receive_eof():
            self._untold += tuple(events)
        self._unsent = _NOTHING
        self._wake_readers()

    def _wake_readers(self) -> None:
        """Have handlers look at their input again; the lock is held."""
        if self._changed is not None:
            self._changed.notify_all()
            # Whoever waits once more makes another one: a Condition is as large as all else of an idle connection.
            self._changed = None

    def read(self, request: Request, stream: InputStream, size: int, *, in_loop: bool) -> list[Chunk]:
        """Up to `size` bytes of input, all that has arrived if `size` < 0, waiting for the first; none at the end."""
        with self.lock:
            if not stream.buffered:
                self.wait_for_input(request, stream, 1, in_loop=in_loop)
            return stream.take_chunks(size)

    def readinto(self, request: Request, stream: InputStream, view: memoryview, *, in_loop: bool) -> int:
        """As :meth:`read`, into `view`; the count of bytes."""
        with self.lock:
            if not stream.buffered:
                self.wait_for_input(request, stream, 1, in_loop=in_loop)
            return stream.take_into(view)

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
                    self._changed = threading.Condition(self.lock)
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

    def _wait(self, timeout: float, *, reading: bool, sending: bool) -> bool:
        """Wait until the socket takes something if `sending`, or has something if `reading`.

        Whether it is to be read then, which it is, too, when it has failed or the peer has hung up.
        """
        with self.lock:
            fd = self.fd
            if fd < 0:
                # Closed by the server, which has given up waiting for this handler.
                return False
            self._polling += 1
        poll = select.poll()
        poll.register(fd, (select.POLLIN if reading else 0) | (select.POLLOUT if sending else 0))
        try:
            ready = poll.poll(timeout * 1000)
        finally:
            with self.lock:
                self._polling -= 1
                if self.fd < 0 and not self._polling:
                    close(fd)
        return reading and bool(ready) and ready[0][1] & ~select.POLLOUT != 0

    # Sending

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
        lock, pace, left = self.lock, self._keep_pace(), _NO_BOUND if room is None else room
        for block in blocks:
            if type(block) is not bytes or not 0 < (size := len(block)) < left:
                if block:
                    return block, None if room is None else left
                continue
            left -= size
            with lock:
                sent = self._write_through(request, block)
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
        return self._send_buffers(self.core.write_through(request, data))

    def _see_through(self, request: Request, *, sent: bool, in_loop: bool) -> None:
        """Wait until all has left, unless it was `sent`; ConnectionAbortedError when the request is aborted."""
        if not sent:
            self.drain(in_loop=in_loop)
            if in_loop and request.input_ended and not request.ended:
                with self.lock:
                    self._keep_pace().begin_to_block(self._socket(), WRITE)
        elif (now := monotonic()) > (pace := self._keep_pace()).next_look:
            # A long response must not keep an abort, or its connection's other questions, from being seen.
            pace.next_look = now + LOOK_SECONDS
            if in_loop and now - self.last_active > LOOK_SECONDS:
                self.look()
        if request.aborted:
            raise ConnectionAbortedError("the web server is gone")

    def send_file(self, request: Request, file: SourceFile, start: int, stop: int, *, in_loop: bool) -> None:
        """Send `file` from `start` to `stop`, behind what was written before.

        ConnectionAbortedError when the request is aborted, OSError when the file does not have so much any more.
        """
        with self.lock:
            widen_for(stop - start, self._socket())
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
                self._unsent = _NOTHING
        self._see_through(request, sent=sent, in_loop=in_loop)
        file.check()
        return start

    def end(self, request: Request, data: bytes, app_status: int, head: bytes = b"") -> bool:
        """End the request on the wire, behind `head` and `data`; whether the connection is settled.

        If it is not, :meth:`drain` is due.

        An Authorizer that has said nothing has refused: some web servers take silence for consent.
        """
        with self.lock:
            if self._pace is not None:
                self._end_to_block()
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
            return (
                self._send_one(whole)
                and self.watched == READ
                and ((core.at_rest and not core.requests) or core.is_calm())
            )

    def fail(self, request: Request, error: bytes) -> None:
        """End the request, whose handler failed, on the wire; `error` goes to FCGI_STDERR. :meth:`drain` is due."""
        with self.lock:
            self._end_to_block()
            self.last_active = monotonic()
            self.core.fail(request, INTERNAL_SERVER_ERROR, error)
            if self._changed is not None:
                self._wake_readers()
            self._send()

    def _send(self) -> bool:
        """Send without waiting; the lock is held. Whether everything has left.

        What comes behind the part that the kernel does not take stays in the core, which counts it.
        """
        before = self._unsent
        if not before:
            return self._send_buffers(self.core.data_to_send())
        try:
            left = send_all(self._socket(), before)
        except OSError as error:
            self._lose_to(error)
            return True
        if not left:
            self._unsent = _NOTHING
            return self._send_buffers(self.core.data_to_send())
        if left is not before:
            self._unsent = left
            self.stalled_since = monotonic()
        return False

    def _send_one(self, data: Buffer) -> bool:
        """The same, where nothing is unsent: `data` of the core, which nearly always leaves whole."""
        try:
            sent = write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose_to(error)
            return True
        if sent == len(data):
            return True
        self._unsent = after([data], sent)
        self.stalled_since = monotonic()
        return False

    def _send_buffers(self, owed: list[Buffer]) -> bool:
        """The same for several."""
        left: Sequence[Buffer | FilePart] = owed
        try:
            if 1 < len(owed) <= IOV_MAX:
                sent = writev(self.fd, owed)
                if sent == sum(map(len, owed)):
                    return True
                left = after(owed, sent)
            elif len(owed) == 1:
                return self._send_one(owed[0])
            elif owed:
                left = send_all(self._socket(), owed)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose_to(error)
            return True
        if not left:
            return True
        self._unsent = left
        self.stalled_since = monotonic()
        return False

    def _lose_to(self, error: OSError) -> None:
        """Sending has failed; the lock is held."""
        self.error = error.with_traceback(None)
        self._lose()

    def drain(self, *, in_loop: bool) -> None:
        """Wait until what the kernel did not take, if anything, has left; the lock is not held meanwhile.

        The connection is given up when nothing at all moves for `write_timeout`.
        """
        if not self._unsent:
            return
        with self.lock:
            self._end_to_block()
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
            # A web server may want to be rid of its input before it reads; the loop cannot help when it is us. Asked
            # without the lock, since it may change behind it as well.
            reading = in_loop and self.wants_input
            # Unix sockets tell of room late, when most of what waited has left: slow is not dead.
            if self._wait(min(left, _TRY_SECONDS), reading=reading, sending=True):
                self.receive()
            with self.lock:
                if self._send():
                    self.last_active = monotonic()
                    return

    def _keep_pace(self) -> Pace:
        """What tells how long bodies pass, from now on."""
        if self._pace is None:
            self._pace = Pace(may_block=not self.core.terms.concurrent)
        return self._pace

    def _end_to_block(self) -> None:
        """Before anything else is done with the socket; the lock is held."""
        if self._pace is not None:
            self._pace.end_to_block(self.fd)

    def send_owed(self) -> None:
        """Send, without waiting, what is due: the loop calls it when the socket can take more again."""
        with self.lock:
            if self._send():
                self.last_active = monotonic()

    @property
    def unsent(self) -> bool:
        """Something waits until the peer reads."""
        return bool(self._unsent)

    # Closing

    def settled(self) -> bool:
        """Whether the connection waits for input, as it should, and for nothing else.

        Looked at without the lock: a thread that changes any of it settles the connection itself.
        """
        # Of a peer that is gone the core is closing, which is not calm.
        return self.watched == READ and not self._unsent and self.core.is_calm()

    def is_over(self) -> bool:
        """Whether nothing is left to do but close."""
        return self.core.is_over() and not self._unsent

    def settle(self, poller: EpollPoller | SelectorPoller) -> bool:
        """Have `poller` watch for what is due next; False when there is nothing left to do but close."""
        if self.settled():
            return True
        # The lock: a handler's thread may be in the middle of ending the last request.
        with self.lock:
            if self.gone or self.is_over():
                return False
            events = READ if self.wants_input else 0
            if self._unsent:
                events |= WRITE
            if events != self.watched:
                # Before the poller knows: the loop's thread may hear of an event at once.
                before, self.watched = self.watched, events
                try:
                    (poller.register if before == UNKNOWN else poller.modify)(self.fd, events)
                except OSError:
                    self.watched = before
                    raise
            return True

    def part(self) -> None:
        """Ask the web server to close, if no request is under way."""
        with self.lock:
            if self.core.idle and not self._unsent:
                self.core.part()
                self._send()

    def stop_sending(self) -> None:
        """If everything was sent: tell the peer that nothing follows, while its own input is still read."""
        with self.lock:
            if not self.core.finished or self._unsent:
                return
            try:
                self._socket().shutdown(SHUT_WR)
            except OSError:
                # Gone already.
                self.gone = True

    def cut_off(self) -> None:
        """End what is under way as failed, as far as the socket takes it now; its handlers see an abort."""
        with self.lock:
            for request in list(self.core.requests.values()):
                if request.receiver is None:
                    self.core.fail(request, INTERNAL_SERVER_ERROR, b"")
                    request.aborted = True
            # Those whose parameters are not complete must not keep back the sign that an answer is cut.
            self.core.receive_eof(half_closed=True)
            self._send()
            # Whoever waits for the socket comes free.
            self._shut_down()

    def close(self) -> None:
        """Close the descriptor of a connection, which is lost from then on; whoever waits for it comes free."""
        with self.lock:
            if self.core.requests or self._unsent or self._changed is not None:
                # Others than it are to know.
                self._lose()
            self.gone = True
            if self._polling:
                self._shut_down()
            fd = self.fd
            self.fd = -1
            if self._sock is not None:
                self._sock.detach()
            # A poll that is woken looks at the descriptor's number again, which must not be another connection's.
            if not self._polling:
                try:
                    close(fd)
                except OSError:
                    # It is closed all the same; some systems tell of a reset here.
                    pass
            if not self._untold:
                return
            events = self._untold
            self._untold = ()
        self.on_events(self, list(events))

    def _shut_down(self) -> None:
        try:
            # Ends the waits of other threads, the last of which closes.
            self._socket().shutdown(SHUT_RDWR)
        except OSError:
            pass
