"""What the server looks at, every second or so, to find the connections that it has to close."""

from __future__ import annotations

from ..protocol.overdue import overdue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import Limits
    from .connection import Connection

# What a connection awaits of the web server when it is finished.
_ITS_END = object()


def why_to_close(connection: Connection, limits: Limits, now: float) -> str | None:
    """As `protocol.overdue.overdue` tells it; also "" when its peer is gone."""
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
    )
    if why is None and not (unsent or finished or connection.watched) and connection.has_hung_up():
        # Not every poller tells of one that it does not watch.
        return ""
    return why
