"""Sockets, without an event loop: what to bind, what was inherited, who may connect, who has gone.

A spawned program, which finds its socket on fd 0, never needs the part that binds; it is imported on first use.
"""

from __future__ import annotations

from .accept import Acceptor, OutOfRoom
from .adopt import FCGI_LISTENSOCK_FILENO, adopt, describe_fd, is_listening
from .allow import AllowList, as_allow_list
from .peer import count_untaken, has_hung_up, is_awaited, is_readable, peer_is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .address import BindAddress, parse_bind
    from .listen import DEFAULT_BACKLOG, ListeningSocket, bind_socket, name_socket
    from .spool import ConnectionSpool

__all__ = [
    "DEFAULT_BACKLOG",
    "FCGI_LISTENSOCK_FILENO",
    "Acceptor",
    "AllowList",
    "BindAddress",
    "ListeningSocket",
    "OutOfRoom",
    "adopt",
    "as_allow_list",
    "bind_socket",
    "connection_spool",
    "count_untaken",
    "describe_fd",
    "end_if_forked",
    "has_hung_up",
    "is_awaited",
    "is_listening",
    "is_readable",
    "name_socket",
    "parse_bind",
    "peer_is_gone",
]


def end_if_forked(serving: int) -> None:
    """As :func:`simple_fastcgi.net.forked.end_if_forked`, which few processes ever need."""
    from .forked import end_if_forked

    end_if_forked(serving)


def connection_spool() -> ConnectionSpool:
    """What makes the streams for one connection's input that memory has no room for; few ever need it."""
    from .spool import ConnectionSpool

    return ConnectionSpool()


_HOMES = {
    "BindAddress": "address",
    "parse_bind": "address",
    "DEFAULT_BACKLOG": "listen",
    "ListeningSocket": "listen",
    "bind_socket": "listen",
    "name_socket": "listen",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
