"""Several listening sockets, where a server expects one."""

from __future__ import annotations

import selectors

from .adopt import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Self


class SeveralSockets(Listener):
    """Gives the connections of all of `sockets`, which are listening ones and this object's from now on.

    It is watched by the descriptor of a selector (epoll, kqueue), which is ready as soon as one of them is.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        first = sockets[0]
        # Its own name and family are those of the first.
        super().__init__(first.family, first.type, first.proto, first.detach())
        self._others = sockets[1:]
        self._selector = selectors.DefaultSelector()
        self._selector.register(super().fileno(), selectors.EVENT_READ, super()._accept)  # type: ignore[misc]
        for other in self._others:
            other.setblocking(False)
            self._selector.register(other, selectors.EVENT_READ, other._accept)  # type: ignore[attr-defined]

    def fileno(self) -> int:
        """What tells that a connection waits; -1 once closed."""
        return self._selector.fileno() if super().fileno() >= 0 else -1

    def setblocking(self, flag: bool) -> None:
        """Of each of them."""
        super().setblocking(flag)
        for other in self._others:
            other.setblocking(flag)

    def dup(self) -> Self:
        """Duplicates of all of them."""
        return type(self)([self.dup_plain(), *(other.dup() for other in self._others)])

    def _accept(self) -> tuple[int, object]:
        for key, _ in self._selector.select(0):
            try:
                accepted: tuple[int, object] = key.data()
            except BlockingIOError:
                # Another process was quicker.
                continue
            return accepted
        raise BlockingIOError

    def close(self) -> None:
        """Close all of them."""
        self._selector.close()
        super().close()
        for other in self._others:
            other.close()
