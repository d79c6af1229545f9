"""A line for each request that has ended, in a file or on a standard stream."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from time import localtime, monotonic, strftime, time

from ..errors import ConfigurationError
from ..log import iso_time, logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .info import RequestInfo

FORMATS = ("combined", "json")
"""The lines: as Apache and nginx write them, with the two times behind; or an object of JSON each."""
_LOOK_SECONDS = 1.0
_CLOSING_SECONDS = 1.0
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), ord('"'), ord("\\"), *range(127, 256))}


class AccessLog:
    """Appends lines to the file at `path`, which messages call `name`; ``"-"`` is standard output.

    Each line is one write, so that those of several processes never mix. A file that was renamed or removed, as a log
    rotation does, is opened anew within a second, or at once by :meth:`reopen`; where the new one cannot be opened the
    old one is written on, which is told once, until it can. Raises ConfigurationError for a format
    that there is not, OSError when the file cannot be opened.
    """

    def __init__(self, path: str, format: str = "combined", *, name: str | None = None) -> None:
        if format not in FORMATS:
            raise ConfigurationError(f"access_log_format={format!r}: give one of {', '.join(FORMATS)}")
        self._path = path
        self._name = name or path
        self._line = json_line if format == "json" else combined_line
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._failing = False
        self._misplaced = False
        self._fd = -1
        self.reopen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless somebody waits, for longer than a second, until a pipe takes a line."""
        if self._lock.acquire(timeout=_CLOSING_SECONDS):
            try:
                self._close()
            finally:
                self._lock.release()

    def reopen(self) -> None:
        """Open the file at the path, whichever it is now; OSError if that cannot be done, and nothing has changed."""
        with self._lock:
            self._open()

    def _open(self) -> None:
        if self._path == "-":
            self._fd = 1
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._close()
        self._fd = fd
        self._misplaced = False

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd > 2:
            os.close(fd)

    # As an observer

    def arrived(self, info: RequestInfo) -> None:
        """Nothing is written yet."""

    def started(self, info: RequestInfo) -> None:
        """Nothing is written yet."""

    def responding(self, info: RequestInfo) -> None:
        """Nothing is written yet."""

    def ended(self, info: RequestInfo) -> None:
        """Write the line; a disk that is full, or a pipe without a reader, is told once and ends nothing."""
        line = self._line(info).encode("latin-1")
        with self._lock:
            now = monotonic()
            if now >= self._next_look and self._path != "-":
                self._next_look = now + _LOOK_SECONDS
                self._look()
            try:
                os.write(self._fd, line)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    self._failing = True
                    logger().error("the access log %s: %s (told once)", self._name, error.strerror)

    def _look(self) -> None:
        """Open the file anew if another one, or none, is at its path; write on where that cannot be done."""
        if self._fd < 0:
            # A handler has come to its end behind that of its server.
            return
        try:
            if not self._is_at_path():
                self._open()
            self._misplaced = False
        except OSError as error:
            if not self._misplaced:
                self._misplaced = True
                logger().error(
                    "the access log %s cannot be opened anew: %s; what was open before is written on (told once): "
                    "let the user who runs this write there, or make the folder again",
                    *(self._name, error.strerror),
                )

    def _is_at_path(self) -> bool:
        ours = os.fstat(self._fd)
        try:
            at_path = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (at_path.st_dev, at_path.st_ino) == (ours.st_dev, ours.st_ino)


def combined_line(info: RequestInfo) -> str:
    """The line of Apache's and nginx's "combined" format; behind it the seconds it took and those it waited."""
    params = info.params
    size = max(info.bytes_out, 0)
    return (
        f"{_word(params.get('REMOTE_ADDR'))} - {_word(params.get('REMOTE_USER'))} [{_local_time(int(_began(info)))}] "
        f'"{_quoted(info.method)} {_quoted(info.uri)} {_quoted(params.get("SERVER_PROTOCOL") or "-")}" '
        f"{_shown_status(info)} {size} "
        f'"{_quoted(params.get("HTTP_REFERER") or "-")}" "{_quoted(params.get("HTTP_USER_AGENT") or "-")}" '
        f"{info.seconds:.6f} {info.queue_seconds:.6f}\n"
    )


def json_line(info: RequestInfo) -> str:
    """The same as an object of JSON, in ASCII; what is not known is null."""
    from json import dumps

    told = {"time": iso_time(_began(info)), **info.fields(), "pid": os.getpid()}
    return dumps(told, separators=(",", ":")) + "\n"


def _shown_status(info: RequestInfo) -> str:
    # As nginx logs a client that left before there was an answer.
    return str(info.status or (499 if info.aborted else 200))


def _word(value: str | None) -> str:
    return _quoted(value).replace(" ", "\\x20") if value else "-"


def _quoted(value: str) -> str:
    """Nothing in it can end the quotes or the line, or reach a terminal."""
    return (
        value
        if value.isprintable() and value.isascii() and '"' not in value and "\\" not in value
        else value.translate(_UNPRINTABLE)
    )


def _began(info: RequestInfo) -> float:
    return time() - (monotonic() - info.arrived)


# A busy server has many requests in a second.
@lru_cache(maxsize=4)
def _local_time(second: int) -> str:
    return strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second))
