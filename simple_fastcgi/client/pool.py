"""Which connection a request takes, who waits for one, how long one is kept, when a request may be sent again.

Pure decisions about connections of any kind, without a clock, a lock or a socket: shells bring those.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ..errors import BrokenResponseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..limits import ClientLimits
    from .exchange import Exchange

    class Waiter(Protocol):
        """An event, as threading and anyio have it."""

        def set(self) -> object: ...


_C = TypeVar("_C")

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"})
"""Methods whose request means the same when it comes twice (RFC 9110, 9.2.2)."""


class PoolState(Generic[_C]):
    """What is known of the connections to one application, and of those who wait for one. Not thread-safe.

    A shell that wants a connection asks :meth:`must_wait`. If so it waits for an event of its own, which it has put
    into the :meth:`queue`, and then asks :meth:`claim`, or calls :meth:`give_up`. Whoever need not wait (any more)
    calls :meth:`take_or_reserve`, and :meth:`retake` for a connection that turns out to be closed. Whatever it has got
    it gives back by :meth:`release` or :meth:`lose`, upon which the next one's event is set: first come, first served.
    After each call the shell closes what :meth:`to_close` hands out. `now` is time.monotonic(), in seconds.
    """

    __slots__ = ("_closed", "_closing", "_idle", "_queue", "in_use", "limits", "promised")

    in_use: int
    """Connections that were taken or reserved, and not given back."""
    promised: int
    """How many of those who waited were told to go on, and have not claimed their places yet."""

    def __init__(self, limits: ClientLimits) -> None:
        self.limits = limits
        self.in_use = 0
        self.promised = 0
        # With the time since when each is idle, the longest first.
        self._idle: deque[tuple[_C, float]] = deque()
        self._queue: dict[Waiter, None] = {}
        self._closing: list[_C] = []
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that are kept without a request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many are in the queue."""
        return len(self._queue)

    def must_wait(self) -> bool:
        """Whether all places are in use, promised, or waited for by others; in a closed pool nobody waits."""
        return not self._closed and (bool(self._queue) or not self._has_room())

    def queue(self, waiter: Waiter) -> None:
        """Let `waiter`, which is set when there is a place for it, be the last one in the queue."""
        self._queue[waiter] = None
        # A place that was given back since it was told to wait has called nobody.
        self._call_next()

    def claim(self, waiter: Waiter) -> bool:
        """Whether `waiter` was promised a place, which is to be taken now; otherwise it waits no more."""
        if waiter in self._queue:
            del self._queue[waiter]
            return False
        self.promised -= 1
        return True

    def give_up(self, waiter: Waiter) -> None:
        """`waiter` waits no more; a place that it was promised is the next one's."""
        if self.claim(waiter):
            self._call_next()

    def take_or_reserve(self, now: float) -> _C | None:
        """As :meth:`take`, or None and the right to open one, for whoever need not wait. RuntimeError if closed."""
        connection = self.take(now)
        if connection is None:
            reserved = self.reserve()
            assert reserved, "there is a place, or one was promised"
        return connection

    def retake(self, now: float) -> _C | None:
        """As :meth:`take_or_reserve`, in the place of a connection that was taken, and turned out to be closed."""
        self.in_use -= 1
        connection = self.take(now)
        if connection is None:
            self.in_use += 1
        return connection

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
        self._call_next()

    def lose(self) -> None:
        """Give back a place: the connection could not be opened, or is closed already."""
        self.in_use -= 1
        self._call_next()

    def expire(self, now: float) -> None:
        """Close what has been idle for `keepalive_expiry`."""
        while self._idle and now - self._idle[0][1] >= self.limits.keepalive_expiry:
            self._closing.append(self._idle.popleft()[0])

    @property
    def next_expiry(self) -> float | None:
        """When :meth:`expire` has something to do; None while nothing is idle."""
        return self._idle[0][1] + self.limits.keepalive_expiry if self._idle else None

    def close(self) -> None:
        """Keep nothing any more; what is in use is closed when it is given back, and nobody waits."""
        self._closed = True
        self.drop()
        while self._queue:
            self._call_first()

    def drop(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._closing.append(self._idle.popleft()[0])

    def to_close(self) -> list[_C]:
        """The connections that the shell is to close now; they are handed out once."""
        closing, self._closing = self._closing, []
        return closing

    def _has_room(self) -> bool:
        """Whether there is a place that nobody was promised."""
        return self.in_use + self.promised < self.limits.max_connections

    def _call_next(self) -> None:
        while self._queue and self._has_room():
            self._call_first()

    def _call_first(self) -> None:
        waiter = next(iter(self._queue))
        del self._queue[waiter]
        self.promised += 1
        waiter.set()


def may_retry(exchange: Exchange, error: Exception, *, kept: bool, sent: bool, replayable: bool) -> bool:
    """Whether a request that failed with `error` may be sent once more, on another connection.

    Only where the application had closed a connection that was `kept` from an earlier request, as it may at any time:
    nothing of the response came, and all of the body can be had again (`replayable`), as an iterator's cannot, even if
    there was nothing in it. If the request was `sent`, be it in part, it may have been served all the same: then only
    with a method that means the same when it comes twice (:data:`IDEMPOTENT`).
    """
    return (
        kept
        and replayable
        and isinstance(error, BrokenResponseError | ConnectionError)
        and not exchange.received
        and not exchange.aborted
        and (not sent or exchange.method in IDEMPOTENT)
    )
