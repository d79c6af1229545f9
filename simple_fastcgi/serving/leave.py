"""How a process ends that has a handler which nobody can end: once all others have ended."""

from __future__ import annotations

import os
import threading
import time

from ..log import logger
from ..monitor.ending import end_all
from ..monitor.info import Stage
from .signals import in_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..monitor.info import RequestInfo
    from ..monitor.monitor import Monitor

_LOOK_SECONDS = 0.02
_LAST_BYTES_SECONDS = 0.2
"""For what the others' answers still have in the process's hands."""
_STUCK_SECONDS = 1.0
"""A server that is not stuck itself ends at graceful_timeout, and in better order."""


class Leave:
    """Called with each request that is given up: the process takes no more, and exits when only such are left.

    `stop` asks the server to end gracefully; `at_once` is called last; the exit status is 1, as a thread in the middle
    of anything cannot be ended in good order. `threads`: so many requests are served at once, and with as many that are
    given up nobody takes those that wait; 0: not known. `graceful_timeout`: the server itself ends so many seconds
    behind `stop`; whoever runs it calls :meth:`server_ended` then.
    """

    def __init__(
        self,
        monitor: Monitor,
        stop: Callable[[], object],
        at_once: Callable[[], object],
        *,
        threads: int,
        graceful_timeout: float,
    ) -> None:
        self._monitor = monitor
        self._stop = stop
        self._at_once = at_once
        self._threads = threads
        self._graceful_timeout = graceful_timeout
        self._hopeless = monitor.hopeless
        self._thread: threading.Thread | None = None
        # Whichever comes first ends the process: the thread, or the end of the server.
        self._lock = threading.Lock()

    def __call__(self, info: RequestInfo) -> None:
        """Leave without `info`, unless that has ended meanwhile."""
        if info.stage == Stage.ENDED:
            return
        self._hopeless.add(info)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._wait, name="fcgi-leave", daemon=True)
            self._stop()
            self._thread.start()

    def server_ended(self) -> bool:
        """To be called when the server has ended, for whatever reason; whether it has because of a request given up.

        Does not return if such a handler still runs: the process ends here, then.
        """
        if self._thread is None:
            return False
        self._end()
        return True

    def _wait(self) -> None:
        until = time.monotonic() + self._graceful_timeout + _STUCK_SECONDS
        while self._are_others_served() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        time.sleep(_LAST_BYTES_SECONDS)
        self._end()

    def _are_others_served(self) -> bool:
        under_way = set(self._monitor.in_flight)
        stuck = self._hopeless & under_way
        if len(stuck) < self._threads or not self._threads:
            return stuck != under_way
        # No thread is left for those who wait; to wait with them would only keep the next process back.
        return any(info.started for info in under_way - stuck)

    def _end(self) -> None:
        """End the process if handlers are stuck; if they have come to their end after all, the server does, too."""
        with self._lock:
            under_way = list(self._monitor.in_flight)
            stuck = self._hopeless.intersection(under_way)
            if not stuck:
                return
            try:
                self._at_once()
                in_time(lambda: self._end_all(under_way, len(stuck)))
            finally:
                os._exit(1)

    def _end_all(self, under_way: list[RequestInfo], stuck: int) -> None:
        """Tell the log and observers, the access log for one, of the end that these requests have with the process."""
        others = len(under_way) - stuck
        cut = f", {others} other request{' is' if others == 1 else 's are'} cut off" if others else ""
        logger().error("the process ends: %d of its handlers cannot be ended (request_timeout)%s", stuck, cut)
        end_all(self._monitor, under_way)
