"""At which pace the long bodies of a connection pass: who waits for them, and whether the kernel does."""

from __future__ import annotations

from os import set_blocking
from threading import get_ident

from ..net.files import limit_waits, widen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import SocketType
    from typing import Any

    from ..protocol.streams import Request

LOOK_SECONDS = 0.1
"""How long nobody may look at what the peer has sent, while a handler keeps the loop's thread busy with its output.

A body that pauses for longer is not received by its handler's thread, or not any more.
"""


class Pace:
    """A connection has one from its first long body on: most never need it. Its lock is held in all calls.

    Where only one thread has to do with the socket it may block: the kernel waits then, for a moment at most, until it
    has taken or got data. To go on in the middle of a system call takes much less than to come back here and ask when
    the next one is due, where a web server sends a body, or takes a response, slower than we could.

    The loop may lend the reading of the socket to the thread of a handler. Nobody else reads it until the loan is
    given back, which is done by whoever wants to, unless its thread is receiving right then, and holds it.
    """

    __slots__ = (
        "_is_wide",
        "_waits_are_limited",
        "asked_by",
        "blocks_for",
        "held",
        "lent_for",
        "lent_to",
        "may_block",
        "next_look",
        "receive",
        "thread",
    )

    receive: Callable[..., tuple[int, Any, int, Any]]
    """While it waits: the socket's `recvmsg_into`."""
    thread: int
    """And the thread that has it wait."""

    def __init__(self, *, may_block: bool) -> None:
        self.may_block = may_block
        """The kernel may wait."""
        self.blocks_for = 0
        """What it waits for: READ in the midst of a body, WRITE behind it, or nothing."""
        self.next_look = 0.0
        """When a handler in the loop's thread sees to the input next in the course of its output."""
        self.asked_by: tuple[int, Request, float] | None = None
        """The thread that waits for more of this request's body, and would as well receive it; and since when."""
        self.lent_to = 0
        """The thread that reads the socket instead of the loop's, if one does."""
        self.lent_for: Request | None = None
        """And the request whose body it is lent for."""
        self.held = False
        """It is receiving, or waits for what comes."""
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
            self.receive = sock.recvmsg_into
            self.thread = get_ident()
            set_blocking(fd, True)

    def end_to_block(self, fd: int) -> None:
        """Before anything else is done with the socket of `fd`, which is negative when that was closed."""
        if self.blocks_for:
            self.blocks_for = 0
            if fd >= 0:
                set_blocking(fd, False)

    def lend(self) -> None:
        """To the thread that has asked for it."""
        assert self.asked_by is not None
        self.lent_to, self.lent_for, _ = self.asked_by
        # Nobody else waits for the socket, nor, while nothing is written, has to do with it.
        self.may_block = True

    def give_back(self, fd: int) -> bool:
        """The loop reads the socket of `fd` from now on, unless the loan is held; whether there was one to be ended."""
        self.end_to_block(fd)
        if not self.lent_to or self.held:
            return False
        self.lent_to, self.lent_for = 0, None
        self.may_block = False
        return True

    def widen(self, sock: SocketType) -> bool:
        """Once the socket was full: let more wait in it. Whether it takes more now."""
        if self._is_wide:
            return False
        self._is_wide = True
        return widen(sock)
