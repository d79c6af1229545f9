"""Why workers cannot start: they tell their master."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_LONGEST = 64 * 1024


class Failures:
    """Why a worker cannot start, in words; they go to the master, which tells the first ones only.

    Datagrams: those of several workers never mix.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.close()
        self._sender.close()

    def tell(self, why: str) -> None:
        """Called by a worker."""
        try:
            self._sender.send(why.encode("utf-8", "backslashreplace")[-_LONGEST:])
        except BlockingIOError:
            # So many others have told why already.
            pass

    def first(self, flags: int = 0) -> str | None:
        """What a worker told, if one did."""
        try:
            return self._receiver.recv(_LONGEST, flags).decode("utf-8", "replace")
        except BlockingIOError:
            return None

    def told(self) -> bool:
        """Whether a worker has told something that nobody has read yet."""
        return self.first(socket.MSG_PEEK) is not None
