"""Sockets that someone else opened: the web server, spawn-fcgi, a supervisor, or the caller."""

from __future__ import annotations

import errno
import os
import socket
import stat

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

FCGI_LISTENSOCK_FILENO = 0
"""The descriptor on which a spawned FastCGI application finds its listening socket (specification, 2.2)."""


class Listener(socket.socket):
    """What servers take for a listening socket although it is none, or more than one.

    Its descriptor is ready when a connection waits, which :meth:`accept` gives; else that raises BlockingIOError.
    """

    def dup(self) -> Self:
        """Another object for the same, which is closed by itself."""
        raise NotImplementedError

    def dup_plain(self) -> socket.socket:
        """A duplicate of the socket of which this object is made."""
        return socket.socket(self.family, self.type, self.proto, os.dup(super().fileno()))


def adopt(sockfd: int | socket.socket = FCGI_LISTENSOCK_FILENO, *, server: str | None = None) -> socket.socket:
    """A non-blocking, non-inheritable duplicate of a listening socket.

    ``sockfd`` (int or socket object, default 0)
        What the caller has. It stays the caller's: closing the duplicate never closes it. Its blocking mode
        changes all the same, since both share one open file description.
    ``server`` (str or None, default None)
        The class that was to take it, for what is said if it cannot; None for ``serve()``, which has other settings.

    What the descriptor *is* decides, never an environment variable: those are inherited by programs they do not
    concern.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` if it is no listening stream socket, and
    :class:`OSError` if the process has no descriptor left.
    """
    if isinstance(sockfd, Listener):
        return sockfd.dup()
    fd = sockfd.fileno() if isinstance(sockfd, socket.socket) else sockfd
    if isinstance(fd, bool) or not isinstance(fd, int):
        raise ConfigurationError(f"sockfd={sockfd!r}: give the number of a descriptor, or a listening socket")
    if not is_listening(fd):
        raise ConfigurationError(_cure(fd, server, given=isinstance(sockfd, socket.socket)))
    sock = socket.socket(fileno=os.dup(fd))
    sock.setblocking(False)
    return sock


def is_listening(fd: int) -> bool:
    """Whether descriptor ``fd`` is a stream socket that listens. Never raises; a closed descriptor is False."""
    return describe_fd(fd) == "a listening socket"


def describe_fd(fd: int) -> str:
    """What descriptor ``fd`` is, in words that finish the sentence "fd 0 is ...". Never raises.

    One of "closed", "a terminal", "a pipe", "a regular file", "a directory", "/dev/null", "a device",
    "a listening socket", "a connected socket", "a datagram socket", "a socket that does not listen", or
    "neither a file nor a socket".
    """
    try:
        facts = os.fstat(fd)
        if stat.S_ISSOCK(facts.st_mode):
            return _describe_socket(fd)
        if os.isatty(fd):
            return "a terminal"
    # A number too large for a C int is no open descriptor either.
    except (OSError, OverflowError):
        return "closed"
    if stat.S_ISCHR(facts.st_mode):
        return "/dev/null" if facts.st_rdev == _null_device() else "a device"
    names = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISREG, "a regular file"), (stat.S_ISDIR, "a directory"))
    for test, name in names:
        if test(facts.st_mode):
            return name
    return "a device" if stat.S_ISBLK(facts.st_mode) else "neither a file nor a socket"


def _describe_socket(fd: int) -> str:
    sock = socket.socket(fileno=fd)
    try:
        if sock.type != socket.SOCK_STREAM:
            return "a datagram socket" if sock.type == socket.SOCK_DGRAM else "a socket that does not listen"
        connected = _is_connected(sock)
        if _accepts(sock, connected=connected):
            return "a listening socket"
        return "a connected socket" if connected else "a socket that does not listen"
    finally:
        # The descriptor is not ours to close.
        sock.detach()


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError as error:
        # EINVAL: macOS, when the peer has gone already.
        return error.errno == errno.EINVAL
    return True


def _accepts(sock: socket.socket, *, connected: bool) -> bool:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    except OSError:  # pragma: no cover - for systems that only let this option be seen, not asked
        # The specification's own test (2.2): a listening socket has no peer.
        return not connected


def _null_device() -> int:
    try:
        return os.stat(os.devnull).st_rdev
    except OSError:  # pragma: no cover - a chroot without devices
        return -1


def _cure(fd: int, server: str | None, *, given: bool) -> str:
    what = describe_fd(fd)
    if given:
        return f"the socket given is {what}, not a listening one: call bind() and listen() on it first"
    if server is None:
        cure = (
            'give bind= (--bind), for example "unix:/run/app.sock", '
            "or let the web server or spawn-fcgi start this program"
        )
    else:
        cure = (
            "let the web server or spawn-fcgi start this program, "
            f"or give the server a listening socket: {server}(Handler, sock)"
        )
    return f"fd {fd} is {what}, not a listening socket: {cure}"
