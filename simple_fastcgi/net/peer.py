"""What a connection's end of file means, and whether its peer takes what is sent."""

from __future__ import annotations

import select
import socket
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class SocketLike(Protocol):
        """A socket object, or the view of one that an event loop's transport gives."""

        @property
        def family(self) -> int: ...
        def fileno(self) -> int: ...


def peer_is_gone(sock: SocketLike) -> bool:
    """After end of file on ``sock``: whether the peer has gone (True), or only stopped sending (False). Never raises.

    A web server may shut down its sending side and still wait for the answer; one that has vanished waits for
    nothing. Unix sockets tell the two apart, as long as this side has not shut down its own sending. TCP does not:
    the end of file is taken for a departure there, since web servers that half-close use unix sockets and those
    that give up on a request simply close.
    """
    try:
        return sock.family != socket.AF_UNIX or has_hung_up(sock)
    except (OSError, ValueError):
        return True


def has_hung_up(sock: SocketLike) -> bool:
    """Whether the peer of ``sock`` has gone, seen without reading what may still wait there. Never raises.

    For a connection whose input is not read for a while. Over TCP an end of file counts, as above, where the system
    can tell of one (Linux); elsewhere False is given, and writing or reading will tell.
    """
    try:
        # POLLHUP, POLLERR and POLLNVAL are told without being asked for.
        events = 0 if sock.family == socket.AF_UNIX else getattr(select, "POLLRDHUP", 0)
        poll = select.poll()
        poll.register(sock.fileno(), events)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def is_readable(sock: SocketLike) -> bool:
    """Whether something waits to be read from ``sock``, or to be accepted. Never raises."""
    try:
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def count_untaken(sock: SocketLike) -> int:
    """How much of what was sent the kernel keeps for the peer of ``sock``, 0 where it does not tell. Never raises.

    A unix socket tells of room only when most of that was taken, which a slow peer needs minutes for.
    """
    try:
        from fcntl import ioctl
        from termios import TIOCOUTQ

        return int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), byteorder)
    except (ImportError, OSError, ValueError):
        return 0
