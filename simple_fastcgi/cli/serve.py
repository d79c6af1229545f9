"""``simple-fastcgi serve MODULE:ATTR``."""

from __future__ import annotations

import os
import sys

from ..errors import ConfigurationError
from ..limits import Limits
from ..log import info, log_to_stderr
from ..serving.lasting import limit_the_end
from ..serving.run import DEFAULT_THREADS, serve
from ..serving.source import is_plain_cgi
from .settings import AUTO, not_entered, number_or_auto

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Callable
    from types import SimpleNamespace
    from typing import Any

    from .quick import QuickParser

    Commands = _SubParsersAction[ArgumentParser]

_EXAMPLES = """\
examples:
  simple-fastcgi serve shop.web:app --bind unix:/run/shop/app.sock
      and in nginx: include fastcgi_params; fastcgi_pass unix:/run/shop/app.sock;
  simple-fastcgi serve shop.web:create_app --factory --bind 127.0.0.1:9000
  spawn-fcgi -s /run/shop.sock -- $(command -v simple-fastcgi) serve shop.web:app
      a program that finds its socket on fd 0 needs no --bind

Each option is a setting, too: SIMPLE_FASTCGI_THREADS=8 in the environment, threads = 8 in the file. What is
written on the command line wins over the environment, that over the file.

signals: TERM, INT, HUP and USR1 let requests under way end, then exit with 0; a second one ends at once.
With several workers HUP reloads the application, no request is lost; QUIT ends at once, and USR1 opens log
files anew. USR2 tells every request under way in the log, with its stack.
"""

_DEFAULT_WORKER_TIMEOUT = 30

# Which unit, and what it bounds; the full text is in the documentation of Limits.
_LIMIT_HELP = {
    "max_params_bytes": ("BYTES", "parameters of one request, in all"),
    "max_params": ("N", "parameters of one request"),
    "max_requests_per_connection": ("N", "requests under way at once on one connection"),
    "max_buffered_input": ("BYTES", "unread input of one connection"),
    "max_spooled_input": ("BYTES", "unread input of a multiplexed connection in temporary files"),
    "max_buffered_output": ("BYTES", "output that a request collects before it is sent"),
    "max_connections": ("N", "open connections; further ones wait in the listen queue"),
    "params_timeout": ("SECONDS", "until a request's parameters are complete"),
    "idle_timeout": ("SECONDS", "a kept connection without a request"),
    "read_timeout": ("SECONDS", "a wait for a request's input"),
    "write_timeout": ("SECONDS", "a write without progress"),
    "linger_timeout": ("SECONDS", "reading what is left of the input before a close"),
    "graceful_timeout": ("SECONDS", "for requests under way, at the end"),
}


def add_command(commands: Commands) -> None:
    """Add ``serve`` to the command line."""
    from argparse import RawDescriptionHelpFormatter

    parser = commands.add_parser(
        "serve",
        usage="simple-fastcgi serve MODULE:ATTR [--bind ADDRESS] [options]",
        help="run a WSGI or ASGI application over FastCGI",
        description="Run a WSGI application (Flask, Django, ...) or an ASGI application (Starlette,\n"
        "FastAPI, ...) over FastCGI, on a socket that the web server connects to.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_arguments(parser, number=_told_by_argparse)


def _told_by_argparse(text: str) -> int | str:
    """As `number_or_auto`; argparse would say that this is an invalid value of that name."""
    from argparse import ArgumentTypeError

    try:
        return number_or_auto(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: give a whole number, or auto") from None


def add_arguments(parser: ArgumentParser | QuickParser, *, number: Callable[[str], int | str] = number_or_auto) -> None:
    """What stands behind ``serve``; `number` reads the number of threads and of workers."""
    parser.set_defaults(run=run, ends_process=False)
    add = parser.add_argument
    add_app_arguments(
        parser,
        type=number,
        default=AUTO,
        help="WSGI: requests at once in each process (default: auto, four for each CPU, at least 4)",
    )
    add(
        "--chdir",
        metavar="DIR",
        help="change to DIR first: modules and relative paths are looked for there (default: stay)",
    )
    add(
        "--bind",
        metavar="ADDRESS",
        help="unix:PATH, HOST:PORT, [IPv6]:PORT or fd://N. Without it: the listening socket on fd 0, where web "
        "servers, spawn-fcgi and supervisord leave it; else the sockets that systemd passes (LISTEN_FDS); else, "
        "called by a web server as a CGI script, that one request; else the bind of the settings",
    )
    add("--root-path", metavar="PATH", help="the mount point, where the web server does not tell it; / is the root")
    add(
        "--workers",
        type=number,
        default=AUTO,
        metavar="N",
        help="processes; more than one needs gunicorn (default: auto, one for each CPU, as far as memory allows; one "
        "alone without gunicorn, with --reload-on-touch, and on a socket that whoever starts this has opened)",
    )
    add(
        "--worker-timeout",
        type=int,
        default=_DEFAULT_WORKER_TIMEOUT,
        metavar="SECONDS",
        help="with several workers: one that is hung for so long is replaced (default: %(default)s)",
    )
    add(
        "--max-requests",
        type=int,
        default=0,
        metavar="N",
        help="replace a worker behind so many requests, against what an application leaks (default: never)",
    )
    add(
        "--max-requests-jitter",
        type=int,
        default=0,
        metavar="N",
        help="and up to so many more, by chance, so that not all are replaced at once (default: 0)",
    )
    add(
        "--reload-on-touch",
        metavar="PATH",
        nargs="?",
        action="append",
        const=True,
        help="begin anew, gracefully, when PATH is touched; without PATH: restart.txt or tmp/restart.txt in the "
        "current directory, or the file of MODULE",
    )
    add(
        "--lifespan",
        choices=("auto", "on", "off"),
        default="auto",
        help="ASGI: on ends a program that has none (default: auto)",
    )
    add(
        "--loop",
        choices=("auto", "asyncio", "uvloop"),
        default="auto",
        help="ASGI: uvloop if installed (default: auto)",
    )
    add(
        "--config",
        metavar="FILE",
        help="TOML with these settings, as threads = 8 (default: the table [tool.simple-fastcgi] of pyproject.toml)",
    )
    add("--no-unbuffered-events", action="store_true", help="let nginx buffer text/event-stream")
    add(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="on standard error (default: info)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="of its lines (default: text)")

    access = parser.add_argument_group("who may connect")
    access.add_argument("--socket-mode", metavar="MODE", help="of a unix socket, octal (default: 660)")
    access.add_argument("--socket-owner", metavar="USER", help="of a unix socket, name or number")
    access.add_argument("--socket-group", metavar="GROUP", help="of a unix socket: the web server's group, usually")
    access.add_argument(
        "--allow-from",
        metavar="ADDRESSES",
        action="append",
        help="addresses or networks that may connect over TCP, separated by commas; FastCGI has no authentication, "
        "so an address other machines can reach needs it",
    )

    seen = parser.add_argument_group("what is seen of requests")
    seen.add_argument("--access-log", metavar="FILE", help="append a line for each request; - is standard output")
    seen.add_argument(
        "--access-log-format",
        choices=("combined", "json"),
        default="combined",
        help="of its lines (default: combined)",
    )
    seen.add_argument("--ping-path", metavar="PATH", help="answer pong there, without asking the application")
    seen.add_argument("--status-path", metavar="PATH", help="show the status there: text, ?json, ?html, ?openmetrics")
    seen.add_argument(
        "--status-bind", metavar="ADDRESS", help="a socket of their own for both: it answers when all others are busy"
    )
    seen.add_argument(
        "--slowlog-timeout",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="tell a request whose handler takes so long, with its stack (default: none)",
    )
    seen.add_argument(
        "--request-timeout",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="give up a request whose handler takes so long (default: none)",
    )

    limits = parser.add_argument_group("limits")
    for name, default in Limits.DEFAULTS.items():
        unit, text = _LIMIT_HELP[name]
        limits.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            metavar=unit,
            help=f"{text} (default: {default:g})" if isinstance(default, float) else f"{text} (default: {default})",
        )


def add_app_arguments(parser: ArgumentParser | QuickParser, **threads: Any) -> None:
    """What every command has that runs an application; `threads` is what differs in how ``--threads`` is declared."""
    add = parser.add_argument
    add("app", metavar="MODULE:ATTR", help="the application; modules are looked for in the current directory, too")
    add("--interface", choices=("auto", "wsgi", "asgi"), default="auto", help="what the application is (default: auto)")
    add("--factory", action="store_true", help="ATTR is a function that makes the application")
    usual: dict[str, Any] = {"type": int, "default": DEFAULT_THREADS, "metavar": "N"}
    usual["help"] = "WSGI: requests at once (default: %(default)s)"
    add("--threads", **{**usual, **threads})


def run(arguments: Namespace | SimpleNamespace) -> int:
    """Load the application and serve it; the exit status."""
    try:
        status = _run(arguments)
    except SystemExit as end:
        # A handler that was given up has come to its end after all.
        if isinstance(end.code, int):
            _limit_the_end(arguments, end.code)
        raise
    _limit_the_end(arguments, status)
    return status


def _limit_the_end(arguments: Namespace | SimpleNamespace, status: int) -> None:
    if arguments.ends_process:
        seconds = arguments.graceful_timeout
        limit_the_end(status, Limits.DEFAULTS["graceful_timeout"] if seconds is None else seconds)


def _run(arguments: Namespace | SimpleNamespace) -> int:
    from ..serving.load import AppCrashError
    from . import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, complain

    workers_chosen = arguments.workers == AUTO
    machine = why_one = ""
    if AUTO in (arguments.workers, arguments.threads):
        from .auto import choose

        arguments.workers, arguments.threads, machine, why_one = choose(arguments)
    # Who ends behind so many requests is to be replaced by somebody; plain CGI has but one request.
    managed = arguments.workers != 1 or bool(arguments.max_requests and not is_plain_cgi(arguments.bind))
    log_to_stderr(arguments.log_level.upper(), processes=managed, json=arguments.log_format == "json")
    if why_one:
        info("%s", why_one)
    try:
        _check_processes(arguments)
        if arguments.chdir is not None:
            if arguments.reload_on_touch and not os.path.isabs(arguments.chdir):
                raise ConfigurationError(f"--chdir {arguments.chdir!r}: with --reload-on-touch give the whole path")
            _change_directory(arguments.chdir)
        if not managed:
            serve(
                arguments.app,
                factory=arguments.factory,
                app_dir="",
                reload_on_touch=arguments.reload_on_touch,
                **_settings(arguments),
            )
        else:
            _serve_with_workers(arguments, machine=machine, workers_chosen=workers_chosen)
    except AppCrashError as error:
        complain(f"{arguments.app} failed while it was loaded:\n{error.user_traceback().rstrip()}")
        return EXIT_FAILURE
    except ConfigurationError as error:
        complain(str(error))
        return EXIT_USAGE
    except OSError as error:
        complain(error.strerror or str(error))
        return EXIT_FAILURE
    except RuntimeError as error:
        from ..gateways.lifespan import LifespanError

        if not isinstance(error, LifespanError):
            raise
        complain(str(error))
        return EXIT_FAILURE
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        complain(end.code)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        # Ctrl+C before the server had its signals: the application is still being loaded.
        return EXIT_INTERRUPTED
    return EXIT_OK


def _check_processes(arguments: Namespace | SimpleNamespace) -> None:
    for option, least in (("workers", 1), ("worker_timeout", 1), ("max_requests", 0), ("max_requests_jitter", 0)):
        value = getattr(arguments, option)
        if value < least:
            which = "above 0" if least else "from 0 up"
            raise ConfigurationError(f"--{option.replace('_', '-')} {value}: give a whole number {which}")
    if arguments.max_requests_jitter and not arguments.max_requests:
        raise ConfigurationError("--max-requests-jitter: there is no --max-requests; give it, too")


def _change_directory(folder: str) -> None:
    """For whoever is started where a web server happens to be: imports are looked for in `folder`, no more here."""
    try:
        is_first = sys.path[:1] == [os.getcwd()]  # as python -m puts it
    except FileNotFoundError:
        is_first = False
    try:
        os.chdir(folder)
    except OSError as error:
        raise not_entered(folder, error) from error
    if is_first:
        sys.path[0] = os.getcwd()


def _serve_with_workers(arguments: Namespace | SimpleNamespace, **chosen: Any) -> None:
    workers = arguments.workers
    option, why = ("--workers", f"--workers {workers}") if workers > 1 else ("--max-requests", "--max-requests")
    if arguments.reload_on_touch:
        raise ConfigurationError(f"--reload-on-touch is for one process: with {option}, SIGHUP reloads the application")
    try:
        from ..workers.serve import serve_with_workers
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gunicorn":
            raise
        raise ConfigurationError(f"{why} needs gunicorn: pip install 'simple_fastcgi[gunicorn]'") from None
    settings = _settings(arguments)
    if settings["threads"] is None:
        settings["threads"] = DEFAULT_THREADS
    serve_with_workers(
        arguments.app,
        workers=workers,
        worker_timeout=arguments.worker_timeout,
        max_requests=arguments.max_requests,
        max_requests_jitter=arguments.max_requests_jitter,
        factory=arguments.factory,
        **chosen,
        **settings,
    )


def _settings(arguments: Namespace | SimpleNamespace) -> dict[str, Any]:
    """The arguments as :func:`serve` takes them."""
    settings: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (
            *("bind", "interface", "root_path", "threads", "lifespan", "loop"),
            *("socket_mode", "socket_owner", "socket_group"),
            *("access_log", "access_log_format", "ping_path", "status_path", "status_bind"),
            *("slowlog_timeout", "request_timeout"),
        )
    }
    if arguments.allow_from:
        settings["allow_from"] = ",".join(arguments.allow_from)
    settings["unbuffered_events"] = not arguments.no_unbuffered_events
    settings["name"] = arguments.app
    settings.update({name: value for name in Limits.DEFAULTS if (value := getattr(arguments, name)) is not None})
    return settings
