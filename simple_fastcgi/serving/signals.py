"""SIGTERM, SIGINT, SIGUSR1 and SIGHUP: the first one asks for a graceful end, the second one ends at once.

SIGUSR2 asks what is under way.
"""

from __future__ import annotations

import os
import signal
import threading

from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Self

    from ..monitor.monitor import Monitor

# Web servers and process managers that spawn use one or another of them (mod_fcgid TERM, lighttpd TERM, FastCGI's
# own process manager USR1); Ctrl+C is INT. HUP comes from a terminal that is closed, and from who takes this process
# for the master of several, which would reload: nothing is to be cut off by it.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
_STUCK_SECONDS = 1.0


def watch_for_stuck(graceful_timeout: float, give_up: Callable[[], object]) -> threading.Timer:
    """Call `give_up`, in a thread, a second after `graceful_timeout`, unless the result is cancelled before."""
    watch = threading.Timer(graceful_timeout + _STUCK_SECONDS, give_up)
    watch.daemon = True
    try:
        watch.start()
    except RuntimeError as error:
        # The host's limit of threads.
        logger().warning("a handler that is stuck will not be ended after graceful_timeout: %s", error)
    return watch


class StopSignals:
    """While entered, calls `stop` at the first stop signal; does nothing in any thread but the main one.

    SIGHUP is left alone where somebody handles or, as nohup does, ignores it.
    `at_once` is called before a second signal ends the process with the status of that signal; so it is, with exit
    status 1, if the process still runs a second after `graceful_timeout`, because a handler is stuck.
    """

    def __init__(self, stop: Callable[[], object], *, graceful_timeout: float, at_once: Callable[[], object]) -> None:
        self._stop = stop
        self._at_once = at_once
        self._graceful_timeout = graceful_timeout
        self._before: dict[signal.Signals, Any] = {}
        self._pid = os.getpid()
        self._watch: threading.Timer | None = None
        self._asking = False
        self._second: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            from ..net.forked import is_child

            is_child(self._pid, number)
        elif self._asking:
            # A handler may itself be interrupted: what the first signal has begun is to be done first.
            self._second = number
        elif self._watch is not None:
            self._end(number)
        else:
            self._asking = True
            self._watch = watch_for_stuck(self._graceful_timeout, self._give_up)
            self._stop()
            self._asking = False
            if self._second is not None:
                self._end(self._second)

    def _end(self, number: int) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        self._at_once()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _give_up(self) -> None:
        logger().error(
            "ending although a handler is still busy %g s after the signal (graceful_timeout)", self._graceful_timeout
        )
        self._at_once()
        os._exit(1)


class TellAll:
    """While entered, SIGUSR2 tells every request under way in the log, or, without `monitor`, every thread.

    Does nothing in any thread but the main one, nor where the program handles that signal itself.
    """

    def __init__(self, monitor: Monitor | None) -> None:
        self._monitor = monitor
        self._is_ours = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._is_ours = main and signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
        if self._is_ours:
            signal.signal(signal.SIGUSR2, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            signal.signal(signal.SIGUSR2, signal.SIG_DFL)

    def _received(self, _number: int, frame: FrameType | None) -> None:
        from ..monitor.stacks import tell_all

        tell_all(self._monitor, frame)
