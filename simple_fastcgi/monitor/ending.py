"""Requests that end with their server or their process, before their handlers do: the log and observers are told."""

from __future__ import annotations

from ..log import about, logger
from .stacks import describe, fields_of, stack_of, tell_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .info import RequestInfo
    from .monitor import Monitor

_MOST_TOLD = 20
"""So many are told with their stacks; a process with hundreds of threads has not more to say than these."""


def cut_off(monitor: Monitor | None, *, answered: bool = False) -> int:
    """All that are under way end, as ``graceful_timeout`` is over; how many.

    `answered`: who has no answer yet gets a plain 500. None are told of where somebody else does. Without a monitor
    nobody knows of them, and what is busy is told.
    """
    if monitor is None:
        tell_all(None)
        return 0
    under_way = [] if monitor.is_left else list(monitor.in_flight)
    for info in under_way[:_MOST_TOLD]:
        stack = stack_of(info)
        _fail(info, answered=answered)
        message = "cut off (graceful_timeout): %s"
        logger().error(message, describe(info, stack), extra=about("cut_off", fields_of(info, stack)))
    if len(under_way) > _MOST_TOLD:
        logger().error("cut off (graceful_timeout): %d more requests", len(under_way) - _MOST_TOLD)
    end_all(monitor, under_way, answered=answered)
    return len(under_way)


def end_all(monitor: Monitor, under_way: Iterable[RequestInfo], *, answered: bool = False) -> None:
    """Tell observers, the access log for one, of the end of these requests."""
    for info in under_way:
        _fail(info, answered=answered)
        monitor.end(info, aborted=False)


def _fail(info: RequestInfo, *, answered: bool) -> None:
    info.fail(replaced=answered and not info.status)
    # Without an answer of its own it is the web server that says so to the visitor.
    info.status = info.status or (500 if info.started else 503)
