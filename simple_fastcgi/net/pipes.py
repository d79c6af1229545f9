"""Records of a file that are put together in a pipe, so that a unix socket takes many of them with one system call.

Linux hands on the pages of the file, and that of the headers: no byte of them is copied, and the web server is not
woken for a header before there is anything behind it.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIPED = 8
"""Records that a pipe holds. With more of them nothing is won, and what the socket refuses was prepared in vain."""

# Pages of the longest record, if it begins with one, and that of its header.
_PAGES = 16
# Pipes of one process. All processes of a user who is not root may have some 128 of this size on Linux.
_MOST = 4

# Other systems have none of these.
_splice: Any = getattr(os, "splice", None)
_memfd_create: Any = getattr(os, "memfd_create", None)
_NONBLOCK = getattr(os, "SPLICE_F_NONBLOCK", 0)


class RecordPipe:
    """A pipe, and the headers of records in a file that is in memory only."""

    __slots__ = ("_headers", "_is_empty", "_reader", "_writer")

    def __init__(self) -> None:
        self._headers = self._reader = self._writer = -1
        self._is_empty = False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close its descriptors; the next use makes them anew."""
        headers, self._headers = self._headers, -1
        close_descriptors(headers, *self._take_pipe())

    def _take_pipe(self) -> tuple[int, int]:
        pipe = self._reader, self._writer
        self._reader = self._writer = -1
        self._is_empty = False
        return pipe

    def _renew(self) -> None:
        """OSError where there are no descriptors left, or the system has no such pipes."""
        if self._headers < 0:
            self._headers = _memfd_create("simple_fastcgi")
        # Sooner made anew than read to its end.
        close_descriptors(*self._take_pipe())
        self._reader, self._writer = os.pipe()
        fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPED * _PAGES * os.sysconf("SC_PAGE_SIZE"))
        self._is_empty = True

    def send(self, sock: int, header: bytes, file: int, start: int, stop: int, size: int) -> tuple[int, int]:
        """As :func:`send_piped`."""
        due = sent = 0
        try:
            due = self._fill(header, file, start, stop, size)
            sent = due and _splice(self._reader, sock, due)
        except BlockingIOError:
            pass
        self._is_empty = sent == (stop - start) // size * (len(header) + size)
        return due, sent

    def _fill(self, header: bytes, file: int, start: int, stop: int, size: int) -> int:
        """Have whole records in the pipe, as many as possible; how many bytes. There may be more behind them."""
        due, length = 0, len(header)
        try:
            if not self._is_empty:
                self._renew()
            self._is_empty = False
            splice, headers, writer = _splice, self._headers, self._writer
            # By its request id: a page that is on its way must never have another content.
            place = int.from_bytes(header[2:4]) * 8
            os.pwrite(headers, header, place)
            for position in range(start, stop, size):
                if splice(headers, writer, length, place, None, _NONBLOCK) < length:
                    break
                if splice(file, writer, size, position, None, _NONBLOCK) < size:
                    break
                due += length + size
        except OSError as error:
            # None of the socket. Whoever goes on without a pipe finds out if it is one of the file.
            if error.errno is None:
                # The application's: a handler of signals may raise TimeoutError.
                raise
        return due


def close_descriptors(*descriptors: int) -> None:
    """Close those that are there. Nobody has their numbers any more: one that is closed may be another's at once."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


# None is one that could be.
_free: list[RecordPipe | None] = [None] * _MOST
_made: list[RecordPipe] = []


def close_pipes() -> None:
    """Close and forget all; none may be in use by a thread of this process."""
    _free[:] = [None] * _MOST
    while _made:
        _made.pop().close()


# What the parent puts into its pipes is not the child's, which has those, too, that other threads were using.
os.register_at_fork(after_in_child=close_pipes)


def send_piped(sock: int, header: bytes, file: int, start: int, stop: int, size: int) -> tuple[int, int]:
    """Send the bytes of `file` from `start` to `stop` in up to :data:`PIPED` records of `size`, each behind `header`.

    It is that of FCGI_STDOUT records of one request. How many bytes of whole records have been prepared, less than all
    where the file has no more, or none where it cannot be sent so; and how many of them have left, fewer where the unix
    socket takes no more (one that blocks: for as long as it may wait). Raises OSError about the socket, or that it
    cannot take pages; nothing has left then.
    """
    try:
        pipe = _free.pop()
    except IndexError:
        # Other threads have them all.
        return 0, 0
    try:
        if pipe is None:
            if _splice is None or _memfd_create is None:
                return 0, 0
            pipe = RecordPipe()
            _made.append(pipe)
        return pipe.send(sock, header, file, start, stop, size)
    finally:
        _free.append(pipe)
