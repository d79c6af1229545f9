"""``simple-fastcgi dev MODULE:ATTR``."""

from __future__ import annotations

from ..dev.settings import DEFAULT_GRACEFUL_TIMEOUT, DEFAULT_HTTP, Settings
from ..errors import ConfigurationError
from .serve import add_app_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from .serve import Commands

_EXAMPLES = """\
examples:
  simple-fastcgi dev shop.web:app
      and open http://127.0.0.1:8000/
  simple-fastcgi dev shop.web:create_app --factory --http 127.0.0.1:8080 --open
  simple-fastcgi dev shop.web:app --reload-include '*.sql' --debug

Changes of *.py and of templates (*.html, *.jinja, *.jinja2, *.j2) restart the application. Ctrl+C ends everything.
"""
_EXTRA = ("uvicorn", "watchfiles", "anyio")


def add_command(commands: Commands) -> None:
    """Add ``dev`` to the command line."""
    from argparse import RawDescriptionHelpFormatter

    parser = commands.add_parser(
        "dev",
        usage="simple-fastcgi dev MODULE:ATTR [--http HOST:PORT] [options]",
        help="develop a WSGI or ASGI application: over FastCGI, without a web server",
        description="Run a WSGI or ASGI application for its developer: over FastCGI, as in production,\n"
        "with an HTTP server of its own in front of it. It is started anew when its code changes.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_arguments(parser)


def add_arguments(parser: ArgumentParser) -> None:
    """What stands behind ``dev``."""
    parser.set_defaults(run=run)
    add = parser.add_argument
    add_app_arguments(parser)
    add("--http", metavar="HOST:PORT", default=DEFAULT_HTTP, help="where browsers find it (default: %(default)s)")
    add("--open", action="store_true", help="open it in a browser as soon as it answers")
    add("--root-path", metavar="PATH", help="mount it there: it answers below http://HOST:PORT/PATH/ only")
    add("--debug", action="store_true", help="WSGI: werkzeug's debugger in the browser, when the application raises")

    reload = parser.add_argument_group("reload")
    reload.add_argument("--no-reload", action="store_true", help="watch no files")
    reload.add_argument(
        "--reload-dir",
        metavar="DIR",
        action="append",
        help="watch files below it (default: the current directory); may be repeated",
    )
    reload.add_argument(
        "--reload-include",
        metavar="PATTERN",
        action="append",
        help="watch files of such names, too, for example '*.toml'; may be repeated",
    )
    reload.add_argument(
        "--graceful-timeout",
        type=float,
        default=DEFAULT_GRACEFUL_TIMEOUT,
        metavar="SECONDS",
        help="for requests under way, before a restart cuts them off (default: %(default)g)",
    )


def run(arguments: Namespace) -> int:
    """Run the development server; the exit status."""
    from . import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, complain

    try:
        ended = _develop(arguments)
    except ConfigurationError as error:
        complain(str(error))
        return EXIT_USAGE
    except KeyboardInterrupt:
        # Before there was anything to end.
        return EXIT_INTERRUPTED
    except OSError as error:
        complain(error.strerror or str(error))
        return EXIT_FAILURE
    return {"": EXIT_OK, "failed": EXIT_FAILURE, "refused": EXIT_USAGE}[ended]


def _develop(arguments: Namespace) -> str:
    from importlib.util import find_spec

    needed = [name for name in _EXTRA if name != "watchfiles" or not arguments.no_reload]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"dev needs {' and '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed: "
            "pip install 'simple_fastcgi[dev]'"
        )
    from ..dev.run import develop

    return develop(
        Settings(
            app=arguments.app,
            http=arguments.http,
            interface=arguments.interface,
            factory=arguments.factory,
            root_path=arguments.root_path,
            threads=arguments.threads,
            debug=arguments.debug,
            reload=not arguments.no_reload,
            reload_dirs=arguments.reload_dir or (),
            reload_include=arguments.reload_include or (),
            open_browser=arguments.open,
            graceful_timeout=arguments.graceful_timeout,
        )
    )
