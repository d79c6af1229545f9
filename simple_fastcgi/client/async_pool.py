"""The connections to one application, shared by the tasks of an event loop: asyncio and trio, through anyio."""

from __future__ import annotations

import os
import weakref
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

    Only :meth:`acquire` waits. A kept connection belongs to no event loop, so a pool may outlive one. A process that
    was forked off begins with an empty pool: two that speak on one connection would mix up their responses.
    """

    def __init__(self, target: BindAddress, limits: ClientLimits) -> None:
        self.target = target
        self.limits = limits
        self.state: PoolState[AsyncConnection] = PoolState(limits)
        # Who waits, in turn; and how many of them were told to go on but have not been at it yet.
        self._waiting: dict[anyio.Event, None] = {}
        self._called = 0
        self._in_use: set[AsyncConnection] = set()
        self._closed = False
        _pools.add(self)

    def forget(self) -> None:
        """Start anew in a process that was forked off: it closes its duplicates, and the other's connections stay."""
        inherited, state = self._in_use, self.state
        self._in_use = set()
        self._waiting = {}
        self._called = 0
        self.state = PoolState(self.limits)
        if self._closed:
            self.state.close()
        state.close()
        for connection in (*inherited, *state.to_close()):
            connection.close()

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
                    self._in_use.add(connection)
                    return connection
                self.state.lose()
                connection.close()
            reserved = self.state.reserve()
            assert reserved, "a place was promised"
        finally:
            self._close_what_expired()
        try:
            connection = await connect(self.target, connect_timeout)
        except BaseException:
            self.state.lose()
            self._call_next()
            raise
        self._in_use.add(connection)
        return connection

    def release(self, connection: AsyncConnection, *, reusable: bool) -> None:
        """Give a connection back: it is kept if it is `reusable`, and closed otherwise."""
        if connection not in self._in_use:
            # Of another process.
            connection.close()
            return
        self._in_use.discard(connection)
        self.state.release(connection, monotonic(), reusable=reusable)
        self._close_what_expired()
        self._call_next()

    def close(self) -> None:
        """Close what is kept, at once, and what is in use when it comes back; who waits gets RuntimeError."""
        self._closed = True
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


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


_pools: weakref.WeakSet[AsyncPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
