"""One connection of a synchronous server: a descriptor, the protocol core, and a lock between threads."""

from __future__ import annotations

from os import close
from socket import SHUT_WR
from threading import Lock

from ..cgi.response import INTERNAL_SERVER_ERROR
from ..protocol.application import ApplicationConnection
from .link import NOTHING_UNSENT
from .poller import READ, UNKNOWN, WRITE
from .writing import Writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.events import Event
    from ..protocol.streams import Request
    from ..protocol.terms import Terms
    from .poller import EpollPoller, SelectorPoller


class Connection(Writing):
    """Everything that touches the socket or the core, but no policy: that is the server's.

    The server's loop calls :meth:`receive`; handlers, in whichever thread, call the rest. `lock` guards the core.
    """

    __slots__ = ("address", "awaited", "awaited_since", "heeds_parting")

    address: object
    """The peer's, as accept() tells it."""
    heeds_parting: bool | None
    """Whether the web server closes when it is asked to: its first request tells, unless that is the last one, too."""
    awaited: object
    """What was awaited at the server's last look, and, if anything, since when."""
    awaited_since: float

    def open(
        self,
        fd: int,
        address: object,
        terms: Terms,
        on_events: Callable[[Connection, list[Event]], None],
        now: float,
    ) -> None:
        """Be this one, from now on: a constructor would take longer.

        This sets what the classes below have, too, or each would be called with every connection. All but
        `stalled_since` and `awaited_since`, which something else sets before they are read.
        """
        self.fd = fd
        self._sock = None
        self.address = address
        self.core = ApplicationConnection(terms)
        self.on_events = on_events
        self.error = None
        self.gone = False
        self.half_closed = False
        self.heeds_parting = None
        self.watched = UNKNOWN
        self.last_active = now
        self.awaited = None
        self.lock = Lock()
        self._changed = None
        self._polling = 0
        self._pace = None
        self._unsent = NOTHING_UNSENT
        self._untold = ()

    def is_over(self) -> bool:
        """Whether nothing is left to do but close."""
        core = self.core
        # Finished, and not lingering: so it is told faster.
        return core.closing and not (core.requests or core.owed or self._unsent)

    def is_at_rest(self) -> bool:
        """Whether no request is under way, nothing is to be sent, and nobody else reads."""
        # The lock: a handler's thread might just have ended its request, and not have sent all of it yet.
        with self.lock:
            core = self.core
            return core.idle and not (core.lingering or self._unsent or self.is_lent)

    def settle(self, poller: EpollPoller | SelectorPoller) -> bool:
        """Have `poller` watch for what is due next; False when there is nothing left to do but close."""
        if self.settled():
            return True
        # The lock: a handler's thread may be in the middle of ending the last request.
        with self.lock:
            if self.gone or self.is_over():
                return False
            events = READ if self.wants_input and not self.is_lent else 0
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

    def cut_off(self, tell: Callable[[Request], object] | None) -> None:
        """End what is under way as failed, as far as the socket takes it now; its handlers see an abort.

        `tell`, if given, is called with each request before; the lock is held.
        """
        with self.lock:
            self._end_to_block()
            self._untold += tuple(self.core.cut_off(INTERNAL_SERVER_ERROR, tell))
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
            fd = self.fd
            if self._polling:
                # A poll that is woken looks at the descriptor's number again, which must not be another connection's:
                # the last of those who wait closes it.
                self._shut_down()
                self.fd = -1
            else:
                self.fd = -1
                try:
                    close(fd)
                except OSError:
                    # It is closed all the same; some systems tell of a reset here.
                    pass
            if self._sock is not None:
                self._sock.detach()
            if not self._untold:
                return
            events = self._untold
            self._untold = ()
        self.on_events(self, list(events))


class LendingConnection(Connection):
    """One of a server whose loop lends the reading of a long body to its handler's thread."""

    __slots__ = ()

    lends = True

    def read_right_into(self, request: Request, view: memoryview) -> bool:
        """As that of `Connection`, and hold the loan meanwhile: nobody else receives, so all else is as ever."""
        if not self.is_lent_here():
            return False
        fd = -1
        try:
            with self.lock:
                # Asked once more: others may have ended both until now.
                if request.ended or (fd := self._hold_loan()) < 0:
                    return False
            return super().read_right_into(request, view)
        finally:
            if fd >= 0:
                with self.lock:
                    self._release_loan(fd)
                    if request.ended:
                        # By another thread, which could not take the loan back: this one may read no more.
                        self._return_loan()
