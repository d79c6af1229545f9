"""Taking connections from a listening socket, from those who may connect (specification, 3.2)."""

from __future__ import annotations

import errno
import os
import socket
import sys
from errno import EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM
from socket import AF_UNIX, SOCK_STREAM, SocketType
from time import monotonic

from ..log import logger
from .allow import WEB_SERVER_ADDRS, as_allow_list, web_servers
from .peer import is_shut_down

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
# Descriptors that connections leave to what the application opens, and to late imports; of few a part.
_KEPT = 64
_KEPT_OF_FEW = 4


class OutOfRoom(Exception):
    """The process or the system has no descriptor or memory to spare; the connection waits in the listen queue."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        """How long at least not to try again; with 0 it is worth it as soon as a connection is closed."""


class Acceptor:
    """Takes connections from a listening socket, and closes those of peers that may not connect.

    Two lists say who may: `allow_from`, of the program, and FCGI_WEB_SERVER_ADDRS in the environment, of whoever
    started it. A peer has to be in each of those that there are, so that neither opens what the other one closed.
    `allow_from` is for TCP only; the environment's, as the specification (3.2) says, lets nobody in who does not
    come over TCP.

    Some of the process's descriptors (``ulimit -n``) it leaves free: without any the application fails, and so does
    each import. The number of a new descriptor tells how many are in use, as it is the lowest that is free.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for a list that cannot be read.
    """

    def __init__(self, allow_from: AllowFrom | None = None) -> None:
        self._allow_from = as_allow_list(allow_from)
        self._web_servers = web_servers()
        self.refused: Callable[[], object] = _nobody_asks
        """Called for each connection that is refused."""
        self._next_line = 0.0
        self._untold = 0
        # Whether to look for room first: the limit is not known yet, or one of those to be kept was taken.
        self._is_tight = True
        self._first_kept = 0
        self._taken_of_kept = 0
        self._next_line_of_room = 0.0
        self._was_awaited = False

    def accept(self, listening: socket.socket, open_connections: int = 0) -> tuple[int, object] | None:
        """The next connection to `listening`, and its peer's address; None when none is waiting, or it was refused.

        It comes as a descriptor, which is the caller's to close. Both sockets are non-blocking. Further connections
        may wait behind a refused one: ask again when `listening` is ready, which it still is then. `open_connections`:
        how many the caller has. Raises OutOfRoom, which is logged, also where somebody has shut the socket down, which
        is not: the caller should try again after a while, and not watch the socket until then.
        """
        if self._is_tight and not self._has_room(listening, open_connections):
            raise OutOfRoom
        try:
            # listening.accept() makes an object of it, which takes as long again.
            accepted: tuple[int, Any] = listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError as error:
            was_awaited, self._was_awaited = self._was_awaited, False
            # To look takes as long as to accept.
            if not was_awaited and is_shut_down(listening):
                raise OutOfRoom(1.0) from error
            return None
        except OSError as error:
            if error.errno in _ITS_OWN:
                return None
            if error.errno == EINVAL:
                # Others who have the socket let nobody connect any more, and we are about to be told to end.
                raise OutOfRoom(1.0) from error
            if error.errno not in _NO_ROOM:
                raise
            self._is_tight = True
            if error.errno == EMFILE:
                # The application has taken what was kept for it, and will not give it back, perhaps: keep more.
                self._taken_of_kept += _KEPT
            self._tell_of_room("cannot accept connections, trying again in 1 s: %s (raise ulimit -n)", error)
            raise OutOfRoom(1.0) from error
        self._was_awaited = True
        descriptor, address = accepted
        if descriptor >= self._first_kept:
            self._is_tight = True
        # Whoever comes over a unix socket has no name, mostly.
        if (address != "" or self._web_servers is not None) and not self._admits(listening, descriptor, address):
            os.close(descriptor)
            return None
        os.set_blocking(descriptor, False)
        return accepted

    def _has_room(self, listening: socket.socket, open_connections: int) -> bool:
        """Whether a further connection leaves as many descriptors as are to be kept."""
        limit = _descriptor_limit()
        kept = min(_KEPT, limit // _KEPT_OF_FEW)
        self._first_kept = limit - min(kept + self._taken_of_kept, max(kept, limit // 2))
        try:
            lowest_free = os.dup(listening.fileno())
        except OSError:
            # accept(2) will tell.
            return True
        os.close(lowest_free)
        # Where the application itself has most of them connections get half of what it leaves.
        if lowest_free < self._first_kept or open_connections < limit - lowest_free:
            self._is_tight = lowest_free >= self._first_kept
            return True
        self._tell_of_room(
            "cannot accept connections for now: %d of %d descriptors are in use (ulimit -n), the others are kept for "
            "the application: raise ulimit -n (systemd: LimitNOFILE), or let the web server keep fewer connections",
            *(lowest_free, limit),
        )
        return False

    def _tell_of_room(self, message: str, *arguments: object) -> None:
        """One line a second at most; whatever keeps it from being written must not end the server."""
        now = monotonic()
        if now < self._next_line_of_room:
            return
        self._next_line_of_room = now + _SECONDS_BETWEEN_LINES
        try:
            logger().error(message, *arguments)
        except Exception:
            # A handler of the application's own log, which can open no file either.
            pass

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


def _descriptor_limit() -> int:
    """How many descriptors this process may have now; it asks getrlimit(2), without the module for that."""
    try:
        limit = os.sysconf("SC_OPEN_MAX")
    except (OSError, ValueError):  # pragma: no cover - a system that does not tell
        limit = -1
    return limit if limit >= 0 else sys.maxsize


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
