"""What the loop waits for: descriptors that are ready, connections, and whoever wants to end the wait.

epoll tells of them where there is one, any other selector elsewhere.
"""

from __future__ import annotations

import select
from math import inf
from os import close, pipe, read, set_blocking, write

# EPOLLIN and EPOLLOUT, whose names not every system has.
READ = 1
WRITE = 4
UNKNOWN = READ | 1 << 30
"""Of a connection: it is to be read, and not registered yet. Most that carry one request never are."""
# The selectors module's, which is not imported where there is epoll; its EVENT_READ is 1, too.
_EVENT_WRITE = 2


class EpollPoller:
    """Level-triggered readiness on Linux; without the per-event objects of the selectors module."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close
        self.poll = self._epoll.poll
        """(descriptor, events) of what is ready within a timeout in seconds, of so many at most, all of them in turn.

        An error or hang-up sets neither flag.
        """


class SelectorPoller:
    """The same on top of the standard library's best selector."""

    def __init__(self) -> None:
        from selectors import DefaultSelector

        self._selector = DefaultSelector()
        self._muted: set[int] = set()

    def register(self, fd: int, events: int) -> None:
        # Selectors cannot watch a descriptor for nothing.
        if events:
            self._selector.register(fd, _from_epoll(events))
        else:
            self._muted.add(fd)

    def modify(self, fd: int, events: int) -> None:
        self.unregister(fd)
        # As long as the selector does not take it again, which may fail.
        self._muted.add(fd)
        if events:
            self.register(fd, events)
            self._muted.discard(fd)

    def unregister(self, fd: int) -> None:
        if fd in self._muted:
            self._muted.discard(fd)
        else:
            self._selector.unregister(fd)

    def poll(self, timeout: float, _maxevents: int) -> list[tuple[int, int]]:
        # All of them: others than epoll would tell of the same ones again.
        return [(key.fd, _to_epoll(events)) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()


def _from_epoll(events: int) -> int:
    return events & READ | (_EVENT_WRITE if events & WRITE else 0)


def _to_epoll(events: int) -> int:
    return events & READ | (WRITE if events & _EVENT_WRITE else 0)


Poller = EpollPoller if hasattr(select, "epoll") else SelectorPoller


class Waker:
    """A pipe that `poller` watches, rather than an Event: a signal handler may write to it as any thread may."""

    __slots__ = ("_sender", "fd")

    def __init__(self, poller: EpollPoller | SelectorPoller) -> None:
        self.fd, self._sender = pipe()
        set_blocking(self.fd, False)
        set_blocking(self._sender, False)
        poller.register(self.fd, READ)

    def wake(self) -> None:
        """End the wait under way, or the next one."""
        try:
            write(self._sender, b"\0")
        except OSError:
            # Full: it will wake up anyway. Closed: nobody is left to be woken.
            pass

    def heard(self) -> None:
        """The poller has told that `fd` is ready: forget how often that was asked for."""
        read(self.fd, 4096)

    def close(self) -> None:
        """Nobody waits any more."""
        # A number that is closed may soon be another's.
        sender, self._sender = self._sender, -1
        close(sender)
        close(self.fd)


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
