"""The master of ``simple-fastcgi serve --workers N``: gunicorn's arbiter of a socket that is ours."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ..serving.refuse import refuse_behind_the_last
from .base import open_anew
from .crew import Crew
from .worker import SIGNALS

if TYPE_CHECKING:
    from gunicorn.app.base import BaseApplication

    from ..monitor.access_log import AccessLog
    from ..net import ListeningSocket
    from .failures import Failures


class Master(Crew):
    """The arbiter of a socket that was bound here."""

    def __init__(
        self,
        application: BaseApplication,
        listening: ListeningSocket,
        failures: Failures,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__(application)
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
        """Let nobody connect any more, then end the workers."""
        if os.getpid() != self._own_pid:
            # In a worker, gunicorn takes a KeyboardInterrupt of the application's for one of the master's.
            os._exit(1)
        if graceful and not self.stopping and self._listening.exclusive:
            # The workers accept what waits. Told to end they would not, and it would hang until the last has left.
            refuse_behind_the_last(self._listening.socket)
        self.stopping = True
        for listener in self.LISTENERS:
            listener.close()
        # Gunicorn would unlink each socket's name, which is not that of its file.
        self.LISTENERS = []
        super().stop(graceful)

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
