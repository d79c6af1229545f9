"""A socket and the protocol core behind it, which belong together until the peer is lost."""

from __future__ import annotations

from .descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Condition
    from typing import Any

    from ..net.files import FilePart
    from ..protocol.application import ApplicationConnection
    from ..protocol.events import Event
    from ..protocol.records import Buffer

NOTHING_UNSENT: Sequence[Buffer | FilePart] = ()
"""Never written to: most connections have nothing to send, and need no list of their own for that."""


class Link(Descriptor):
    """What sending and receiving have in common: either may find the peer gone, which others are to know."""

    __slots__ = ("_changed", "_unsent", "_untold", "core", "error", "gone", "on_events")

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

    def _wake_readers(self) -> None:
        """Have handlers look at their input again; the lock is held."""
        if self._changed is not None:
            self._changed.notify_all()
            # Whoever waits once more makes another one: a Condition is as large as all else of an idle connection.
            self._changed = None
