"""What a configuration is made from, and what comes out: the settings of ``config``, and files with advice."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from ...cgi.paths import normalize_root_path
from ...errors import ConfigurationError
from ...limits import Limits
from ...net.address import UNIX_PATH_LIMIT, is_loopback, parse_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...net.address import BindAddress

MAX_BODY_SIZE = 64
"""MiB that a visitor may send at once, unless told otherwise."""
TIMEOUT = 300
"""Seconds for which a web server waits for the application, unless told otherwise."""
WORKERS = 2
"""Processes, unless told otherwise, where several of them need nothing more."""
GRACE = int(Limits.DEFAULTS["graceful_timeout"])
"""Seconds in which an application that is told to end does so."""
GUARDED = """\
FastCGI has no authentication: write in place of ADDRESS_OF_THE_WEB_SERVER who may connect.
"""
"""Advice for what :meth:`Plan.guard` gives."""

_LARGEST = {"workers": 1000, "threads": 1000, "max_body_size": 1 << 20, "timeout": 7 * 86400}
_SPECIAL = "\"'\\`$;{}#%<>|&*?()[]~^"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PLAIN = {
    # Setting: the characters it may have beside letters and digits, and an example for the complaint.
    "name": ("-_.", "shop-web"),
    "user": ("-_.", "www-data"),
    "group": ("-_.", "www-data"),
    "server_name": ("-_.", "shop.example"),
    "root_path": ("-_.~/@:,=+!", "/shop"),
    "static": ("-_.~/@:,=+!", "/static"),
    "listen": ("-_.:[]", "8080"),
}

_RUN = """\
Run the application, as a service ("supervisor" is there in systemd's place):
    simple-fastcgi {service}
or by hand, for a start:
    {by_hand}
"""
_FOLDER = """\
By hand, the socket's folder has to be there before, and to be yours:
    install -d -o "$USER" {folder}
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings, checked and complete.

    ``app``
        As ``simple-fastcgi serve`` takes it.
    ``bind``
        The application's address: ``unix:PATH``, ``HOST:PORT``; None leaves it to the web server where it can start the
        application itself. A relative path counts from where each program is started; the command line makes it whole.
    ``root_path``
        Where in the URL the application is mounted: empty, or as ``/app``.
    ``server_name``, ``listen``
        The site's name (empty: any) and where the web server listens: ``PORT`` or ``HOST:PORT``.
    ``static``
        Pairs of a URL's beginning and the folder whose files are served below it by the web server itself. The URL is
        the browser's (empty: ``/``), so it may be one below ``root_path``; a relative folder is in ``directory``.
    ``name``
        Of upstreams, units, programs and files.
    ``directory``, ``python``
        The application's folder, and the Python that runs it: a path, which counts from ``directory`` where it is
        relative, or the name of a program that is on the PATH.
    ``user``, ``group``
        As whom a service runs, and the web server's group, to which the socket belongs.
    ``factory``
        Whether ``app`` is a function that makes the application.
    ``workers``
        How many processes, where a web server or a service starts the application; None leaves it to each of these.
    ``threads``, ``max_body_size`` (MiB), ``timeout`` (seconds)
        Limits; threads are the application's own choice where they are None.

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
    workers: int | None = None
    threads: int | None = None
    max_body_size: int = MAX_BODY_SIZE
    timeout: int = TIMEOUT

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen
        name = _name_of(self.app)
        for option, largest in _LARGEST.items():
            value = getattr(self, option)
            if value is not None and not 0 < value <= largest:
                raise _refused(option, value, f"give a whole number from 1 to {largest}")
        put(self, "name", self.name or name)
        put(self, "directory", whole_path(self.directory))
        put(self, "python", _whole_python(self.python, self.directory))
        put(self, "root_path", _normal_url("root_path", self.root_path))
        static = tuple(
            (_normal_url("static", url), os.path.abspath(os.path.join(self.directory, folder)))
            for url, folder in self.static
        )
        put(self, "static", static)
        for setting in ("name", "user", "group", "server_name", "root_path", "listen"):
            _check_letters(setting, getattr(self, setting))
        # Host names know no capitals, and lighttpd makes small letters of a visitor's.
        put(self, "server_name", self.server_name.lower())
        for setting in ("app", "bind", "directory", "python"):
            check_plain(setting, getattr(self, setting))
        self._check_static()
        _check_listen(self.listen)
        if self.bind:
            _check_bind(self.bind)

    def _check_static(self) -> None:
        known = set()
        for url, folder in self.static:
            _check_letters("static", url)
            check_plain("static", folder)
            if url in known:
                raise _refused("static", url or "/", "it is there twice: one URL has one folder")
            known.add(url)
            if url == self.root_path:
                raise _refused(
                    "static", url or "/", f"the application is there: put the files below it, as in {url}/static=DIR"
                )

    @property
    def address(self) -> BindAddress:
        """The application's address; by default a unix socket in a folder of its own below /run."""
        return parse_bind(self.bind or f"unix:{self.socket_path('/run/NAME/NAME.sock')}")

    def socket_path(self, pattern: str) -> str:
        """`pattern` with :attr:`name` in place of NAME.

        Raises :class:`~simple_fastcgi.errors.ConfigurationError` if no socket can have so long a path.
        """
        path = pattern.replace("NAME", self.name)
        if len(path) > UNIX_PATH_LIMIT:
            why = f"{pattern} has {len(path)} bytes then, a socket's path may have {UNIX_PATH_LIMIT}"
            raise _refused("name", self.name, f"{why}: give a shorter one, or an address of its own with --bind")
        return path

    @property
    def socket_folder(self) -> str:
        """The folder below /run that somebody has to make after each start of the machine; else empty."""
        folder = os.path.dirname(self.address.path)
        return folder if folder.startswith("/run/") else ""

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where the web server listens: host, empty for all of them, and port."""
        host, _, port = self.listen.rpartition(":")
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
        return words + self._capacity("threads")

    def _capacity(self, *options: str) -> list[str]:
        """Those of `options` that somebody has given, with their numbers."""
        given = {option: getattr(self, option) for option in options}
        return [word for option, number in given.items() if number is not None for word in (f"--{option}", str(number))]

    def command(self, *, listens: bool = True, root_path: bool = False) -> list[str]:
        """The same with the Python that runs it in front, for whoever starts it: no shell, and no PATH is needed."""
        return [self.python, "-m", "simple_fastcgi", *self.serve(listens=listens, root_path=root_path)]

    def guard(self) -> list[str]:
        """The option that has to say who may connect to :attr:`address`, where other machines can reach it."""
        address = self.address
        if address.kind != "tcp" or address.host == "localhost" or is_loopback(address.host):
            return []
        return ["--allow-from", "ADDRESS_OF_THE_WEB_SERVER"]

    def how_to_run(self) -> str:
        """Advice for an application that listens by itself: the command to type, and that which makes a service."""
        address = self.address
        is_this_python = self.python == sys.executable
        by_hand = ["simple-fastcgi", *self.serve()] if is_this_python else self.command()
        by_hand += *self._capacity("workers"), "--chdir", self.directory
        service = ["config", "systemd", "--app", self.app, "--directory", self.directory]
        if not is_this_python:
            service += "--python", self.python
        if self.user != Plan.user:
            service += "--user", self.user
        if self.bind is not None:
            service += "--bind", self.bind
        if self.name != _name_of(self.app):
            service += "--name", self.name
        if self.factory:
            service.append("--factory")
        service += self._capacity("workers", "threads")
        if address.kind == "unix":
            by_hand += "--socket-group", self.group
            service += "--group", self.group
        by_hand += self.guard()
        advice = _RUN.format(by_hand=" ".join(by_hand), service=" ".join(service))
        return advice + (_FOLDER.format(folder=self.socket_folder) if self.socket_folder else "")


def longest_first(places: Mapping[str, str]) -> list[str]:
    """The values of `places`, whose keys are beginnings of URLs: of two, one of which is below the other, it first."""
    return [places[url] for url in sorted(places, key=len, reverse=True)]


def whole_path(directory: str) -> str:
    """The application's folder: `directory`, by default the current one."""
    try:
        return os.path.abspath(directory or os.curdir)
    except FileNotFoundError:
        raise _refused("directory", directory, "the current directory is gone: give a whole path") from None


def _whole_python(python: str, directory: str) -> str:
    """`python` so that whoever starts it finds it: no web server or service looks on the PATH of who made its file."""
    if "/" in python:
        # No link is followed: in a virtual environment Python is one, and knows by its own place what is installed.
        return python if os.path.isabs(python) else os.path.abspath(os.path.join(directory, python))
    from shutil import which

    found = which(python)
    if found is None:
        raise _refused("python", python, "no such program is on the PATH: give its path, for example .venv/bin/python")
    return os.path.abspath(found)


def check_plain(setting: str, value: str | None) -> None:
    """Refuse what would need quoting: blanks, quotes, control characters and what is special somewhere.

    No quoting is the same in all the languages that this goes into. Nor can bytes be written that are no UTF-8.
    """
    bad = sorted(
        {
            char
            for char in value or ""
            if char in _SPECIAL or char <= " " or char == "\x7f" or "\ud800" <= char <= "\udfff"
        }
    )
    if bad and not (setting == "bind" and set(bad) <= set("[]")):
        raise _refused(
            setting,
            value,
            f"{' '.join(map(repr, bad))} would need quoting, which each web server does in its own way; use a name "
            "without, or write that line of the configuration by hand",
        )


def _check_letters(setting: str, value: str) -> None:
    """Refuse what cannot be in such a name, or would need quoting somewhere."""
    others, example = _PLAIN[setting]
    bad = sorted({char for char in value if char not in _LETTERS and char not in others})
    if bad:
        what = f"it may have letters and digits of ASCII, and {' '.join(others)} (not {' '.join(map(repr, bad))})"
        if setting == "server_name" and not value.isascii():
            what += "; names in other scripts are written as browsers send them, beginning with xn--"
        raise _refused(setting, value, f"{what}, for example {example}")
    if value.startswith("-") or (setting == "name" and value.startswith(".")):
        raise _refused(setting, value, f"begin it with a letter, for example {example}")


def _name_of(app: str) -> str:
    module, colon, attribute = app.partition(":")
    if attribute.endswith("()"):
        raise _refused("app", app, f"write it without parentheses and add --factory: {app[:-2]} --factory")
    if not (colon and all(part.isidentifier() for path in (module, attribute) for part in path.split("."))):
        raise _refused("app", app, "give it as MODULE:ATTR, as serve takes it, for example shop.web:app")
    return module.replace(".", "-")


def _normal_url(setting: str, url: str) -> str:
    try:
        return normalize_root_path(url).encode("latin-1").decode("utf-8", "replace")
    except ConfigurationError as error:
        raise _refused(setting, url, str(error).partition(": ")[2]) from None


def _check_listen(listen: str) -> None:
    host, colon, port = listen.rpartition(":")
    if not (
        port.isdigit()
        and 0 < int(port) < 65536
        and (host or not colon)
        and (":" not in host or (host.startswith("[") and host.endswith("]")))
    ):
        raise _refused("listen", listen, "give it as PORT or HOST:PORT, for example 8080 or [::1]:8080")


def _check_bind(bind: str) -> None:
    """Refuse what is no address, and what `serve` can bind, but no web server connects to."""
    try:
        address = parse_bind(bind)
    except ConfigurationError as error:
        raise ConfigurationError(f"--{error}") from None
    why = ""
    if address.kind == "fd":
        why = "a web server needs an address to connect to"
    elif address.kind == "abstract":
        why = "nginx, Apache and lighttpd connect to socket files only"
    elif address.kind == "tcp" and address.port == 0:
        why = "port 0 is any port, which no web server can know"
    elif address.host in {"0.0.0.0", "::"}:
        why = "all addresses of a machine are none to connect to: give the one at which the web server finds it"
    if why:
        raise _refused("bind", str(address), f"{why}, for example unix:/run/app/app.sock or 127.0.0.1:9000")


def _refused(setting: str, value: object, why: str) -> ConfigurationError:
    return ConfigurationError(f"--{setting.replace('_', '-')} {value!r}: {why}")


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
