"""The command line, ``simple-fastcgi``; one module for each of its commands."""

from __future__ import annotations

import sys

from . import serve
from .quick import QuickParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's arguments); returns the exit status.

    0: done. 1: it could not be done (a busy socket, an application that fails). 2: it was asked wrongly.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "serve":
        quick = QuickParser()
        serve.add_arguments(quick)
        usual = quick.read(words[1:])
        if usual is not None:
            return serve.run(usual)
    return _run_with_argparse(words)


def _run_with_argparse(words: Sequence[str]) -> int:
    from argparse import ArgumentParser

    from .. import __version__

    parser = ArgumentParser(
        prog="simple-fastcgi",
        description="FastCGI for Python: WSGI and ASGI applications behind nginx, Apache, lighttpd, HAProxy, Caddy.",
        epilog="Each command has a --help of its own.",
    )
    parser.add_argument("--version", action="version", version=f"simple_fastcgi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(commands)
    arguments = parser.parse_args(words)
    run = arguments.run
    status: int = run(arguments)
    return status


def complain(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"simple-fastcgi: {message}\n")
