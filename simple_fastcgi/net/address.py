"""What can be bound: the grammar of ``bind`` strings, without touching a socket or a file."""

from __future__ import annotations

import os
import socket
import sys

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["unix", "abstract", "tcp", "fd"]

FORMS = '"unix:/run/app.sock", "127.0.0.1:9000", "[::1]:9000" or "fd://0"'
"""The forms of a bind string, as error messages and help texts show them."""

UNIX_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""Bytes that fit into ``sun_path`` beside its closing NUL: 108 bytes on Linux, 104 on BSD and macOS."""

_DIGITS = "0123456789"
_IN_HOST_NAMES = f"{_DIGITS}ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
_MAX_HOST_NAME = 253
_MAX_LABEL = 63
_MAX_PORT = 65535
_MAX_FD = 2**31 - 1


class BindAddress:
    """A parsed bind string; ``str()`` gives its normal form, which parses to an equal address.

    ``kind``
        ``"unix"`` (a socket file), ``"abstract"`` (Linux: a name without a file), ``"tcp"``, or
        ``"fd"`` (a socket that someone else opened).
    ``path`` (str)
        The file's path as it was written, or the abstract name without its ``@``; else ``""``.
    ``host`` (str), ``port`` (int)
        An address (IPv6 without brackets) or a host name, and 0 to 65535, where 0 lets the system choose;
        else ``""`` and 0.
    ``fd`` (int)
        The descriptor's number; else -1.
    """

    __slots__ = ("fd", "host", "kind", "path", "port")

    def __init__(self, kind: Kind, *, path: str = "", host: str = "", port: int = 0, fd: int = -1) -> None:
        self.kind = kind
        self.path = path
        self.host = host
        self.port = port
        self.fd = fd

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "abstract":
            return f"unix:@{self.path}"
        if self.kind == "fd":
            return f"fd://{self.fd}"
        return format_tcp(self.host, self.port)

    def __repr__(self) -> str:
        return f"<BindAddress {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BindAddress) and (self.kind, str(self)) == (other.kind, str(other))

    def __hash__(self) -> int:
        return hash((self.kind, str(self)))


def format_tcp(host: str, port: int) -> str:
    """``host:port`` as people write it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_bind(bind: str) -> BindAddress:
    """Reads a bind string, without looking at the machine: no file, no name service, no socket.

    ``unix:PATH``
        A socket file; a relative path counts from the current directory. ``unix:///run/app.sock``, as other
        programs write it, is the same as ``unix:/run/app.sock``.
    ``unix:@NAME``
        An abstract socket (Linux only): no file, so no permissions either.
    ``ADDRESS:PORT``, ``[IPV6]:PORT``, ``HOSTNAME:PORT``
        TCP. There is no short form for "all interfaces": who wants that writes ``0.0.0.0:9000`` or ``[::]:9000``.
    ``fd://N``
        Descriptor N, which must be a listening socket.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for everything else, and for a path that is too long
    for the system; no other exception, whatever the string.
    """
    if not isinstance(bind, str):
        raise ConfigurationError(f"bind {bind!r}: give a string, {FORMS}")
    if bind.startswith("unix:"):
        return _parse_unix(bind)
    if bind.startswith("fd:"):
        return _parse_fd(bind)
    scheme, separator, rest = bind.partition("://")
    if separator:
        raise _refused(bind, f"no such scheme as {scheme!r}: write {rest!r} for TCP, or one of {FORMS}")
    if "/" in bind:
        raise _refused(bind, f"a socket file needs its prefix: write {'unix:' + bind!r}")
    return _parse_tcp(bind)


def keep_place(bind: str) -> str:
    """`bind` with the path of a socket file made absolute: it stays the same whoever changes the current directory.

    What is no bind string is given back as it is, for whoever binds it to tell.
    """
    try:
        address = parse_bind(bind)
        return f"unix:{os.path.abspath(address.path)}" if address.kind == "unix" else bind
    except (ConfigurationError, OSError):
        # The latter: the current directory has been deleted.
        return bind


def is_socket_file(bind: str | None) -> bool:
    """Whether `bind` is the path of a socket file; what is no bind string at all is none."""
    try:
        return bind is not None and parse_bind(bind).kind == "unix"
    except ConfigurationError:
        return False


def is_port(text: str) -> bool:
    """Whether `text` is the number of a port, or 0."""
    return _decimal(text, _MAX_PORT) is not None


def is_loopback(address: str) -> bool:
    """Whether an IPv4 or IPv6 address (str, no name) is one that only this machine can reach."""
    packed = _packed(socket.AF_INET, address)
    if packed is None:
        packed = _packed(socket.AF_INET6, address.partition("%")[0])
        if packed is None:
            return False
        if packed.startswith(b"\0" * 10 + b"\xff\xff"):
            packed = packed[12:]
    return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"


def _parse_unix(bind: str) -> BindAddress:
    path = bind.removeprefix("unix:")
    if path.startswith("//"):
        if not path.startswith("///"):
            raise _refused(bind, f"two slashes say neither relative nor absolute: write {'unix:' + path[2:]!r}")
        path = "/" + path.lstrip("/")
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise _refused(bind, "no file name can hold these characters: choose another path") from None
    if any(character < " " or character == "\x7f" for character in path):
        raise _refused(bind, "a path with control characters is a slip of the pen: choose another path")
    if path.startswith("@"):
        return _parse_abstract(bind, path[1:], size)
    if os.path.basename(path) in ("", ".", ".."):
        raise _refused(bind, 'it names no file: write, for example, "unix:/run/app.sock"')
    if size > UNIX_PATH_LIMIT:
        raise _refused(bind, f"this path has {size} bytes, a socket's may have {UNIX_PATH_LIMIT}: choose a shorter one")
    return BindAddress("unix", path=path)


def _parse_abstract(bind: str, name: str, size: int) -> BindAddress:
    if sys.platform != "linux":  # pragma: no cover
        raise _refused(bind, 'only Linux has abstract sockets: write "unix:/run/app.sock", or "unix:./@..." for a file')
    if not name:
        raise _refused(bind, 'an abstract socket needs a name: write, for example, "unix:@app"')
    if size > UNIX_PATH_LIMIT:
        raise _refused(bind, f"this name has {size} bytes, it may have {UNIX_PATH_LIMIT}: choose a shorter one")
    return BindAddress("abstract", path=name)


def _parse_fd(bind: str) -> BindAddress:
    number = _decimal(bind.removeprefix("fd://"), _MAX_FD)
    if number is None:
        raise _refused(bind, 'give the number of a descriptor, as in "fd://0"')
    return BindAddress("fd", fd=number)


def _parse_tcp(bind: str) -> BindAddress:
    host, colon, digits = bind.rpartition(":")
    if "," in bind:
        raise _refused(bind, f"several addresses: give one, as {bind.partition(',')[0].strip()!r}")
    if not colon:
        if is_port(bind):
            raise _refused(bind, f'a port alone says no address: write "127.0.0.1:{bind}"')
        raise _refused(bind, f"neither an address with a port nor a socket file: write {FORMS}")
    port = _decimal(digits, _MAX_PORT)
    if port is None:
        raise _refused(bind, f"{digits!r} is no port: give a number from 0 to {_MAX_PORT} after the last colon")
    if host in ("", "*"):
        raise _refused(
            bind,
            f'it says no address: write "127.0.0.1:{port}" for this machine only, '
            f'or "0.0.0.0:{port}" with --allow-from (allow_from=) for others too',
        )
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        address, percent, zone = inner.partition("%")
        # The system takes no address that is longer than a label, whatever its zone.
        if (
            len(inner) > _MAX_LABEL
            or _packed(socket.AF_INET6, address) is None
            or (percent and not _is_host_name(zone))
        ):
            raise _refused(bind, f'{inner!r} is no IPv6 address: write, for example, "[::1]:{port}"')
        return BindAddress("tcp", host=inner, port=port)
    if ":" in host:
        raise _refused(bind, f'an IPv6 address stands in brackets: write, for example, "[::1]:{port}"')
    # The C library would read "127.1" and "017.0.0.1" in its own old ways; nobody means that.
    if host and not host.strip(f"{_DIGITS}.") and _packed(socket.AF_INET, host) is None:
        raise _refused(bind, f'{host!r} is no IPv4 address: write four numbers, as in "127.0.0.1:{port}"')
    if len(host) > _MAX_HOST_NAME or not _is_host_name(host):
        raise _refused(bind, f"{host!r} is no address and no host name: write {FORMS}")
    return BindAddress("tcp", host=host, port=port)


def _decimal(digits: str, largest: int) -> int | None:
    # int() alone takes signs, spaces, underscores and the digits of every script.
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10):
        return None
    number = int(digits)
    return number if number <= largest else None


def _packed(family: int, address: str) -> bytes | None:
    try:
        return socket.inet_pton(family, address)
    except (OSError, ValueError):
        return None


def _refused(bind: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"bind {bind!r}: {why}")


def _is_host_name(text: str) -> bool:
    # Without a regular expression: re would be imported for it alone.
    return all(
        0 < len(label) <= _MAX_LABEL and label[0] != "-" and not label.strip(_IN_HOST_NAMES)
        for label in text.split(".")
    )
