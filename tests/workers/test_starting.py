"""From a command line to workers: what is said, what is refused, and which settings reach the application."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config

import simple_fastcgi.workers
from simple_fastcgi.cli import main
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways.lifespan import LifespanError
from simple_fastcgi.limits import Limits
from simple_fastcgi.workers import AsgiWorker, WsgiWorker
from simple_fastcgi.workers.base import FcgiWorker
from simple_fastcgi.workers.failures import Failures
from simple_fastcgi.workers.serve import _run, serve_with_workers
from tests.support.webserver import params_for

from .classes import Mounted
from .support import ROOT, Kind, Service, among, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    Start = Callable[..., Service]

APPS = "tests.workers.apps"
WSGI, ASGI = Kind("serve", "wsgi"), Kind("serve", "asgi")
gunicorn_kinds = [Kind("gunicorn", "wsgi"), Kind("gunicorn", "asgi")]
HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


# ------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        pytest.param(WSGI, "(WSGI, 2 workers of 1 thread) on unix:", marks=pytest.mark.once),
        pytest.param(Kind("serve", "wsgi", 3), "(WSGI, 2 workers of 3 threads) on unix:", marks=pytest.mark.once),
        (ASGI, "(ASGI, 2 workers) on unix:"),
    ],
    ids=str,
)
def test_our_own_command_says_little(kind: Kind, told: str, start: Start) -> None:
    service = start(kind)
    old = service.pids(2)
    service.signal(signal.SIGHUP)
    wait_until(lambda: service.has_told("reloading: 2 new workers"))
    # They are there, and will hear of the end.
    wait_until(lambda: not service.workers() & old)
    service.pids(2)
    idle = ": 0 threads and tasks are busy"
    next_time = 0.0

    def both_are_idle() -> bool:
        nonlocal next_time
        if time.monotonic() >= next_time:
            # One may still be at the end of a request that has its answer.
            next_time = time.monotonic() + 0.5
            service.signal(signal.SIGUSR2)
        return len({line.partition(idle)[0].rpartition("[")[2] for line in service.lines() if idle in line}) == 2

    wait_until(both_are_idle)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    # An old gunicorn tells of each worker that got the signal twice.
    lines = [line for line in service.lines() if line != "shut down" and "SIGTERM" not in line]
    lines = [line.partition(" simple_fastcgi")[2] for line in unasked(lines)]
    assert len(lines) == 3
    assert f": serving {APPS}:{kind.interface} {told}{service.path} (mode 0660, owner " in lines[0]
    assert lines[2] == f"[{service.process.pid}]: stopped"
    # The application was shut down in each of the four workers.
    assert service.lines().count("shut down") == (4 if kind.interface == "asgi" else 0)


def unasked(lines: list[str]) -> Iterator[str]:
    """Without what SIGUSR2 has asked for: of a worker that was busy still, its stack as well."""
    was_asked = False
    for line in lines:
        was_asked = "threads and tasks are busy" in line or (was_asked and " simple_fastcgi" not in line)
        if not was_asked:
            yield line


def test_debug_lines_are_gunicorns(start: Start) -> None:
    service = start(WSGI, "--log-level", "debug")
    service.pid()
    wait_until(lambda: service.has_told("Listening at: unix:"))
    wait_until(lambda: service.has_told("DEBUG simple_fastcgi.workers["))


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("kind", "status"), [(Kind("gunicorn", "asgi"), 3), (ASGI, 1)], ids=["gunicorn", "serve"])
def test_an_application_that_fails_to_start_ends_everything(kind: Kind, status: int, start: Start) -> None:
    service = start(kind, env={"FAILS_TO_START": "1"}, ends_with=status, workers=3)
    assert service.wait() == status
    why = "the application failed to start: no database"
    assert service.has_told(why)
    assert not service.has_told("Traceback")
    if kind.by == "serve":
        assert service.lines() == [f"simple-fastcgi: {why}"]
    assert not os.path.exists(service.path)


FAILURES = {
    "module": (["no_such_module:app"], 2, "no module named 'no_such_module'"),
    "attribute": ([f"{APPS}:wsgy"], 2, f"module {APPS} has no attribute 'wsgy': is 'wsgi' meant?"),
    "crash": (["crashing:app"], 1, "crashing:app failed while it was loaded:"),
    "exit": (["leaving:app"], 1, "leaving:app ended the process while it was loaded: SystemExit('no secret')"),
    "detection": (["odd:app"], 2, "cannot tell whether odd.app is WSGI or ASGI"),
    "loop": ([f"{APPS}:asgi", "--loop", "uvloop"], 2, "loop='uvloop': uvloop is not installed"),
}
SOURCES = {"crashing": "import json\njson.loads('{')\n", "leaving": "raise SystemExit('no secret')\n"}
SOURCES |= {"odd": "def app(*, one): pass\n", "sitecustomize": "import sys\nsys.modules['uvloop'] = None\n"}


@pytest.mark.parametrize(
    "failure", [pytest.param(name, marks=[] if name == "crash" else [pytest.mark.once]) for name in FAILURES]
)
def test_whatever_keeps_workers_from_starting_is_told_once(failure: str, start: Start, folder: str) -> None:
    for name, source in SOURCES.items():
        if name != "sitecustomize" or failure == "loop":
            Path(f"{folder}/{name}.py").write_text(source)
    (app, *options), status, told = FAILURES[failure]
    service = start(WSGI, *options, app=app, workers=3, ends_with=status)
    assert service.wait() == status
    lines = service.lines()
    assert lines[0].startswith(f"simple-fastcgi: {told}")
    if failure == "crash":
        assert lines[1:3] == [
            "Traceback (most recent call last):",
            f'  File "{folder}/crashing.py", line 2, in <module>',
        ]
        assert lines[-1].startswith("json.decoder.JSONDecodeError: ")
    else:
        assert len(lines) == 1
    assert not os.path.exists(service.path)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (3, LifespanError, "no worker can start: what is wrong stands above"),
        (4, ConfigurationError, "no worker can start: what is wrong stands above"),
        (-1, SystemExit, "-1"),
    ],
)
def test_workers_that_fail_without_a_word(status: int, error: type[BaseException], message: str) -> None:
    def run() -> None:
        raise SystemExit(status)

    with Failures() as failures, pytest.raises(error) as raised:
        _run(types.SimpleNamespace(run=run), failures)  # type: ignore[arg-type]
    assert str(raised.value) == message


@pytest.mark.parametrize("option", ["--workers", "--worker-timeout"])
def test_numbers_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "app:app", "--workers", "2", option, "0"]) == 2
    assert capsys.readouterr().err == f"simple-fastcgi: {option} 0: give a whole number above 0\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 0},
        {"workers": True},
        {"workers": 2.5},
        {"worker_timeout": 0},
        {"threads": 0},
        {"interface": "scgi"},
        {"lifespan": "maybe"},
        {"loop": "trio"},
        {"root_path": "a?b"},
        {"idle_timeout": 0},
        {"bind": "nowhere"},
    ],
    ids=str,
)
def test_settings_are_checked_before_anything_is_started(settings: dict[str, Any], folder: str) -> None:
    given: dict[str, Any] = {"workers": 2, "bind": f"unix:{folder}/app.sock"} | settings
    with pytest.raises(ConfigurationError):
        serve_with_workers("app:app", **given)
    assert not os.listdir(folder)


def test_a_busy_address_is_told(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{folder}/app.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen()
        assert main(["serve", "app:app", "--workers", "2", "--bind", f"unix:{path}"]) == 1
    assert "is busy, another program serves it" in capsys.readouterr().err


HIDE = "import sys; sys.modules[{!r}] = None; from simple_fastcgi.cli import main; sys.exit(main(sys.argv[1:]))"


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDE.format(module), "serve", f"{APPS}:wsgi", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)


def test_without_gunicorn_its_extra_is_named() -> None:
    ended = without("gunicorn", "--workers", "2", "--bind", "unix:/nowhere/at/all")
    assert ended.returncode == 2
    assert ended.stderr == "simple-fastcgi: --workers 2 needs gunicorn: pip install 'simple_fastcgi[gunicorn]'\n"


def test_another_missing_module_is_not_taken_for_gunicorn() -> None:
    ended = without("socketserver", "--workers", "2", "--bind", "unix:/nowhere/at/all")
    assert "ModuleNotFoundError" in ended.stderr
    assert "needs gunicorn" not in ended.stderr


def test_one_worker_needs_no_gunicorn() -> None:
    ended = without("gunicorn", "--workers", "1", "--bind", "unix:/nowhere/at/all")
    assert ended.returncode == 1
    assert "folder /nowhere/at does not exist" in ended.stderr


# ------------------------------------------------------------------------------ settings


def test_settings_reach_the_application(start: Start) -> None:
    service = start(WSGI, "--root-path", "/shop", "--interface", "wsgi")
    assert service.ask("/shop/")["script_name"] == "/shop"


def test_a_factory(start: Start) -> None:
    service = start(WSGI, "--factory", app=f"{APPS}:make")
    assert service.ask()["multiprocess"] is True


def test_one_process_is_told_so(start: Start) -> None:
    assert start(gunicorn_kinds[0], workers=1).ask()["multiprocess"] is False


@pytest.mark.skipif(not HAS_UVLOOP, reason="uvloop is not installed")
@pytest.mark.parametrize(("options", "loop"), [((), "uvloop"), (("--loop", "asyncio"), "asyncio.unix_events")])
def test_loops(options: tuple[str, ...], loop: str, start: Start) -> None:
    assert start(ASGI, *options).ask()["loop"] == loop


def test_a_class_of_ones_own_has_the_settings_that_gunicorn_has_not(start: Start) -> None:
    service = start(gunicorn_kinds[0], "-k", "tests.workers.classes.Mounted")
    assert service.ask("/mounted/")["script_name"] == "/mounted"


@among(*gunicorn_kinds, WSGI, ASGI, everywhere=ASGI)
def test_a_socket_that_somebody_else_opened(kind: Kind, start: Start, folder: str) -> None:
    path = f"{folder}/app.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        service = start(kind, bind=f"fd://{sock.fileno()}", pass_fds=[sock.fileno()])
    assert len(service.pids(2)) == 2


def test_the_socket_on_standard_input(start: Start, folder: str) -> None:
    path = f"{folder}/app.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        service = start(WSGI, bind="fd://0", stdin=sock.fileno())
    assert len(service.pids(2)) == 2


def test_tcp(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        service = start(gunicorn_kinds[0], bind=f"fd://{sock.fileno()}", pass_fds=[sock.fileno()])
        assert service.ask(path=sock.getsockname())["pid"] in service.workers()


@pytest.mark.parametrize("kind", gunicorn_kinds, ids=str)
def test_an_application_loaded_before_the_workers(kind: Kind, start: Start) -> None:
    service = start(kind, "--preload")
    answer = service.ask()
    assert answer["loaded_by"] == service.process.pid != answer["pid"]


@pytest.mark.parametrize("kind", gunicorn_kinds, ids=str)
@pytest.mark.slow
def test_code_is_reloaded_when_it_changes(kind: Kind, start: Start, folder: str) -> None:
    source = Path(f"{folder}/changing.py")
    good = f"from {APPS} import asgi, wsgi\n"
    source.write_text(good)
    service = start(kind, "--reload", "--reload-engine", "poll", app=f"changing:{kind.interface}", workers=1)
    pid = service.pid()
    change_until(source, good, lambda: service.pid() != pid)
    # What cannot be read is shown to the developer; this page is gunicorn's.
    change_until(source, "one two\n", lambda: status_of(service) == 500)
    change_until(source, good, lambda: status_of(service) == 200)


def change_until(source: Path, code: str, done: Callable[[], bool]) -> None:
    """Change a file, and again if nobody was watching it yet."""
    next_change = 0.0

    def is_done() -> bool:
        nonlocal next_change
        if time.monotonic() >= next_change:
            next_change = time.monotonic() + 3.0
            # Another time of change, however coarse the file system's clock is.
            before = source.stat().st_mtime
            source.write_text(code)
            os.utime(source, (before + 2, before + 2))
        return done()

    wait_until(is_done)


def status_of(service: Service) -> int:
    with service.connect() as connection:
        return connection.request(params_for("/"), keep=False).status


@pytest.mark.parametrize(
    ("kind", "app", "told"),
    [
        (gunicorn_kinds[0], "asgi", "looks like ASGI: run it with -k simple_fastcgi.workers.AsgiWorker"),
        (gunicorn_kinds[1], "wsgi", "looks like WSGI: run it with -k simple_fastcgi.workers.WsgiWorker"),
    ],
    ids=["wsgi", "asgi"],
)
def test_an_application_of_the_other_kind(kind: Kind, app: str, told: str, start: Start) -> None:
    options = ["--asgi-lifespan", "off"] if "asgi_lifespan" in Config().settings else []
    service = start(kind, *options, app=f"{APPS}:{app}")
    wait_until(lambda: service.has_told(told))


# ------------------------------------------------------------------------------ parts


def worker(cls: type[FcgiWorker], **settings: Any) -> FcgiWorker:
    """A worker that was never forked."""
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    made = cls(1, os.getppid(), [], None, cfg.timeout / 2, cfg, types.SimpleNamespace())
    made.tmp.close()
    return made


def test_bounds_are_gunicorns_where_it_has_them() -> None:
    bounds = worker(WsgiWorker, graceful_timeout=20, worker_connections=50).bounds()
    assert bounds == Limits(max_connections=50, graceful_timeout=19.0)
    assert worker(WsgiWorker, graceful_timeout=0).bounds().graceful_timeout == 0.01
    assert worker(Mounted).bounds().max_connections == 7


def test_an_event_loop_is_told_to_have_no_threads() -> None:
    listening = types.SimpleNamespace(sock=socket.socket())
    for cls, threads in ((WsgiWorker, 3), (AsgiWorker, 0)):
        made = worker(cls, threads=3)
        made.sockets = [listening]
        assert made.facts().threads == threads
    listening.sock.close()


@pytest.mark.skipif("root_path" not in Config().settings, reason="this gunicorn has no root_path")
def test_the_mount_point_is_gunicorns_unless_a_class_has_one() -> None:
    assert worker(AsgiWorker).mount_point() is None
    assert worker(AsgiWorker, root_path="/shop").mount_point() == "/shop"
    assert worker(Mounted, root_path="/shop").mount_point() == "/mounted"


@pytest.mark.parametrize(("timeout", "beat"), [(0, 1.0), (1, 0.25), (2, 0.5), (30, 1.0)])
def test_several_beats_fit_into_the_timeout(timeout: int, beat: float) -> None:
    assert worker(WsgiWorker, timeout=timeout).beat_seconds == beat


@pytest.mark.parametrize(
    ("binds", "told"),
    [
        (["unix:/run/app.sock", "127.0.0.1:9000", "[::1]:9000", "fd://3"], None),
        (["0.0.0.0:9000", "[::]:9001"], "0.0.0.0:9000, :::9001"),
    ],
)
def test_an_address_that_others_can_reach_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, binds: list[str], told: str | None
) -> None:
    cfg = Config()
    cfg.set("bind", binds)
    warnings: list[tuple[Any, ...]] = []
    log = types.SimpleNamespace(warning=lambda *args: warnings.append(args))
    WsgiWorker.check_config(cfg, log)
    assert [args[-1] for args in warnings] == ([told] if told else [])
    guarded: Any = type("Guarded", (WsgiWorker,), {"allow_from": ["10.0.0.1"]})
    guarded.check_config(cfg, log)
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "10.0.0.1")
    WsgiWorker.check_config(cfg, log)
    assert len(warnings) == (1 if told else 0)
    for once in (FcgiWorker.first_to_fail, FcgiWorker.first_to_warn):
        assert once is not None
        once.close()
    FcgiWorker.first_to_fail = FcgiWorker.first_to_warn = None


@pytest.mark.parametrize(("error", "status"), [(LifespanError("no database"), 3), (ConfigurationError("no loop"), 4)])
def test_a_service_that_cannot_be(error: Exception, status: int) -> None:
    class Failing(FcgiWorker):
        def make_service(self) -> NoReturn:
            raise error

    told: list[tuple[object, ...]] = []
    made = worker(Failing)
    made.log.error = lambda *args: told.append(args)
    with pytest.raises(SystemExit) as ended:
        made.run()
    assert ended.value.code == status
    assert told == [("%s", str(error))]


def test_an_application_without_a_shape_is_not_warned_of() -> None:
    def app(*, one: int) -> None: ...

    made = worker(WsgiWorker)
    made.wsgi = app
    made.warn_unless("wsgi", "nothing")  # there is no log.warning


def test_failures_beyond_what_fits_are_not_waited_for() -> None:
    with Failures() as failures:
        assert not failures.told()
        for number in range(10_000):
            failures.tell(f"{number} " + "x" * 5000)
        assert failures.told()
        assert (failures.first() or "").startswith("0 xxx")


def test_names_of_the_package() -> None:
    assert simple_fastcgi.workers.__all__ == ["AsgiWorker", "WsgiWorker"]
    with pytest.raises(AttributeError, match="has no attribute 'Worker'"):
        _ = simple_fastcgi.workers.Worker
