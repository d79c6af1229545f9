"""Whom to call: the address, and a connection to it."""

from __future__ import annotations

import os
import socket
import stat
import time

from ...errors import ConfigurationError
from ...net.address import FORMS, BindAddress, format_tcp, parse_bind
from . import status
from .status import CallError, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# A unix socket whose listen queue is full cannot be waited for: it is tried again.
_RETRY_SECONDS = 0.005


def parse_target(text: str) -> BindAddress:
    """Reads ``unix:PATH``, ``unix:@NAME``, ``HOST:PORT`` or ``[IPv6]:PORT``; CallError for everything else."""
    host, colon, port = text.rpartition(":")
    if colon and host in ("", "*") and port.isdigit():
        raise _refused(text, f'it says no address: write "127.0.0.1:{port}"')
    try:
        address = parse_bind(text)
    except ConfigurationError as error:
        raise _refused(text, str(error).removeprefix(f"bind {text!r}: ").replace(f", {FORMS}", "")) from None
    if address.kind == "fd":
        raise _refused(text, "a descriptor cannot be called: give the socket's own address")
    if address.kind == "tcp" and address.port == 0:
        raise _refused(text, "give the port, from 1 to 65535")
    return address


def connect(address: BindAddress, deadline: float) -> socket.socket:
    """A socket connected to `address` before `deadline` (time.monotonic()); CallError if there is none."""
    if address.kind != "tcp":
        name = f"\0{address.path}" if address.kind == "abstract" else address.path
        try:
            return _connect(socket.AF_UNIX, name, deadline)
        except TimeoutError:
            raise _too_slow(f"{address}, whose listen queue is full") from None
        except OSError as error:
            raise _no_unix(address, error) from None
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is no host name"
        raise CallError(status.HOST, f"cannot find the host {address.host!r}: {why}") from None
    failure: OSError | None = None
    for family, _, _, _, where in found:
        try:
            return _connect(family, where, deadline)
        except OSError as error:
            failure = failure or error
    assert failure is not None
    if isinstance(failure, TimeoutError) and failure.errno is None:
        raise _too_slow(str(address))
    cure = ": nothing listens there" if isinstance(failure, ConnectionRefusedError) else ""
    raise CallError(
        status.CONNECT,
        f"cannot connect to {_named(address, [str(entry[4][0]) for entry in found])}: {reason_of(failure)}{cure}",
    )


def _connect(family: int, where: object, deadline: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        while True:
            sock.settimeout(max(deadline - time.monotonic(), 1e-6))
            try:
                sock.connect(where)  # type: ignore[arg-type]
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
                time.sleep(_RETRY_SECONDS)
            else:
                sock.setblocking(False)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
    except BaseException:
        sock.close()
        raise


def _named(address: BindAddress, numbers: Sequence[str]) -> str:
    """The address, and what a name stands for."""
    if address.host in numbers:
        return str(address)
    return f"{address} ({', '.join(format_tcp(number, address.port) for number in dict.fromkeys(numbers))})"


def _too_slow(what: str) -> CallError:
    return CallError(status.TIMEOUT, f"no connection in time to {what}")


def _no_unix(address: BindAddress, error: OSError) -> CallError:
    return CallError(status.CONNECT, f"cannot connect to {address}: {reason_of(error)}{_cure(address, error)}")


def _cure(address: BindAddress, error: OSError) -> str:
    if address.kind == "abstract":
        return ": nothing listens under this name"
    path = address.path
    if isinstance(error, FileNotFoundError):
        folder = os.path.dirname(path) or "."
        return "; is the application running?" if os.path.isdir(folder) else f"; there is no folder {folder} either"
    try:
        found = os.stat(path)
    except PermissionError:
        return f"; a folder on the way is closed to this user ({_user(os.geteuid())})"
    except OSError:
        return ""
    if not stat.S_ISSOCK(found.st_mode):
        return "; it is no socket"
    if isinstance(error, PermissionError):
        owner = f"{_user(found.st_uid)}:{_group(found.st_gid)}"
        return (
            f"; it belongs to {owner}, mode {stat.S_IMODE(found.st_mode):04o}, and this is {_user(os.geteuid())}: "
            f"try sudo -u {_user(found.st_uid)}, or be in the group {_group(found.st_gid)}"
        )
    if isinstance(error, ConnectionRefusedError):
        return ": nothing listens on this socket; what made it has ended"
    return ""


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _refused(text: str, why: str) -> CallError:
    return CallError(status.USAGE, f"TARGET {text!r}: {why}")
