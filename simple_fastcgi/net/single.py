"""One connection that is there already, where a server expects a listening socket."""

from __future__ import annotations

import socket

from .adopt import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class SingleConnection(Listener):
    """Gives one connection, and never another.

    `connection`: it is this object's from now on. A server that has :func:`~.adopt.adopt`-ed this one hears at once
    that a connection waits.
    """

    def __init__(self, connection: socket.socket) -> None:
        heard, bell = socket.socketpair()
        bell.send(b"\0")
        self._share(heard, bell, connection)

    def _share(self, heard: socket.socket, bell: socket.socket, connection: socket.socket) -> None:
        super().__init__(heard.family, heard.type, heard.proto, heard.detach())
        self.setblocking(False)
        self._bell = bell
        self._connection = connection

    def dup(self) -> Self:
        """Another one of the same connection: only one of them gives it."""
        copy = type(self).__new__(type(self))
        copy._share(self.dup_plain(), self._bell, self._connection)
        return copy

    def _accept(self) -> tuple[int, object]:
        # What rings is taken away: nobody is told of this connection again.
        if not self.recv(1):
            raise BlockingIOError
        return self._connection.detach(), ""

    def close(self) -> None:
        """Close it and all its duplicates' bell; a connection that nobody has accepted is closed, too."""
        super().close()
        self._bell.close()
        self._connection.close()
