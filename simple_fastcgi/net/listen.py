"""From a bind string to a listening socket."""

from __future__ import annotations

import errno
import os
import socket

from ..errors import ConfigurationError
from .access import FileAccess
from .address import format_tcp, is_loopback, parse_bind
from .adopt import adopt
from .allow import as_allow_list, web_servers
from .unix import SocketFile, listen_unix, public_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from types import TracebackType

    from .address import BindAddress
    from .allow import AllowFrom

DEFAULT_BACKLOG = 2048
"""Connections that wait to be accepted; the kernel's own bound (``somaxconn``) may be lower."""

_MAX_BACKLOG = 65535


class ListeningSocket:
    """A listening socket, with what there is to say about it and to clean up after it.

    ``socket``
        The socket object: listening, non-blocking, non-inheritable.
    ``allow`` (container of addresses, or None)
        Whose connections are to be served; None: everybody's. Whoever accepts has to ask it.
    ``exclusive`` (bool)
        Whether it was made here, and no other program accepts its connections.

    As a context manager it closes itself.
    """

    __slots__ = ("_description", "_file", "allow", "exclusive", "socket")

    def __init__(
        self,
        sock: socket.socket,
        description: str | Callable[[], str],
        *,
        file: SocketFile | None = None,
        allow: Container[str] | None = None,
        exclusive: bool = False,
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.allow = allow
        self.exclusive = exclusive
        self._description = description
        self._file = file

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.socket.fileno()

    def describe(self) -> str:
        """Where it listens and for whom, as it was when bound.

        For example ``unix:/run/app.sock (mode 0660, owner app:www-data)``, ``127.0.0.1:9000``,
        ``0.0.0.0:9000 (only for 10.0.0.0/8)`` or ``fd://0 (unix:/run/app.sock)``.
        """
        description = self._description if isinstance(self._description, str) else self._description()
        return f"{description} (only for {self.allow})" if self.allow is not None else description

    def arrange_end(self, stop: Callable[[], object]) -> Callable[[], object]:
        """What a stop signal has to call, where `stop` ends the server; here that.

        Where requests come to an end by themselves `stop` is called then, by any thread.
        """
        return stop

    def pass_on(self) -> bool:
        """Let the program that is to replace this process (`execve`) find the socket; False where it would not."""
        return False

    def __str__(self) -> str:
        return self.describe()

    def close(self) -> None:
        """Removes the socket file if it is still the one that was made here, and closes this socket. Never raises.

        Duplicates of the socket go on listening, but nobody finds them any more: to be called when a server stops
        accepting. A forked child's call leaves the file alone.
        """
        if self._file is not None:
            self._file.remove()
            self._file = None
        self.socket.close()

    def __enter__(self) -> ListeningSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bind_socket(
    bind: str,
    *,
    backlog: int = DEFAULT_BACKLOG,
    socket_mode: int | str | None = None,
    socket_owner: int | str | None = None,
    socket_group: int | str | None = None,
    allow_from: AllowFrom | None = None,
) -> ListeningSocket:
    """A socket that listens at ``bind`` (str, see :func:`parse_bind`).

    ``backlog`` (connections, default 2048)
        How many may wait to be accepted.
    ``socket_mode`` (octal digits as str, or int; default 0o660), ``socket_owner``, ``socket_group`` (name or
    number; default: the process's own)
        Who may connect to a socket file. See :class:`FileAccess`.
    ``allow_from`` (addresses and networks, default none)
        Who may connect over TCP; needed for an address that other machines can reach, since FastCGI has no
        authentication, unless FCGI_WEB_SERVER_ADDRS says it. Not asked of ``fd://N``: whoever opened that socket has
        decided.

    A host name is bound at its first IPv4 address if it has one, else at its first IPv6 address.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for settings that can never work, and :class:`OSError`,
    whose ``strerror`` is one clear line, for what the machine refuses now (busy, not permitted).
    """
    address = parse_bind(bind)
    _check_backlog(backlog)
    access = FileAccess(socket_mode, socket_owner, socket_group)
    if address.kind != "unix" and not (socket_mode is socket_owner is socket_group is None):
        raise ConfigurationError(
            f"bind {bind!r}: socket_mode, socket_owner and socket_group are for socket files: "
            'leave them out, or bind "unix:/run/app.sock"'
        )
    allow = _allow_list(bind, address, allow_from)
    if address.kind == "fd":
        sock = adopt(address.fd)
        return ListeningSocket(sock, f"{address} ({name_socket(sock)})", allow=allow)
    if address.kind == "tcp":
        sock = listen_tcp(address, backlog, guarded=allow is not None or web_servers() is not None)
        return ListeningSocket(sock, name_socket(sock), allow=allow, exclusive=True)
    if address.kind == "abstract":
        sock = _listen(socket.AF_UNIX, "\0" + address.path, str(address), backlog)
        return ListeningSocket(sock, f"{address} (abstract: every user of this machine may connect)", exclusive=True)
    sock, file = listen_unix(address.path, backlog, access)
    return ListeningSocket(sock, file.describe, file=file, exclusive=True)


def resume_socket(bind: str, sock: socket.socket, *, allow_from: AllowFrom | None = None) -> ListeningSocket:
    """What :func:`bind_socket` gave for `bind`, again, with the same socket: for a program that has replaced itself.

    Raises OSError if it was a socket file which is there no longer.
    """
    address = parse_bind(bind)
    allow = _allow_list(bind, address, allow_from)
    if address.kind == "unix":
        file = SocketFile(os.path.abspath(address.path))
        return ListeningSocket(sock, file.describe, file=file, exclusive=True)
    return ListeningSocket(sock, name_socket(sock), allow=allow, exclusive=address.kind != "fd")


def name_socket(sock: socket.socket) -> str:
    """Where ``sock`` listens, as a bind string: ``unix:/run/app.sock``, ``127.0.0.1:9000``.

    A unix socket without a name is "an unnamed unix socket".
    """
    name = sock.getsockname()
    if isinstance(name, bytes):
        return f"unix:@{os.fsdecode(name[1:])}"
    if isinstance(name, str):
        return f"unix:{public_path(name)}" if name else "an unnamed unix socket"
    return format_tcp(name[0], name[1])


def _check_backlog(backlog: object) -> None:
    if isinstance(backlog, bool) or not isinstance(backlog, int) or not 0 < backlog <= _MAX_BACKLOG:
        raise ConfigurationError(f"backlog={backlog!r}: give a whole number from 1 to {_MAX_BACKLOG}")


def _allow_list(bind: str, address: BindAddress, given: AllowFrom | None) -> Container[str] | None:
    allow = as_allow_list(given)
    if allow is not None and address.kind in ("unix", "abstract"):
        raise ConfigurationError(
            f"bind {bind!r}: allow_from (--allow-from) is for TCP, peers of a unix socket have no address: "
            "leave it out, and use socket_mode, socket_owner and socket_group"
        )
    return allow


def listen_tcp(address: BindAddress, backlog: int = DEFAULT_BACKLOG, *, guarded: bool) -> socket.socket:
    """A socket that listens at `address`, which must be loopback unless somebody guards it; raises as `bind_socket`."""
    family, sockaddr = _resolve(address)
    if not guarded and not is_loopback(sockaddr[0]):
        raise ConfigurationError(
            f"bind {str(address)!r}: FastCGI has no authentication, and other machines can reach this address: "
            f'say with --allow-from (allow_from=) who may connect, or bind "127.0.0.1:{address.port}"'
        )
    return _listen(family, sockaddr, str(address), backlog)


def _resolve(address: BindAddress) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(
            errno.EADDRNOTAVAIL,
            f"bind {str(address)!r}: no address found for {address.host!r} ({error.strerror}): "
            "give the address itself, or mend the name",
        ) from error
    # Web servers are mostly told "127.0.0.1", and those told "localhost" try both.
    best = min(found, key=lambda info: info[0] != socket.AF_INET)
    return best[0], best[4]  # type: ignore[return-value]


def _listen(family: int, sockaddr: tuple[str, int] | str, name: str, backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # Else a restart within a minute finds its own port busy.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _explained(error, name) from error
    return sock


def _explained(error: OSError, name: str) -> OSError:
    cures = {
        errno.EADDRINUSE: "busy, another program listens there: stop that program, or choose another address",
        errno.EACCES: "not permitted, ports below 1024 are for root: choose a port from 1024 up",
        errno.EADDRNOTAVAIL: "this machine has no such address: choose one that it has",
    }
    code = error.errno or errno.EIO
    return OSError(code, f"{name}: {cures.get(code, f'{error.strerror or error}: choose another address')}")
