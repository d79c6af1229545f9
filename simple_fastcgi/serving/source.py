"""What a program is given to serve on: an address, a listening socket that somebody left to it, or one CGI request."""

from __future__ import annotations

import os

from ..errors import ConfigurationError
from ..net import FCGI_LISTENSOCK_FILENO, adopt, describe_fd, is_listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Literal

    from ..net import ListeningSocket
    from ..net.allow import AllowFrom


def what_is_given() -> Literal["socket", "request"] | None:
    """What whoever started this process gave it to serve: a listening socket, or by CGI the one request."""
    if is_listening(FCGI_LISTENSOCK_FILENO) or _is_activated():
        return "socket"
    return "request" if is_plain_cgi() else None


def is_plain_cgi(bind: str | None = None) -> bool:
    """Whether there is one request to be served, and nothing to listen on."""
    if bind is not None or "GATEWAY_INTERFACE" not in os.environ or is_listening(FCGI_LISTENSOCK_FILENO):
        return False
    from . import plain_cgi

    return not _is_activated() and plain_cgi.is_plain_cgi()


def _is_activated() -> bool:
    """Whether systemd passes sockets to this process."""
    if "LISTEN_FDS" not in os.environ:
        return False
    from ..net.activation import is_activated

    return is_activated()


def refuse_access(access: dict[str, Any]) -> None:
    """ConfigurationError for any setting in `access`: no socket file is made here."""
    useless = [name for name, value in access.items() if value is not None]
    if useless:
        raise ConfigurationError(
            f"{', '.join(useless)}: only for a unix socket that is made here, with bind or status_bind"
        )


def listen(
    bind: str | None,
    sock: socket.socket | int | None,
    allow_from: AllowFrom | None,
    access: dict[str, Any],
    status_bind: str | None = None,
) -> ListeningSocket:
    """What these settings of :func:`~simple_fastcgi.serve` mean; `access` are those of a unix socket's file.

    Where `status_bind` alone is one they are its own, and not asked of what is made here.
    """
    from ..net import ListeningSocket, as_allow_list, bind_socket, name_socket
    from ..net.address import is_socket_file

    if is_socket_file(status_bind) and not is_socket_file(bind):
        access = {}
    if bind is not None:
        if sock is not None:
            raise ConfigurationError("bind and sock were both given: give one of them")
        return bind_socket(bind, allow_from=allow_from, **access)
    refuse_access(access)
    allow = as_allow_list(allow_from)
    if sock is None and not is_listening(FCGI_LISTENSOCK_FILENO):
        from ..net.activation import activation_of_another, is_activated, take_activated

        if is_activated():
            return take_activated(allow)
        if is_plain_cgi():
            raise ConfigurationError("a CGI script, as which this program was called, is one process: omit --workers")
        raise ConfigurationError(
            "there is nothing to serve on: a web server, spawn-fcgi or supervisord that starts this program leaves a "
            f"listening socket on fd 0, but fd 0 is {describe_fd(FCGI_LISTENSOCK_FILENO)}; "
            f"{activation_of_another() or 'systemd passed no socket (LISTEN_FDS)'}; "
            "and no CGI request is to be answered (GATEWAY_INTERFACE). Started by hand, say where to listen: "
            "--bind unix:/tmp/app.sock (in Python: bind=...), and name the same address in the web server's "
            "configuration (nginx: fastcgi_pass unix:/tmp/app.sock;)"
        )
    adopted = adopt(FCGI_LISTENSOCK_FILENO if sock is None else sock)
    where = name_socket(adopted)
    return ListeningSocket(adopted, f"fd 0 ({where})" if sock is None else where, allow=allow)
