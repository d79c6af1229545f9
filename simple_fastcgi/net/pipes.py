"""Records of a file that are put together in a pipe, so that a unix socket takes many of them with one system call.

Linux hands on the pages of the file, and that of the headers: no byte of them is copied, and the web server is not
woken for a header before there is anything behind it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PAGE = 4096
# With more of them nothing is won, and what the socket does not take was put together in vain.
_RECORDS = 8
# Pages of the longest record, and the one of its header.
_PAGES = 16
# So many empty pipes are kept for later. There may be one for each thread that is about to send.
_IDLE = 8

# Other systems have none of these.
_splice: Any = getattr(os, "splice", None)
_memfd_create: Any = getattr(os, "memfd_create", None)


class RecordPipe:
    """A pipe with room for some records. OSError where there are no descriptors left, or no pipes of that size."""

    __slots__ = ("_reader", "_writer", "is_empty")

    def __init__(self) -> None:
        import fcntl

        self.is_empty = True
        self._reader = self._writer = -1
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, _RECORDS * _PAGES * _PAGE)

    def __del__(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            os.close(self._writer)

    def send(self, sock: int, header: bytes, file: int, start: int, stop: int, size: int) -> int:
        """As :func:`send_piped`; no longer empty if it cannot send all."""
        record = len(header) + size
        place = _place(header)
        sent = 0
        while start < stop:
            end = min(start + _RECORDS * size, stop)
            self.is_empty = False
            due = self._fill(place, len(header), file, start, end, size)
            try:
                left = due and due - _splice(self._reader, sock, due)
            except BlockingIOError:
                left = due
            sent += due - left
            if left or due < (end - start) // size * record:
                break
            self.is_empty = True
            start = end
        return sent

    def _fill(self, place: int, length: int, file: int, start: int, stop: int, size: int) -> int:
        """Have whole records in the pipe; how many bytes. A part of another one may be behind them."""
        splice, headers, writer = _splice, _headers, self._writer
        due = 0
        try:
            for position in range(start, stop, size):
                if splice(headers, writer, length, place) != length or splice(file, writer, size, position) != size:
                    break
                due += length + size
        except OSError:
            # Of the file. Whoever goes on without a pipe finds out.
            pass
        return due


def _place(header: bytes) -> int:
    """Where it stands in the file of headers, by its request id: a page in flight must never change its content."""
    place = int.from_bytes(header[2:4]) * 8
    os.pwrite(_headers, header, place)
    return place


def _create_headers() -> int:
    """A file in memory; -1 where there is none."""
    try:
        return -1 if _splice is None or _memfd_create is None else int(_memfd_create("simple_fastcgi"))
    except OSError:
        return -1


# For all threads and children: each writes the same at the same place.
_headers = _create_headers()
_idle: list[RecordPipe] = []


def close_idle() -> None:
    """Close the pipes that are kept for later."""
    _idle.clear()


# What the parent puts into its pipes is not the child's.
os.register_at_fork(after_in_child=close_idle)


def send_piped(sock: int, header: bytes, file: int, start: int, stop: int, size: int) -> int:
    """Send `header` and `size` bytes of `file`, again and again, from `start` up to `stop`; how many bytes went.

    The header is that of an FCGI_STDOUT record of `size` bytes, which are whole pages, and `stop` is that of a record.
    Ends early where the unix socket takes no more without waiting, or the file has no more or cannot be sent so; 0
    where the system has no such pipes. Raises OSError about the socket.
    """
    if _headers < 0:
        return 0
    try:
        pipe = _idle.pop()
    except IndexError:
        try:
            pipe = RecordPipe()
        except OSError:
            return 0
    sent = pipe.send(sock, header, file, start, stop, size)
    if pipe.is_empty and len(_idle) < _IDLE:
        _idle.append(pipe)
    return sent
