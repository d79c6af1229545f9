"""What all workers share: gunicorn's settings and signals, the heartbeat, and how a worker ends."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import gunicorn
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from ..errors import ConfigurationError
from ..gateways.detect import detect_interface
from ..gateways.lifespan import LifespanError
from ..limits import Limits
from ..log import is_shown, logger
from ..monitor.ending import cut_off
from ..monitor.monitor import Monitor
from ..monitor.pages import ping_page, status_page
from ..monitor.scoreboard import HAS_LOOP, Scoreboard
from ..monitor.stacks import tell_all
from ..monitor.status import Facts
from ..monitor.watch import Watch
from ..net.address import is_loopback
from ..net.allow import WEB_SERVER_ADDRS
from ..net.backlog import listen_queue
from ..net.forked import is_child
from ..serving.leave import Leave
from ..serving.signals import in_time, watch_for_stuck
from .handlers import Handlers
from .hooks import GunicornHooks
from .once import Once

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from threading import Timer
    from types import FrameType
    from typing import Any, NoReturn

    from ..monitor.access_log import AccessLog
    from ..monitor.info import Observer
    from ..net.allow import AllowFrom

_SLOWEST_BEAT = 1.0
# The arbiter kills what still runs after its graceful_timeout: a worker ends a little before, in good order.
_OF_GRACEFUL_TIMEOUT = 0.95
# Of the time between a server's end and the arbiter's patience so much is for a server that ends by itself, which waits
# a second for tasks that it has cancelled.
_OF_MARGIN = 0.75
_LONGEST_MARGIN = 1.5
SHORTEST_SECONDS = 0.01


def board_for(workers: int) -> Scoreboard:
    """Room for so many workers, and for those whom they replace while these still end."""
    return Scoreboard(4 * workers + 8)


def facts_of(listening: socket.socket, pool: str, *, workers: int, threads: int, limits: Mapping[str, float]) -> Facts:
    """What the status page of so many workers tells besides what is counted."""
    return Facts(
        pool=pool,
        manager="static",
        threads=threads,
        limits={"workers": workers, **limits},
        queue=lambda: listen_queue(listening),
    )


def open_anew(access_log: AccessLog | None) -> None:
    """Open its file anew, if there is one; where that fails the old one is written on, which is told."""
    if access_log is not None:
        try:
            access_log.reopen()
        except OSError as error:
            logger().error("the access log cannot be opened anew: %s", error)


class Service(Protocol):
    """What serves the application in a worker process."""

    def run(self) -> None:
        """Serve until told to stop; then let the requests under way end."""
        ...

    def stop(self) -> None:
        """Ask :meth:`run` to end; called by signal handlers."""
        ...


class FcgiWorker(Worker):
    """A gunicorn worker that speaks FastCGI on gunicorn's listening sockets.

    Of gunicorn's settings it heeds those about processes, and ``threads`` (WSGI), ``worker_connections`` (as
    ``max_connections``), ``graceful_timeout``, ``max_requests``, and, where this gunicorn has them, ``root_path``,
    ``asgi_loop`` and ``asgi_lifespan``. A subclass tells the rest by the attributes below.
    """

    root_path: str | None = None
    """The mount point; None: gunicorn's ``root_path``, or else what the web server tells."""
    unbuffered_events = True
    """Send ``X-Accel-Buffering: no`` with text/event-stream, so that nginx passes each event on."""
    lifespan: Any = None
    """ASGI: "auto", "on" or "off"; None: gunicorn's ``asgi_lifespan``."""
    loop: str | None = None
    """ASGI: "auto", "asyncio" or "uvloop"; None: gunicorn's ``asgi_loop``."""
    allow_from: AllowFrom | None = None
    """Which addresses and networks may connect over TCP, as for :func:`simple_fastcgi.serve`; None for all."""
    limits: Mapping[str, float] = {}
    """Bounds that differ from the defaults of :class:`~simple_fastcgi.limits.Limits`."""
    ping_path: str | None = None
    """Where a ping is answered, without asking the application; None: nowhere."""
    status_path: str | None = None
    """Where the status of all workers is shown; None: nowhere."""
    slowlog_timeout: float = 0.0
    """Seconds of its handler's after which a request is told in the log with its stack; 0: none is."""
    request_timeout: float = 0.0
    """Seconds of its handler's after which a request is given up; 0: none is."""
    access_log: AccessLog | None = None
    """Where a line is written for each request, besides gunicorn's own access log."""
    board: Scoreboard | None = None
    """What all workers count; it is made by the master."""
    is_board_told = False
    """Whether it was told, in this master, that there are more workers than it has room for."""
    first_to_fail: Once | None = None
    """The master's, for the first worker that cannot start."""
    first_to_warn: Once | None = None
    """The same, for the first one whose application has handlers of signals which the worker needs."""

    def __init__(self, *args: Any) -> None:
        # In the master, which is about to fork.
        super().__init__(*args)
        self._place = -1 if self.board is None else self.board.allot()
        if self.board is not None and self._place < 0:
            self._tell_of_full_board(self.board)
        self.monitor: Monitor | None = None
        self._leave: Leave | None = None
        self.quick = False
        """Told to end at once, whatever is under way."""
        self.is_replaced = False
        """It ends for a successor's sake, to whom further connections are left."""
        self.is_orphan = False
        """Its master is gone."""
        # Several beats fit into the time after which the arbiter takes a worker for hung; self.timeout is half of it.
        self.beat_seconds: float = min(_SLOWEST_BEAT, self.timeout / 2 or _SLOWEST_BEAT)
        self._next_beat = 0.0
        self._opens_anew = False
        self._service: Service | None = None
        self._watch: Timer | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Called by the arbiter before the first worker starts."""
        FcgiWorker.first_to_fail = FcgiWorker.first_to_fail or Once()
        FcgiWorker.first_to_warn = FcgiWorker.first_to_warn or Once()
        if cls.ping_path or cls.status_path or cls.slowlog_timeout or cls.request_timeout:
            cls.board = board_for(cfg.workers)
        reachable = [bind for bind in cfg.address if isinstance(bind, tuple) and not is_loopback(bind[0])]
        if reachable and cls.allow_from is None and not os.environ.get(WEB_SERVER_ADDRS):
            log.warning(
                "FastCGI has no authentication, and other machines can reach %s: bind a unix socket or 127.0.0.1, "
                "or say who may connect with a worker class of your own that has allow_from",
                ", ".join(f"{host}:{port}" for host, port, *_ in reachable),
            )

    def _tell_of_full_board(self, board: Scoreboard) -> None:
        if not FcgiWorker.is_board_told:
            FcgiWorker.is_board_told = True
            self.log.warning(
                "the status has room for %d workers: what further ones do is not counted, and not shown. Start with a "
                "higher --workers in place of SIGTTIN (told once)",
                board.processes,
            )

    # What differs

    def make_service(self) -> Service:
        """What serves the application `self.wsgi`."""
        raise NotImplementedError

    def threads(self) -> int:
        """How many it has for requests; 0: an event loop."""
        return int(self.cfg.threads)

    def is_one_thread(self) -> bool:
        """Whether it serves one request after the other, and accepts nothing meanwhile."""
        return False

    def serving(self) -> None:
        """The application has started; connections are accepted from now on."""

    def refuse(self, why: str, status: int) -> NoReturn:
        """End this process, and with it the master, because no worker can ever serve."""
        self.log.error("%s", why)
        # A master that ends because of one worker stumbles over the next one.
        is_first = self.first_to_fail is None or self.first_to_fail.is_first()
        sys.exit(status if is_first else 0)

    # What gunicorn calls

    def run(self) -> None:
        """Serve until the end of this worker."""
        try:
            self.monitor = self._make_monitor()
            self._service = self.make_service()
            with self._watching():
                self._service.run()
                if self._leave is not None:
                    self._leave.server_ended()
        except LifespanError as error:
            self.refuse(str(error), Arbiter.WORKER_BOOT_ERROR)
        except ConfigurationError as error:
            self.refuse(str(error), Arbiter.APP_LOAD_ERROR)

    def load_wsgi(self) -> None:
        """Load the application, of whichever interface."""
        self._show_our_log()
        handlers = Handlers()
        super().load_wsgi()
        # As in a single process, which sets its own behind that.
        if (replaced := handlers.restore()) and self.first_to_warn is not None and self.first_to_warn.is_first():
            self.log.warning(
                "the application has handlers of its own for %s: they are not called, since by these signals workers "
                "are told what to do. What is to be done at its end belongs into atexit or into its lifespan",
                ", ".join(replaced),
            )

    @property
    def pid(self) -> Any:
        """The number of this process; of one that is not forked yet a word of gunicorn's."""
        return self._pid

    @pid.setter
    def pid(self, pid: Any) -> None:
        self._pid = pid
        if isinstance(pid, int) and self.board is not None and self._place >= 0:
            # In either process right behind the fork: whenever it is killed, it leaves its place to others.
            self.board.take(self._place, pid)

    def init_process(self) -> None:
        """The beginning of this process."""
        # Where an upgrade (SIGUSR2) has put it, if it was started as a module: its http would be taken for Python's.
        own = os.path.dirname(gunicorn.__file__)
        sys.path[:] = [folder for folder in sys.path if folder != own]
        super().init_process()

    def init_signals(self) -> None:
        """Those of every worker, and SIGUSR2."""
        super().init_signals()
        signal.signal(signal.SIGUSR2, self.handle_usr2)
        signal.siginterrupt(signal.SIGUSR2, False)

    def handle_usr1(self, sig: int, frame: object) -> None:
        """SIGUSR1: open log files anew."""
        super().handle_usr1(sig, frame)
        # Not here: what is interrupted may be just writing to it.
        self._opens_anew = True

    def handle_usr2(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR2: tell every request under way in the log, with its stack."""
        tell_all(self.monitor, frame)

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: end when the requests under way have ended."""
        if not is_child(self.pid, sig):
            self.end()
            if self._watch is None:
                margin = (self.cfg.graceful_timeout - self.bounds().graceful_timeout) * _OF_MARGIN
                seconds = self.bounds_at_the_end().graceful_timeout
                self._watch = watch_for_stuck(seconds, self._give_up, min(_LONGEST_MARGIN, margin))

    def _give_up(self) -> None:
        """What is still under way ends with this process: its server is stuck, and cannot tell."""
        in_time(self._cut_off)

    def _cut_off(self) -> None:
        if self.monitor is not None and cut_off(self.monitor):
            os._exit(0)

    def handle_quit(self, sig: int, frame: object) -> None:
        """SIGQUIT and SIGINT: end now."""
        if is_child(self.pid, sig):
            return
        # A handler that is interrupted by SystemExit answers with an error; it is the loop that must not go on then.
        self.quick = True
        super().handle_quit(sig, frame)

    # What services call

    def beat(self) -> None:
        """Tell the arbiter that this worker is alive; to be called at least each `beat_seconds`.

        When the master is gone the worker ends too.
        """
        now = monotonic()
        if now < self._next_beat:
            return
        if self._opens_anew:
            self._opens_anew = False
            open_anew(self.access_log)
        if os.getpid() != self.pid:
            # A child that a handler has forked, and that came back from there: it is no second worker.
            os._exit(1)
        self._next_beat = now + self.beat_seconds
        self.notify()
        if self.alive and not self.is_orphan and self.ppid != os.getppid():
            self.is_orphan = True
            self.log.warning("the master is gone, worker %s ends", self.pid)
            self.lose_master()

    def lose_master(self) -> None:
        """The master has ended without a word: end. Whoever has the sockets, too, may take over."""
        self.end()

    def count_request(self) -> None:
        """Count towards ``max_requests``; the worker that reaches it ends, and is replaced."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.served_enough()

    def served_enough(self) -> None:
        """``max_requests`` is reached: end, and leave the rest to the successor that the master starts then."""
        logger().info("worker %s ends after %s requests (max_requests)", self.pid, self.nr)
        self.is_replaced = True
        self.end()

    def end(self) -> None:
        """End gracefully; safe in a signal handler."""
        self.alive = False
        if self._service is not None:
            self._service.stop()

    # What is seen of its requests

    def _make_monitor(self) -> Monitor | None:
        hooks = GunicornHooks(self)
        observers: list[Observer] = [hooks] if hooks.wanted else []
        if self.access_log is not None:
            observers.append(self.access_log)
        seat = self.board.claim(self._place) if self.board is not None and self._place >= 0 else None
        if not observers and seat is None and self.board is None:
            return None
        if seat is not None and not self.threads():
            seat.counters[HAS_LOOP] = 1
        monitor = Monitor(observers, seat)
        if self.ping_path:
            monitor.pages[self.ping_path] = ping_page
        if self.status_path and self.board is not None:
            monitor.pages[self.status_path] = status_page(self.board, self.facts())
        return monitor

    def facts(self) -> Facts:
        """What the status page tells besides what is counted."""
        cfg = self.cfg
        limits = {**dict(self.bounds()), "max_requests": cfg.max_requests}
        first = self.listening_sockets()[0]
        return facts_of(first, cfg.proc_name, workers=cfg.workers, threads=self.threads(), limits=limits)

    def _watching(self) -> AbstractContextManager[object]:
        if self.monitor is None or self.board is None:
            return nullcontext()
        threads = self.cfg.threads
        self._leave = Leave(
            *(self.monitor, self.end, lambda: None),
            # Of a server for each socket, unless they take turns.
            threads=threads * len(self.sockets) if threads > 1 else 1,
            graceful_timeout=self.bounds().graceful_timeout,
        )
        return Watch(
            self.monitor,
            board=self.board,
            slowlog_timeout=self.slowlog_timeout,
            request_timeout=self.request_timeout,
            give_up=self._leave,
            queue=self.facts().queue if self.is_one_thread() else None,
        )

    # Settings

    def bounds(self) -> Limits:
        """The limits of each server in this worker."""
        from_gunicorn = {
            "max_connections": self.cfg.worker_connections,
            "graceful_timeout": max(SHORTEST_SECONDS, self.cfg.graceful_timeout * _OF_GRACEFUL_TIMEOUT),
        }
        return Limits(**{**from_gunicorn, **self.limits})

    def bounds_at_the_end(self) -> Limits:
        """The same, when it has been told to end."""
        return self.bounds()

    def mount_point(self) -> str | None:
        """The mount point if the operator tells it."""
        return self.root_path if self.root_path is not None else self.setting("root_path", "") or None

    def setting(self, name: str, default: Any) -> Any:
        """A setting that not every gunicorn has."""
        return getattr(self.cfg, name) if name in self.cfg.settings else default

    def listening_sockets(self) -> list[socket.socket]:
        """Gunicorn's sockets without their wrapping."""
        return [listener.sock for listener in self.sockets]

    def warn_unless(self, expected: str, cure: str) -> None:
        """One line if the application looks like one of another interface."""
        try:
            found = detect_interface(self.wsgi)
        except ConfigurationError:
            return
        if found[:4] != expected:
            self.log.warning("the application looks like %s: %s", found[:4].upper(), cure)

    def _show_our_log(self) -> None:
        """Write this package's log where gunicorn writes its own, unless the program has set up logging."""
        ours, theirs = logger(), getattr(self.log, "error_log", None)
        if theirs is not None and not ours.hasHandlers():
            ours.parent = theirs
            is_shown()
