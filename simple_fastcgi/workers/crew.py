"""A master that keeps what serves: a worker leaves once its successor serves, and one that cannot start ends nobody.

Gunicorn's own arbiter takes a worker that is forked for one that serves. This one knows the difference (`Stage`):

- *fresh* workers are those of the latest reload, which have not asked for a successor; there are to be `num_workers`;
- *old* ones are all others. As many of them leave as fresh ones serve.
"""

from __future__ import annotations

import os
import signal
import sys
from logging import ERROR, WARNING
from time import monotonic
from typing import TYPE_CHECKING

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from ..log import logger
from .base import FcgiWorker
from .stage import Stage
from .starts import Starts

if TYPE_CHECKING:
    from typing import Any, ClassVar

# Those that serve, those that start beside them, and those that end; further ones wait until some have ended.
_MOST_PER_WORKER = 3
# Whoever crashes before has crashed at its start, though it may have begun to serve.
_EARLY_SECONDS = 1.0
# The worker itself ends what is under way a little before.
_GRACE_SECONDS = 1.0
_CANNOT_START = {Arbiter.WORKER_BOOT_ERROR: "Worker failed to boot.", Arbiter.APP_LOAD_ERROR: "App failed to load."}


class CrewWorker(FcgiWorker):
    """A worker that tells its master how far it has come."""

    starts: ClassVar[Starts]
    """The master's; in a worker as it was at its fork."""

    def __init__(self, *args: Any) -> None:
        # In the master, which is about to fork.
        super().__init__(*args)
        self.stage = Stage()
        # What the master knows besides.
        self.born = monotonic()
        self.told_to_end: float | None = None
        self.was_told = self.was_killed = False
        self.serving_since: float | None = None
        self.has_lasted = self.is_slow = False
        # In the worker: it is about to exit, and what is still done for that is not to be interrupted.
        self.exits = False

    @property
    def leaves(self) -> bool:
        """Whether nothing is to be expected of it any more."""
        return self.told_to_end is not None or self.stage.ends

    def serving(self) -> None:
        """Connections are accepted from now on."""
        self.stage.serve()
        self._wake_master()

    def served_enough(self) -> None:
        """Serve on until a successor does, whose start may fail."""
        if not self.stage.is_due:
            logger().info("worker %s has served %s requests (max_requests) and is replaced", self.pid, self.nr)
            self.stage.ask_for_successor()
            self._wake_master()

    def end(self) -> None:
        """End gracefully; safe in a signal handler."""
        if os.getpid() == self.pid:
            # Children of the application's have this memory, too.
            self.stage.end()
        super().end()

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: end when the requests under way have ended; at once if there cannot be any yet."""
        starts = self.stage.starts
        super().handle_exit(sig, frame)
        if starts and not (self.alive or self.exits):
            self.exits = True
            sys.exit(0)

    def handle_quit(self, sig: int, frame: object) -> None:
        """SIGQUIT: end now."""
        if os.getpid() == self.pid:
            self.stage.end()
        super().handle_quit(sig, frame)

    def is_early(self, now: float) -> bool:
        """Whether its end now would be one at its start, though it may have begun to serve."""
        return self.serving_since is None or now - self.serving_since < _EARLY_SECONDS

    def _wake_master(self) -> None:
        """Have the master look, as it does when a child has ended."""
        if os.getppid() == self.ppid:
            os.kill(self.ppid, signal.SIGCHLD)


class Crew(Arbiter):
    """Gunicorn's arbiter, but for when workers start and leave, and what is said of it."""

    WORKERS: dict[int, CrewWorker]

    def __init__(self, application: object) -> None:
        super().__init__(application)
        self.WORKERS = {}
        self.starts = Starts()
        self.stopping = False
        self._outdated = 0
        """The age of the youngest worker from before the latest reload."""

    # Reloading

    def reload(self) -> None:
        """Have all workers replaced by new ones, which load the application anew.

        Nobody is waited for here, so that signals are heeded meanwhile. The settings are those of the command line:
        there is nothing to be read again (and gunicorn would end this process if its working directory were gone).
        """
        self.setup(self.app)
        self.log.reopen_files()
        self._outdated = self.worker_age
        self.starts.try_at_once()
        self.forget_failures()
        self.cfg.on_reload(self)

    # Who comes, who leaves

    def manage_workers(self) -> None:
        """Start workers and end workers, as far as it is time for either."""
        now = monotonic()
        self._look(now)
        fresh, old = self._fresh_and_old()
        # Whoever does not serve yet is missed least; else the oldest leaves, as with gunicorn.
        leaving = fresh[: max(0, len(fresh) - self.num_workers)]
        kept = fresh[len(leaving) :]
        serving = sum(worker.stage.serves for worker in kept)
        # What starts with code that is outdated already is of no use to anybody.
        leaving += [worker for worker in old if not worker.stage.serves]
        old = [worker for worker in old if worker.stage.serves]
        leaving += old[: max(0, len(old) - max(0, self.num_workers - serving))]
        for worker in leaving:
            self.kill_worker(worker.pid, signal.SIGTERM)
        missing = self.num_workers - len(kept)
        if not self.starts.are_due(now):
            return
        if self.starts.fail:
            missing = min(missing, 0 if any(worker.stage.starts and not worker.is_slow for worker in kept) else 1)
        for _ in range(min(missing, _MOST_PER_WORKER * self.num_workers - self._crowd(now))):
            if not self._spawn():
                break

    def _fresh_and_old(self) -> tuple[list[CrewWorker], list[CrewWorker]]:
        """Those that are not told to end; first those that do not serve yet, then by their age."""
        workers = [worker for worker in self.WORKERS.values() if not worker.leaves]
        workers.sort(key=lambda worker: (worker.stage.serves, worker.age))
        fresh = [worker for worker in workers if worker.age > self._outdated and not worker.stage.is_due]
        return fresh, [worker for worker in workers if worker not in fresh]

    def _crowd(self, now: float) -> int:
        """How many processes there are, but for those that do not end in their time: nobody waits for them."""
        patience = self.cfg.graceful_timeout
        return sum(
            worker.told_to_end is None or now - worker.told_to_end <= patience for worker in self.WORKERS.values()
        )

    def _look(self, now: float) -> None:
        """Notice who serves by now, and who should."""
        for worker in list(self.WORKERS.values()):
            if worker.stage.ends and worker.told_to_end is None:
                # By itself, or by somebody else.
                worker.told_to_end = now
            if worker.stage.serves and worker.serving_since is None:
                worker.serving_since = now
                self.starts.have_served = True
            if worker.stage.serves and not worker.has_lasted and not worker.is_early(now):
                worker.has_lasted = True
                # Of older code it says nothing about what is to be loaded now.
                if worker.age > self._outdated and self.starts.fail:
                    if self.starts.is_told:
                        logger().info("new workers start again")
                    self.starts.try_at_once()
            if worker.told_to_end is not None and now - worker.told_to_end > self.cfg.graceful_timeout + _GRACE_SECONDS:
                # It hangs where no signal is heeded, or in its shutdown.
                self.kill_worker(worker.pid, signal.SIGKILL)
        starting = [worker for worker in self.WORKERS.values() if worker.stage.starts and not worker.leaves]
        if slow := [worker for worker in starting if now - worker.born > self.timeout and not worker.is_slow]:
            for worker in slow:
                worker.is_slow = True
            logger().warning(
                "workers that have not begun to serve for %d s: %s; %s. Does the application hang while it is loaded? "
                "Mend it, then reload (SIGHUP)",
                self.timeout,
                ", ".join(str(worker.pid) for worker in starting),
                self._who_serves(),
            )

    def _who_serves(self) -> str:
        count = sum(worker.stage.serves and not worker.leaves for worker in self.WORKERS.values())
        if not count:
            return "no worker serves"
        return f"the {count} workers that run serve on" if count > 1 else "the worker that runs serves on"

    def _spawn(self) -> bool:
        umask = os.umask(0o077)
        os.umask(umask)
        try:
            self.spawn_worker()
        except (OSError, RuntimeError) as error:
            # Gunicorn sets it for the file of a worker, and leaves it so where that cannot be made.
            os.umask(umask)
            # Of the fork, or of the file by which a worker tells that it is alive; in the child both end in SystemExit.
            if not self.starts.have_served:
                raise
            self._failed_to_start(f"the system has no room for a process: {error}")
            return False
        return True

    def kill_worker(self, pid: int, sig: int) -> None:
        """Send a worker a signal, and remember it."""
        worker = self.WORKERS.get(pid)
        is_killed = False
        if worker is not None:
            if sig in (signal.SIGTERM, signal.SIGQUIT):
                worker.was_told = True
                worker.told_to_end = monotonic() if worker.told_to_end is None else worker.told_to_end
            elif sig == signal.SIGKILL and not worker.was_killed:
                worker.was_killed = is_killed = True
        super().kill_worker(pid, sig)
        if worker is not None and is_killed:
            # Now, for a log that nobody reads must not be what keeps it alive.
            why = "had hung and was not to be interrupted" if worker.aborted else "had been told to end and did not"
            logger().warning("worker %s %s: killed (SIGKILL)", pid, why)

    def kill_workers(self, sig: int) -> None:
        """Send all workers a signal."""
        if sig == signal.SIGKILL:
            # Of those that have just ended nobody needs to be told that they are killed.
            self.reap_workers()
        super().kill_workers(sig)

    # Who has ended

    def reap_workers(self) -> None:
        """Notice which workers have ended, and why."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # As the first process of a container, the master gets children of others, too.
            worker = self.WORKERS.pop(pid, None)
            if worker is not None:
                worker.tmp.close()
                self.cfg.child_exit(self, worker)
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: CrewWorker, status: int) -> None:
        """`status`: what it exited with, or the negative number of the signal that has ended it."""
        now = monotonic()
        if worker.stage.serves:
            self.starts.have_served = True
        if worker.leaves and not (worker.was_told or self.stopping) and worker.serving_since is None:
            self._failed_to_start(f"a worker told itself to end while it was starting, and {_how(status)}")
            return
        if worker.leaves or self.stopping or not worker.stage.starts:
            self._tell_of_end(worker, status)
            if worker.leaves or self.stopping:
                if status in _CANNOT_START and not self.stopping:
                    # It had failed when it was told to end: the next one is not to be taken for it.
                    self.first_failure()
            elif status != -signal.SIGKILL and worker.is_early(now):
                self.starts.failed(now)
            return
        if status in _CANNOT_START and not self._have_served():
            self.log.error("Worker (pid:%s) exited with code %s.", worker.pid, status)
            raise HaltServer(_CANNOT_START[status], status)
        why = self.first_failure() if status in _CANNOT_START else None
        self._failed_to_start(why or f"a worker {_how(status)} while it was starting")

    def _have_served(self) -> bool:
        return self.starts.have_served or any(worker.stage.serves for worker in self.WORKERS.values())

    def _failed_to_start(self, why: str) -> None:
        now = monotonic()
        self.starts.failed(now)
        if self.starts.is_news(why, now):
            is_reload = any(worker.age <= self._outdated and not worker.leaves for worker in self.WORKERS.values())
            logger().error(
                "%s; %s. It is tried again in %d s, later every 30 s, and on SIGHUP at once: %s",
                "the new code cannot be loaded" if is_reload else "a new worker cannot start",
                self._who_serves(),
                self.starts.pause(),
                why,
            )

    def _tell_of_end(self, worker: CrewWorker, status: int) -> None:
        # Not through gunicorn's logger: of errors it may keep silent (see Log).
        log, pid, asked = logger().getChild("workers"), worker.pid, worker.leaves or self.stopping
        if worker.was_killed or (asked and status in (0, -signal.SIGTERM, *_CANNOT_START)):
            # The one was told when it was killed, the others were asked for.
            log.debug("worker %s has ended (%d)", pid, status)
        elif status == -signal.SIGKILL:
            log.error("worker %s was killed (SIGKILL), though not by its master. Perhaps out of memory?", pid)
        else:
            log.log(ERROR if status > 0 else WARNING, "worker %s %s", pid, _how(status))

    # For subclasses

    def first_failure(self) -> str | None:
        """What a worker has told that could not start; each is told once."""
        return None

    def forget_failures(self) -> None:
        """Forget what has been told so far."""
        while self.first_failure() is not None:
            pass


def _how(status: int) -> str:
    """How a process has ended."""
    if status == 0:
        return "exited with status 0 though nobody had told it to end (does the application call os._exit()?)"
    if status > 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
