"""The connections to one application, shared by the tasks of an event loop: asyncio and trio, through anyio."""

from __future__ import annotations

from time import monotonic

import anyio

from .async_connection import AsyncConnection, connect
from .connection_pool import PoolTimeoutError
from .pool import PoolState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import ClientLimits
    from ..net.address import BindAddress


class AsyncPool:
    """Connections to `target`, within `limits`. Not thread-safe.

    Only :meth:`acquire` waits. A kept connection belongs to no event loop, so a pool may outlive one.
    """

    def __init__(self, target: BindAddress, limits: ClientLimits) -> None:
        self.target = target
        self.limits = limits
        self.state: PoolState[AsyncConnection] = PoolState(limits)
        # Who waits, in turn; and how many of them were told to go on but have not been at it yet.
        self._waiting: dict[anyio.Event, None] = {}
        self._called = 0

    async def acquire(self, *, pool_timeout: float | None, connect_timeout: float | None) -> AsyncConnection:
        """A connection on which one request may begin; it must come back by :meth:`release`.

        A kept one, or a new one. Times are in seconds, None is no bound. Raises PoolTimeoutError when none is free for
        `pool_timeout`, RuntimeError when the pool was closed, and what :func:`.async_connection.connect` raises.
        """
        if self._waiting or not self._room():
            await self._wait(pool_timeout)
        try:
            while (connection := self.state.take(monotonic())) is not None:
                if connection.take():
                    return connection
                self.state.lose()
                connection.close()
            reserved = self.state.reserve()
            assert reserved, "a place was promised"
        finally:
            self._close_what_expired()
        try:
            return await connect(self.target, connect_timeout)
        except BaseException:
            self.state.lose()
            self._call_next()
            raise

    def release(self, connection: AsyncConnection, *, reusable: bool) -> None:
        """Give a connection back: it is kept if it is `reusable`, and closed otherwise."""
        self.state.release(connection, monotonic(), reusable=reusable)
        self._close_what_expired()
        self._call_next()

    def close(self) -> None:
        """Close what is kept, at once, and what is in use when it comes back; who waits gets RuntimeError."""
        self.state.close()
        self._close_what_expired()
        while self._waiting:
            self._call_first()

    def _room(self) -> bool:
        """Whether there is a place that nobody was promised."""
        return self.state.in_use + self._called < self.limits.max_connections

    async def _wait(self, timeout: float | None) -> None:
        event = anyio.Event()
        self._waiting[event] = None
        try:
            with anyio.move_on_after(timeout):
                await event.wait()
        except BaseException:
            if not self._leave(event):
                # The place that was promised is the next one's.
                self._call_next()
            raise
        if self._leave(event):
            raise PoolTimeoutError(
                f"all {self.limits.max_connections} connections to {self.target} were in use for {timeout or 0:g} s "
                "(pool timeout): close the responses that are not read to their end, or raise max_connections"
            )

    def _leave(self, event: anyio.Event) -> bool:
        """Wait no more; whether no place was promised meanwhile."""
        if event in self._waiting:
            del self._waiting[event]
            return True
        self._called -= 1
        return False

    def _call_next(self) -> None:
        while self._waiting and self._room():
            self._call_first()

    def _call_first(self) -> None:
        event = next(iter(self._waiting))
        del self._waiting[event]
        self._called += 1
        event.set()

    def _close_what_expired(self) -> None:
        for connection in self.state.to_close():
            connection.close()
