"""Temporary files for input that memory has no room for."""

from __future__ import annotations

import errno
import os
from weakref import WeakSet

from ..log import logger

# What the last read before the bound may bring.
_SLACK = 1 << 20


class RingFile:
    """First in, first out, in an unlinked temporary file that never has more than `capacity` bytes.

    It stands where the :mod:`tempfile` module puts such files (TMPDIR). Raises OSError when there can be none.
    """

    __slots__ = ("__weakref__", "_capacity", "_file", "_first", "_size")

    def __init__(self, capacity: int) -> None:
        # Not at import: it brings much along, and few connections ever need it.
        from tempfile import TemporaryFile

        self._file = TemporaryFile(buffering=0, prefix="simple_fastcgi-")  # noqa: SIM115 - it stays open
        self._capacity = capacity
        self._first = self._size = 0

    def write(self, data: bytes | bytearray) -> None:
        """Append all of `data`, or nothing of it and raise OSError."""
        if self._size + len(data) > self._capacity:
            raise OSError(errno.ENOSPC, "the spooled input passes its bound")
        view = memoryview(data)
        position = (self._first + self._size) % self._capacity
        while view:
            written = os.pwrite(self._file.fileno(), view[: self._capacity - position], position)
            view = view[written:]
            position = (position + written) % self._capacity
        self._size += len(data)

    def read(self, size: int) -> bytes:
        """Take up to `size` bytes from the front; at least one while any are left. OSError when that fails."""
        size = min(size, self._size, self._capacity - self._first)
        data = os.pread(self._file.fileno(), size, self._first)
        if size and not data:
            raise OSError(errno.EIO, "a file of spooled input was cut short by someone else")
        self._first = (self._first + len(data)) % self._capacity
        self._size -= len(data)
        return data

    def close(self) -> None:
        """Give the space back; nothing follows. Never raises."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it has given its space back."""
        return self._file.closed

    def __del__(self) -> None:
        # A handler may read on behind the end of its request: its last reader closes.
        if hasattr(self, "_file"):
            self.close()


MAX_FILES = 64
"""How many such files a process has at most: descriptors are for connections."""

_files: WeakSet[RingFile] = WeakSet()


def open_spool(max_spooled_input: int) -> RingFile:
    """A file for a connection's input beyond its bound; OSError when there can be none."""
    for file in list(_files):
        if file.closed:
            _files.discard(file)
    if len(_files) >= MAX_FILES:
        raise OSError(errno.EMFILE, f"{MAX_FILES} files of spooled input are open already")
    try:
        file = RingFile(max_spooled_input + _SLACK)
    except OSError as error:
        logger().warning("no temporary file for input beyond max_buffered_input (%s): its connection waits", error)
        raise
    _files.add(file)
    return file
