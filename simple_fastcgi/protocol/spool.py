"""Input that waits outside of memory.

FastCGI multiplexes requests without any flow control: to go on reading for the others, what arrives for one whose
handler is behind must go somewhere. The shell gives a file for it.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    Chunk = bytes | bytearray | memoryview

    class SpoolFile(Protocol):
        """First in, first out, on disk."""

        def write(self, data: Chunk) -> None:
            """Append all of `data`, or nothing of it and raise OSError."""

        def read(self, size: int) -> bytes:
            """Take up to `size` bytes from the front; at least one while any are left. OSError when that fails."""

        def close(self) -> None:
            """Give the space back; nothing follows."""


_BLOCK = 16 * 1024


class Spool:
    """Bytes in a file, and behind them in memory what the file did not take."""

    __slots__ = ("_behind", "_file", "spooled")

    spooled: int
    """Bytes in the file."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._behind: deque[Chunk] = deque()
        self.spooled = 0

    @property
    def empty(self) -> bool:
        """Everything was taken."""
        return not self.spooled and not self._behind

    def feed(self, chunk: Chunk) -> bool:
        """Append `chunk`, which is not empty; whether it is in the file."""
        if not self._behind:
            try:
                self._file.write(chunk)
            except OSError:
                # No room on the disk. Nothing is lost: it stays in memory, whose bound makes the web server wait.
                pass
            else:
                self.spooled += len(chunk)
                return True
        self._behind.append(chunk)
        return False

    def take(self) -> deque[Chunk]:
        """The next chunks; OSError when the file cannot be read."""
        if self.spooled:
            block = self._file.read(_BLOCK)
            self.spooled -= len(block)
            chunks: deque[Chunk] = deque((block,))
        else:
            chunks, self._behind = self._behind, deque()
        if self.empty:
            self._file.close()
        return chunks

    def close(self) -> None:
        """Throw everything away."""
        self.spooled = 0
        self._behind.clear()
        self._file.close()
