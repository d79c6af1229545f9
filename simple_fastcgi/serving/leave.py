"""How a process ends that has a handler which nobody can end: once all others have ended."""

from __future__ import annotations

import os
import threading
import time

from ..log import logger
from ..monitor.info import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..monitor.info import RequestInfo
    from ..monitor.monitor import Monitor

_LOOK_SECONDS = 0.02
_LAST_BYTES_SECONDS = 0.2
"""For what the others' answers still have in the process's hands."""


class Leave:
    """Called with each request that is given up: the process takes no more, and exits when only such are left.

    `stop` asks the server to end gracefully; `at_once` is called last; the exit status is 1, as a thread in the middle
    of anything cannot be ended in good order.
    """

    def __init__(self, monitor: Monitor, stop: Callable[[], object], at_once: Callable[[], object]) -> None:
        self._monitor = monitor
        self._stop = stop
        self._at_once = at_once
        self._hopeless: set[RequestInfo] = set()
        self._thread: threading.Thread | None = None

    def __call__(self, info: RequestInfo) -> None:
        """Leave without `info`, unless that has ended meanwhile."""
        if info.stage == Stage.ENDED:
            return
        self._hopeless.add(info)
        if self._thread is None:
            self._stop()
            self._thread = threading.Thread(target=self._wait, name="fcgi-leave", daemon=True)
            self._thread.start()

    def _wait(self) -> None:
        while set(self._monitor.in_flight) - self._hopeless:
            time.sleep(_LOOK_SECONDS)
        time.sleep(_LAST_BYTES_SECONDS)
        stuck = self._hopeless & set(self._monitor.in_flight)
        if not stuck:
            # They have come to their end after all, and so does the server.
            return
        logger().error("the process ends: %d of its handlers cannot be ended (request_timeout)", len(stuck))
        self._at_once()
        os._exit(1)
