"""A request of a synchronous server that has a monitor."""

from __future__ import annotations

from ..monitor.request import Counted
from .request import FcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..monitor.monitor import Monitor
    from ..protocol.streams import InputStream
    from .connection import Connection
    from .connections import ConnectionServer


class MonitoredRequest(Counted, FcgiRequest):
    """Tells the monitor what passes through its streams, and of its end."""

    __slots__ = ("_monitor", "info")

    def begin(self, server: ConnectionServer, connection: Connection) -> None:
        """As that of `FcgiRequest`."""
        super().begin(server, connection)
        assert server.monitor is not None
        self._monitor: Monitor = server.monitor
        self.info = server.monitor.arrived(self.core.params)

    def read(self, size: int = -1, stream: InputStream | None = None, *, fully: bool = False) -> bytes:
        """As that of `FcgiRequest`."""
        data = super().read(size, stream, fully=fully)
        self._count_input(len(data), stream)
        return data

    def take_whole(self) -> bytes | None:
        """As that of `FcgiRequest`."""
        data = super().take_whole()
        self._count_input(len(data or b""))
        return data

    def readinto(self, buffer: bytearray | memoryview, stream: InputStream | None = None) -> int:
        """As that of `FcgiRequest`."""
        size = super().readinto(buffer, stream)
        self._count_input(size, stream)
        return size

    def fill(self, view: memoryview, *, comes: bool) -> int:
        """As that of `FcgiRequest`."""
        size = super().fill(view, comes=comes)
        self._count_input(size)
        return size

    def put_back(self, data: bytes) -> None:
        """As that of `FcgiRequest`."""
        super().put_back(data)
        self._count_input(-len(data))

    def write(self, data: bytes, *, flush: bool = False) -> None:
        """As that of `FcgiRequest`."""
        self._count(data)
        super().write(data, flush=flush)

    def write_blocks(self, blocks: Iterator[bytes], room: int | None) -> tuple[bytes | None, int | None]:
        """As that of `FcgiRequest`."""
        block, left = super().write_blocks(self._counted(blocks), room)
        if type(block) is bytes:
            # It comes once more, by write() or end().
            self.info.bytes_out -= len(block)
        return block, left

    def _counted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """`blocks`, each counted before it is written, as in :meth:`write`; the head has gone before."""
        for block in blocks:
            if type(block) is bytes:
                self.info.bytes_out += len(block)
            yield block

    def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """As that of `FcgiRequest`."""
        super().send_file(descriptor, start, stop)
        self._count_file(stop - start)

    def end(self, app_status: int = 0, data: bytes = b"", head: bytes = b"") -> None:
        """As that of `FcgiRequest`."""
        self._count(head)
        self._count(data)
        self._tell_end()
        super().end(app_status, data, head)

    def fail(self, error: bytes) -> None:
        """As that of `FcgiRequest`."""
        self._tell_failure(error, replaced=self.replaceable)
        super().fail(error)
