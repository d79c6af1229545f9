"""A socket and the protocol core behind it: what passes between both, as far as that takes no waiting."""

from __future__ import annotations

import select
from os import close, read, write, writev
from socket import SHUT_RDWR, SOCK_STREAM, SocketType
from time import monotonic

from ..errors import ProtocolError
from ..net import has_hung_up, peer_is_gone
from ..net.files import IOV_MAX, after, send_all
from ..net.heap import BODY, BodyBuffers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Condition, Lock
    from typing import Any

    from ..net.files import FilePart
    from ..protocol.application import ApplicationConnection
    from ..protocol.events import Event
    from ..protocol.records import Buffer

NOTHING_UNSENT: Sequence[Buffer | FilePart] = ()
"""Never written to: most connections have nothing to send, and need no list of their own for that."""
# For the usual request a small buffer is allocated faster than one that is large enough for bodies.
_READ = 16 * 1024
_bodies = BodyBuffers()


class Link:
    """They belong together until the peer is lost. The attributes are set by ``Connection``, which stands on this.

    Several threads may send, and wait for the socket; the last of them closes its descriptor. The loop receives, or a
    handler in the loop's thread, or in one that the loop lends this to; what the core answers is sent at once.
    """

    __slots__ = (
        "_changed",
        "_polling",
        "_sock",
        "_unsent",
        "_untold",
        "core",
        "error",
        "fd",
        "gone",
        "half_closed",
        "last_active",
        "lock",
        "on_events",
        "stalled_since",
    )

    lock: Lock
    """Between the threads that have to do with the connection; it guards the core as well."""
    fd: int
    """-1 from its closing on, since the number may be another's then."""
    # As an object, once it is needed: most connections never need it.
    _sock: SocketType | None
    # How often its number is in use by threads that wait for it, or receive by a loan.
    _polling: int
    core: ApplicationConnection
    on_events: Callable[[Any, list[Event]], None]
    """Tells the server of what came, and of what the loss ends; called with the ``Connection`` that this is."""
    gone: bool
    """The peer is not there any more, or has not kept to the protocol."""
    error: Exception | None
    """Why, if that is known. Without its traceback: the frames of whoever was sending a file keep that open."""
    # Buffers that the kernel did not take.
    _unsent: Sequence[Buffer | FilePart]
    # What handlers wait for, if any do.
    _changed: Condition | None
    # What the server has to hear when it closes the connection.
    _untold: tuple[Event, ...]
    last_active: float
    """When something came last, a request ended, or what had waited left; at first, when the connection was opened."""
    stalled_since: float
    """When the kernel last took something, of a connection that has more to send."""
    half_closed: bool
    """The peer has ended its sending, and still reads."""

    # The descriptor

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

    def has_hung_up(self) -> bool:
        """Whether the peer has gone, of a connection that is not read for a while."""
        with self.lock:
            return has_hung_up(self._socket())

    def _wait(self, timeout: float, *, reading: bool, sending: bool) -> bool:
        """Wait until the socket takes something if `sending`, or has something if `reading`.

        Whether it is to be read then, which it is, too, when it has failed or the peer has hung up.
        """
        with self.lock:
            fd = self._hold()
        if fd < 0:
            # Closed by the server, which has given up waiting for this handler.
            return False
        poll = select.poll()
        poll.register(fd, (select.POLLIN if reading else 0) | (select.POLLOUT if sending else 0))
        try:
            ready = poll.poll(timeout * 1000)
        finally:
            with self.lock:
                self._release(fd)
        return reading and bool(ready) and ready[0][1] & ~select.POLLOUT != 0

    def _hold(self) -> int:
        """The descriptor, whose number does not become another connection's until it is released; -1 if it is closed.

        The lock is held.
        """
        if self.fd >= 0:
            self._polling += 1
        return self.fd

    def _release(self, fd: int) -> None:
        """What :meth:`_hold` gave is not used any more; the last one who does so closes it, if that was due.

        The lock is held.
        """
        self._polling -= 1
        if self.fd < 0 and not self._polling:
            try:
                close(fd)
            except OSError:
                # It is closed all the same, see Connection.close().
                pass

    def _shut_down(self) -> None:
        try:
            # Ends the waits of other threads, the last of which closes.
            self._socket().shutdown(SHUT_RDWR)
        except OSError:
            pass

    # The peer is lost

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
        self._unsent = NOTHING_UNSENT
        self._wake_readers()

    def _lose_to(self, error: OSError) -> None:
        """Sending has failed; the lock is held."""
        self.error = error.with_traceback(None)
        self._lose()

    def _lend(self) -> None:
        """Let a handler's thread that waits for input receive what comes next, if it should; the lock is held."""

    def _wake_readers(self) -> None:
        """Have handlers look at their input again; the lock is held."""
        if self._changed is not None:
            self._changed.notify_all()
            # Whoever waits once more makes another one: a Condition is as large as all else of an idle connection.
            self._changed = None

    # Sending

    def send_owed(self) -> None:
        """Send, without waiting, what is due: the loop calls it when the socket can take more again."""
        with self.lock:
            if self._send():
                self.last_active = monotonic()

    @property
    def unsent(self) -> bool:
        """Something waits until the peer reads."""
        return bool(self._unsent)

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
            self._unsent = NOTHING_UNSENT
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
        return sent == len(data) or self._keep(after([data], sent))

    def _send_several(self, buffers: list[Buffer], size: int) -> bool:
        """The same for two buffers or more, at most IOV_MAX, of `size` bytes in all."""
        try:
            sent = writev(self.fd, buffers)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose_to(error)
            return True
        return sent == size or self._keep(after(buffers, sent))

    def _send_buffers(self, owed: list[Buffer]) -> bool:
        """The same for any number."""
        count = len(owed)
        if count <= 1:
            return not count or self._send_one(owed[0])
        if count <= IOV_MAX:
            return self._send_several(owed, sum(map(len, owed)))
        try:
            left = send_all(self._socket(), owed)
        except OSError as error:
            self._lose_to(error)
            return True
        return not left or self._keep(left)

    def _keep(self, left: Sequence[Buffer | FilePart]) -> bool:
        """The kernel takes no more: what is `left` waits from now on. False, since it has not left."""
        self._unsent = left
        self.stalled_since = monotonic()
        return False

    # Receiving

    def receive(self) -> bool:
        """As :meth:`receive_events`, and tell `on_events` of it; whether there was something to read."""
        events = self.receive_events()
        if events:
            self.on_events(self, events)
        return events is not None

    def receive_events(self, data: Buffer | None = None) -> list[Event] | None:
        """Read once, without waiting: what it means for the server; None when there was nothing to read.

        Or what `data` means, which was read already. Handlers that wait for input are woken.
        """
        core = self.core
        try:
            if data is None:
                # Not by the methods of a socket, which parse their arguments in twice the time.
                if core.body_lead:
                    data = _bodies.read(self.fd)
                else:
                    data = read(self.fd, BODY if core.requests else _READ)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno is None:
                # A signal's handler raised it, such as TimeoutError: whoever waits is to get it.
                raise
            # A reset; and EBADF, when the server has closed the connection under a handler that outlived it.
            self.error = error.with_traceback(None)
            self.lose()
            return []
        # Not acquire() and try, which take half the time: Ctrl-C may come between them.
        with self.lock:
            try:
                events = core.receive_data(data) if data else self._receive_eof()
            except ProtocolError as error:
                self.error = error.with_traceback(None)
                self.gone = True
                events = core.receive_eof()
            if self._changed is not None:
                self._lend()
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
