"""The package's logger, and how an application's failure is told (standard library's logging).

``logging`` is imported when there is something to log, or when the program has done so: with all that it imports, it
would be a tenth of what a small application's start costs.
"""

from __future__ import annotations

import sys

LOGGER_NAME = "simple_fastcgi"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, TextIO


def logger() -> logging.Logger:
    """The logger of all of this package; as long as ``logging`` cannot be imported, what stands in for it."""
    try:
        import logging
    except Exception:
        # No descriptor is left: what is to be told must not end the server.
        stand_in: logging.Logger = _stand_in()
        return stand_in
    ours = logging.getLogger(LOGGER_NAME)
    if _waiting:
        _print(ours)
    if ours.disabled and _shown:
        # logging.config does that to each logger that it was not told of, unless it is told not to. An application
        # that configures its own log does not mean to silence the server that runs it.
        for name in list(ours.manager.loggerDict):  # other threads may make more
            if name == LOGGER_NAME or name.startswith(f"{LOGGER_NAME}."):
                logging.getLogger(name).disabled = False
    return ours


def is_shown() -> None:
    """The log has been made visible by this package, before the application was loaded: it is to stay so."""
    _shown.append(True)


_shown: list[bool] = []


def info(message: str, *arguments: object) -> None:
    """Log `message` at that level; where nothing else has imported ``logging``, this does not either."""
    if not _waiting or "logging" in sys.modules:
        logger().info(message, *arguments)
    elif _waiting[0] in ("DEBUG", "INFO"):
        _write("INFO", message, arguments)


def _write(level: str, message: str, arguments: tuple[object, ...]) -> None:
    """A line on standard error, as ``logging`` writes it."""
    from time import localtime, strftime, time

    now = time()
    told = f"{strftime('%Y-%m-%d %H:%M:%S', localtime(now))},{int(now % 1 * 1000):03d} {level} {LOGGER_NAME}"
    write_to_stderr(f"{told}: {message % arguments if arguments else message}\n", sys.stderr)


def write_to_stderr(text: str, stream: TextIO | None) -> None:
    """`text` on standard error, which `stream` is, if there is one that takes it."""
    try:
        if stream:
            stream.write(text)
    except (OSError, ValueError):
        # As in logging: a pipe without a reader, a full disk, a closed file must not end the program.
        pass


def count_error_handlers(log: logging.Logger) -> int:
    """How many handlers an error on `log` reaches, its own and those above it."""
    import logging

    count = sum(handler.level <= logging.ERROR for handler in log.handlers)
    return count + count_error_handlers(log.parent) if log.propagate and log.parent else count


def _stand_in() -> Any:
    """What of a logger this package calls, on standard error; only warnings and errors, and no tracebacks."""

    class Plain:
        handlers: tuple[object, ...] = ()

        def debug(self, message: str, *arguments: object, **more: object) -> None:
            """Nothing that has to be known."""

        info = debug

        def warning(self, message: str, *arguments: object, **more: object) -> None:
            _write("WARNING", message, arguments)

        def error(self, message: str, *arguments: object, exc_info: object = None, **more: object) -> None:
            error = exc_info[1] if isinstance(exc_info, tuple) else exc_info or None
            _write("ERROR", f"{message}: %r" if error else message, (*arguments, error) if error else arguments)

        def exception(self, message: str, *arguments: object, **more: object) -> None:
            self.error(message, *arguments, exc_info=sys.exception())

    return Plain()


def lines_of(data: bytes | memoryview) -> list[str]:
    """The lines of what an application wrote, for the log: what a terminal would obey as escapes, no end of a line."""
    text = bytes(data).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return text.translate(_CONTROLS).rstrip().splitlines()


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
# What splitlines() would take for an end.
_CONTROLS |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029)}


def iso_time(seconds: float) -> str:
    """The time so many seconds after 1970, as ISO 8601 has it, in local time and with milliseconds."""
    from time import localtime, strftime

    local = localtime(seconds)
    zone = strftime("%z", local)
    return f"{strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(seconds % 1 * 1000):03d}{zone[:3]}:{zone[3:]}"


def about(event: str, fields: Mapping[str, object]) -> dict[str, object]:
    """What a record about a request has besides its message, as `extra`: ``record.fcgi``, a dict.

    `event` is a word for what has happened, `fields` are those of the request, as the access log in JSON names them.
    """
    return {"fcgi": {"event": event, **fields}}


def log_error(message: str, *arguments: object) -> None:
    """Log `message` at the level ERROR: given to those who must not know of logging."""
    logger().error(message, *arguments)


def report_failure(
    error: BaseException, request: str, *, aborted: bool, fields: Mapping[str, object] | None = None
) -> bytes | None:
    """Log that `error` ended the handler of `request`, with its `fields`; the traceback for FCGI_STDERR.

    None when it only tells that the web server hung up, which is no failure. The traceback begins with the
    application's own code.
    """
    if aborted and tells_of_hang_up(error):
        logger().debug("%s: %s", request, error)
        return None
    from traceback import format_exception

    traceback = application_traceback(error)
    # Whoever reads FCGI_STDERR too may pass over what it tells; it tells nothing of an aborted request.
    extra = {"on_stderr": not aborted, **about("failed", fields or {})}
    log = logger()
    twice = _stderr_is_ours and not aborted and bool(log.handlers) and log.handlers == _handlers
    log.error("%s failed", request, exc_info=None if twice else (type(error), error, traceback), extra=extra)
    return "".join(format_exception(type(error), error, traceback)).encode("utf-8", "backslashreplace")


def stderr_is_ours() -> None:
    """From now on FCGI_STDERR goes to this process's standard error: the log need not tell its tracebacks there, too.

    Where the program has set up logging itself, it tells them.
    """
    _stderr_is_ours.append(True)


_stderr_is_ours: list[bool] = []
_handlers: list[logging.Handler] = []
"""What :func:`log_to_stderr` has added."""


def tells_of_hang_up(error: BaseException | None) -> bool:
    """A ConnectionError, or what a framework made of one."""
    for _ in range(_LONGEST_CHAIN):
        if error is None or isinstance(error, ConnectionError):
            return error is not None
        error = error.__cause__ or error.__context__
    return False


_LONGEST_CHAIN = 20


def application_traceback(error: BaseException) -> TracebackType | None:
    """Without the frames of this package and of socketserver, which lead to the application's first one."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        traceback = traceback.tb_next
    # Nothing of the application in it: the error is in here.
    return traceback or error.__traceback__


_OURS = (f"{__package__}.", "socketserver")


def log_to_stderr(level: str = "INFO", *, processes: bool = False, json: bool = False) -> None:
    """Make the package's log visible on standard error, unless the program has set up logging itself.

    With `processes`, each line tells which process wrote it; with `json` each is an object of JSON. The root logger is
    left alone: frameworks look at it to decide whether they log at all.
    """
    if _waiting:
        if "logging" in sys.modules:
            logger()
    elif "logging" not in sys.modules and not (processes or json):
        _waiting.append(level)
    else:
        import logging

        ours = logger()
        if not ours.handlers and not logging.getLogger().handlers:
            _add_handler(ours, "%(name)s[%(process)d]" if processes else "%(name)s", json=json)
            ours.setLevel(level)


_waiting: list[str] = []
"""The level that :func:`log_to_stderr` was given while nothing had imported ``logging``: nobody had set it up."""


def _print(ours: logging.Logger) -> None:
    try:
        level = _waiting.pop()
    except IndexError:
        # Another thread is just doing it; until it has, logging itself shows warnings and errors.
        return
    # What the application has said of this logger meanwhile stands.
    if not ours.handlers:
        _add_handler(ours, "%(name)s")
        ours.setLevel(ours.level or level)


def _add_handler(ours: logging.Logger, name: str, *, json: bool = False) -> None:
    import logging

    handler = logging.StreamHandler()
    if json:
        from .json_log import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    ours.addHandler(handler)
    _handlers.append(handler)
    is_shown()
    ours.propagate = False
