"""The package's logger, and how an application's failure is told (standard library's logging)."""

from __future__ import annotations

LOGGER_NAME = "simple_fastcgi"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from types import TracebackType


def logger() -> logging.Logger:
    """The logger of all of this package; imported on first use, for a process that logs nothing starts faster."""
    import logging

    return logging.getLogger(LOGGER_NAME)


def report_failure(error: BaseException, request: str, *, aborted: bool) -> bytes | None:
    """Log that `error` ended the handler of `request`; the traceback for FCGI_STDERR.

    None when it only tells that the web server hung up, which is no failure. The traceback begins with the
    application's own code.
    """
    if aborted and _tells_of_hang_up(error):
        logger().debug("%s: %s", request, error)
        return None
    from traceback import format_exception

    traceback = _application_traceback(error)
    logger().error("%s failed", request, exc_info=(type(error), error, traceback))
    return "".join(format_exception(type(error), error, traceback)).encode("utf-8", "backslashreplace")


def _tells_of_hang_up(error: BaseException | None) -> bool:
    """A ConnectionError, or what a framework made of one."""
    for _ in range(_LONGEST_CHAIN):
        if error is None or isinstance(error, ConnectionError):
            return error is not None
        error = error.__cause__ or error.__context__
    return False


_LONGEST_CHAIN = 20


def _application_traceback(error: BaseException) -> TracebackType | None:
    """Without the frames of this package and of socketserver, which lead to the application's first one."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        traceback = traceback.tb_next
    # Nothing of the application in it: the error is in here.
    return traceback or error.__traceback__


_OURS = (f"{__package__}.", "socketserver")


def log_to_stderr(level: str = "INFO", *, processes: bool = False) -> None:
    """Make the package's log visible on standard error, unless the program has set up logging itself.

    With `processes`, each line tells which process wrote it. The root logger is left alone: frameworks look at it to
    decide whether they log at all.
    """
    import logging

    ours = logger()
    if ours.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    name = "%(name)s[%(process)d]" if processes else "%(name)s"
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(level)
    ours.propagate = False
