"""What a configuration is made from, and what comes out: the settings of ``config``, and files with advice."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from ...cgi.paths import normalize_root_path
from ...errors import ConfigurationError
from ...net.address import parse_bind
from ...serving.run import DEFAULT_THREADS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...net.address import BindAddress

MAX_BODY_SIZE = 64
"""MiB that a visitor may send at once, unless told otherwise."""
TIMEOUT = 300
"""Seconds for which a web server waits for the application, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings, checked and complete.

    ``app``
        As ``simple-fastcgi serve`` takes it.
    ``bind``
        The application's address: ``unix:PATH``, ``HOST:PORT``; None leaves it to the web server where it can start the
        application itself.
    ``root_path``
        Where in the URL the application is mounted: empty, or as ``/app``.
    ``server_name``, ``listen``
        The site's name (empty: any) and where the web server listens: ``PORT`` or ``HOST:PORT``.
    ``static``
        Pairs of a URL's beginning and the folder whose files are served below it by the web server itself.
    ``name``
        Of upstreams, units, programs and files.
    ``directory``, ``python``
        The application's folder, and the Python that runs it.
    ``user``, ``group``
        As whom a service runs, and the web server's group, to which the socket belongs.
    ``factory``
        Whether ``app`` is a function that makes the application.
    ``workers``
        How many processes, where a web server or a service starts the application.
    ``threads``, ``max_body_size`` (MiB), ``timeout`` (seconds)
        Limits.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for what no configuration can be made of.
    """

    app: str = "app:app"
    bind: str | None = None
    root_path: str = ""
    server_name: str = ""
    listen: str = "80"
    static: Sequence[tuple[str, str]] = ()
    name: str = ""
    directory: str = ""
    python: str = field(default_factory=lambda: sys.executable)
    user: str = "www-data"
    group: str = "www-data"
    factory: bool = False
    workers: int = 2
    threads: int = DEFAULT_THREADS
    max_body_size: int = MAX_BODY_SIZE
    timeout: int = TIMEOUT

    def __post_init__(self) -> None:
        module, colon, attribute = self.app.partition(":")
        if not (module and colon and attribute):
            raise ConfigurationError(f"--app {self.app!r}: give it as MODULE:ATTR, as serve takes it")
        for option in ("workers", "threads", "max_body_size", "timeout"):
            if getattr(self, option) < 1:
                raise ConfigurationError(
                    f"--{option.replace('_', '-')} {getattr(self, option)}: give a whole number above 0"
                )
        put = object.__setattr__  # the dataclass is frozen
        put(self, "root_path", normalize_root_path(self.root_path))
        put(self, "name", self.name or module.replace(".", "-"))
        put(self, "directory", os.path.abspath(self.directory or os.curdir))
        put(self, "static", tuple((normalize_root_path(url), os.path.abspath(folder)) for url, folder in self.static))
        # No quoting is the same in all the languages that this goes into.
        for setting in (
            "app",
            "bind",
            "root_path",
            "server_name",
            "listen",
            "name",
            "directory",
            "python",
            "user",
            "group",
        ):
            check_plain(setting, getattr(self, setting))
        for url, folder in self.static:
            check_plain("static", url or "/")
            check_plain("static", folder)

    @property
    def address(self) -> BindAddress:
        """The application's address; by default a unix socket in a folder of its own below /run."""
        return parse_bind(self.bind or f"unix:/run/{self.name}/{self.name}.sock")

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where the web server listens: host, empty for all of them, and port."""
        host, _, port = self.listen.rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigurationError(f"--listen {self.listen!r}: give it as PORT or HOST:PORT, for example 8080")
        return host, int(port)

    def serve(self, *, listens: bool = True, root_path: bool = False) -> list[str]:
        """The words behind ``simple-fastcgi`` that run the application.

        `listens` says whether it listens at :attr:`address` or finds its socket on fd 0; `root_path`, whether it must
        be told where it is mounted, because what the web server sends does not tell.
        """
        words = ["serve", self.app]
        if self.factory:
            words.append("--factory")
        if listens:
            words += "--bind", str(self.address)
        if root_path and self.root_path:
            words += "--root-path", self.root_path
        if self.threads != DEFAULT_THREADS:
            words += "--threads", str(self.threads)
        return words

    def command(self, *, listens: bool = True, root_path: bool = False) -> list[str]:
        """The same with the Python that runs it in front, for whoever starts it: no shell, and no PATH is needed."""
        return [self.python, "-m", "simple_fastcgi", *self.serve(listens=listens, root_path=root_path)]

    def how_to_run(self, *, root_path: bool = False) -> str:
        """The line to type by hand for an application that listens by itself."""
        words = self.serve(root_path=root_path)
        if self.address.kind == "unix":
            words += "--socket-group", self.group
        return "simple-fastcgi " + " ".join(words)


def check_plain(setting: str, value: str | None) -> None:
    """Refuse what would need quoting: blanks, quotes, control characters and what is special somewhere."""
    bad = sorted({char for char in value or "" if char in "\"'\\`$;{}#%<>|&*?()[]~^" or char <= " " or char == "\x7f"})
    if bad and not (setting in {"bind", "listen"} and set(bad) <= set("[]%")):
        option = setting.replace("_", "-")
        raise ConfigurationError(
            f"--{option} {value!r}: {' '.join(map(repr, bad))} would need quoting, which each web server does in its "
            "own way; use a name without, or write that line of the configuration by hand"
        )


@dataclass(frozen=True)
class File:
    """One file of a configuration: where it usually goes, its text, and whether it has to be executable."""

    path: str
    text: str
    executable: bool = False


@dataclass(frozen=True)
class Configuration:
    """What ``config`` prints: the files, and on standard error what to do with them."""

    files: tuple[File, ...]
    advice: str
