"""``simple-fastcgi ping`` and ``status``: ask a running server for a page of its own, for a shell or a container."""

from __future__ import annotations

import os
import time

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable

    from .check.application import Reply

    Commands = _SubParsersAction[ArgumentParser]

PING_PATH = "/fcgi-ping"
STATUS_PATH = "/fcgi-status"
"""Where both are looked for, unless told otherwise."""
TIMEOUT = 3.0
"""Seconds for all of it, unless told otherwise."""
_FORMATS = ("json", "openmetrics", "html")
# What the status is known by, whether ours or PHP-FPM's, whatever its format.
_MARKS = (b"accepted conn", b"accepted_connections")
_SHOWN = 200

_PING = """\
Ask a server whether it answers, without asking its application: one started with
--ping-path /fcgi-ping, or PHP-FPM with ping.path.
"""
_PING_EXAMPLES = """\
examples:
  simple-fastcgi ping unix:/run/shop/app.sock
  HEALTHCHECK CMD ["simple-fastcgi", "ping", "127.0.0.1:9000"]
  simple-fastcgi ping unix:/run/php/php-fpm.sock --path /ping

exit status: 0 it answers pong, 1 it does not, 2 the command line is wrong
"""
_STATUS = """\
Show what a server tells of itself: one started with --status-path /fcgi-status or
--status-bind, or PHP-FPM with pm.status_path.
"""
_STATUS_EXAMPLES = """\
examples:
  simple-fastcgi status unix:/run/shop/app.sock --full
  simple-fastcgi status unix:/run/shop/status.sock --json | jq '."requests in flight"'
  simple-fastcgi status unix:/run/php/php-fpm.sock --path /status

exit status: 0 it is shown, 1 there is none, 2 the command line is wrong
"""


class NoPageError(Exception):
    """There is no such page; the message is one line, for people."""


def add_commands(commands: Commands) -> None:
    """Add ``ping`` and ``status`` to the command line."""
    ping = _add(commands, "ping", "ask a server whether it answers", _PING, _PING_EXAMPLES, PING_PATH)
    ping.set_defaults(run=run_ping)
    status = _add(commands, "status", "show what a server does", _STATUS, _STATUS_EXAMPLES, STATUS_PATH)
    status.set_defaults(run=run_status, format=None)
    formats = status.add_mutually_exclusive_group()
    for name, what in zip(_FORMATS, ("JSON", "OpenMetrics, as Prometheus reads it", "HTML"), strict=True):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, help=f"print {what}")
    status.add_argument("--full", action="store_true", help="each process, and each request under way, too")


def _add(commands: Commands, name: str, text: str, description: str, examples: str, path: str) -> ArgumentParser:
    from argparse import RawDescriptionHelpFormatter

    from .arguments import seconds

    parser = commands.add_parser(
        name,
        usage=f"simple-fastcgi {name} ADDRESS [options]",
        help=text,
        description=description,
        epilog=examples,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", metavar="ADDRESS", help="where the server listens: unix:PATH or HOST:PORT")
    parser.add_argument("--path", default=path, metavar="PATH", help="the page's path (default: %(default)s)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="for all of it (default: %(default)g)",
    )
    return parser


def run_ping(arguments: Namespace) -> int:
    """Ask for pong; the exit status."""
    return _run(_ping, arguments)


def run_status(arguments: Namespace) -> int:
    """Print the status; the exit status."""
    return _run(_status, arguments)


def _run(show: Callable[[Namespace], bytes], arguments: Namespace) -> int:
    from . import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, complain
    from .call.output import Output
    from .call.status import CallError, shown

    try:
        with Output("-") as output:
            output.write(show(arguments))
    except ConfigurationError as error:
        complain(str(error))
        return EXIT_USAGE
    except (CallError, NoPageError) as error:
        complain(shown(str(error)))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK


def _ping(arguments: Namespace) -> bytes:
    reply = _ask(arguments, "")
    if reply.status == 200 and reply.body.strip() == b"pong":
        return b"pong\n"
    path = arguments.path
    raise NoPageError(
        f"no pong but {_told(reply)} at {path}: start the server with --ping-path {path} (PHP-FPM: "
        f"ping.path = {path}), or tell with --path where its ping is"
    )


def _status(arguments: Namespace) -> bytes:
    words = [word for word in (arguments.format, "full" if arguments.full else None) if word]
    reply = _ask(arguments, "&".join(words))
    if reply.status == 501:
        raise NoPageError(reply.body.decode("utf-8", "replace").strip())
    if reply.status == 200 and any(mark in reply.body for mark in _MARKS):
        return reply.body
    path = arguments.path
    raise NoPageError(
        f"no status but {_told(reply)} at {path}: start the server with --status-path {path} (PHP-FPM: "
        f"pm.status_path = {path}), or tell with --path where its status is"
    )


def _told(reply: Reply) -> str:
    line = next(iter(reply.body.decode("utf-8", "replace").strip().splitlines()), "")[:_SHOWN]
    return f"{reply.status} {reply.reason}".rstrip() + (f' ("{line}")' if line else "")


def _ask(arguments: Namespace, query: str) -> Reply:
    """The response; CallError if there is none."""
    from ..client.target import parse_target
    from .call.status import TIMEOUT as TOO_LATE
    from .call.status import CallError
    from .call.url import quote
    from .check.application import Application

    path, seconds = arguments.path, arguments.timeout
    if not path.startswith("/") or "?" in path:
        raise ConfigurationError(f"--path {path!r}: give a path that begins with a slash, as {PING_PATH}")
    target = quote(os.fsencode(path)) + (b"?" + query.encode() if query else b"")
    # As a script of that name, which is what PHP-FPM looks at.
    address = parse_target(arguments.address)
    application = Application(address, target, script=path, document_root="/", timeout=seconds)
    deadline = time.monotonic() + seconds
    try:
        link = application.connect()
        try:
            application.timeout = deadline - time.monotonic()
            return application.get(link)
        finally:
            link.close()
    except CallError as error:
        if error.status != TOO_LATE:
            raise
        told = str(error).replace("--connect-timeout", "--timeout").replace("--max-time", f"--timeout {seconds:g}")
        raise CallError(error.status, told) from None
