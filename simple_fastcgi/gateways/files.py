"""Files that applications answer with: `wsgi.file_wrapper`, and which of them the kernel can send by itself."""

from __future__ import annotations

import os
from io import BufferedRandom, BufferedReader, FileIO
from stat import S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Readable(Protocol):
        """What `wsgi.file_wrapper` is given."""

        def read(self, size: int, /) -> bytes: ...


SMALL = 32 * 1024
"""Up to this size a file is read: then it leaves in one system call with the head and the end of its response."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file's content in blocks of `block_size` bytes."""

    def __init__(self, file: Readable, block_size: int = 64 * 1024) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if block := self.file.read(self.block_size):
            return block
        raise StopIteration

    def blocks(self, most: int | None) -> Iterator[bytes]:
        """The same, and no more than `most` bytes are asked for."""
        size = self.block_size
        while most is None or most > 0:
            block = self.file.read(size if most is None else min(size, most))
            if not block:
                return
            yield block
            if most is not None:
                most -= len(block)


def find_regular_file(file: object) -> tuple[int, int, int] | None:
    """The descriptor of the regular file that `file` reads, where it stands, and where the file ends now.

    None for anything else. That there is a `fileno()` tells nothing: a GzipFile has one. What counts is that `read`
    is that of the standard library's file objects, be it through an object which only hands it on.
    """
    reader = getattr(getattr(file, "read", None), "__self__", None)
    if not isinstance(reader, BufferedReader | BufferedRandom | FileIO) or not _is_builtin(reader):
        return None
    try:
        if not reader.readable():
            return None
        # What was written is in the file from here on.
        reader.flush()
        descriptor = reader.fileno()
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            return None
        return descriptor, reader.tell(), status.st_size
    except (OSError, ValueError):
        # Closed, for example: reading it tells the application.
        return None


def _is_builtin(reader: BufferedReader | BufferedRandom | FileIO) -> bool:
    if isinstance(reader, FileIO):
        return type(reader) is FileIO
    return type(reader) in (BufferedReader, BufferedRandom) and type(reader.raw) is FileIO


def open_regular_file(path: str) -> tuple[int, int]:
    """The descriptor of the file at `path`, which the caller closes, and its size; OSError if it is no regular one."""
    # A FIFO without a writer would keep us waiting otherwise.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            raise OSError(f"{path!r} is not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def read_file(descriptor: int, size: int) -> bytes:
    """The first `size` bytes, fewer only if the file has no more."""
    data = b""
    while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
        data += more
    return data
