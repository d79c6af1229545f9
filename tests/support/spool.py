"""Files for spooled input, on a disk that is full some time."""

from __future__ import annotations

import errno

from simple_fastcgi.net.spool import ConnectionSpool


class LimitedSpool:
    """A stream in a real file, with room for `room` bytes."""

    def __init__(self, room: int) -> None:
        self._stream = ConnectionSpool()()
        self._room = room
        self.unreadable = False
        """The disk fails for the moment."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) > self._room:
            raise OSError(errno.ENOSPC, "no space left on this device")
        self._stream.write(data)
        self._room -= len(data)

    def read(self, size: int) -> bytes:
        if self.unreadable:
            raise OSError(errno.EIO, "input/output error")
        data = self._stream.read(size)
        self._room += len(data)
        return data

    def close(self) -> None:
        self._stream.close()
