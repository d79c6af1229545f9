"""A long body's next records, read so that their content lies where it is wanted, and their headers elsewhere.

Their headers are known before they come: most web servers cut a body into records of one size. A copy of the content
is saved so.
"""

from __future__ import annotations

from .constants import FCGI_HEADER_LEN
from .records import HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    WritableBuffer = bytearray | memoryview

MOST = 256 * 1024
"""Bytes of content that are read at once, at most."""


class Scatter:
    """Where to read what follows in a body, all of whose records have the same `header`, and no padding (3.3).

    `left` bytes of the latest one are still to come.
    """

    __slots__ = (
        "_behind",
        "_contents",
        "_cuts",
        "_expected",
        "_frame",
        "_headers",
        "_received",
        "_shape",
        "_size",
        "_total",
        "left",
    )

    left: int
    """Bytes that are still to come of the latest record."""

    def __init__(self, header: bytes, left: int) -> None:
        self.left = left
        self._size = HEADER.unpack(header)[3]
        count = MOST // self._size + 1
        self._expected = header * count
        # Those that are not read into stay as they are.
        self._received = bytearray(self._expected)
        view = memoryview(self._received)
        self._headers = [view[at : at + FCGI_HEADER_LEN] for at in range(0, len(view), FCGI_HEADER_LEN)]
        self._shape = 0, 0

    def buffers(self, view: memoryview) -> list[WritableBuffer]:
        """What to read into, one behind the other, so that `view`, of MOST bytes at most, gets the content alone."""
        if self._shape != (self.left, len(view)):
            self._prepare(len(view))
        buffers = self._frame.copy()
        # No loop in Python: this is done for each block of a long body.
        buffers[self._contents] = map(view.__getitem__, self._cuts)
        return buffers

    def _prepare(self, end: int) -> None:
        """For a view of `end` bytes; they are mostly cut the same way again and again."""
        left, size = self.left, self._size
        self._shape = left, end
        starts = range(left, end, size)
        self._cuts = [slice(start, start + size) for start in starts]
        # Each header, and behind it what holds the place of the content.
        self._frame: list[WritableBuffer] = [
            buffer for header in self._headers[: len(starts)] for buffer in (header, header)
        ]
        self._contents = slice(1, None, 2)
        if left:
            self._cuts.insert(0, slice(left))
            self._frame.insert(0, self._received)
            self._contents = slice(0, None, 2)
        self._behind = (starts[-1] + size if starts else left) - end
        self._total = end + FCGI_HEADER_LEN * len(starts)

    def received(self, count: int) -> bool:
        """So many bytes have come into the buffers: whether that is all, and the records go on as they were.

        Otherwise it is as if nothing had come.
        """
        if count != self._total or self._received != self._expected:
            return False
        self.left = self._behind
        return True
