"""What can be said on the command line of ``check``."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter

from ..arguments import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace, _SubParsersAction
    from collections.abc import Callable

TIMEOUT = 10.0
"""Seconds that each question may take, unless told otherwise."""
MAX_BODY_SIZE = 10
"""MiB that a body is tried with, unless told otherwise."""
_MAX_MIB = 4096

_DESCRIPTION = """\
Ask a running set-up, and say in plain words what is wrong with it and how to mend it.

A URL is asked through the web server, as a browser does. The probe has to be served there
instead of your application, for as long as that takes; it is the URL where it is mounted:
  simple-fastcgi serve simple_fastcgi.check:app --bind unix:/run/app.sock

A SOCKET (unix:/run/app.sock, 127.0.0.1:9000) is asked as a web server does. Any FastCGI
application may be behind it, PHP-FPM too.
"""
_EXAMPLES = """\
examples:
  simple-fastcgi check https://shop.example/app/
  simple-fastcgi check unix:/run/shop/app.sock --web-server-user www-data
  simple-fastcgi check unix:/run/php/php-fpm.sock --script /var/www/index.php

exit status: 0 no problem was found (perhaps warnings), 1 at least one, 2 the command line is wrong
"""


def add_options(commands: _SubParsersAction[ArgumentParser], run: Callable[[Namespace], int]) -> None:
    """Add ``check``, which `run` carries out, to the list of commands."""
    parser = commands.add_parser(
        "check",
        usage="simple-fastcgi check URL-or-SOCKET [options]",
        help="find out what is wrong with a running set-up, and how to mend it",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("target", metavar="URL-or-SOCKET", help="http://HOST/PATH, https://HOST/PATH, unix:PATH or HOST:PORT")
    add("--json", action="store_true", help="print JSON")
    add(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="that each question may take (default: %(default)g)",
    )

    url = parser.add_argument_group("with a URL")
    url.add_argument(
        "--max-body-size",
        type=_mebibytes,
        metavar="MIB",
        help=f"the largest upload that should come through (default: {MAX_BODY_SIZE})",
    )

    sock = parser.add_argument_group("with a SOCKET")
    sock.add_argument("--path", metavar="PATH", help="what is asked for, below the mount point (default: /)")
    sock.add_argument("--root-path", metavar="PATH", help="the mount point (default: the root)")
    sock.add_argument("--script", metavar="FILE", help="SCRIPT_FILENAME, which PHP-FPM needs")
    sock.add_argument("--web-server-user", metavar="USER", help="tell whether this user (name or number) may connect")


def _mebibytes(text: str) -> int:
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 0 < size <= _MAX_MIB:
        raise ArgumentTypeError(f"{text!r}: give a whole number of MiB from 1 to {_MAX_MIB}")
    return size
