"""A request of an asynchronous server that has a monitor."""

from __future__ import annotations

from ..monitor.request import Counted
from .request import AsyncFcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from ..monitor.monitor import Monitor
    from ..protocol.streams import InputStream
    from .connection import Connection


class MonitoredRequest(Counted, AsyncFcgiRequest):
    """Tells the monitor what passes through its streams, and of its end."""

    __slots__ = ("_monitor", "info")

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def begin(self, connection: Connection) -> None:
        """As that of `AsyncFcgiRequest`."""
        super().begin(connection)
        self.info = self._monitor.arrived(self.core.params)
        # Until its end, as the circle would be left to the garbage collector.
        self.info.served_by = self

    def waiting_task(self) -> object:
        """The task that serves it, if that waits."""
        from asyncio import current_task

        return None if self.task is current_task(self.connection.loop) else self.task

    def give_up(self) -> None:
        """Cancel the task that serves it; called from any thread."""
        self.connection.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self.task is not None and not self.core.ended:
            self.task.cancel()

    async def read(self, size: int = -1, stream: InputStream | None = None) -> bytes:
        """As that of `AsyncFcgiRequest`."""
        data = await super().read(size, stream)
        self._count_input(len(data), stream)
        return data

    async def readinto(self, buffer: bytearray | memoryview, stream: InputStream | None = None) -> int:
        """As that of `AsyncFcgiRequest`."""
        size = await super().readinto(buffer, stream)
        self._count_input(size, stream)
        return size

    def take(self, size: int) -> bytes:
        """As that of `AsyncFcgiRequest`."""
        data = super().take(size)
        self._count_input(len(data))
        return data

    # No coroutine around the coroutine: a response may be written in many pieces.
    def write(self, data: bytes, *, flush: bool = False) -> Coroutine[Any, Any, None]:
        """As that of `AsyncFcgiRequest`."""
        self._count(data)
        return super().write(data, flush=flush)

    def write_now(self, data: bytes) -> bool:
        """As that of `AsyncFcgiRequest`."""
        self._count(data)
        return super().write_now(data)

    def put(self, data: bytes) -> None:
        """As that of `AsyncFcgiRequest`."""
        self._count(data)
        super().put(data)

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """As that of `AsyncFcgiRequest`."""
        await super().send_file(descriptor, start, stop)
        self._count_file(stop - start)

    def end(self, app_status: int = 0, *, data: bytes = b"") -> None:
        """As that of `AsyncFcgiRequest`."""
        self._count(data)
        self._tell_end()
        super().end(app_status, data=data)

    def end_with(self, data: bytes) -> None:
        """As that of `AsyncFcgiRequest`."""
        self.end(data=data)

    def fail(self, error: bytes) -> None:
        """As that of `AsyncFcgiRequest`."""
        self._tell_failure(error, replaced=self.replaceable)
        super().fail(error)
