"""The master of ``simple-fastcgi serve --workers N``: gunicorn's arbiter of a socket that is ours."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING

from ..serving.refuse import refuse_behind_the_last
from .base import open_anew
from .crew import Crew
from .stage import Ending
from .worker import SIGNALS

if TYPE_CHECKING:
    from gunicorn.app.base import BaseApplication

    from ..monitor.access_log import AccessLog
    from ..net import ListeningSocket
    from .failures import Failures


_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_LOOK_SECONDS = 0.1
# For workers that are told to end at once.
_HURRY_SECONDS = 2.0


class Master(Crew):
    """The arbiter of a socket that was bound here. `graceful_timeout`: seconds for those that wait in its queue."""

    def __init__(
        self,
        application: BaseApplication,
        listening: ListeningSocket,
        failures: Failures,
        access_log: AccessLog | None = None,
        *,
        graceful_timeout: float,
    ) -> None:
        super().__init__(application)
        self.ending = Ending()
        self._graceful_timeout = graceful_timeout
        self._hurries = False
        self._own_pid = os.getpid()
        self._access_log = access_log
        self.LISTENERS = [_Listener(listening)]
        self._listening = listening
        self.log.failures = self._failures = failures
        self.fork_lock: AbstractContextManager[object] = nullcontext()

    def spawn_worker(self) -> object:
        """Start a worker, to which no signal is lost before it has its handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with self.fork_lock:
                return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def stop(self, graceful: bool = True) -> None:
        """Let nobody connect any more, then end the workers; at once if that is told while it waits for anything."""
        if os.getpid() != self._own_pid:
            # In a worker, gunicorn takes a KeyboardInterrupt of the application's for one of the master's.
            os._exit(1)
        until = monotonic() + self.cfg.graceful_timeout
        self._hurries = not graceful
        if graceful and not self.stopping:
            self.stopping = True
            self.ending.begin()
            if self._listening.exclusive:
                # The workers accept what waits. Told to end they would not, and it would hang until the last has left.
                refuse_behind_the_last(self._listening.socket, self._graceful_timeout, self._pause)
        self.stopping = True
        for listener in self.LISTENERS:
            listener.close()
        # Gunicorn would unlink each socket's name, which is not that of its file.
        self.LISTENERS = []
        self._end_workers(until)

    def _pause(self, seconds: float) -> bool:
        """Do what signals say meanwhile; whether there is still somebody who accepts, and time for that."""
        self._heed_signals(seconds)
        return not self._hurries and any(worker.stage.serves and not worker.leaves for worker in self.WORKERS.values())

    def _end_workers(self, until: float) -> None:
        # Not by gunicorn's own loop, which forgets what other signals ask for meanwhile.
        hurries = self._hurries
        self.kill_workers(signal.SIGQUIT if hurries else signal.SIGTERM)
        while self.WORKERS and monotonic() < until:
            self._heed_signals(_LOOK_SECONDS)
            if self._hurries and not hurries:
                hurries = True
                self.kill_workers(signal.SIGQUIT)
                until = min(until, monotonic() + _HURRY_SECONDS)
        self.kill_workers(signal.SIGKILL)
        self.reap_workers()

    def _heed_signals(self, seconds: float) -> None:
        """Wait for signals, while it ends, and do what they ask for then: of a second one for the end, to hurry."""
        for number in self.wait_for_signals(seconds):
            if number in _END_SIGNALS:
                self._hurries = True
            elif number == signal.SIGUSR1:
                self.handle_usr1()
            elif number == signal.SIGUSR2:
                self.handle_usr2()
        self.reap_workers()

    def first_failure(self) -> str | None:
        """What a worker has told that could not start."""
        return self._failures.first()

    def handle_int(self) -> None:
        """Ctrl+C ends gracefully, as in a single process."""
        self.handle_term()

    def handle_usr1(self) -> None:
        """Have log files opened anew, here and in all workers."""
        open_anew(self._access_log)
        super().handle_usr1()

    def handle_usr2(self) -> None:
        """Have all workers tell what is under way.

        Gunicorn would start this command a second time, which would find its address busy.
        """
        self.kill_workers(signal.SIGUSR2)


class _Listener:
    """A listening socket as gunicorn expects it."""

    def __init__(self, listening: ListeningSocket) -> None:
        self._listening = listening
        self.sock = listening.socket

    def __str__(self) -> str:
        return self._listening.describe()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._listening.fileno()

    def close(self) -> None:
        """Close it and remove its file."""
        self._listening.close()
