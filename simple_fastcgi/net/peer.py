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


# Linux's: the other side sends nothing any more.
_RDHUP = getattr(select, "POLLRDHUP", 0)


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
    return bool(_poll(sock, 0 if sock.family == socket.AF_UNIX else _RDHUP))


def is_readable(sock: SocketLike) -> bool:
    """Whether something waits to be read from ``sock``. Never raises."""
    return bool(_poll(sock, select.POLLIN))


def is_awaited(listening: socket.socket) -> bool:
    """Whether somebody waits to be accepted, as far as that is known without accepting. Never raises."""
    if not is_readable(listening):
        return False
    if not is_shut_down(listening):
        return True
    # Those who had connected before wait still.
    from .backlog import listen_queue

    queue = listen_queue(listening)
    return queue is None or queue[0] > 0


def is_shut_down(listening: SocketLike) -> bool:
    """Whether a listening unix socket lets nobody connect any more, since somebody has shut it down. Never raises.

    Linux tells that it is ready then for ever, although nobody waits any more.
    """
    return bool(_poll(listening, _RDHUP) & _RDHUP)


def _poll(sock: SocketLike, asked: int) -> int:
    """Which of the events that are `asked` for there are; POLLHUP, POLLERR and POLLNVAL are told without."""
    try:
        poll = select.poll()
        poll.register(sock.fileno(), asked)
        return sum(events for _, events in poll.poll(0))
    except (OSError, ValueError):
        return select.POLLNVAL


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
