"""Which connection a request takes, how many there are, how long one is kept, when a request may be sent again.

Pure decisions about connections of any kind, without a clock, a lock or a socket: shells bring those.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ..errors import BrokenResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import ClientLimits
    from .exchange import Exchange

_C = TypeVar("_C")

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""Methods whose request means the same when it comes twice (RFC 9110, 9.2.2)."""


class PoolState(Generic[_C]):
    """What is known of the connections to one application. Not thread-safe.

    A shell that wants a connection calls :meth:`take`; where it gets None, :meth:`reserve`, and opens one; where that
    is false, it waits until another one calls :meth:`release` or :meth:`lose`. Whatever it took or reserved it gives
    back by one of these two. After each call it closes what :meth:`to_close` hands out. `now` is time.monotonic(), in
    seconds.
    """

    __slots__ = ("_closed", "_closing", "_idle", "in_use", "limits")

    in_use: int
    """Connections that were taken or reserved, and not given back."""

    def __init__(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.in_use = 0
        # With the time since when each is idle, the longest first.
        self._idle: deque[tuple[_C, float]] = deque()
        self._closing: list[_C] = []
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that are kept without a request."""
        return len(self._idle)

    def take(self, now: float) -> _C | None:
        """The kept connection that was used last, None if there is none; it counts as in use.

        Whatever it is, the application may have closed it meanwhile: see :func:`may_retry`.
        """
        self.expire(now)
        if not self._idle:
            return None
        connection, _ = self._idle.pop()
        self.in_use += 1
        return connection

    def reserve(self) -> bool:
        """Whether one more may be opened; it counts as in use from now on. RuntimeError if the pool was closed."""
        if self._closed:
            raise RuntimeError("the client was closed")
        if self.in_use + len(self._idle) >= self.limits.max_connections:
            return False
        self.in_use += 1
        return True

    def release(self, connection: _C, now: float, *, reusable: bool) -> None:
        """Give back what was in use: it is kept if it is `reusable` and there is room, and closed otherwise."""
        self.expire(now)
        self.in_use -= 1
        if reusable and not self._closed and len(self._idle) < self.limits.max_keepalive_connections:
            self._idle.append((connection, now))
        else:
            self._closing.append(connection)

    def lose(self) -> None:
        """Give back a place: the connection could not be opened, or is closed already."""
        self.in_use -= 1

    def expire(self, now: float) -> None:
        """Close what has been idle for `keepalive_expiry`."""
        while self._idle and now - self._idle[0][1] >= self.limits.keepalive_expiry:
            self._closing.append(self._idle.popleft()[0])

    @property
    def next_expiry(self) -> float | None:
        """When :meth:`expire` has something to do; None while nothing is idle."""
        return self._idle[0][1] + self.limits.keepalive_expiry if self._idle else None

    def close(self) -> None:
        """Keep nothing any more; what is in use is closed when it is given back."""
        self._closed = True
        while self._idle:
            self._closing.append(self._idle.popleft()[0])

    def to_close(self) -> list[_C]:
        """The connections that the shell is to close now; they are handed out once."""
        closing, self._closing = self._closing, []
        return closing


def may_retry(exchange: Exchange, error: Exception, *, kept: bool, sent: bool, replayable: bool) -> bool:
    """Whether a request that failed with `error` may be sent once more, on another connection.

    Only where the application had closed a connection that was `kept` from an earlier request, as it may at any time:
    nothing of the response came, and what was handed over of the body can be had again (`replayable`). If the request
    was `sent`, be it in part, it may have been served all the same: then only with a method that means the same when
    it comes twice (:data:`IDEMPOTENT`).
    """
    return (
        kept
        and isinstance(error, BrokenResponseError | ConnectionError)
        and not exchange.received
        and not exchange.aborted
        and (replayable or not exchange.input_begun)
        and (not sent or exchange.method in IDEMPOTENT)
    )
