"""What ``check`` does: finds out what is meant, runs its checks, and says how it ended."""

from __future__ import annotations

from ...errors import ConfigurationError
from ..call.status import CallError
from .report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from .report import Finding

    Found = Iterator[tuple[str, Finding]]
    Run = Callable[[], Found]

_OF_URLS = ("max_body_size",)
_OF_SOCKETS = ("path", "root_path", "script", "web_server_user")


def check(arguments: Namespace) -> int:
    """Check what `arguments` name; the exit status."""
    from .. import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, complain

    try:
        checks, run = _plan(arguments)
    except (ConfigurationError, CallError) as error:
        complain(str(error))
        return EXIT_USAGE
    report = Report(arguments.target, checks, as_json=arguments.json)
    try:
        for name, finding in run():
            report.add(name, finding)
        return EXIT_OK if report.finish() else EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _plan(arguments: Namespace) -> tuple[Sequence[str], Run]:
    """The names of the checks, and what yields each one's name and finding."""
    scheme, separator, _ = arguments.target.partition("://")
    is_url = bool(separator) and scheme.lower() in ("http", "https")
    for name in _OF_SOCKETS if is_url else _OF_URLS:
        if getattr(arguments, name) is not None:
            option = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{option} is for {'sockets' if is_url else 'URLs'}, not for {arguments.target!r}")
    if is_url:
        from . import url

        return tuple(url.CHECKS), url.plan(arguments)
    from . import socket

    return socket.CHECKS, socket.plan(arguments)
