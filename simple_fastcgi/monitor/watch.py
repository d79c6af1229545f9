"""A thread that looks after requests which take long: the slow log, the request timeout, and saturation.

A thread of its own, because the one that runs the server may be the one that hangs.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from time import monotonic

from ..log import about, logger
from .info import Stage
from .scoreboard import SATURATED, SLOW
from .stacks import describe, fields_of, stack_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .info import RequestInfo
    from .monitor import Monitor
    from .scoreboard import Scoreboard

_LONGEST_PAUSE = 1.0
_LOOKS = 4
"""A slow request is found within a quarter of its time more."""
SATURATED_SECONDS = 0.5
"""Requests that wait so long for a thread tell that there are too few."""
_SATURATION_LINES = 60.0
"""Seconds between two lines about it."""
_MOST_LINES = 100
"""So many wait for a log that nobody reads."""
_TELLING_SECONDS = 1.0
"""For the last ones, when the server has ended."""


class _Lines:
    """What is to be told, in turn, by a thread of its own: where nobody reads the log, it is that which waits."""

    def __init__(self) -> None:
        self._lines: deque[Callable[[], None]] = deque(maxlen=_MOST_LINES)
        self._thread: threading.Thread | None = None

    def add(self, level: str, event: str, message: str, *arguments: object, fields: dict[str, object]) -> None:
        """Have a line told soon; of too many the last ones are."""
        log = logger()
        write = log.warning if level == "WARNING" else log.error
        self._lines.append(partial(write, message, *arguments, extra=about(event, fields)))

    def add_request(self, level: str, event: str, message: str, info: RequestInfo) -> None:
        """The same of a request, with its stack as it is now."""
        stack = stack_of(info)
        self.add(level, event, message, describe(info, stack), fields=fields_of(info, stack))

    def tell(self) -> None:
        """Have what is due told."""
        if self._lines and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._tell, name="fcgi-watch-log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                # The host's limit of threads.
                self._thread = None
                self._tell()

    def end(self) -> None:
        """Wait until all is told, but not for long."""
        self.tell()
        if self._thread is not None:
            self._thread.join(_TELLING_SECONDS)

    def _tell(self) -> None:
        while self._lines:
            try:
                self._lines.popleft()()
            except Exception:
                logger().exception("error while requests were looked at")


class Watch:
    """Looks at the requests of `monitor`, while it is entered.

    `board`: where they are counted, with those of other processes.
    `slowlog_timeout`: a request whose handler has taken so many seconds is told in the log, once, with the stack of the
    thread or task that serves it; 0 for none. `request_timeout`: a request whose handler has taken so many is given up:
    its task is cancelled, or, where a thread serves it, `give_up` is called; 0 for none. What a request waits before
    its handler begins counts for neither. `cure`: what the log advises when requests wait for a thread. `queue` tells
    how many connections wait to be accepted, and for how many there is room: of a server that is one thread, which
    accepts none while it is busy.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        board: Scoreboard | None = None,
        slowlog_timeout: float = 0.0,
        request_timeout: float = 0.0,
        give_up: Callable[[RequestInfo], object],
        cure: str = "raise --threads or --workers",
        queue: Callable[[], tuple[int, int] | None] | None = None,
    ) -> None:
        self._monitor = monitor
        self._board = board
        self._slow = slowlog_timeout
        self._longest = request_timeout
        self._give_up = give_up
        self._cure = cure
        self._queue = queue
        self._queue_since = 0.0
        self._given_up: set[RequestInfo] = set()
        self._is_saturated = False
        self._lines = _Lines()
        self._next_line = 0.0
        self._done = threading.Event()
        shortest = min(
            (each for each in (slowlog_timeout, request_timeout) if each > 0), default=_LONGEST_PAUSE * _LOOKS
        )
        self._pause = min(_LONGEST_PAUSE, shortest / _LOOKS)
        self._thread = threading.Thread(target=self._run, name="fcgi-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._lines.end()

    def _run(self) -> None:
        while not self._done.wait(self._pause):
            try:
                self.look()
            except Exception:
                logger().exception("error while requests were looked at")

    def look(self) -> None:
        """Look once."""
        if self._board is not None:
            self._board.look()
        now = monotonic()
        waiting = 0
        longest = 0.0
        for info in list(self._monitor.in_flight):
            if info.stage == Stage.ENDED:
                continue
            if not info.started:
                waiting += 1
                longest = max(longest, now - info.arrived)
                continue
            # Not since its arrival: for what it waited in the queue neither it nor its handler is to blame.
            seconds = now - info.started
            if 0 < self._slow <= seconds and not info.told_slow:
                info.told_slow = True
                self._monitor.count(SLOW)
                self._lines.add_request("WARNING", "slow", "slow: %s", info)
            if 0 < self._longest <= seconds and info not in self._given_up:
                self._given_up.add(info)
                told = f"given up after {self._longest:g} s (request_timeout): %s"
                self._lines.add_request("ERROR", "given_up", told, info)
                if (served_by := info.served_by) is not None:
                    served_by.give_up()
                else:
                    self._give_up(info)
        self._given_up.intersection_update(self._monitor.in_flight)
        where = "for a thread"
        if self._queue is not None:
            waiting, where = self._in_queue(), "in the listen queue"
            longest = now - self._queue_since if waiting else 0.0
        self._tell_of_saturation(waiting, longest, now, where)
        self._lines.tell()

    def _in_queue(self) -> int:
        """The connections that nobody has accepted since a former look, because this process is busy."""
        assert self._queue is not None
        waiting, _ = (self._queue() if self._monitor.in_flight else None) or (0, 0)
        if not waiting:
            self._queue_since = 0.0
        elif not self._queue_since:
            self._queue_since = monotonic()
            return 0
        return waiting

    def _tell_of_saturation(self, waiting: int, longest: float, now: float, where: str) -> None:
        if longest < SATURATED_SECONDS:
            self._is_saturated = self._is_saturated and waiting > 0
            return
        if not self._is_saturated:
            self._is_saturated = True
            self._monitor.count(SATURATED)
        if now >= self._next_line:
            self._next_line = now + _SATURATION_LINES
            busy = len(self._monitor.in_flight) - (waiting if self._queue is None else 0)
            self._lines.add(
                *("WARNING", "saturated", "%d requests are being served, and %d wait %s, the first for %.1f s: %s"),
                *(busy, waiting, where, longest, self._cure),
                fields={"serving": busy, "waiting": waiting, "longest_wait": round(longest, 3)},
            )
