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
    """All connections were in use for too long."""


def pool_timeout_error(target: BindAddress, limits: ClientLimits, seconds: float | None) -> PoolTimeoutError:
    """That of a pool of connections to `target`, as many as `limits` allow, which were in use for `seconds`."""
    return PoolTimeoutError(
        f"all {limits.max_connections} connections to {target} were in use for {seconds or 0:g} s (pool timeout): "
        "close the responses that are not read to their end, or raise max_connections"
    )


class ConnectionPool:
    """Connections to `target`, within `limits`, for who comes first. Thread-safe.

    A process that was forked off begins with an empty pool: two that speak on one connection would mix up their
    responses.
    """

    def __init__(self, target: BindAddress, limits: ClientLimits) -> None:
        self.target = target
        self.limits = limits
        # Not a Lock: the garbage collector may come by within, and close a response that nobody has read to its end.
        self._lock = threading.RLock()
        self._in_use: set[Connection] = set()
        self._state: PoolState[Connection] = PoolState(limits)
        self._closed = False
        _pools.add(self)

    def forget(self) -> None:
        """Start anew in a process that was forked off: it closes its duplicates, and the other's connections stay."""
        inherited, state = self._in_use, self._state
        # Another thread of the other process may just have held the lock.
        self._lock = threading.RLock()
        self._in_use = set()
        self._state = PoolState(self.limits)
        if self._closed:
            self._state.close()
        state.drop()
        _close([*inherited, *state.to_close()])

    @property
    def idle(self) -> int:
        """Connections that are kept without a request."""
        return self._state.idle

    @property
    def in_use(self) -> int:
        """Connections with a request, and those that are being opened."""
        return self._state.in_use

    @property
    def waiting(self) -> int:
        """Threads that wait for a connection."""
        return self._state.waiting

    def acquire(self, *, connect_timeout: float | None, pool_timeout: float | None) -> Connection:
        """A connection, kept or new, to be given back by :meth:`release`, whatever happens.

        Raises PoolTimeoutError when none is free for `pool_timeout` seconds, RuntimeError when the pool was closed, and
        what :meth:`.Connection.open` raises.
        """
        connection = self._take_in_turn(pool_timeout)
        try:
            self._close_what_expired()
            while connection is not None and not connection.take():
                connection.close()
                connection = self._retake()
            if connection is None:
                connection = Connection.open(self.target, connect_timeout)
        except BaseException:
            if connection is not None:
                connection.close()
            with self._lock:
                self._state.lose()
            raise
        self._in_use.add(connection)
        return connection

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
        with self._lock:
            if reusable:
                self._state.release(connection, time.monotonic(), reusable=True)
            else:
                self._state.lose()
        self._close_what_expired()

    def close(self) -> None:
        """Keep nothing any more; connections in use are closed when they are given back; who waits: RuntimeError."""
        with self._lock:
            self._closed = True
            self._state.close()
        self._close_what_expired()

    def _take_in_turn(self, timeout: float | None) -> Connection | None:
        """A kept connection, or None and the right to open one."""
        with self._lock:
            if not self._state.must_wait():
                return self._state.take_or_reserve(time.monotonic())
            turn = threading.Event()
            self._state.queue(turn)
        try:
            turn.wait(timeout)
        except BaseException:
            with self._lock:
                self._state.give_up(turn)
            raise
        with self._lock:
            if not self._state.claim(turn):
                raise pool_timeout_error(self.target, self.limits, timeout)
            return self._state.take_or_reserve(time.monotonic())

    def _retake(self) -> Connection | None:
        """As :meth:`_take_in_turn`, in the place of a connection that turned out to be closed."""
        with self._lock:
            return self._state.retake(time.monotonic())

    def _close_what_expired(self) -> None:
        with self._lock:
            closing = self._state.to_close()
        _close(closing)


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_all)
