"""`serve()`: the one call that most programs need."""

from __future__ import annotations

import os
import threading
from functools import partial

from ..errors import ConfigurationError
from ..limits import Limits
from ..log import info, log_to_stderr
from ..net import FCGI_LISTENSOCK_FILENO, is_listening
from . import KEPT_SOCKET
from .garbage import SeldomCollected
from .source import is_plain_cgi, listen, refuse_access

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from typing import Any, Literal

    from ..net import ListeningSocket
    from ..net.allow import AllowFrom
    from .observe import Observed, Observing
    from .restart import Restart
    from .touch import Facts, FilesToTouch, ReloadOnTouch, TouchedFiles

DEFAULT_THREADS = 4
"""Where the machine is not looked at."""
_INTERFACES = ("auto", "wsgi", "asgi")
_LIFESPANS = ("auto", "on", "off")
_LOOPS = ("auto", "asyncio", "uvloop")
_NOT_OBSERVING = {
    "access_log": None,
    "access_log_format": "combined",
    "ping_path": None,
    "status_path": None,
    "status_bind": None,
    "slowlog_timeout": 0.0,
    "request_timeout": 0.0,
}


def serve(
    app: Callable[..., Any] | str,
    bind: str | None = None,
    *,
    sock: socket.socket | int | None = None,
    factory: bool = False,
    app_dir: str | None = None,
    interface: Literal["auto", "wsgi", "asgi"] = "auto",
    threads: int | None = None,
    root_path: str | None = None,
    stop: threading.Event | None = None,
    allow_from: AllowFrom | None = None,
    socket_mode: int | str | None = None,
    socket_owner: int | str | None = None,
    socket_group: int | str | None = None,
    lifespan: Literal["auto", "on", "off"] = "auto",
    loop: Literal["auto", "asyncio", "uvloop"] = "auto",
    unbuffered_events: bool = True,
    reload_on_touch: ReloadOnTouch = None,
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
    """Serve a WSGI or ASGI application over FastCGI until SIGTERM, SIGINT, SIGHUP or SIGUSR1; then end gracefully.

    `app`
        The application, or ``"MODULE:ATTR"``, where it is imported from. `interface` says which kind it is; "auto"
        finds out.
    `bind`
        Where to listen: ``"unix:/run/app.sock"``, ``"127.0.0.1:9000"``, ``"[::1]:9000"``, ``"fd://3"``. None: on the
        listening socket that the web server, spawn-fcgi or supervisord left on fd 0; if fd 0 is none, on those that
        systemd passed to this process (LISTEN_FDS, LISTEN_PID); if there are none and a web server called this
        program by CGI (GATEWAY_INTERFACE), serve that one request. Or give a listening socket as `sock`.
    `factory`, `app_dir`
        For ``"MODULE:ATTR"``: whether ATTR is a function that makes the application, and a directory to import from
        before all others (``""``: the current one).
    `threads`
        WSGI: how many requests run at once, each in a thread; 1 runs them one after the other without any. None: four
        for each CPU that this process may use (its affinity, its cgroup), at least 4 and at most 32; on a socket that
        somebody else has opened, who may start more such processes, 4.
    `root_path`
        The mount point, where it cannot be told from what the web server sends; ``""`` and ``"/"`` mean the root.
    `stop`
        An event which, when set, ends the server gracefully; for a server in a thread other than the main one, where
        no signal arrives.
    `allow_from`
        Addresses and networks that may connect over TCP. Needed to listen on an address that is not loopback, unless
        FCGI_WEB_SERVER_ADDRS in the environment names them; if both do, a peer has to be in both lists.
    `socket_mode` (default 0o660), `socket_owner`, `socket_group`
        Of a unix socket file: the application's, and the status's.
    `lifespan`
        ASGI: "on" ends the program if the application has no lifespan, "off" does not start one.
    `loop`
        ASGI: "auto" runs on uvloop where it is installed.
    `unbuffered_events`
        Send ``X-Accel-Buffering: no`` with text/event-stream, so that nginx passes each event on.
    `reload_on_touch`
        Begin the program anew, once requests under way have ended, when a file is touched: its time of modification
        changes, or it appears or disappears. True watches the script, ``restart.txt`` and ``tmp/restart.txt`` beside it
        (and in `app_dir`), and the file of MODULE, or of the function or of Flask's object that was given in its place;
        or give a path, or several in a list, in which True may stand, too.
        A process that Apache has spawned ends, for Apache to spawn it anew; any other replaces itself, so that nothing
        behind this call is run then. Not with `sock`, and only in the main thread.
    `access_log`, `access_log_format`
        A file to which a line is appended for each request, ``"-"`` for standard output; "combined" or "json".
    `ping_path`, `status_path`
        Where a ping and the status are answered, as ``"/fcgi-ping"``, without asking the application.
    `status_bind`
        A socket of their own for both, which answers also when all threads are busy.
    `slowlog_timeout`, `request_timeout`
        Seconds after which a request is told in the log with the stack of whoever serves it, and after which it is
        given up: a task is cancelled; for a thread, which nobody can end, the process ends once all others are done,
        with exit status 1. They count from the moment at which the handler begins. 0 for never.
    `name`
        What the start-up line and the status call the application.
    `limits`
        Any of :class:`~simple_fastcgi.limits.Limits`, as ``max_connections=200``.

    Raises ConfigurationError for settings that cannot work, OSError when the address is taken or forbidden,
    :class:`~simple_fastcgi.gateways.lifespan.LifespanError` when the application fails to start, and SystemExit, with
    status 1, where a handler that `request_timeout` has given up comes to its end after all, or where MODULE itself
    ends the process.
    """
    bounds = Limits(**limits)
    check_settings(
        threads=DEFAULT_THREADS if threads is None else threads, interface=interface, lifespan=lifespan, loop=loop
    )
    _check_kinds(root_path=root_path, stop=stop, app_dir=app_dir, name=name)
    if reload_on_touch and sock is not None:
        raise ConfigurationError("reload_on_touch: not with sock, whose new owner would not know it; give bind")
    observing = _observing(
        bind,
        access_log=access_log,
        access_log_format=access_log_format,
        ping_path=ping_path,
        status_path=status_path,
        status_bind=status_bind,
        slowlog_timeout=slowlog_timeout,
        request_timeout=request_timeout,
    )
    bind = _keep_place(bind)
    log_to_stderr()
    folders = () if app_dir is None else (app_dir,)
    kept = _kept_socket(bind, allow_from)
    # By a web server, or spawn-fcgi, which leaves the listening socket on fd 0.
    spawned = bind is None and sock is None and is_listening(FCGI_LISTENSOCK_FILENO)
    once = bind is None and sock is None and kept is None and is_plain_cgi()
    observing = observing.without_a_socket() if observing is not None and once else observing
    # Before the application is loaded: it may change directory, and what changes meanwhile counts.
    begin_anew = partial(
        _make_restart,
        bind=bind,
        spawned=spawned,
        folder=_current_folder(),
        loads_app=isinstance(app, str),
        graceful_timeout=bounds.graceful_timeout,
    )
    files = None
    if reload_on_touch is not None and reload_on_touch is not False and not once:
        files = _touched_files(reload_on_touch, folders, app)
    imported: dict[str, Facts] | None = {} if files is not None or spawned or kept is not None else None
    spec = app if isinstance(app, str) else None
    failure: BaseException | None = None
    try:
        loaded: Any = app if spec is None else _load(spec, files, imported, factory=factory, app_dir=app_dir)
        found = find_interface(loaded, interface)
    except (Exception, SystemExit) as error:
        if not _is_to_be_served(error, spawned=spawned or kept is not None):
            if isinstance(error, SystemExit) and spec is not None:
                # Its own status may be 0, and it says nothing.
                raise SystemExit(f"{name or spec} ended the process while it was loaded: {error!r}") from error
            raise
        failure = error
    access: dict[str, Any] = {"socket_mode": socket_mode, "socket_owner": socket_owner, "socket_group": socket_group}
    if once:
        from .plain_cgi import one_request

        refuse_access(access)
        source: AbstractContextManager[ListeningSocket] = one_request(bounds)
    else:
        source = kept or listen(bind, sock, allow_from, access, status_bind)
    with source as listening:
        restart = begin_anew(files, listening) if files is not None else None
        if failure is None:
            count, machine = _count_threads(
                1 if once else threads,
                interface=found,
                is_shared=spawned or sock is not None or (bind or "").startswith("fd:"),
            )
            try:
                serve_on(
                    listening,
                    loaded,
                    bounds,
                    interface=found,
                    threads=count,
                    machine=machine,
                    root_path=root_path,
                    stop=stop,
                    lifespan=lifespan,
                    loop=loop,
                    unbuffered_events=unbuffered_events,
                    name=name or spec,
                    multiprocess=bind is None or bind.startswith("fd:"),
                    run_once=once,
                    restart=restart,
                    observing=observing,
                    access=access,
                )
            except Exception as error:
                if not _is_to_be_served(error, spawned=spawned or kept is not None):
                    raise
                failure = error
        if failure is not None:
            from .failing import files_behind, serve_failure

            files = files or _touched_files((), (), None)
            files.add(files_behind(failure, spec, folders), imported)
            restart = begin_anew(files, listening)
            serve_failure(name or spec or "the application", failure, listening, bounds, stop=stop, restart=restart)
        if restart is not None:
            restart.carry_out()


def _check_kinds(*, root_path: object, stop: object, app_dir: object, name: object) -> None:
    """Raise ConfigurationError for what would fail only once the application is loaded, or serves."""
    if root_path is not None:
        from ..cgi.paths import normalize_root_path

        normalize_root_path(root_path)  # type: ignore[arg-type]
    if stop is not None and not callable(getattr(stop, "is_set", None)):
        raise ConfigurationError(f"stop={stop!r}: give a threading.Event")
    if app_dir is not None and not isinstance(app_dir, str | os.PathLike):
        raise ConfigurationError(f"app_dir={app_dir!r}: give the path of a directory")
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"name={name!r}: give a str")


def _observing(bind: str | None, **wanted: Any) -> Observing | None:
    """What is `wanted` to be seen of requests, if anything is."""
    if wanted == _NOT_OBSERVING:
        return None
    from .observe import Observing

    observing = Observing(**wanted)
    observing.check_apart(bind)
    return observing


def _keep_place(bind: str | None) -> str | None:
    """`bind`, as it was meant before the application could change directory."""
    if bind is None:
        return None
    from ..net.address import keep_place

    return keep_place(bind)


def _kept_socket(bind: str | None, allow_from: AllowFrom | None) -> ListeningSocket | None:
    if KEPT_SOCKET not in os.environ:
        return None
    from .restart import kept_socket

    return kept_socket(bind, allow_from)


def _touched_files(setting: FilesToTouch, folders: Iterable[str], app: object) -> TouchedFiles:
    from .touch import TouchedFiles, files_to_touch, with_file_of

    return TouchedFiles(files_to_touch(with_file_of(app, setting), folders))


def _load(
    spec: str, files: TouchedFiles | None, imported: dict[str, Facts] | None, *, factory: bool, app_dir: str | None
) -> object:
    """The application; the files that are imported meanwhile are taken down in `imported`, if it is there.

    That of its module is one of `files` from then on.
    """
    from .load import load_app, module_file

    if imported is None:
        return load_app(spec, factory=factory, app_dir=app_dir)
    from .touch import RecordedImports

    with RecordedImports(imported):
        app = load_app(spec, factory=factory, app_dir=app_dir)
    if files is not None and (file := module_file(spec)) is not None:
        files.add([file], imported)
    return app


def _make_restart(files: TouchedFiles, listening: ListeningSocket, **how: Any) -> Restart:
    from .restart import Restart

    return Restart(files, listening, **how)


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # pragma: no cover - it was deleted
        return None


def _count_threads(threads: int | None, *, interface: str, is_shared: bool) -> tuple[int, str]:
    """How many, and the machine that they are chosen for, if they are."""
    if threads is not None or interface != "wsgi" or is_shared:
        return threads or DEFAULT_THREADS, ""
    from .machine import this_machine

    machine = this_machine()
    return machine.threads(1), str(machine)


def _is_to_be_served(error: BaseException, *, spawned: bool) -> bool:
    """Whether `error` is to be answered to requests: the application's start fails, as it would do again and again."""
    if not spawned or threading.current_thread() is not threading.main_thread():
        return False
    from .failing import keeps_from_starting

    return keeps_from_starting(error)


def serve_on(
    listening: ListeningSocket,
    app: Callable[..., Any],
    limits: Limits,
    *,
    interface: Literal["wsgi", "asgi"],
    threads: int = DEFAULT_THREADS,
    machine: str = "",
    root_path: str | None = None,
    stop: threading.Event | None = None,
    lifespan: Literal["auto", "on", "off"] = "auto",
    loop: Literal["auto", "asyncio", "uvloop"] = "auto",
    unbuffered_events: bool = True,
    name: str | None = None,
    multiprocess: bool = False,
    run_once: bool = False,
    when_ready: Callable[[str], object] | None = None,
    restart: Restart | None = None,
    observing: Observing | None = None,
    access: dict[str, Any] | None = None,
) -> None:
    """What :func:`serve` does once its settings are checked and the socket listens.

    `machine` is what `threads` were chosen for, if they were. `multiprocess` says whether other processes may serve the
    same application, `run_once` that there is one request only, of which the log tells nothing but errors. `when_ready`
    is called, with a description of it, as soon as the application has started and requests are served; by default it
    is logged. `restart` may end the server, too. `observing` tells what is seen of its requests, `access`
    who may connect to the socket file of the status.
    """
    if name is None:
        from .origin import name_of

        name = name_of(app)
    described = f"{name} ({interface.upper()}"
    if interface == "wsgi":
        described += f", {threads} thread{'s' if threads > 1 else ''}{machine and f' for {machine}'}"
    described += ")"

    def ready() -> None:
        if when_ready is not None:
            when_ready(described)
        elif not run_once:
            info("serving %s on %s", described, listening)

    observed: Observed | None = None
    if observing is not None:
        from .observe import observed_by

        observed = observed_by(
            *(observing, listening, limits),
            name=name,
            threads=threads,
            interface=interface,
            access=access or {},
            is_shared=multiprocess,
        )
    options: dict[str, Any] = {"stop": stop, "ready": ready, "restart": restart, "observed": observed}
    has_given_up = False
    try:
        if interface == "wsgi":
            with SeldomCollected():
                from ..gateways.wsgi import WsgiHandler
                from .threads import run_wsgi

            handler = WsgiHandler.for_app(
                app,
                root_path=root_path,
                multiprocess=multiprocess,
                run_once=run_once,
                unbuffered_events=unbuffered_events,
            )
            run_wsgi(handler, listening, limits, threads=threads, **options)
        else:
            with SeldomCollected():
                from ..gateways.asgi import AsgiHandler
                from .loops import run_asgi

            async_handler = AsgiHandler.for_app(
                app, root_path=root_path, lifespan=lifespan, unbuffered_events=unbuffered_events
            )
            run_asgi(async_handler, listening, limits, loop=loop, **options)
        has_given_up = observed is not None and observed.server_ended()
    finally:
        if observed is not None:
            observed.close()
    if not run_once:
        info("stopped")
    if has_given_up and (restart is None or not restart.is_set()):
        # Nobody has asked for this end: whoever has started the program is to start it again.
        raise SystemExit(1)


def find_interface(app: Callable[..., Any], interface: Literal["auto", "wsgi", "asgi"]) -> Literal["wsgi", "asgi"]:
    """The interface of `app`: what was told, or else what its shape says; ConfigurationError if that is nothing."""
    if interface != "auto":
        return interface
    from ..gateways.detect import detect_interface

    return "wsgi" if detect_interface(app) == "wsgi" else "asgi"


def check_settings(*, threads: object, interface: str, lifespan: str, loop: str) -> None:
    """Raise ConfigurationError for a value that none of these settings has."""
    choices = (("interface", interface, _INTERFACES), ("lifespan", lifespan, _LIFESPANS), ("loop", loop, _LOOPS))
    for name, value, allowed in choices:
        if value not in allowed:
            raise ConfigurationError(f"{name}={value!r}: give one of {', '.join(allowed)}")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigurationError(f"threads={threads!r}: give a whole number above 0")
