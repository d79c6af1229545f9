"""What comes by the socket of a connection goes to its core, which tells what that means."""

from __future__ import annotations

from os import read

from ..errors import ProtocolError
from ..net import peer_is_gone
from .sending import Sending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..protocol.events import Event

_IDLE_READ = 16 * 1024
# Bodies are worth a larger buffer; for the usual request a small one is allocated faster.
_BODY_READ = 256 * 1024


class Receiving(Sending):
    """What is received on one connection, by whoever reads it: the loop, or a handler in the loop's thread.

    What the core answers is sent at once.
    """

    __slots__ = ("half_closed",)

    half_closed: bool
    """The peer has ended its sending, and still reads."""

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
