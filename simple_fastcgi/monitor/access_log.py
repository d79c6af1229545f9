"""A line for each request that has ended, in a file or on a standard stream."""

from __future__ import annotations

import os
import stat
import sys
import threading
from bisect import bisect_right
from codecs import utf_8_decode
from functools import lru_cache
from time import localtime, monotonic, strftime, time

from ..errors import ConfigurationError
from ..log import iso_time, logger
from .info import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .info import RequestInfo

FORMATS = ("combined", "json")
"""The lines: as Apache and nginx write them, with the two times behind; or an object of JSON each."""
_LOOK_SECONDS = 1.0
_CLOSING_SECONDS = 1.0
_MARK = "..."
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(32), ord('"'), ord("\\"), *range(127, 256))}


class AccessLog(Observer):
    """Appends lines to the file at `path`, which messages call `name`; ``"-"`` is standard output.

    Each line is one write, so that those of several processes never mix. What is no regular file, a pipe for one, takes
    only PIPE_BUF bytes at once (4096 on Linux): there the longest fields of a longer line are cut, and end in "...".
    A file that was renamed or removed, as a log rotation does, is opened anew within a second, or at once by
    :meth:`reopen`; where the new one cannot be opened the old one is written on, which is told once, until it can.
    Raises ConfigurationError for a format that there is not, OSError when the file cannot be opened.
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
        # There was no room for all of the last line.
        self._is_cut = False
        self._fd = -1
        self._room = 0
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
            self._room = _room_of(1)
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._close()
        self._fd = fd
        self._room = _room_of(fd)
        self._misplaced = self._is_cut = False

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd > 2:
            os.close(fd)

    # As an observer

    def ended(self, info: RequestInfo) -> None:
        """Write the line; a disk that is full, or a pipe without a reader, is told once and ends nothing."""
        line = self._line(info)
        if len(line) > self._room:
            line = shortened(self._line, info, self._room)
        with self._lock:
            now = monotonic()
            if now >= self._next_look and self._path != "-":
                self._next_look = now + _LOOK_SECONDS
                self._look()
            try:
                self._write(line.encode("ascii"))
                self._failing = False
            except OSError as error:
                if not self._failing:
                    self._failing = True
                    logger().error("the access log %s: %s (told once)", self._name, error.strerror)

    def _write(self, line: bytes) -> None:
        """Write all of it, at once if there is room; behind a line that was cut it begins with the end of that."""
        if self._is_cut:
            line = b"\n" + line
        left = line
        try:
            while left:
                # Of what does not fit the rest is tried for the error that tells why.
                left = left[os.write(self._fd, left) :]
        finally:
            self._is_cut = bool(left) and (self._is_cut or len(left) < len(line))

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


def _room_of(fd: int) -> int:
    """The bytes that one write puts there whole, whoever else writes."""
    try:
        is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        # Nothing is open there; to write will tell.
        return sys.maxsize
    if is_regular:
        return sys.maxsize
    from select import PIPE_BUF

    return PIPE_BUF


def shortened(line: Callable[[RequestInfo], str], info: RequestInfo, room: int) -> str:
    """The line of which the longest fields are cut, at most `room` bytes of it.

    What is cut is what came, before anything of it is escaped.
    """
    from copy import copy

    shown, params = copy(info), {**info.params, "REQUEST_URI": info.uri}
    # The line that is measured must be the one that is written: the time of what has not ended goes on.
    shown.ended = info.ended or monotonic()

    def with_at_most(size: int) -> str:
        shown.params = {name: _cut(value, size) for name, value in params.items()}
        return line(shown)

    sizes = range(len(_MARK), room)
    index = bisect_right(sizes, room, key=lambda size: len(with_at_most(size)))
    return with_at_most(sizes[max(index - 1, 0)])


def _cut(value: str, size: int) -> str:
    """The beginning of `value` that has `size` bytes together with the mark; no character of UTF-8 in parts."""
    if len(value) <= size:
        return value
    kept = value[: size - len(_MARK)]
    return kept[: utf_8_decode(kept.encode("latin-1"), "surrogateescape", False)[1]] + _MARK


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
