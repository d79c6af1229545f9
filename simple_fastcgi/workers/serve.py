"""``simple-fastcgi serve --workers N``: gunicorn's arbiter and workers under our own command line."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from ..cgi.paths import normalize_root_path
from ..errors import ConfigurationError
from ..gateways.lifespan import LifespanError
from ..limits import Limits
from ..log import log_to_stderr, logger
from ..serving.load import load_app
from ..serving.observe import Observing
from ..serving.run import DEFAULT_THREADS, check_settings
from ..serving.source import listen
from .base import board_for, facts_of
from .failures import Failures
from .log import Log
from .master import Master
from .once import Once
from .worker import Worker

if TYPE_CHECKING:
    from typing import Any, Literal

    from ..net.allow import AllowFrom

DEFAULT_WORKER_TIMEOUT = 30
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
# The master's patience beyond graceful_timeout, so that it is the workers who cut off what is left, and say so.
_EXTRA_PATIENCE = 2


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
        listening = stack.enter_context(listen(bind, None, allow_from, access, status_bind))
        failures = stack.enter_context(Failures())
        first_to_warn, first_to_serve = stack.enter_context(Once()), stack.enter_context(Once())
        opened = observing.open_access_log()
        if opened is not None:
            stack.enter_context(opened)
        board = board_for(workers) if observing.counts else None
        status = None
        if board is not None and status_bind is not None:
            figures = {**dict(bounds), "max_requests": max_requests}
            known = 0 if interface == "asgi" else threads
            facts = facts_of(listening.socket, name or app, workers=workers, threads=known, limits=figures)
            status = observing.status_server(board, facts, allow=listening.allow, access=access)
            stack.enter_context(status)
        worker_class: Any = type(
            "Worker",
            (Worker,),
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
                "first_to_warn": first_to_warn,
                "first_to_serve": first_to_serve,
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
            "logger_class": Log,
            "errorlog": None,
            "proc_name": name or app,
            "on_reload": _tell_of_reload,
            "child_exit": _forget_metrics,
            "control_socket_disable": True,
        }
        application = _Application(app, settings, factory=factory)
        master = Master(application, listening, failures, opened, graceful_timeout=bounds.graceful_timeout)
        worker_class.starts, worker_class.ending = master.starts, master.ending
        if status is not None:
            master.fork_lock = status.at_work
        _run(master, failures)
    logger().info("stopped")


def _run(master: Master, failures: Failures) -> None:
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


def _tell_of_reload(master: Master) -> None:
    logger().info("reloading: %d new workers take over", master.num_workers)


def _forget_metrics(_master: Master, worker: Worker) -> None:
    """In prometheus_client's multiprocess mode; in no other is there anything to forget."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        try:
            from ..monitor.metrics import forget
        except ImportError:
            return
        forget(worker.pid)


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
