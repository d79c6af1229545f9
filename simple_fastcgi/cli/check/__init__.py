"""``simple-fastcgi check URL-or-SOCKET``: what is wrong with a running set-up, and how to mend it.

`options` reads the command line, `command` runs what it names, `report` prints what was found. Through a web server:
`browser` asks, `seen` reads what the probe (:mod:`simple_fastcgi.check`) answers, `visit` holds what all checks need,
`reach`, `paths`, `fields`, `bodies` and `connections` are the checks, `url` their list, `cures` what each web server's
configuration needs. As a web server: `application` asks, `permissions` looks at the socket file, `socket` is the list
of checks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def add_command(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add ``check`` to the command line."""
    from .options import add_options

    add_options(commands, run)


def run(arguments: Namespace) -> int:
    """Check what `arguments` name; the exit status."""
    from .command import check

    return check(arguments)
