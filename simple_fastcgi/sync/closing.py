"""Which connections a synchronous server closes: those that took too long; and at its own end, when, and which."""

from __future__ import annotations

from time import monotonic

from ..cgi.parting import LAST_CALL_SECONDS, has_waited, is_fresh, is_to_be_told
from ..protocol.terms import PARAMETERS, Awaited, overdue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import Limits
    from .connection import Connection

# What a connection awaits of the web server when it is finished.
_ITS_END = object()


def why_to_close(connection: Connection, limits: Limits, now: float) -> str | None:
    """As `terms.overdue` tells it; also "" when its peer is gone."""
    core = connection.core
    with connection.lock:
        # Otherwise a handler's thread might just have ended its request, and not have sent all of it yet.
        unsent, finished, idle = connection.unsent, core.finished, core.idle
        awaited = _ITS_END if finished else core.awaited
    if awaited is not connection.awaited:
        connection.awaited, connection.awaited_since = awaited, now
    if connection.gone:
        return ""
    since = None if awaited is None else connection.awaited_since
    why = overdue(
        limits,
        now,
        last_active=connection.last_active,
        awaited_since=None if finished else since,
        stalled_since=connection.stalled_since if unsent else None,
        finished_since=since if finished else None,
        idle=idle,
        awaited=awaited if isinstance(awaited, Awaited) else PARAMETERS,
    )
    if why is None and not (unsent or finished or connection.watched) and connection.has_hung_up():
        # Not every poller tells of one that it does not watch.
        return ""
    return why


class WindingDown:
    """It begins now, and takes `graceful_timeout` seconds at most: then it is `until`."""

    __slots__ = ("_began", "_graceful_timeout", "_last_call_until", "_told_at", "until")

    def __init__(self, graceful_timeout: float) -> None:
        self._began = monotonic()
        self._graceful_timeout = graceful_timeout
        self.until = self._began + graceful_timeout
        self._last_call_until = 0.0
        # When web servers were last told of the end.
        self._told_at: dict[Connection, float] = {}

    def lets_go(self, connection: Connection) -> bool:
        """Whether a connection can be closed: no request is under way on it, and none can be on its way."""
        # A request that has reached us is served: look once more before an idle connection is closed.
        return connection.is_at_rest() and not connection.receive() and self._has_parted(connection)

    def _has_parted(self, connection: Connection) -> bool:
        """Whether no request can be on its way on an idle connection any more; its web server is told of the end."""
        now, last_active = monotonic(), connection.last_active
        if connection.heeds_parting is None:
            # Nothing has come yet.
            return not is_fresh(now, last_active)
        if not connection.heeds_parting or has_waited(now, last_active, self._began, self._graceful_timeout):
            return True
        if is_to_be_told(now, last_active, self._told_at.get(connection, 0.0)):
            self._told_at[connection] = now
            connection.part()
        return connection.gone

    def is_last_call(self, now: float) -> bool:
        """Whether those who have connected meanwhile are served still; the first time that it is asked they are."""
        self._last_call_until = self._last_call_until or now + LAST_CALL_SECONDS
        return now < self._last_call_until
