"""``simple-fastcgi config SERVER``: which servers there are, the options, and where the text goes."""

from __future__ import annotations

import os
import sys
from errno import EEXIST
from importlib import import_module

from ...errors import ConfigurationError
from .plan import MAX_BODY_SIZE, TIMEOUT, WORKERS, Plan, whole_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any

    from ..serve import Commands
    from .plan import Configuration

SERVERS = {
    "nginx": "nginx, in front of an application that listens",
    "haproxy": "HAProxy, in front of an application that listens",
    "caddy": "Caddy, in front of an application that listens",
    "apache-proxy": "Apache's mod_proxy_fcgi, in front of an application that listens",
    "apache-fcgid": "Apache's mod_fcgid, which starts the application; also on shared hosting",
    "systemd": "a service, and the socket on which systemd starts it",
    "supervisor": "a program group of supervisord, which opens the socket",
    "lighttpd": "lighttpd, which starts the application itself; with --bind in front of one that listens",
}
"""Each server's name, and what its module of the same name (a hyphen is an underscore there) makes."""

_GROUP = "www-data"
_GROUPS = {"haproxy": "haproxy", "caddy": "caddy"}
"""The groups of web servers that have one of their own."""

_EXAMPLES = """\
examples:
  simple-fastcgi config nginx --app shop.web:app --server-name shop.example --static /static=static
  simple-fastcgi config nginx --root-path /shop --bind 127.0.0.1:9000 > /etc/nginx/conf.d/shop.conf
  simple-fastcgi config systemd --app shop.web:app --directory /srv/shop --output .

The configuration goes to standard output, what to do with it to standard error. Without a SERVER the command lists
the servers.
"""


def make(server: str, plan: Plan) -> Configuration:
    """The configuration of `server`, one of :data:`SERVERS`."""
    module = import_module(f".{server.replace('-', '_')}", __package__)
    configure: Callable[[Plan], Configuration] = module.configure
    return configure(plan)


def add_command(commands: Commands) -> None:
    """Add ``config`` to the command line."""
    from argparse import RawDescriptionHelpFormatter

    parser = commands.add_parser(
        "config",
        usage="simple-fastcgi config SERVER [options]",
        help="print a configuration for a web server or a supervisor",
        description="Print a commented configuration that runs an application behind a web server.",
        epilog=f"{_list_of_servers()}\n{_EXAMPLES}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("server", metavar="SERVER", nargs="?", choices=tuple(SERVERS), help=", ".join(SERVERS))
    add("--app", metavar="MODULE:ATTR", default="app:app", help="the application (default: %(default)s)")
    add(
        "--bind",
        metavar="ADDRESS",
        help="where it listens: unix:PATH or HOST:PORT (default: unix:/run/NAME/NAME.sock; haproxy: 127.0.0.1:9000)",
    )
    add("--root-path", metavar="PATH", default="", help="where it is mounted in the URL (default: at the root)")
    add("--server-name", metavar="NAME", default="", help="the site's host name (default: whatever is asked for)")
    add("--listen", metavar="[HOST:]PORT", default="80", help="where the web server listens (default: %(default)s)")
    add(
        "--static",
        metavar="URL=DIR",
        action="append",
        default=[],
        help="let the web server itself serve the files in DIR below URL; may be repeated",
    )
    add("--name", default="", help="of the site in the configuration (default: the application's module)")
    add("--directory", metavar="DIR", default="", help="the application's folder (default: the current one)")
    add("--python", metavar="PATH", default=sys.executable, help="the Python that runs it (default: this one)")
    add("--user", default="www-data", help="as whom a service runs (default: %(default)s)")
    add("--group", help=f"the web server's group, which may connect (default: {_GROUP}; haproxy, caddy: their own)")
    add("--factory", action="store_true", help="ATTR is a function that makes the application")
    add(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes, where something starts them (default: {WORKERS}, for apache-fcgid 4, for systemd 1)",
    )
    add("--threads", type=int, metavar="N", help="WSGI: requests at once (default: as many as fit the machine)")
    add(
        "--max-body-size",
        type=int,
        default=MAX_BODY_SIZE,
        metavar="MIB",
        help="the largest upload that is let in (default: %(default)s)",
    )
    add(
        "--timeout",
        type=int,
        default=TIMEOUT,
        metavar="SECONDS",
        help="for which the web server waits for the application (default: %(default)s)",
    )
    add("--output", metavar="DIR", help="write the files into DIR, which replaces none, instead of printing them")


def run(arguments: Namespace) -> int:
    """Print or write the configuration; the exit status."""
    from .. import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, complain

    settings = dict(vars(arguments))
    server, output = settings.pop("server"), settings.pop("output")
    del settings["run"]
    if server is None:
        print(_list_of_servers() + "\nsimple-fastcgi config SERVER --help lists the options.")
        return EXIT_OK
    try:
        configuration = make(server, _plan(server, settings))
        told = _printed(configuration) if output is None else _write(configuration, output)
    except ConfigurationError as error:
        complain(str(error))
        return EXIT_USAGE
    except OSError as error:
        complain(f"{error.filename or output}: {error.strerror}")
        return EXIT_FAILURE
    # Now, so that there is no advice where it fails.
    print(told, end="", flush=True)
    sys.stderr.write(configuration.advice.strip("\n") + "\n")
    return EXIT_OK


def _plan(server: str, settings: dict[str, Any]) -> Plan:
    """What is planned for `server`, whose `settings` are those of the command line."""
    directory = whole_path(settings["directory"])
    return Plan(
        **{
            **settings,
            "group": settings["group"] or _GROUPS.get(server, _GROUP),
            "static": [_split_static(text) for text in settings["static"]],
            "directory": directory,
            "bind": _absolute(settings["bind"], directory),
        }
    )


def _list_of_servers() -> str:
    width = max(map(len, SERVERS))
    return "servers:\n" + "".join(f"  {name:{width}}  {what}\n" for name, what in SERVERS.items())


def _absolute(bind: str | None, directory: str) -> str | None:
    """`bind`, with the path of a socket file that counts from the application's folder made whole."""
    scheme, _, path = (bind or "").partition(":")
    if scheme != "unix" or not path or path.startswith(("/", "@")):
        return bind
    return f"unix:{os.path.abspath(os.path.join(directory, path))}"


def _split_static(text: str) -> tuple[str, str]:
    url, equals, folder = text.partition("=")
    if not (equals and url.startswith("/") and folder):
        raise ConfigurationError(f"--static {text!r}: give it as URL=DIR, for example /static=/srv/app/static")
    return url, folder


def _printed(configuration: Configuration) -> str:
    """The text of its file; of several each with its path above it."""
    files = configuration.files
    if len(files) == 1:
        return files[0].text
    return "\n".join(f"# ---------- {file.path} ----------\n{file.text}" for file in files)


def _write(configuration: Configuration, folder: str) -> str:
    """Write its files; their paths, each in a line."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, os.path.basename(file.path)) for file in configuration.files]
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(EEXIST, "this file is there already, and none is replaced", path)
    for path, file in zip(paths, configuration.files, strict=True):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777 if file.executable else 0o666)
        with open(fd, "w", encoding="utf-8") as out:
            out.write(file.text)
    return "".join(f"{path}\n" for path in paths)
