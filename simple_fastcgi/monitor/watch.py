"""A thread that looks after requests which take long: the slow log, the request timeout, and saturation.

A thread of its own, because the one that runs the server may be the one that hangs.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic
from traceback import StackSummary, format_list, walk_stack

from ..log import logger
from .info import Stage
from .scoreboard import SATURATED, SLOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

    from .info import RequestInfo
    from .monitor import Monitor

_LONGEST_PAUSE = 1.0
_LOOKS = 4
"""A slow request is found within a quarter of its time more."""
_MOST_FRAMES = 64
SATURATED_SECONDS = 0.5
"""Requests that wait so long for a thread tell that there are too few."""
_SATURATION_LINES = 60.0
"""Seconds between two lines about it."""


class Watch:
    """Looks at the requests of `monitor`, while it is entered.

    `slowlog_timeout`: a request that has taken so many seconds is told in the log, once, with the stack of the thread
    or task that serves it; 0 for none. `request_timeout`: a request that has taken so many is given up: its task is
    cancelled, or, where a thread serves it, `give_up` is called; 0 for none. `cure`: what the log advises when requests
    wait for a thread.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        slowlog_timeout: float = 0.0,
        request_timeout: float = 0.0,
        give_up: Callable[[RequestInfo], object],
        cure: str = "raise --threads or --workers",
    ) -> None:
        self._monitor = monitor
        self._slow = slowlog_timeout
        self._longest = request_timeout
        self._give_up = give_up
        self._cure = cure
        self._given_up: set[RequestInfo] = set()
        self._is_saturated = False
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

    def _run(self) -> None:
        while not self._done.wait(self._pause):
            try:
                self.look()
            except Exception:
                logger().exception("error while requests were looked at")

    def look(self) -> None:
        """Look once."""
        now = monotonic()
        waiting = 0
        longest = 0.0
        for info in list(self._monitor.in_flight):
            age = now - info.arrived
            if info.stage == Stage.QUEUED:
                waiting += 1
                longest = max(longest, age)
                continue
            if 0 < self._slow <= age and not info.told_slow:
                info.told_slow = True
                self._monitor.count(SLOW)
                logger().warning("slow: %s", describe(info))
            if 0 < self._longest <= age and info not in self._given_up:
                self._given_up.add(info)
                logger().error("given up after %g s (request_timeout): %s", self._longest, describe(info))
                if (served_by := info.served_by) is not None:
                    served_by.give_up()
                else:
                    self._give_up(info)
        self._given_up.intersection_update(self._monitor.in_flight)
        self._tell_of_saturation(waiting, longest, now)

    def _tell_of_saturation(self, waiting: int, longest: float, now: float) -> None:
        if longest < SATURATED_SECONDS:
            self._is_saturated = self._is_saturated and waiting > 0
            return
        if not self._is_saturated:
            self._is_saturated = True
            self._monitor.count(SATURATED)
        if now >= self._next_line:
            self._next_line = now + _SATURATION_LINES
            busy = len(self._monitor.in_flight) - waiting
            logger().warning(
                "%d requests are being served, and %d wait for a thread, the first for %.1f s: %s",
                *(busy, waiting, longest, self._cure),
            )

    def tell_all(self) -> None:
        """Tell every request under way in the log, with its stack; nothing that a signal handler may not do."""
        infos = list(self._monitor.in_flight)
        logger().warning("%d requests under way%s", len(infos), "".join(f"\n{describe(info)}" for info in infos))


def describe(info: RequestInfo) -> str:
    """Its request line, how long it has taken, and the stack of the thread or task that serves it."""
    line = f"{info.method} {info.uri}".encode("unicode_escape").decode("ascii")
    told = f"{line}, {info.seconds:.3f} s, {info.stage.name.lower()}"
    stack = stack_of(info)
    return f"{told}\n{stack}" if stack else told


def stack_of(info: RequestInfo) -> str:
    """The stack of the thread or task that serves it, its innermost frame last; empty if nobody serves it."""
    if info.stage in {Stage.QUEUED, Stage.ENDED}:
        return ""
    served_by = info.served_by
    task = None if served_by is None else served_by.waiting_task()
    frames = _frames_of_thread(info.thread) if task is None else _frames_of_task(task)
    ours = [frame for frame in frames if not _is_ours(frame[0])] or frames
    summary = StackSummary.extract(iter(ours[-_MOST_FRAMES:]), capture_locals=False)
    return "".join(format_list(summary)).rstrip("\n")


def _frames_of_thread(thread: int) -> list[tuple[FrameType, int]]:
    frame = sys._current_frames().get(thread)
    return list(walk_stack(frame))[::-1] if frame is not None else []


def _frames_of_task(task: object) -> list[tuple[FrameType, int]]:
    """A task that waits has a stack of coroutines, each awaited by the one before."""
    found: list[tuple[FrameType, int]] = []
    awaited = getattr(task, "get_coro", lambda: None)()
    while awaited is not None and len(found) < 1000:
        frame = (
            getattr(awaited, "cr_frame", None)
            or getattr(awaited, "gi_frame", None)
            or getattr(awaited, "ag_frame", None)
        )
        if frame is None:
            break
        found.append((frame, frame.f_lineno))
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
            or getattr(awaited, "ag_await", None)
        )
    return found


_OURS = __name__.partition(".")[0] + "."


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name.startswith(_OURS) or name in {"socketserver", "threading", "asyncio.base_events", "asyncio.events"}
