"""Taking connections from a listening socket, from those who may connect (specification, 3.2)."""

from __future__ import annotations

import errno
import os
import socket
from errno import EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from socket import AF_UNIX, SOCK_STREAM, SocketType
from time import monotonic

from ..log import logger
from .allow import WEB_SERVER_ADDRS, as_allow_list, web_servers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .allow import AllowFrom

# What accept(2) tells of a connection that failed while it waited.
_ITS_OWN = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"),
        *("EOPNOTSUPP", "ENETUNREACH", "EPERM", "ECONNRESET", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
_NO_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})
_SECONDS_BETWEEN_LINES = 1.0


class OutOfRoom(Exception):
    """The process or the system has no descriptor or memory left; the connection waits in the listen queue."""


class Acceptor:
    """Takes connections from a listening socket, and closes those of peers that may not connect.

    Two lists say who may: `allow_from`, of the program, and FCGI_WEB_SERVER_ADDRS in the environment, of whoever
    started it. A peer has to be in each of those that there are, so that neither opens what the other one closed.
    `allow_from` is for TCP only; the environment's, as the specification (3.2) says, lets nobody in who does not
    come over TCP.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for a list that cannot be read.
    """

    def __init__(self, allow_from: AllowFrom | None = None) -> None:
        self._allow_from = as_allow_list(allow_from)
        self._web_servers = web_servers()
        self.refused: Callable[[], object] = _nobody_asks
        """Called for each connection that is refused."""
        self._next_line = 0.0
        self._untold = 0

    def accept(self, listening: socket.socket) -> tuple[int, object] | None:
        """The next connection to `listening`, and its peer's address; None when none is waiting, or it was refused.

        It comes as a descriptor, which is the caller's to close. Both sockets are non-blocking. Further connections
        may wait behind a refused one: ask again when `listening` is ready, which it still is then. Raises OutOfRoom,
        which is logged: the caller should try again after a while, and not watch the socket until then.
        """
        try:
            # listening.accept() makes an object of it, which takes as long again.
            accepted: tuple[int, Any] = listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        except OSError as error:
            # The last: others who have the socket let nobody connect any more, and we are about to be told to end.
            if error.errno in _ITS_OWN or error.errno == EINVAL:
                return None
            if error.errno not in _NO_ROOM:
                raise
            logger().error("cannot accept connections, trying again in 1 s: %s (raise ulimit -n)", error)
            raise OutOfRoom from error
        descriptor, address = accepted
        # Whoever comes over a unix socket has no name, mostly.
        if (address != "" or self._web_servers is not None) and not self._admits(listening, descriptor, address):
            os.close(descriptor)
            return None
        os.set_blocking(descriptor, False)
        return accepted

    def _admits(self, listening: socket.socket, descriptor: int, address: Any) -> bool:
        over_tcp = isinstance(address, tuple)
        if why := self._objection(address[0]) if over_tcp else self._objection_to_unix():
            self._tell(address[0] if over_tcp else "a unix socket", why)
            self.refused()
            return False
        if over_tcp:
            _send_at_once(descriptor)
        # Without an address it has gone again, on systems which tell that now.
        return address is not None or listening.family == AF_UNIX

    def _objection(self, host: str) -> str:
        """Why a peer may not connect, and what to do about it; nothing if it may."""
        if self._web_servers is not None and host not in self._web_servers:
            return f"the environment allows only {self._web_servers}: add its address to {WEB_SERVER_ADDRS}"
        if self._allow_from is not None and host not in self._allow_from:
            return "it is not among the allowed addresses: add it to allow_from (--allow-from)"
        return ""

    def _objection_to_unix(self) -> str:
        if self._web_servers is None:
            return ""
        return f"the environment allows only {self._web_servers} over TCP: unset {WEB_SERVER_ADDRS} for unix sockets"

    def _tell(self, peer: str, why: str) -> None:
        """One line a second at most, for anybody who can reach the socket can make us write them."""
        now = monotonic()
        if now < self._next_line:
            self._untold += 1
            return
        more = f" ({self._untold} more were refused since the last such line)" if self._untold else ""
        logger().warning("connection from %s refused: %s%s", peer, why, more)
        self._next_line = now + _SECONDS_BETWEEN_LINES
        self._untold = 0


def _send_at_once(descriptor: int) -> None:
    """Answers leave whole: nothing is to be gained by waiting for more."""
    try:
        sock = SocketType(-1, SOCK_STREAM, 0, descriptor)
    except OSError:
        # It has gone again, as the next read tells, too.
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass
    finally:
        sock.detach()


def _nobody_asks() -> None:
    """There is no monitor."""
