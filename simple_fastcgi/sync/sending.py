"""What the core of a connection has to send leaves by its socket, as far as that takes it without waiting."""

from __future__ import annotations

from os import write, writev
from time import monotonic

from ..net.files import IOV_MAX, after, send_all
from .link import NOTHING_UNSENT, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..net.files import FilePart
    from ..protocol.records import Buffer


class Sending(Link):
    """What is sent on one connection, by whoever has something to send: the loop, or a handler in any thread."""

    __slots__ = ("last_active", "stalled_since")

    last_active: float
    """When something came last, a request ended, or what had waited left; at first, when the connection was opened."""
    stalled_since: float
    """When the kernel last took something, of a connection that has more to send."""

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
