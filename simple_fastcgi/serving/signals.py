"""SIGTERM, SIGINT, SIGUSR1 and SIGHUP: the first one asks for a graceful end, the second one ends at once.

SIGUSR2 asks what is under way.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import partial

from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Self

    from ..limits import Limits
    from ..monitor.monitor import Monitor
    from ..net import ListeningSocket
    from .restart import Restart

# Web servers and process managers that spawn use one or another of them (mod_fcgid TERM, lighttpd TERM, FastCGI's
# own process manager USR1); Ctrl+C is INT. HUP comes from a terminal that is closed, and from who takes this process
# for the master of several, which would reload: nothing is to be cut off by it.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
_STUCK_SECONDS = 1.0
_LOADING_SECONDS = 30.0
"""For an application that is still being loaded when a stop signal comes; its `graceful_timeout` is not known yet."""


_TELLING_SECONDS = 1.0
"""For the log, and observers, to tell what ends with the process; nobody waits longer for a pipe that nobody reads."""


def watch_for_stuck(
    graceful_timeout: float, give_up: Callable[[], object], margin: float | None = None
) -> threading.Timer:
    """Call `give_up`, in a thread, `margin` seconds after `graceful_timeout` unless the result is cancelled before.

    `margin` is one second by default.
    """
    watch = threading.Timer(graceful_timeout + (_STUCK_SECONDS if margin is None else margin), give_up)
    watch.daemon = True
    try:
        watch.start()
    except RuntimeError as error:
        # The host's limit of threads.
        logger().warning("a handler that is stuck will not be ended after graceful_timeout: %s", error)
    return watch


def hold_signals() -> None:
    """Keep stop signals back, in this thread and in the program that replaces it, which calls `take_held_signals`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_signals() -> None:
    """There is no such program: they do what the system has them do."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _keep(number: int, _frame: FrameType | None) -> None:
    """Another thread was given the signal, which holds none: it waits for the program with those of the main thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def take_held_signals() -> HeldSignals | None:
    """From now on note them, if they were held, until :func:`deliver_held` is called.

    They are kept back no longer, for processes that the application starts would inherit that.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not signal.pthread_sigmask(signal.SIG_BLOCK, ()).intersection(STOP_SIGNALS):
        return None
    _held.append(HeldSignals())
    return _held[0]


def deliver_held() -> None:
    """The server has come so far that it can end in good order: the signal that was noted comes once more."""
    if _held:
        _held.pop().deliver()


_held: list[HeldSignals] = []


class HeldSignals:
    """Notes a stop signal that comes while the application is loaded anew; a second one ends the process at once.

    So does, with exit status 1, half a minute. `at_once` is called before either.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.at_once: Callable[[], object] = _nothing
        self._pid = os.getpid()
        self._number: int | None = None
        self._watch: threading.Timer | None = None
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) == signal.SIG_DFL:
                self.before[number] = signal.signal(number, self._received)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def deliver(self) -> None:
        """Whoever handles signals by now gets the one that came, if one did."""
        if self._watch is not None:
            self._watch.cancel()
        if self._number is not None:
            signal.raise_signal(self._number)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            from ..net.forked import is_child

            is_child(self._pid, number)
        elif self._number is None:
            self._number = number
            self._watch = watch_for_stuck(_LOADING_SECONDS, self._give_up)
        else:
            end_by(number, self.at_once)

    def _give_up(self) -> None:
        in_time(self._tell_of_end)
        self.at_once()
        os._exit(1)

    def _tell_of_end(self) -> None:
        logger().error("ending although the application is still being loaded %g s after the signal", _LOADING_SECONDS)


def end_by(number: int, at_once: Callable[[], object]) -> None:
    """End this process by signal `number`, behind a last call of `at_once`."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    at_once()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _nothing() -> None:
    """There is nothing to be done."""


def tell_cut_off(monitor: Monitor | None) -> None:
    """Tell which requests end with the process; what is busy, where nobody knows of them."""
    if monitor is None:
        from ..monitor.stacks import tell_all

        tell_all(None)
    else:
        from ..monitor.ending import cut_off

        cut_off(monitor)


def in_time(tell: Callable[[], object]) -> None:
    """Call `tell` in a thread, and wait for it, but not for long: the process is about to end."""
    telling = threading.Thread(target=tell, daemon=True)
    try:
        telling.start()
    except RuntimeError:
        # The host's limit of threads: what is not told must not keep the process.
        return
    telling.join(_TELLING_SECONDS)


class StopSignals:
    """While entered, calls `stop` at the first stop signal; does nothing in any thread but the main one.

    SIGHUP is left alone where somebody handles or, as nohup does, ignores it.
    `at_once` is called before a second signal ends the process with the status of that signal; so it is, with exit
    status 1, if the process still runs a second after `graceful_timeout`, because a handler is stuck; before that
    `cut_off` tells what ends with it. `holds` says at the end whether further signals are for the program by which this
    one replaces itself.
    """

    def __init__(
        self,
        stop: Callable[[], object],
        *,
        graceful_timeout: float,
        at_once: Callable[[], object],
        cut_off: Callable[[], object] | None = None,
        holds: Callable[[], bool] | None = None,
    ) -> None:
        self._stop = stop
        self._at_once = at_once
        self._cut_off = cut_off or _nothing
        self._holds = holds
        self._graceful_timeout = graceful_timeout
        self._before: dict[signal.Signals, Any] = {}
        self._pid = os.getpid()
        self._watch: threading.Timer | None = None
        self._asking = False
        self._second: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = _held[0].before if _held else {}
            for number in STOP_SIGNALS:
                if number != signal.SIGHUP or number in before or signal.getsignal(number) == signal.SIG_DFL:
                    found = signal.signal(number, self._received)
                    self._before[number] = before.get(number, found)
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        # Behind an error nothing begins anew.
        is_held = kind is None and self._holds is not None and self._holds()
        if is_held:
            hold_signals()
        if self._watch is not None:
            self._watch.cancel()
        for number, handler in self._before.items():
            signal.signal(number, _keep if is_held else handler)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            from ..net.forked import is_child

            is_child(self._pid, number)
        elif self._asking:
            # A handler may itself be interrupted: what the first signal has begun is to be done first.
            self._second = number
        elif self._watch is not None:
            end_by(number, self._at_once)
        else:
            self._asking = True
            self._watch = watch_for_stuck(self._graceful_timeout, self._give_up)
            self._stop()
            self._asking = False
            if self._second is not None:
                end_by(self._second, self._at_once)

    def _give_up(self) -> None:
        in_time(self._tell_of_end)
        self._at_once()
        os._exit(1)

    def _tell_of_end(self) -> None:
        logger().error(
            "ending although a handler is still busy %g s after the signal (graceful_timeout)", self._graceful_timeout
        )
        self._cut_off()


def stop_signals(
    stop: Callable[[], object],
    listening: ListeningSocket,
    limits: Limits,
    monitor: Monitor | None,
    restart: Restart | None,
) -> StopSignals:
    """Those of a server on `listening`, which `stop` ends; what is cut off in the end `monitor` knows."""
    cut_off = partial(tell_cut_off, monitor)
    if restart is not None:
        restart.cut_off = cut_off
    return StopSignals(
        listening.arrange_end(stop),
        graceful_timeout=limits.graceful_timeout,
        at_once=listening.close,
        cut_off=cut_off,
        holds=None if restart is None else restart.holds_signals,
    )


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
