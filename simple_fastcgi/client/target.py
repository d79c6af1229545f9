"""Where an application listens: the addresses that a client connects to, and why one could not be reached."""

from __future__ import annotations

import errno
import socket

from ..errors import ConfigurationError
from ..net.address import FORMS as BIND_FORMS
from ..net.address import is_port, parse_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..net.address import BindAddress

FORMS = '"unix:/run/app.sock", "unix:@name", "127.0.0.1:9000" or "[::1]:9000"'
"""The forms of an address, as error messages and help texts show them."""


def parse_target(address: str) -> BindAddress:
    """Reads the address of an application: ``unix:PATH``, ``unix:@NAME``, ``HOST:PORT`` or ``[IPV6]:PORT``.

    The same grammar as that of ``bind`` (:func:`~simple_fastcgi.net.address.parse_bind`), of which ``fd://N`` and port
    0 cannot be connected to. Raises :class:`~simple_fastcgi.errors.ConfigurationError`, and nothing else.
    """
    if not isinstance(address, str):
        raise ConfigurationError(f"address {address!r}: give a string, {FORMS}")
    host, colon, port = address.rpartition(":")
    if colon and host in ("", "*") and is_port(port):
        raise ConfigurationError(f'address {address!r}: it names no host: write "127.0.0.1:{port}"')
    try:
        target = parse_bind(address)
    except ConfigurationError as error:
        raise ConfigurationError(f"address {str(error).removeprefix('bind ').replace(BIND_FORMS, FORMS)}") from None
    if target.kind == "fd":
        raise ConfigurationError(f"address {address!r}: a client connects to a name: write {FORMS}")
    if target.kind == "tcp" and target.port == 0:
        raise ConfigurationError(f"address {address!r}: give the port that the application listens on, from 1 on")
    return target


def explain(error: OSError, target: BindAddress) -> str:
    """Why there is no connection to `target`, and the cure, in one line."""
    return f"cannot connect to {target}: {_cause(error, target)}"


def explain_timeout(seconds: float, target: BindAddress, setting: str = "connect timeout") -> str:
    """Why a connection to `target` was not there after `seconds`, which `setting` allows."""
    if target.kind == "tcp":
        why = "its host does not answer, a firewall is between, or all of its processes are busy"
    else:
        why = "its listen queue is full, as all of its processes are busy (PHP-FPM: pm.max_children)"
    return f"cannot connect to {target} within {seconds:g} s ({setting}): {why}"


def _cause(error: OSError, target: BindAddress) -> str:
    told = error.strerror or str(error)
    if isinstance(error, socket.gaierror):
        return f"the name {target.host!r} cannot be resolved ({told})"
    if error.errno == errno.ENOENT:
        return "there is no such socket file; is the application running, and does it listen there?"
    if error.errno == errno.ECONNREFUSED:
        if target.kind == "unix":
            return "nobody listens on this file (connection refused); has the application ended, and left it behind?"
        return "nobody listens there (connection refused); is the application running, and on this address?"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this user may not ({told}); connecting takes write permission on the socket file, which the "
            "application gives (PHP-FPM: listen.group, listen.mode; here: --socket-group, --socket-mode)"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"no descriptor is left ({told}); close responses and clients, or raise the limit (ulimit -n)"
    if error.errno == errno.EPROTOTYPE:
        return "this socket takes datagrams, FastCGI needs a stream"
    return told
