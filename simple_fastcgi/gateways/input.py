"""`wsgi.input` (PEP 3333): a body that has not come whole yet."""

from __future__ import annotations

from io import BufferedIOBase, BufferedReader, RawIOBase

from .body import InputCounter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..sync.request import FcgiRequest

_LINES_BUFFER = 64 * 1024
# Up to so much is waited for before any of it is handed out.
_GATHERED = 128 * 1024


class BodyReader(BufferedIOBase):
    """FCGI_STDIN as a buffered binary file.

    It has no buffer as long as it is read in blocks, which then are copied once; with the first line it gets one, and
    keeps it. Reading raises what :meth:`FcgiRequest.read` does.
    """

    def __init__(self, request: FcgiRequest) -> None:
        self._request = request
        self._counter = InputCounter(request.core)
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
        if self._in_blocks and type(size) is int and 0 < size <= _GATHERED:
            # In blocks, as most read a large body. They come in parts, each of which is copied once, into its block.
            data = self._request.read_block(size)
            counter = self._counter
            counter.received += len(data)
            if counter.stdin.ended:
                counter.check()
            return data if len(data) == size else data + self._read_some(size - len(data), fully=True)
        size = -1 if size is None else size
        return self._read_some(size, fully=True) if self._lines is None else self._lines.read(size)

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
