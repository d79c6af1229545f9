"""Taking connections from a listening socket."""

from __future__ import annotations

import socket
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM

from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_NO_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})


class OutOfRoom(Exception):
    """The process or the system has no descriptor or memory left; the connection waits in the listen queue."""


def accept(listening: socket.socket, allow_from: Container[str] | None) -> tuple[socket.socket, object] | None:
    """The next connection, non-blocking, and its peer's address; None when none is waiting.

    `allow_from` says which peers may connect over TCP (None: all); others are closed with a line in the log. Raises
    OutOfRoom, which is logged too: the caller should try again after a while, and not watch the socket until then.
    """
    while True:
        try:
            sock, address = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            logger().error("cannot accept connections, trying again in 1 s: %s (raise ulimit -n)", error)
            raise OutOfRoom from error
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            return sock, address
        if allow_from is None or address[0] in allow_from:
            # Answers leave whole: nothing is to be gained by waiting for more.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock, address
        logger().warning("connection from %s refused: not among the allowed addresses (allow_from)", address[0])
        sock.close()
