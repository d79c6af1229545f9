"""Which descriptors are ready: epoll where there is one, any other selector elsewhere."""

from __future__ import annotations

import select

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
        """(descriptor, events) of what is ready, within a timeout in seconds; an error or hang-up sets neither flag."""


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

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return [(key.fd, _to_epoll(events)) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()


def _from_epoll(events: int) -> int:
    return events & READ | (_EVENT_WRITE if events & WRITE else 0)


def _to_epoll(events: int) -> int:
    return events & READ | (WRITE if events & _EVENT_WRITE else 0)


Poller = EpollPoller if hasattr(select, "epoll") else SelectorPoller
