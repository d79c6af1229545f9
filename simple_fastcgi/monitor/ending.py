"""Requests that end with their server or their process, before their handlers do: the log and observers are told."""

from __future__ import annotations

from ..log import about, logger
from .stacks import describe, fields_of, stack_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..protocol.streams import Request
    from .info import RequestInfo
    from .monitor import Monitor

_MOST_TOLD = 20
"""So many are told with their stacks; a process with hundreds of threads has not more to say than these."""


class CutOff:
    """Called with each request that a server cuts off, as ``graceful_timeout`` is over, while its response is as it is.

    Who has no answer yet gets a plain 500. :meth:`log` is for later: a lock of the log may be held by somebody who
    waits for the connection's.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        # Whoever leaves because of one that was given up tells of all.
        self._is_told = monitor.is_left
        self._lines: list[tuple[str, dict[str, object]]] = []
        self._more = 0

    def __call__(self, request: Request) -> None:
        """Tell observers of it, unless its end was told before."""
        if self._is_told:
            return
        monitor = self._monitor
        info = next((info for info in list(monitor.in_flight) if info.params is request.params), None)
        if info is None:
            return
        if not request.aborted:
            _fail(info, replaced=not request.stdout_begun)
            if len(self._lines) < _MOST_TOLD:
                self._lines.append(_line_of(info))
            else:
                self._more += 1
        monitor.end(info, aborted=request.aborted)

    def log(self) -> None:
        """A line for each of them, up to a bound, with its stack."""
        _log(self._lines, self._more)


def cut_off(monitor: Monitor) -> int:
    """All that are under way end with the process, as ``graceful_timeout`` is over; how many.

    None where somebody else tells that.
    """
    under_way = [] if monitor.is_left else list(monitor.in_flight)
    for info in under_way:
        _fail(info, replaced=False)
    _log(map(_line_of, under_way[:_MOST_TOLD]), len(under_way) - _MOST_TOLD)
    end_all(monitor, under_way)
    return len(under_way)


def end_all(monitor: Monitor, under_way: Iterable[RequestInfo]) -> None:
    """Tell observers, the access log for one, of the end that these requests have with the process."""
    for info in under_way:
        _fail(info, replaced=False)
        monitor.end(info, aborted=False)


def _line_of(info: RequestInfo) -> tuple[str, dict[str, object]]:
    stack = stack_of(info)
    return describe(info, stack), fields_of(info, stack)


def _log(lines: Iterable[tuple[str, dict[str, object]]], more: int) -> None:
    log = logger()
    for described, fields in lines:
        log.error("cut off (graceful_timeout): %s", described, extra=about("cut_off", fields))
    if more > 0:
        log.error("cut off (graceful_timeout): %d more requests", more)


def _fail(info: RequestInfo, *, replaced: bool) -> None:
    info.fail(replaced=replaced)
    # Without an answer of its own it is the web server that says so to the visitor.
    info.status = info.status or (500 if info.started else 503)
