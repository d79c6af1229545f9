"""The pace of long bodies: how a connection goes on with what does not pass its socket at once."""

from __future__ import annotations

from os import set_blocking

from ..net.files import limit_waits, widen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import SocketType

LOOK_SECONDS = 0.1
"""How long nobody may look at what the peer has sent, while a handler keeps the loop's thread busy with its output."""


class Pace:
    """A connection has one from its first long body on: most never need it. Its lock is held in all calls.

    Where only the loop's thread has to do with the socket it may block: the kernel waits then, for a moment at most,
    until it has taken or got data. To go on in the middle of a system call takes much less than to come back here and
    ask when the next one is due, where a web server sends a body, or takes a response, slower than we could.
    """

    __slots__ = ("_is_wide", "_waits_are_limited", "blocks_for", "may_block", "next_look")

    def __init__(self, *, may_block: bool) -> None:
        self.may_block = may_block
        """The kernel may wait."""
        self.blocks_for = 0
        """What it waits for: READ in the midst of a body, WRITE behind it, or nothing."""
        self.next_look = 0.0
        """When a handler in the loop's thread sees to the input next in the course of its output."""
        self._waits_are_limited = False
        # The socket was made to hold more.
        self._is_wide = False

    def begin_to_block(self, sock: SocketType, blocks_for: int) -> None:
        """Have the kernel wait from now on, if it may.

        All that comes behind a body is an abort, at the most, which can wait for a moment. In the midst of one, nothing
        is to be sent: a web server may want to be rid of more of it before it takes what is written.
        """
        if self.may_block and not self._waits_are_limited:
            self._waits_are_limited = self.may_block = limit_waits(sock, LOOK_SECONDS)
        if self.may_block and (fd := sock.fileno()) >= 0:
            self.blocks_for = blocks_for
            set_blocking(fd, True)

    def end_to_block(self, fd: int) -> None:
        """Before anything else is done with the socket of `fd`, which is negative when that was closed."""
        if self.blocks_for:
            self.blocks_for = 0
            if fd >= 0:
                set_blocking(fd, False)

    def widen(self, sock: SocketType) -> bool:
        """Once the socket was full: let more wait in it. Whether it takes more now."""
        if self._is_wide:
            return False
        self._is_wide = True
        return widen(sock)
