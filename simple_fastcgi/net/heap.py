"""Memory for bodies, which come and go in blocks of some hundred KB."""

from __future__ import annotations

from collections import deque
from os import read, readv
from threading import local

_BLOCK = 1 << 20
BODY = 256 * 1024
"""A web server that sends a body can have so many bytes on the way."""
# With two of them a body can be read while the end of what came before waits to be taken.
_MOST_BUFFERS = 4


def keep_freed_blocks() -> None:
    """Let the C library keep up to 2 MiB that were freed, rather than return and ask for them with each block.

    glibc takes the largest block that was ever freed for the size of those that come and go: so it learns that size
    before there is any. None of this block's memory is ever used.
    """
    bytes(_BLOCK)


class BodyBuffers(local):
    """Where a thread reads bodies into, again and again: some buffers of 256 KiB.

    In memory of its own each time, as large as what has come, what is read comes to lie anywhere between all that lives
    longer: the heap of a server that takes uploads would grow by some MB.
    """

    def __init__(self) -> None:
        self._buffers: deque[bytearray] = deque()

    def read(self, fd: int) -> bytes | memoryview:
        """As :func:`os.read`; OSError as there.

        What a view shows stays as it is as long as it, or a part of it, is referred to.
        """
        buffer = self.free()
        return read(fd, BODY) if buffer is None else memoryview(buffer)[: readv(fd, (buffer,))]

    def free(self) -> bytearray | None:
        """A buffer that nobody refers to a part of, if there is one."""
        for buffer in self._buffers:
            try:
                # What is viewed cannot change its size.
                buffer.pop()
            except BufferError:
                continue
            buffer.append(0)
            # The end of a body's part mostly waits in the last one: it is not asked first again.
            self._buffers.rotate(-1)
            return buffer
        if len(self._buffers) == _MOST_BUFFERS:
            return None
        self._buffers.append(bytearray(BODY))
        return self._buffers[-1]
