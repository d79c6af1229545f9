"""Whether connections are taken just now, or left in the listen queue."""

from __future__ import annotations

from math import inf

from .poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .poller import EpollPoller, SelectorPoller


class Listening:
    """The listening socket `fd`, which `poller` watches unless connections are to wait."""

    __slots__ = ("_not_before", "_poller", "fd", "is_watched")

    def __init__(self, fd: int, poller: EpollPoller | SelectorPoller) -> None:
        self.fd = fd
        self._poller = poller
        self._not_before = 0.0
        self.is_watched = False
        self.resume()

    def pause(self, until: float = 0.0) -> None:
        """Leave further connections in the listen queue, at least `until` then, if that is told."""
        if self.is_watched:
            self.is_watched = False
            self._poller.unregister(self.fd)
        self._not_before = until

    def resume(self, now: float = inf) -> None:
        """Have the poller tell of connections again, unless it is not yet time `now`."""
        if not self.is_watched and now >= self._not_before:
            self.is_watched = True
            self._poller.register(self.fd, READ)
