"""The command line, ``simple-fastcgi``; one module for each of its commands."""

from __future__ import annotations

import os
import sys
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EPIPE

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from types import SimpleNamespace

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_OF_OUTPUT = (EPIPE, ENOSPC, EDQUOT, EFBIG, EIO)
"""What commands leave to :func:`main`: they deal with all other errors of the system where they come by."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's arguments); returns the exit status.

    0: done. 1: it could not be done (a busy socket, an application that fails). 2: it was asked wrongly. ``call`` has
    more of them, see :mod:`.call.status`.
    """
    _open_standard_descriptors()
    from ..serving.garbage import SeldomCollected

    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "call":
        from . import call

        return call.main(words[1:])
    _make_standard_streams()
    with SeldomCollected():
        try:
            arguments = _read(words)
        except ConfigurationError as error:
            complain(str(error))
            return EXIT_USAGE
    if argv is None and hasattr(arguments, "ends_process"):
        # Whoever gives the words is a program that goes on.
        arguments.ends_process = True
    run: Callable[[object], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OF_OUTPUT:
            raise
        if not isinstance(error, BrokenPipeError):
            # Of that its reader knows: it has gone.
            complain(f"cannot write to standard output: {error.strerror}")
        _forget_output()
        return EXIT_FAILURE
    return status


def _open_standard_descriptors() -> None:
    """Open /dev/null in place of those of 0 to 2 that are closed, as daemons do.

    Else a socket or the poller would take their number, and who writes to a standard stream would write there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one; child processes are to have it, too.
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)


def _make_standard_streams() -> None:
    """Give those that are missing: Python makes none where it finds the descriptor closed."""
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, errors="backslashreplace", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, stream)


def _forget_output() -> None:
    """Let what standard output still has go nowhere: the interpreter would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _read(words: Sequence[str]) -> Namespace | SimpleNamespace:
    if not words or words[0] != "serve":
        return _read_by_argparse(words)
    from ..serving.source import what_is_given
    from . import serve
    from .quick import QuickParser
    from .settings import with_settings

    parser = QuickParser()
    serve.add_arguments(parser)
    words = with_settings(words[1:], parser.options, parser.positional, given=what_is_given())
    return parser.read(words) or _read_by_argparse(["serve", *words])


def _read_by_argparse(words: Sequence[str]) -> Namespace:
    from argparse import ArgumentParser

    from .. import __version__
    from . import call, check, config, dev, page, serve

    parser = ArgumentParser(
        prog="simple-fastcgi",
        description="FastCGI for Python: WSGI and ASGI applications behind nginx, Apache, lighttpd, HAProxy, Caddy.",
        epilog="Each command has a --help of its own.",
    )
    parser.add_argument("--version", action="version", version=f"simple_fastcgi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_command(commands)
    call.add_command(commands)
    dev.add_command(commands)
    config.add_command(commands)
    check.add_command(commands)
    page.add_commands(commands)
    return parser.parse_args(words)


def complain(message: str) -> None:
    """One line on standard error, if there is one."""
    if sys.stderr:
        sys.stderr.write(f"simple-fastcgi: {message}\n")
