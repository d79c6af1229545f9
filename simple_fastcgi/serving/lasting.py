"""The application's threads that outlive its server: they have what is left of `graceful_timeout`, and no more.

Python waits at its end, without bound, for threads that are no daemons, and for all those of `concurrent.futures`.
"""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic

from ..log import logger

_LEAST_SECONDS = 1.0
"""For threads that have nothing to do, and need only be told."""
_TELLING_SECONDS = 1.0
"""For the log to take a line."""

_asked: float | None = None


def note_end() -> None:
    """To be called when a server is asked to end; a signal handler may do so."""
    global _asked  # noqa: PLW0603 - the end of the process, of which there is one
    _asked = monotonic()


def limit_the_end(status: int, graceful_timeout: float) -> None:
    """To be called just before the process ends with `status`: see to it that it does, and skips what it has left then.

    That is `graceful_timeout` seconds after it was asked to end, or else from now on, whatever threads still run; but
    not sooner than in a second.
    """
    if not _lasting():
        return
    left = graceful_timeout if _asked is None else max(_LEAST_SECONDS, _asked + graceful_timeout - monotonic())
    # Both now, as Python starts no threads at its end; the second for a log that nobody reads.
    for seconds, give_up in ((left, _give_up), (left + _TELLING_SECONDS, os._exit)):
        watch = threading.Timer(seconds, give_up, (status,))
        watch.daemon = True
        try:
            watch.start()
        except RuntimeError:  # pragma: no cover - the host's limit of threads
            return


def _lasting() -> list[str]:
    """The names of the threads that Python waits for."""
    main = threading.main_thread()
    # Those that a handler's thread has started are daemons, as that is.
    executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not main and (thread in executors or not thread.daemon)
    ]


def _give_up(status: int) -> None:
    logger().warning("the application still has threads that run: %s", ", ".join(_lasting()))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(status)
