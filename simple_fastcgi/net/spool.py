"""Temporary files for input that memory has no room for: one for each connection that needs it."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque

from ..log import logger

BLOCK = 16 * 1024
MAX_FILES = 256
"""How many such files a process has at most: descriptors are for connections."""

# Of all files of the process. No semaphore: the garbage collector may close one while another is being opened.
_descriptors: set[int] = set()


class ConnectionSpool:
    """Makes the streams of one connection, which share a file; it is there as long as one of them is.

    The file is unlinked and stands where the :mod:`tempfile` module puts such files (TMPDIR).
    """

    __slots__ = ("_file", "_has_told")

    def __init__(self) -> None:
        self._file: _BlockFile | None = None
        self._has_told = False

    def __call__(self) -> SpooledStream:
        """A new stream; OSError, and once a line in the log, when there can be none."""
        stream = None if self._file is None else self._file.open_stream()
        if stream is None:
            try:
                self._file = _BlockFile()
            except OSError as error:
                if not self._has_told:
                    self._has_told = True
                    logger().warning(
                        "no temporary file for input beyond max_buffered_input (%s): its connection waits", error
                    )
                raise
            stream = self._file.open_stream()
            assert stream is not None
        return stream


class SpooledStream:
    """First in, first out, on disk."""

    __slots__ = ("_blocks", "_file", "_first", "_size")

    def __init__(self, file: _BlockFile) -> None:
        self._file: _BlockFile | None = file
        # Where the bytes are: from `_first` on in the first of the blocks.
        self._blocks: deque[int] = deque()
        self._first = self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`, or nothing of it and raise OSError."""
        file = self._file
        assert file is not None
        view = memoryview(data)
        end, kept = self._first + self._size, len(self._blocks)
        try:
            while view:
                offset = end % BLOCK
                if offset == 0:
                    self._blocks.append(file.allocate())
                written = file.write(view[: BLOCK - offset], self._blocks[-1] * BLOCK + offset)
                view = view[written:]
                end += written
        except OSError:
            while len(self._blocks) > kept:
                file.release([self._blocks.pop()])
            raise
        self._size += len(data)

    def read(self, size: int) -> bytes:
        """Take up to `size` bytes from the front; at least one while any are left. OSError when that fails."""
        file = self._file
        size = min(size, self._size, BLOCK - self._first)
        if file is None or size == 0:
            return b""
        data = file.read(size, self._blocks[0] * BLOCK + self._first)
        self._first += len(data)
        self._size -= len(data)
        if self._first == BLOCK or self._size == 0:
            file.release([self._blocks.popleft()])
            self._first = 0
        return data

    def close(self) -> None:
        """Give the space back; nothing follows. Never raises."""
        file, self._file = self._file, None
        if file is not None:
            self._size = 0
            file.close_stream(self._blocks)

    def __del__(self) -> None:
        # A handler may read on behind the end of its request: its last reader closes.
        self.close()


class _BlockFile:
    """A file in blocks, which are used again."""

    __slots__ = ("_count", "_free", "_lock", "_streams", "descriptor")

    def __init__(self) -> None:
        # Not at import: it brings much along, and few connections ever need it.
        from tempfile import TemporaryFile

        self.descriptor = -1
        if len(_descriptors) >= MAX_FILES:
            raise OSError(errno.EMFILE, f"{MAX_FILES} such files are open already")
        with TemporaryFile(buffering=0, prefix="simple_fastcgi-") as file:
            # Bare: of a file object the garbage collector would complain before the last stream has closed it.
            self.descriptor = os.dup(file.fileno())
        _descriptors.add(self.descriptor)
        self._free: list[int] = []
        self._count = 0
        self._streams = 0
        # A stream may be closed by whichever thread drops it: even by one that is in here, for the garbage collector
        # may run anywhere.
        self._lock = threading.RLock()

    def open_stream(self) -> SpooledStream | None:
        """A new stream; None if the last one was closed, and the file with it."""
        with self._lock:
            if self.descriptor < 0:
                return None
            self._streams += 1
            return SpooledStream(self)

    def close_stream(self, blocks: deque[int]) -> None:
        """A stream, which had `blocks`, has gone."""
        with self._lock:
            self._free.extend(blocks)
            self._streams -= 1
            if self._streams == 0:
                descriptor, self.descriptor = self.descriptor, -1
                _descriptors.discard(descriptor)
                os.close(descriptor)

    def allocate(self) -> int:
        """The number of a block that nobody has."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._count += 1
            return self._count - 1

    def release(self, blocks: list[int]) -> None:
        """Take blocks back."""
        with self._lock:
            self._free.extend(blocks)

    def write(self, data: memoryview, position: int) -> int:
        """Write some of `data`; how much."""
        return os.pwrite(self.descriptor, data, position)

    def read(self, size: int, position: int) -> bytes:
        """Read up to `size` bytes that were written; OSError if they are not there any more."""
        data = os.pread(self.descriptor, size, position)
        if not data:
            raise OSError(errno.EIO, "a file of spooled input was cut short by someone else")
        return data
