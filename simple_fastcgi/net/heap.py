"""Memory for bodies, which come and go in blocks of some hundred KB."""

from __future__ import annotations

from collections import deque
from os import read, readv

_BLOCK = 1 << 20
BODY = 256 * 1024
"""A web server that sends a body can have so many bytes on the way."""
# With two of them a body can be read while the end of what came before waits to be taken; eight threads have that.
_MOST_BUFFERS = 16


def keep_freed_blocks() -> None:
    """Let the C library keep up to 2 MiB that were freed, rather than return and ask for them with each block.

    glibc takes the largest block that was ever freed for the size of those that come and go: so it learns that size
    before there is any. None of this block's memory is ever used.
    """
    bytes(_BLOCK)


class BodyBuffers:
    """Where bodies are read into, again and again: some buffers of 256 KiB, which threads may share.

    In memory of its own each time, as large as what has come, what is read comes to lie anywhere between all that lives
    longer: the heap of a server that takes uploads would grow by some MB.
    """

    def __init__(self) -> None:
        self._buffers: deque[bytearray] = deque()
        self._made = 0

    def read(self, fd: int) -> bytes | memoryview:
        """As :func:`os.read`; OSError as there.

        What a view shows stays as it is as long as it, or a part of it, is referred to.
        """
        view = self.view()
        return read(fd, BODY) if view is None else view[: readv(fd, (view,))]

    def view(self) -> memoryview | None:
        """All of a buffer that nobody else refers to a part of, if there is one."""
        buffer = self._take()
        if buffer is None:
            return None
        view = memoryview(buffer)
        # The end of a body's part mostly waits in the last one: it is not asked first again.
        self._buffers.append(buffer)
        return view

    def _take(self) -> bytearray | None:
        """The buffer itself, which no other thread finds until it is put back."""
        buffers = self._buffers
        for _ in range(len(buffers)):
            try:
                buffer = buffers.popleft()
            except IndexError:
                # Other threads are at it, too.
                return None
            try:
                # What is viewed cannot change its size.
                buffer.pop()
            except BufferError:
                buffers.append(buffer)
                continue
            buffer.append(0)
            return buffer
        if self._made >= _MOST_BUFFERS:
            return None
        # Threads that do this at once may make some too many, which does no harm.
        self._made += 1
        return bytearray(BODY)
