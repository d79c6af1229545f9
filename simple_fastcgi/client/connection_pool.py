"""The connections to one application, shared by threads (blocking shell)."""

from __future__ import annotations

import os
import threading
import time
import weakref

from .connection import Connection
from .pool import PoolState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import ClientLimits
    from ..net.address import BindAddress


class PoolTimeoutError(TimeoutError):
    """All connections were in use for `seconds`."""


class ConnectionPool:
    """Connections to `target`, within `limits`. Thread-safe.

    A process that was forked off begins with an empty pool: two that speak on one connection would mix up their
    responses.
    """

    def __init__(self, target: BindAddress, limits: ClientLimits) -> None:
        self.target = target
        self.limits = limits
        self._condition = threading.Condition()
        self._in_use: set[Connection] = set()
        self._state: PoolState[Connection] = PoolState(limits)
        self._closed = False
        _pools.add(self)

    def forget(self) -> None:
        """Start anew in a process that was forked off: it closes its duplicates, and the other's connections stay."""
        inherited, state = self._in_use, self._state
        # Another thread of the other process may just have held the lock.
        self._condition = threading.Condition()
        self._in_use = set()
        self._state = PoolState(self.limits)
        if self._closed:
            self._state.close()
        state.close()
        _close([*inherited, *state.to_close()])

    @property
    def idle(self) -> int:
        """Connections that are kept without a request."""
        return self._state.idle

    @property
    def in_use(self) -> int:
        """Connections with a request, and those that are being opened."""
        return self._state.in_use

    def acquire(self, *, connect_timeout: float | None, pool_timeout: float | None) -> Connection:
        """A connection, kept or new, to be given back by :meth:`release`, whatever happens.

        Raises PoolTimeoutError when none is free for `pool_timeout` seconds, RuntimeError when the pool was closed, and
        what :meth:`.Connection.open` raises.
        """
        deadline = None if pool_timeout is None else time.monotonic() + pool_timeout
        while True:
            kept = self._take_or_reserve(deadline, pool_timeout)
            try:
                if kept is None:
                    connection = Connection.open(self.target, connect_timeout)
                    self._in_use.add(connection)
                    return connection
                if kept.take():
                    self._in_use.add(kept)
                    return kept
                kept.close()
            except BaseException:
                if kept is not None:
                    kept.close()
                self._lose()
                raise
            self._lose()

    def release(self, connection: Connection, *, reusable: bool) -> None:
        """Give a connection back, which is kept if it is `reusable` and there is room, and closed otherwise."""
        if connection not in self._in_use:
            # Of another process.
            connection.close()
            return
        self._in_use.discard(connection)
        if not reusable:
            # The application is to hear of it before anybody else gets its place.
            connection.close()
        with self._condition:
            if reusable:
                self._state.release(connection, time.monotonic(), reusable=True)
            else:
                self._state.lose()
            closing = self._state.to_close()
            self._condition.notify()
        _close(closing)

    def close(self) -> None:
        """Keep nothing any more; connections in use are closed when they are given back."""
        with self._condition:
            self._closed = True
            self._state.close()
            closing = self._state.to_close()
            self._condition.notify_all()
        _close(closing)

    def _take_or_reserve(self, deadline: float | None, pool_timeout: float | None) -> Connection | None:
        """A kept connection, or None and the right to open one."""
        with self._condition:
            while True:
                connection = self._state.take(time.monotonic())
                if connection is not None or self._state.reserve():
                    closing = self._state.to_close()
                    break
                # All are in use: none has expired.
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise PoolTimeoutError(
                        f"all {self.limits.max_connections} connections to {self.target} were in use for "
                        f"{pool_timeout:g} s (pool timeout): close the responses that are not read to their end, "
                        "or raise max_connections"
                    )
                self._condition.wait(left)
        _close(closing)
        return connection

    def _lose(self) -> None:
        with self._condition:
            self._state.lose()
            self._condition.notify()


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
