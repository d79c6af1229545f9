"""`wsgi.input` (PEP 3333): a body that has not come whole yet."""

from __future__ import annotations

from io import BufferedIOBase, BufferedReader, RawIOBase

from ..cgi.request import content_length
from ..protocol.scatter import MOST
from .body import InputCounter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..sync.request import FcgiRequest

_LINES_BUFFER = 64 * 1024
# Memory for so much is taken before it has come.
_GATHERED = 128 * 1024
# Smaller blocks would take more system calls than a copy of them is worth.
_LARGE = 32 * 1024


class BodyReader(BufferedIOBase):
    """FCGI_STDIN as a buffered binary file.

    It has no buffer as long as it is read in blocks, which are received right into their memory, or copied there once;
    with the first line it gets one, and keeps it. Reading raises what :meth:`FcgiRequest.read` does.
    """

    def __init__(self, request: FcgiRequest) -> None:
        self._request = request
        self._counter = InputCounter(request.core)
        self._length = content_length(request.params) or 0
        self._blocks = _reader(_BlockInput(request, self._counter, self._length))
        self._lines: BufferedReader | None = None
        # As long as there is none, and this is open, which io tells slowly.
        self._in_blocks = True

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Nothing can be read any more."""
        self._in_blocks = False
        if self._lines is not None:
            self._lines.close()
        super().close()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes, fewer only at the end; all that is left if `size` is negative or None."""
        if size is not None and 0 < size <= _GATHERED and self._in_blocks:
            # As most read a large body.
            return self._blocks.read(size)
        size = -1 if size is None else size
        if self._lines is not None:
            return self._lines.read(size)
        comes = self._length - self._counter.received
        if size == 0 or comes <= 0 or not self._in_blocks:
            return self._read_some(size, fully=True)
        # Right into memory for all of it.
        pieces = _PieceInput(self._request, self._counter, self._length)
        try:
            data = _reader(pieces).read(comes if size < 0 else min(size, comes))
        except MemoryError:
            if pieces.begun:
                raise
            # There is none for a length that is made up; what comes may be little.
            return self._read_some(size, fully=True)
        if len(data) == size:
            return data
        try:
            return data + self._read_some(size - len(data), fully=True)
        except BaseException:
            _put_back(self._request, self._counter, data)
            raise

    def read1(self, size: int = -1, /) -> bytes:
        """What has come, up to `size` bytes, waiting for the first."""
        if self._lines is not None:
            return self._lines.read1(size)
        return self._read_some(_LINES_BUFFER if size < 0 else size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """The next line with its end, or the first `size` bytes of it."""
        return self._buffer().readline(-1 if size is None else size)

    def __iter__(self) -> Iterator[bytes]:
        """Line by line."""
        return iter(self._buffer())

    def _read_some(self, size: int, *, fully: bool = False) -> bytes:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        data = self._request.read(size, fully=fully)
        self._counter.received += len(data)
        self._counter.check()
        return data

    def _buffer(self) -> BufferedReader:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        if self._lines is None:
            self._in_blocks = False
            self._lines = BufferedReader(_RawInput(self._request, self._counter), _LINES_BUFFER)
        return self._lines


class _RawInput(RawIOBase):
    """The same below a buffer."""

    def __init__(self, request: FcgiRequest, counter: InputCounter) -> None:
        self._request = request
        self._counter = counter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._request.readinto(buffer)
        self._counter.received += size
        self._counter.check()
        return size


class _BlockInput(_RawInput):
    """The same, which waits for as much as is asked for, MOST bytes at most; of `length` bytes in all."""

    # Asked with each block, and found faster than what io notes of its own: so it is always, see close().
    closed = False

    def __init__(self, request: FcgiRequest, counter: InputCounter, length: int) -> None:
        super().__init__(request, counter)
        self._length = length

    def close(self) -> None:
        # Nothing. In a circle that is collected this may come before the reader above is closed, which takes this for
        # open, as told here, and must not fail by it.
        pass

    def readinto(self, buffer: Any) -> int:
        counter = self._counter
        size = self._request.fill(buffer, comes=_LARGE <= len(buffer) <= self._length - counter.received)
        counter.received += size
        if counter.stdin.ended:
            counter.check()
        return size


class _PieceInput(_BlockInput):
    """The same for any size: in pieces, all of which come once more if one of them fails."""

    begun = False

    def readinto(self, buffer: Any) -> int:
        self.begun = True
        filled, size = 0, len(buffer)
        try:
            while filled < size and (piece := super().readinto(buffer[filled : filled + MOST])):
                filled += piece
        except BaseException:
            _put_back(self._request, self._counter, bytes(buffer[:filled]))
            raise
        return filled


def _put_back(request: FcgiRequest, counter: InputCounter, data: bytes) -> None:
    """What was read, and nobody got, is read once more."""
    request.put_back(data)
    counter.received -= len(data)


def _reader(raw: _BlockInput) -> BufferedReader:
    """What reads blocks: with a buffer of one byte, which is none, `raw` writes right into them."""
    return BufferedReader(raw, 1)
