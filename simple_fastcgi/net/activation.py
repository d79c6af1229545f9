"""Listening sockets that systemd opened, by its protocol of three variables (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

from ..errors import ConfigurationError
from .adopt import describe_fd, is_listening
from .listen import ListeningSocket, name_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

SD_LISTEN_FDS_START = 3
"""The descriptor of the first socket."""
# The last one, of newer systemd, names the same process in another way.
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
# Far beyond what anybody passes; a number of any length must not be counted to.
_MOST = 1024


def is_activated() -> bool:
    """Whether the environment passes sockets to this very process: LISTEN_PID is its number.

    Variables that another process was given, and that were inherited since, say nothing.
    """
    return "LISTEN_FDS" in os.environ and os.environ.get("LISTEN_PID") == str(os.getpid())


def activation_of_another() -> str:
    """Why sockets that the environment names are not for this process, for an error message; nothing if it has none."""
    if "LISTEN_FDS" not in os.environ or is_activated():
        return ""
    return (
        f"LISTEN_FDS is set, but for process {os.environ.get('LISTEN_PID', '(none)')}, which is not this one "
        f"({os.getpid()}): let ExecStart= start this program itself, or by exec"
    )


def take_activated(allow: Container[str] | None = None) -> ListeningSocket:
    """The socket, or all the sockets, that were passed to this process.

    They are not inherited any further, and the variables are removed from the environment, so that no program that
    is started from here takes them for its own. `allow`: who may connect over TCP.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` if there is none, or if one is no listening stream socket.
    """
    count, names = os.environ["LISTEN_FDS"], os.environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in _VARIABLES:
        os.environ.pop(variable, None)
    if not count.isascii() or not count.isdigit() or int(count) == 0 or int(count) > _MOST:
        raise ConfigurationError(f"LISTEN_FDS={count!r}: that is no number of sockets from 1 to {_MOST}")
    fds = range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(count))
    for fd in fds:
        if not is_listening(fd):
            raise ConfigurationError(
                f"LISTEN_FDS={count}: fd {fd} is {describe_fd(fd)}, not a listening stream socket: "
                "the .socket unit needs ListenStream= and Accept=no"
            )
    return PassedSockets(fds, names, allow)


class PassedSockets(ListeningSocket):
    """One or several listening sockets that were passed to this process, by their descriptors and names."""

    __slots__ = ("_fds", "_names")

    def __init__(self, fds: range, names: list[str], allow: Container[str] | None) -> None:
        self._fds, self._names = fds, names
        sockets, described = [], []
        for position, fd in enumerate(fds):
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            sockets.append(sock)
            name = names[position] if position < len(names) else ""
            described.append(f"fd {fd} ({name + ', ' if name else ''}{name_socket(sock)})")
        if len(sockets) > 1:
            from .several import SeveralSockets

            super().__init__(SeveralSockets(sockets), " and ".join(described), allow=allow)
        else:
            super().__init__(sockets[0], described[0], allow=allow)

    def pass_on(self) -> bool:
        """As systemd did: the process stays the same."""
        for fd in self._fds:
            os.set_inheritable(fd, True)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(self._fds))
        os.environ["LISTEN_FDNAMES"] = ":".join(self._names)
        return True
