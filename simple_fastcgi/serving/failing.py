"""What is served in place of an application that fails to start, until its code changes.

A process that a web server has spawned must not just end: the visitor would wait, the web server spawn it again and
again, and nobody see why.
"""

from __future__ import annotations

import os
import sys

from ..errors import ConfigurationError
from ..log import info, logger
from ..protocol.constants import FCGI_AUTHORIZER, FCGI_FILTER, FCGI_RESPONDER
from ..sync.handler import FcgiHandler
from .load import AppCrashError, AppLoadError
from .threads import run_wsgi
from .touch import files_to_touch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator

    from ..limits import Limits
    from ..net import ListeningSocket
    from .restart import Restart

_MOST_FILES = 4096
_LONGEST_CHAIN = 20


class FailedHandler(FcgiHandler):
    """Answers each request, of any role, with a plain 500, and tells the web server's error log why."""

    roles = (FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER)
    why: bytes
    """For FCGI_STDERR: mostly a traceback."""

    def handle(self) -> None:
        """End the request as a failed one."""
        self.request.fail(self.why)


def keeps_from_starting(error: BaseException) -> bool:
    """Whether `error` says that there is no application, or that its start has failed."""
    if isinstance(error, AppCrashError | ConfigurationError | SystemExit):
        return True
    # Only ASGI applications have it, and only they need asyncio.
    lifespan = sys.modules.get(f"{__package__.rpartition('.')[0]}.gateways.lifespan")
    return lifespan is not None and isinstance(error, lifespan.LifespanError)


def serve_failure(
    name: str,
    error: BaseException,
    listening: ListeningSocket,
    limits: Limits,
    *,
    stop: threading.Event | None,
    restart: Restart,
) -> None:
    """Serve :class:`FailedHandler` because `error` kept the application `name` from its start; returns as `run_wsgi`.

    The reason is logged once.
    """
    why = explain(error)
    handler = type("Failed", (FailedHandler,), {"why": why.encode("utf-8", "backslashreplace")})

    def ready() -> None:
        logger().error(
            "%s failed to start; requests are answered with 500 until its code changes, or restart.txt is touched:\n%s",
            name,
            why.rstrip(),
        )

    run_wsgi(handler, listening, limits, threads=1, stop=stop, ready=ready, restart=restart)
    info("stopped")


def explain(error: BaseException) -> str:
    """Why the application did not start, for its developer; ends with a newline."""
    if isinstance(error, AppCrashError):
        return error.user_traceback()
    if isinstance(error, SystemExit):
        from traceback import format_exception

        return "".join(format_exception(error))
    return f"{error}\n"


def files_behind(error: BaseException, spec: str | None, folders: Iterable[str]) -> list[str]:
    """The files that may mend `error` when they change: the code that has run, and the files for touching.

    `spec` is the application's ``MODULE:ATTR``, if it has one. A module that was not found is looked for where it might
    come to be.
    """
    files = dict.fromkeys(files_to_touch(True, folders))
    files |= dict.fromkeys(_files_in(error))
    if isinstance(error, AppLoadError) and spec is not None:
        files |= dict.fromkeys(_places_of(spec.partition(":")[0]))
    # Of installed packages only what stands in the traceback.
    files |= dict.fromkeys(
        file
        for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) is not None and not _is_installed(file)
    )
    return list(files)[:_MOST_FILES]


def _files_in(error: BaseException) -> Iterator[str]:
    """The files that `error` and its causes tell of."""
    cause: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if cause is None:
            return
        trace = cause.__traceback__
        while trace is not None:
            yield trace.tb_frame.f_code.co_filename
            trace = trace.tb_next
        if isinstance(cause, SyntaxError) and cause.filename:
            yield cause.filename
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            yield from _places_of(cause.name)
        cause = cause.__cause__ or cause.__context__


def _places_of(module_name: str) -> Iterator[str]:
    """Where a module of that name might appear."""
    for folder in sys.path:
        base = os.path.join(folder or ".", *module_name.split("."))
        yield from (f"{base}.py", base, os.path.join(base, "__init__.py"))


def _is_installed(file: str) -> bool:
    return file.startswith((sys.prefix, sys.base_prefix)) or f"{os.sep}site-packages{os.sep}" in file
