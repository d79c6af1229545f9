"""The body of a request: pieces of text and of files, read as they are sent."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager

from . import status
from .status import CallError, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

PIECE = 65536
"""How much of a file is read at once, in bytes."""
# What has no length is kept until it has one: in memory, if it is no more than this, else in a temporary file.
_MAX_IN_MEMORY = 1 << 20


class FilePart:
    """`size` bytes of a file from where it stands now; None: until it ends, and it may come slowly."""

    def __init__(self, file: IO[bytes], name: str, size: int | None) -> None:
        self.file = file
        self.name = name
        self.size = size
        self._start = 0 if size is None else file.tell()
        self._read = 0

    def read(self) -> bytes:
        """The next bytes, b"" behind the last."""
        wanted = PIECE if self.size is None else min(PIECE, self.size - self._read)
        try:
            # What is typed is to be sent at once, so nothing is collected here.
            data = os.read(self.file.fileno(), wanted) if self.size is None else self.file.read(wanted)
        except OSError as error:
            raise unreadable(self.name, error) from None
        if wanted and not data and self.size is not None:
            raise CallError(
                status.READ,
                f"cannot read {self.name}: it has become shorter, {self._read} of {self.size} bytes are left",
            )
        self._read += len(data)
        return data

    def rewind(self) -> None:
        """Begin again."""
        if self._read:
            self.file.seek(self._start)
            self._read = 0


class Body:
    """What is sent behind the parameters. A context manager that closes its files."""

    def __init__(self, *parts: bytes | FilePart) -> None:
        self.parts: list[bytes | FilePart] = []
        self._next = 0
        for part in parts:
            self.append(part)

    def append(self, part: bytes | FilePart) -> None:
        """Add `part` at the end."""
        if part != b"":
            self.parts.append(part)

    @contextmanager
    def closed_on_errors(self) -> Iterator[None]:
        """Close the files if what is done meanwhile raises."""
        try:
            yield
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            if isinstance(part, FilePart) and part.file is not _stdin():
                part.file.close()

    @property
    def length(self) -> int | None:
        """In bytes; None if that is known at its end only."""
        sizes = [len(part) if isinstance(part, bytes) else part.size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def awaited(self) -> int | None:
        """The descriptor that is to be readable before :meth:`read`; None if that never waits."""
        part = self.parts[self._next] if self._next < len(self.parts) else b""
        return part.file.fileno() if isinstance(part, FilePart) and part.size is None else None

    def read(self) -> bytes:
        """The next piece, b"" behind the last; CallError if a file cannot be read."""
        while self._next < len(self.parts):
            part = self.parts[self._next]
            if isinstance(part, bytes):
                self._next += 1
                return part
            data = part.read()
            if data:
                return data
            self._next += 1
        return b""

    def read_all(self) -> bytes:
        """All of it, at once."""
        return b"".join(iter(self.read, b""))

    def rewind(self) -> None:
        """Begin again, with a body whose length is known."""
        self._next = 0
        for part in self.parts:
            if isinstance(part, FilePart):
                part.rewind()


def open_file(name: str) -> IO[bytes]:
    """The file `name` for reading, standard input for ``-``; CallError if it cannot be opened."""
    if name == "-":
        stdin = _stdin()
        if stdin is None:
            raise CallError(status.READ, "cannot read standard input: it is closed")
        return stdin
    try:
        return open(name, "rb")
    except (OSError, ValueError) as error:
        why = error if isinstance(error, OSError) else OSError(str(error))
        raise unreadable(name, why) from None


def file_part(name: str) -> FilePart:
    """The file `name` as it is read while it is sent; what is no ordinary file has no length."""
    file = open_file(name)
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        return FilePart(file, _called(name), None)
    return FilePart(file, _called(name), max(found.st_size - file.tell(), 0))


def measured_part(name: str, change: Callable[[bytes], bytes] | None = None) -> FilePart:
    """The file `name`, its pieces changed by `change`, with its length: what has none is read to its end first."""
    if change is None:
        part = file_part(name)
        if part.size is not None:
            return part
        file = part.file
    else:
        file = open_file(name)
    from tempfile import SpooledTemporaryFile

    spool = SpooledTemporaryFile(_MAX_IN_MEMORY)  # noqa: SIM115 (it is the part's)
    size = 0
    try:
        while data := file.read(PIECE):
            size += spool.write(data if change is None else change(data))
    except OSError as error:
        spool.close()
        raise unreadable(_called(name), error) from None
    finally:
        if file is not _stdin():
            file.close()
    spool.seek(0)
    return FilePart(spool, _called(name), size)


def unreadable(name: str, error: OSError) -> CallError:
    """A file that should have been sent cannot be read."""
    return CallError(status.READ, f"cannot read {name}: {reason_of(error)}")


def _stdin() -> IO[bytes] | None:
    return None if sys.stdin is None else sys.stdin.buffer


def _called(name: str) -> str:
    return "standard input" if name == "-" else name
