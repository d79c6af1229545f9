"""``simple-fastcgi call TARGET [URL]``: curl for FastCGI.

`options` reads the command line, `target` connects, `url`, `body`, `form` and `request` make of it what is sent,
`transfer` exchanges it for a response, `records` shows the records, `response` puts out what came, `writeout` what
was measured; `command` joins them, for one request, for many (`repeat`), and for a question (`values`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction
    from collections.abc import Sequence


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add ``call`` to the list of commands; its options are read by :func:`main`, as curl reads its own."""
    commands.add_parser("call", add_help=False, help="call a FastCGI application, as curl calls an HTTP server")


def main(words: Sequence[str]) -> int:
    """Do what `words`, behind ``call``, say; the exit status."""
    try:
        from .command import call

        return call(words)
    except KeyboardInterrupt:
        return 130  # as a shell says of what SIGINT ended
