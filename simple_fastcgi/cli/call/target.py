"""Whom to call: the client's reading of an address, and what a look at the socket file tells besides."""

from __future__ import annotations

import os
import socket
import stat
import time

from ...client import target
from ...client.connection import open_socket
from ...errors import ConfigurationError
from ...net.address import format_tcp
from . import status
from .status import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...net.address import BindAddress


def parse_target(text: str) -> BindAddress:
    """As :func:`.client.target.parse_target`, but CallError for what is none."""
    try:
        return target.parse_target(text)
    except ConfigurationError as error:
        raise CallError(status.USAGE, str(error).replace("address", "TARGET", 1)) from None


def connect(address: BindAddress, connect_timeout: float, deadline: float) -> socket.socket:
    """A socket connected to `address` within `connect_timeout` seconds, and before `deadline` (time.monotonic()).

    CallError if there is none.
    """
    left = max(deadline - time.monotonic(), 0.0)
    seconds, option = min((connect_timeout, "--connect-timeout"), (left, "--max-time"))
    try:
        return open_socket(address, seconds)
    except OSError as error:
        if isinstance(error, socket.gaierror):
            raise CallError(status.HOST, target.explain(error, address)) from None
        if isinstance(error, TimeoutError) and error.errno is None:
            told = target.explain_timeout(round(seconds, 3), address, option)
            raise CallError(status.TIMEOUT, told) from None
        raise CallError(status.CONNECT, _explain(error, address)) from None


def _explain(error: OSError, address: BindAddress) -> str:
    told = target.explain(error, address)
    if address.kind == "tcp":
        return f"{told}{_stands_for(address)}"
    seen = _look(error, address.path) if address.kind == "unix" else None
    return told if seen is None else f"cannot connect to {address}: {seen}"


def _stands_for(address: BindAddress) -> str:
    """The addresses of a host name: the application may listen on another one."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    numbers = dict.fromkeys(str(entry[4][0]) for entry in found)
    if address.host in numbers:
        return ""
    return f" ({address.host} is {', '.join(format_tcp(number, address.port) for number in numbers)})"


def _look(error: OSError, path: str) -> str | None:
    """What `path` shows that the error alone does not."""
    if isinstance(error, FileNotFoundError):
        folder = os.path.dirname(path) or "."
        return None if os.path.isdir(folder) else f"there is no such socket file, and no folder {folder} either"
    user = _user(os.geteuid())
    try:
        found = os.stat(path)
    except PermissionError:
        return f"permission denied; a folder on the way is closed to this user ({user})"
    except OSError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        return "this file is no socket"
    if isinstance(error, PermissionError):
        owner, group = _user(found.st_uid), _group(found.st_gid)
        return (
            f"permission denied; it belongs to {owner}:{group}, mode {stat.S_IMODE(found.st_mode):04o}, and this is "
            f"{user}: try sudo -u {owner}, or be in the group {group}"
        )
    return None


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
