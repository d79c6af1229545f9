"""``simple-fastcgi serve --workers N``: gunicorn's arbiter under our own command line."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from logging import NOTSET
from typing import TYPE_CHECKING

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from ..cgi.paths import normalize_root_path
from ..errors import ConfigurationError
from ..gateways.detect import detect_interface
from ..gateways.lifespan import LifespanError
from ..limits import Limits
from ..log import log_to_stderr, logger
from ..serving.load import AppCrashError, load_app
from ..serving.observe import Observing, StatusServer
from ..serving.refuse import refuse_behind_the_last
from ..serving.run import DEFAULT_THREADS, check_settings, listen
from .asgi import AsgiService
from .base import board_for, facts_of, open_anew
from .crew import Crew, CrewWorker
from .wsgi import WsgiService

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, NoReturn, Self

    from ..monitor.access_log import AccessLog
    from ..net import ListeningSocket
    from ..net.allow import AllowFrom
    from .base import Service

DEFAULT_WORKER_TIMEOUT = 30
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
_METRICS = f"{__package__.partition('.')[0]}.monitor.metrics"
# The master's patience beyond graceful_timeout, so that it is the workers who cut off what is left, and say so.
_EXTRA_PATIENCE = 2
_WORKER_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2)


def serve_with_workers(
    app: str,
    bind: str | None = None,
    *,
    workers: int,
    worker_timeout: int = DEFAULT_WORKER_TIMEOUT,
    max_requests: int = 0,
    max_requests_jitter: int = 0,
    machine: str = "",
    workers_chosen: bool = False,
    factory: bool = False,
    interface: Literal["auto", "wsgi", "asgi"] = "auto",
    threads: int = DEFAULT_THREADS,
    root_path: str | None = None,
    allow_from: AllowFrom | None = None,
    socket_mode: int | str | None = None,
    socket_owner: int | str | None = None,
    socket_group: int | str | None = None,
    lifespan: Literal["auto", "on", "off"] = "auto",
    loop: Literal["auto", "asyncio", "uvloop"] = "auto",
    unbuffered_events: bool = True,
    access_log: str | None = None,
    access_log_format: Literal["combined", "json"] = "combined",
    ping_path: str | None = None,
    status_path: str | None = None,
    status_bind: str | None = None,
    slowlog_timeout: float = 0.0,
    request_timeout: float = 0.0,
    name: str | None = None,
    **limits: float,
) -> None:
    """Serve the application at `app`, ``MODULE:ATTR``, in `workers` processes until SIGTERM or SIGINT.

    SIGHUP replaces the workers: each of them imports the application anew. A worker that gives no sign of life for
    `worker_timeout` seconds is replaced, and, unless that is 0, one that has served `max_requests` and by chance up to
    `max_requests_jitter` more. `machine` is what `threads`, and with `workers_chosen` the workers, were chosen for, if
    they were. The other settings, and what is raised, are those of :func:`simple_fastcgi.serve`.
    """
    bounds = Limits(**limits)
    check_settings(threads=threads, interface=interface, lifespan=lifespan, loop=loop)
    for setting, value in (("workers", workers), ("worker_timeout", worker_timeout)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{setting}={value!r}: give a whole number above 0")
    if root_path is not None:
        normalize_root_path(root_path)
    observing = Observing(
        access_log=access_log,
        access_log_format=access_log_format,
        ping_path=ping_path,
        status_path=status_path,
        status_bind=status_bind,
        slowlog_timeout=slowlog_timeout,
        request_timeout=request_timeout,
    )
    observing.check_apart(bind)
    log_to_stderr(processes=True)
    access: dict[str, int | str | None] = {
        "socket_mode": socket_mode,
        "socket_owner": socket_owner,
        "socket_group": socket_group,
    }
    with ExitStack() as stack:
        listening = stack.enter_context(listen(bind, None, allow_from, access))
        failures = stack.enter_context(_Failures())
        opened = observing.open_access_log()
        if opened is not None:
            stack.enter_context(opened)
        board = board_for(workers) if observing.counts else None
        status = None
        if board is not None and status_bind is not None:
            figures = {**dict(bounds), "max_requests": max_requests}
            facts = facts_of(listening.socket, name or app, workers=workers, threads=threads, limits=figures)
            status = StatusServer(observing, board, facts, allow=listening.allow, access=access)
            stack.enter_context(status)
        worker_class: Any = type(
            "Worker",
            (_Worker,),
            {
                "root_path": root_path,
                "unbuffered_events": unbuffered_events,
                "lifespan": lifespan,
                "loop": loop,
                "allow_from": listening.allow,
                "limits": dict(bounds),
                "name": name or app,
                "listening": listening,
                "status": status,
                "interface": interface,
                "where": listening.describe(),
                "machine": {"wsgi": machine, "asgi": machine if workers_chosen else ""},
                "access_log": opened,
                "board": board,
                "ping_path": ping_path,
                "status_path": status_path,
                "slowlog_timeout": slowlog_timeout,
                "request_timeout": request_timeout,
                "failures": failures,
            },
        )
        settings = {
            "workers": workers,
            "worker_class": worker_class,
            "threads": threads,
            "timeout": worker_timeout,
            # Where a worker tells that it is alive: memory, which no slow disk holds up, and no read-only system lacks.
            "worker_tmp_dir": _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None,
            "max_requests": max_requests,
            "max_requests_jitter": max_requests_jitter,
            "graceful_timeout": math.ceil(bounds.graceful_timeout) + _EXTRA_PATIENCE,
            "logger_class": _Log,
            "errorlog": None,
            "proc_name": name or app,
            "on_reload": _tell_of_reload,
            "child_exit": _forget_metrics,
            "control_socket_disable": True,
        }
        master = _Master(_Application(app, settings, factory=factory), listening, failures, opened)
        worker_class.starts = master.starts
        if status is not None:
            master.fork_lock = status.at_work
        _run(master, failures)
    logger().info("stopped")


def _run(master: _Master, failures: _Failures) -> None:
    pid = os.getpid()
    try:
        master.run()
    except SystemExit as end:
        if os.getpid() != pid or end.code not in (0, Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR):
            # The first: this is a worker's end, which comes out of the same call.
            raise
        why = failures.first() or "no worker can start: what is wrong stands above"
        if end.code == Arbiter.APP_LOAD_ERROR:
            raise ConfigurationError(why) from None
        if end.code == Arbiter.WORKER_BOOT_ERROR:
            raise LifespanError(why) from None


def _tell_of_reload(master: _Master) -> None:
    logger().info("reloading: %d new workers take over", master.num_workers)


def _forget_metrics(_master: _Master, worker: _Worker) -> None:
    """In prometheus_client's multiprocess mode; in no other is there anything to forget."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            from ..monitor.metrics import forget
        except ImportError:
            return
        forget(worker.pid)


class _Failures:
    """Why a worker cannot start, in words; they go to the master, which tells the first ones only.

    Datagrams: those of several workers never mix.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.close()
        self._sender.close()

    def tell(self, why: str) -> None:
        """Called by a worker."""
        try:
            self._sender.send(why.encode("utf-8", "backslashreplace")[-_LONGEST_FAILURE:])
        except BlockingIOError:
            # So many others have told why already.
            pass

    def first(self, flags: int = 0) -> str | None:
        """What a worker told, if one did."""
        try:
            return self._receiver.recv(_LONGEST_FAILURE, flags).decode("utf-8", "replace")
        except BlockingIOError:
            return None

    def told(self) -> bool:
        """Whether a worker has told something that nobody has read yet."""
        return self.first(socket.MSG_PEEK) is not None


_LONGEST_FAILURE = 64 * 1024


class _Worker(CrewWorker):
    """Finds out itself which interface the application has: the master never imports it, so that it can be reloaded."""

    name: str
    listening: ListeningSocket
    status: StatusServer | None
    interface: str
    where: str
    machine: Mapping[str, str]
    failures: _Failures

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Nothing: the settings and the address were checked when they were given."""

    def init_signals(self) -> None:
        """Leave Ctrl+C, which a terminal sends to every process, to the master."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WORKER_SIGNALS)

    def lose_master(self) -> None:
        """Nobody takes over: let nobody connect any more, so that the address is free for a restart, then end."""
        if self.status is not None:
            self.status.refuse()
        if self.listening.exclusive:
            # In a thread: the workers accept meanwhile what waits.
            threading.Thread(target=self._refuse, name="fcgi-refuse", daemon=True).start()
        else:
            self.end()

    def _refuse(self) -> None:
        refuse_behind_the_last(self.listening.socket)
        self.end()

    def load_wsgi(self) -> None:
        """Load the application; what is wrong with it is told to the master, which ends if no worker ever served."""
        # The master may have made a page of metrics. The application decides anew about multiprocess mode.
        for name in [name for name in sys.modules if name.startswith(("prometheus_client", _METRICS))]:
            del sys.modules[name]
        try:
            super().load_wsgi()
        except AppCrashError as error:
            self.refuse(
                f"{self.name} failed while it was loaded:\n{error.user_traceback().rstrip()}",
                Arbiter.WORKER_BOOT_ERROR,
            )
        except ConfigurationError as error:
            self.refuse(str(error), Arbiter.APP_LOAD_ERROR)
        except BaseException as error:
            if isinstance(error, Exception) or not self.alive:
                # Of the latter it was told to end.
                raise
            # Else it would be started again, for ever.
            self.refuse(f"{self.name} ended the process while it was loaded: {error!r}", Arbiter.WORKER_BOOT_ERROR)

    def make_service(self) -> Service:
        """What fits the application's interface."""
        if self.interface == "auto":
            self.interface = "wsgi" if detect_interface(self.wsgi) == "wsgi" else "asgi"
        return WsgiService(self) if self.interface == "wsgi" else AsgiService(self)

    def is_one_thread(self) -> bool:
        """A WSGI application's, unless it was told to have several."""
        return self.interface == "wsgi" and bool(self.cfg.threads == 1)

    def serving(self) -> None:
        """Say so once, and tell the master."""
        super().serving()
        if self.age == 1 or (self.starts.fail and not self.starts.have_served):
            cfg = self.cfg
            processes = f"{cfg.workers} worker{'s' if cfg.workers > 1 else ''}"
            if self.interface == "wsgi":
                processes += f" of {cfg.threads} thread{'s' if cfg.threads > 1 else ''}"
            if machine := self.machine[self.interface]:
                processes += f" for {machine}"
            logger().info("serving %s (%s, %s) on %s", self.name, self.interface.upper(), processes, self.where)

    def refuse(self, why: str, status: int) -> NoReturn:
        """End this process; the master tells why."""
        self.exits = True
        if not self.alive:
            # The end that it was told to come to, whatever has become of it in the application.
            sys.exit(0)
        self.failures.tell(why)
        sys.exit(status)


class _Application(BaseApplication):
    """Our settings in gunicorn's words, and the way to the application."""

    def __init__(self, spec: str, settings: dict[str, object], *, factory: bool) -> None:
        self._spec = spec
        self._settings = settings
        self._factory = factory
        super().__init__()

    def load_config(self) -> None:
        """At the start, and again when reloading."""
        for setting, value in self._settings.items():
            if setting in self.cfg.settings:
                self.cfg.set(setting, value)

    def load(self) -> object:
        """Called in each worker."""
        return load_app(self._spec, factory=self._factory)


class _Master(Crew):
    """The arbiter of a socket that was bound here."""

    def __init__(
        self,
        application: _Application,
        listening: ListeningSocket,
        failures: _Failures,
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
        signal.pthread_sigmask(signal.SIG_BLOCK, _WORKER_SIGNALS)
        try:
            with self.fork_lock:
                return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WORKER_SIGNALS)

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


class _Log(Logger):
    """Gunicorn's words among our own lines; what it tells of its every step is for debugging."""

    failures: _Failures | None = None

    def setup(self, cfg: Any) -> None:
        """At the start, and again when reloading."""
        super().setup(cfg)
        self.error_log = logger().getChild("workers")
        self.error_log.setLevel(NOTSET)

    def info(self, msg: object, *args: object, **more: Any) -> None:
        """A step."""
        self.debug(msg, *args, **more)

    def error(self, msg: object, *args: object, **more: Any) -> None:
        """A failure; a step, if a worker has told what is behind it."""
        if self.failures is not None and self.failures.told():
            self.debug(msg, *args, **more)
        else:
            super().error(msg, *args, **more)
