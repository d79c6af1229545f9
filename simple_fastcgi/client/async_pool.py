"""The connections to one application, shared by the tasks of an event loop: asyncio and trio, through anyio."""

from __future__ import annotations

import os
import weakref
from time import monotonic

import anyio

from .async_connection import AsyncConnection, connect
from .connection_pool import pool_timeout_error
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
        self._in_use: set[AsyncConnection] = set()
        self._closed = False
        _pools.add(self)

    def forget(self) -> None:
        """Start anew in a process that was forked off: it closes its duplicates, and the other's connections stay."""
        inherited, state = self._in_use, self.state
        self._in_use = set()
        self.state = PoolState(self.limits)
        if self._closed:
            self.state.close()
        state.drop()
        for connection in (*inherited, *state.to_close()):
            connection.close()

    async def acquire(self, *, pool_timeout: float | None, connect_timeout: float | None) -> AsyncConnection:
        """A connection on which one request may begin; it must come back by :meth:`release`.

        A kept one, or a new one. Times are in seconds, None is no bound. Raises PoolTimeoutError when none is free for
        `pool_timeout`, RuntimeError when the pool was closed, and what :func:`.async_connection.connect` raises.
        """
        if self.state.must_wait():
            await self._wait(pool_timeout)
        try:
            connection = self.state.take_or_reserve(monotonic())
            while connection is not None and not connection.take():
                connection.close()
                connection = self.state.retake(monotonic())
        finally:
            self._close_what_expired()
        if connection is None:
            try:
                connection = await connect(self.target, connect_timeout)
            except BaseException:
                self.state.lose()
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

    def close(self) -> None:
        """Close what is kept, at once, and what is in use when it comes back; who waits gets RuntimeError."""
        self._closed = True
        self.state.close()
        self._close_what_expired()

    async def _wait(self, timeout: float | None) -> None:
        turn = anyio.Event()
        state = self.state
        state.queue(turn)
        try:
            with anyio.move_on_after(timeout):
                await turn.wait()
        except BaseException:
            state.give_up(turn)
            raise
        if not state.claim(turn):
            raise pool_timeout_error(self.target, self.limits, timeout)

    def _close_what_expired(self) -> None:
        for connection in self.state.to_close():
            connection.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


_pools: weakref.WeakSet[AsyncPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
