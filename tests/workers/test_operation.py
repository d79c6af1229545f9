"""What an operator sees of real workers, and asks of them by signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
import types
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config

from simple_fastcgi.monitor.access_log import AccessLog
from simple_fastcgi.monitor.ending import CutOff, cut_off
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import Scoreboard
from simple_fastcgi.serving.machine import this_machine
from simple_fastcgi.workers.base import FcgiWorker, open_anew
from tests.support.processes import open_files
from tests.support.webserver import params_for

from .support import Kind, Service, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Service]

THREADS, ASGI = Kind("serve", "wsgi", 3), Kind("serve", "asgi")
both = pytest.mark.parametrize("kind", [pytest.param(THREADS, marks=pytest.mark.once), ASGI], ids=str)
CLIENTS, REQUESTS, ABORTS = 4, 25, 3
EVENTS = ("slow", "given_up", "failed")
COUNTING = """
from prometheus_client import Gauge
Gauge("living", "Workers that live", multiprocess_mode="livesum").set(1)
def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""

STUCK = """
import os, time
from tests.workers.apps import wsgi
def app(environ, start_response):
    if environ["PATH_INFO"] != "/stuck":
        return wsgi(environ, start_response)
    while not os.path.exists("go"):
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"after all"]
"""

CAREFUL = """
import asyncio, os
def tell(text):
    os.write(2, text.encode() + b"\\n")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("lifespan ended")
        await send({"type": "lifespan.shutdown.complete"})
        return
    try:
        tell("here it waits")
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.4)
        tell("cleaned up")
"""

HANGS = """
import os
from tests.workers.apps import hang_for_good, lifespan
def hang():
    os.write(2, b"here it hangs\\n")
    hang_for_good()
def wsgi(environ, start_response):
    hang()
async def asgi(scope, receive, send):
    await lifespan(scope["state"], receive, send) if scope["type"] == "lifespan" else hang()
"""


def seen(folder: str, *more: str) -> list[str]:
    """Options under which everything is seen."""
    return ["--ping-path", "/fcgi-ping", "--status-path", "/fcgi-status", "--status-bind", status_of(folder), *more]


def status_of(folder: str) -> str:
    return f"unix:{folder}/status.sock"


def told(service: Service, folder: str) -> dict[str, Any]:
    """The status, asked where that counts for nothing."""
    with service.connect(f"{folder}/status.sock") as connection:
        answer: dict[str, Any] = json.loads(connection.request(params_for("/fcgi-status?json&full")).body)
    return answer


def rows_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def ask_where(service: Service, kind: Kind) -> None:
    """Ask by signals what is under way, until it is told where a request is that is held: it may just come there."""
    where = 'environ["wsgi.input"].read()' if kind.interface == "wsgi" else "await receive()"
    next_time = 0.0

    def is_told() -> bool:
        nonlocal next_time
        if where not in log_of(service) and time.monotonic() > next_time:
            next_time = time.monotonic() + 0.5
            service.signal(signal.SIGUSR2)
        return where in log_of(service)

    wait_until(is_told)


def log_of(service: Service) -> str:
    return "\n".join(service.lines())


@both
def test_the_status_agrees_with_what_clients_have_counted(kind: Kind, start: Start, folder: str) -> None:
    """Exactly, once it is quiet: over aborts, a reload, and a worker that is killed."""
    service = start(kind, *seen(folder))
    service.pids(2)
    counted = {"requests": 0, "aborted requests": 0, "bytes out": 0}
    with service.connect() as connection:
        of_worker = json.loads(connection.request(params_for("/fcgi-status?json"), keep=False).body)
    before = told(service, folder)
    assert before["threads"] == of_worker["threads"] == (kind.threads if kind.interface == "wsgi" else 0)
    counting = threading.Lock()
    errors: list[BaseException] = []

    def count(**more: int) -> None:
        with counting:
            for name, number in more.items():
                counted[name.replace("_", " ")] += number

    def use() -> None:
        try:
            for number in range(REQUESTS):
                with service.connect() as connection:
                    response = connection.request(params_for("/" if number % 5 else "/fcgi-ping"), keep=False)
                count(requests=1, bytes_out=len(response.body))
            for _ in range(ABORTS):
                held = service.hold()
                held.connection.close()
                count(requests=1, aborted_requests=1, bytes_out=len(b"started"))
        except BaseException as error:
            errors.append(error)

    clients = [threading.Thread(target=use) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    old = service.workers()
    service.signal(signal.SIGHUP)
    for client in clients:
        client.join()
    assert not errors
    wait_until(lambda: not service.workers() & old and len(service.workers()) == 2)

    def agrees() -> bool:
        now = told(service, folder)
        return all(now[name] - before[name] == number for name, number in counted.items())

    wait_until(agrees)
    now = told(service, folder)
    assert (now["requests in flight"], now["requests queued"], now["requests under way"]) == (0, 0, [])
    assert now["failed requests"] == now["rejected requests"] == 0
    # What a killed worker has counted stays, and what it was busy with does not.
    with service.hold() as held:
        (busy,) = told(service, folder)["requests under way"]
        assert (busy["request URI"], busy["stage"]) == ("/hold", "Responding")
        os.kill(busy["pid"], signal.SIGKILL)
        with pytest.raises((AssertionError, EOFError, ConnectionError)):
            held.finish()
    wait_until(lambda: len(service.workers() - {busy["pid"]}) == 2 and told(service, folder)["total processes"] == 2)
    after = told(service, folder)
    assert 1 <= after["max active processes"] <= 4
    assert after["requests"] - before["requests"] == counted["requests"]
    assert after["requests under way"] == []


@both
def test_signals_to_the_master_reach_workers(kind: Kind, start: Start, folder: str) -> None:
    log = Path(folder, "access.log")
    service = start(kind, *seen(folder, "--access-log", str(log), "--access-log-format", "json"))
    # None of them is so new that its signals would be lost.
    service.pids(2)
    service.ask("/x?y=1")
    (line,) = wait_until(lambda: [line for line in log.read_text().splitlines() if "/x?y=1" in line])
    row = json.loads(line)
    assert (row["method"], row["uri"], row["status"], row["failed"]) == ("GET", "/x?y=1", 200, False)
    assert row["pid"] in service.workers()
    with service.hold() as held:
        ask_where(service, kind)
        assert "1 request under way\nGET /hold, " in log_of(service)
        wait_until(lambda: "0 requests under way" in log_of(service))
        # A log rotation: the file is there again without any request.
        log.rename(f"{log}.1")
        service.signal(signal.SIGUSR1)
        processes = [service.process.pid, *service.workers()]
        moved = os.path.realpath(f"{log}.1")
        wait_until(lambda: not any(moved in open_files(pid) for pid in processes))
        held.finish()
    wait_until(lambda: '"uri":"/hold"' in log.read_text())
    assert len(service.workers()) == 2


@both
def test_a_master_that_ends_heeds_them_too(kind: Kind, start: Start, folder: str) -> None:
    log = Path(folder, "access.log")
    service = start(kind, *seen(folder, "--access-log", str(log)))
    before = service.pids(2)
    with service.hold() as held:
        service.signal(signal.SIGTERM)
        wait_until(lambda: not os.path.exists(service.path))
        ask_where(service, kind)
        log.rename(f"{log}.1")
        # A reload, and another worker, are nothing for somebody who ends.
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTTIN):
            service.signal(number)
        moved = os.path.realpath(f"{log}.1")
        wait_until(lambda: not any(moved in open_files(pid) for pid in [service.process.pid, *service.workers()]))
        # On a busy machine the other one may take a while to leave.
        wait_until(lambda: len(service.workers()) == 1)
        assert service.workers() < before
        held.finish()
    assert service.wait() == 0
    assert "/hold" in log.read_text()


def test_more_workers_than_the_status_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once, and not for each of them."""
    board = Scoreboard(2)
    told: list[object] = []
    log = types.SimpleNamespace(warning=lambda _message, *arguments: told.extend(arguments))
    monkeypatch.setattr(FcgiWorker, "is_board_told", False)
    cls: Any = type("Counted", (FcgiWorker,), {"board": board})
    for count in range(4):
        made = cls(count, os.getppid(), [], None, 1, Config(), log)
        made.tmp.close()
        if count < 2:
            made.pid = os.getpid()
            board.claim(made._place)
        assert told == ([2] if count >= 2 else [])


@pytest.mark.once
def test_a_hung_thread_is_told_and_its_worker_replaced(start: Start, folder: str) -> None:
    log = Path(folder, "access.log")
    options = ["--slowlog-timeout", "0.2", "--request-timeout", "1", "--access-log", str(log)]
    service = start(THREADS, *seen(folder, *options, "--access-log-format", "json"))
    before = service.pids(2)
    with contextlib.ExitStack() as stack:
        hung = stack.enter_context(service.connect())
        hung.begin(params_for("/hang"), keep=False)
        hung.body(b"", end=True)
        wait_until(lambda: "slow: GET /hang, " in log_of(service))
        assert re.search(r"apps\.py\", line \d+, in hang\n    time\.sleep\(0\.01\)", log_of(service))
        (busy,) = told(service, folder)["requests under way"]
        # The others serve on, and so does a worker of which one thread hangs.
        assert service.ask()["pid"] in before
        wait_until(lambda: "given up after 1 s (request_timeout): GET /hang, " in log_of(service))
        wait_until(lambda: busy["pid"] not in service.workers() and len(service.workers()) == 2)
        assert hung.at_eof()
    assert service.has_told("the process ends: 1 of its handlers cannot be ended (request_timeout)")
    (row,) = (row for row in rows_of(log) if row["uri"] == "/hang")
    assert (row["pid"], row["status"], row["failed"], row["aborted"]) == (busy["pid"], 500, True, False)
    assert service.pids(2)
    assert told(service, folder)["failed requests"] == 1
    assert told(service, folder)["slow requests"] >= 1


def test_a_task_that_takes_too_long_is_cancelled(start: Start, folder: str) -> None:
    options = seen(folder, "--slowlog-timeout", "0.2", "--request-timeout", "0.5", "--log-format", "json")
    service = start(ASGI, *options)
    before = service.pids(2)
    held = service.hold()
    wait_until(lambda: "slow: GET /hold, " in log_of(service))
    with held, pytest.raises((EOFError, ConnectionError)):
        while True:
            held.connection.record()

    def held_rows() -> dict[str, dict[str, Any]]:
        """By event; on a busy machine the request by which it was seen to serve may have been given up, too."""
        return {row["event"]: row for row in rows_of(service.log) if row.get("uri") == "/hold"}

    # A thread of its own tells that it was given up, perhaps not before it is told that it failed.
    wait_until(lambda: held_rows().keys() >= set(EVENTS))
    assert service.workers() == before
    first = "serving tests.workers.apps:asgi (ASGI, 2 workers)"
    assert any(row["message"].startswith(first) for row in rows_of(service.log))
    slow, given_up, failed = map(held_rows().__getitem__, EVENTS)
    for row, level in ((slow, "WARNING"), (given_up, "ERROR"), (failed, "ERROR")):
        assert (row["level"], row["logger"], row["method"]) == (level, "simple_fastcgi", "GET")
        assert row["pid"] in before
        assert "\n" not in row["message"]
    assert re.fullmatch(r"slow: GET /hold, 0\.\d+ s, responding", slow["message"])
    assert "in asgi\n" in slow["stack"]
    assert 0.2 <= slow["request_time"] <= given_up["request_time"] <= failed["request_time"]
    assert failed["exception"].startswith("Traceback ")
    assert (failed["status"], failed["failed"]) == (200, True)


def test_a_worker_that_is_not_stuck_ends_in_good_order(start: Start, folder: str) -> None:
    """Where requests are observed, too: its tasks have a moment to clean up, and so has the lifespan."""
    Path(folder, "careful.py").write_text(CAREFUL)
    options = ["--graceful-timeout", "1", "--access-log", f"{folder}/access.log"]
    service = start(ASGI, *options, app="careful:app", workers=1, ends_with=None)
    with service.connect() as held:
        held.begin(params_for("/hold"), keep=False)
        held.body(b"", end=True)
        wait_until(lambda: service.has_told("here it waits"))
        service.signal(signal.SIGTERM)
        assert held.response().status == 500
        service.wait()
    assert service.has_told("cleaned up")
    assert service.has_told("lifespan ended")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "kind", [THREADS, *(pytest.param(kind, marks=pytest.mark.once) for kind in (Kind("serve", "wsgi"), ASGI))], ids=str
)
def test_what_graceful_timeout_cuts_off_is_told(kind: Kind, workers: int, start: Start, folder: str) -> None:
    log = Path(folder, "access.log")
    options = ["--graceful-timeout", "1", "--access-log", str(log), "--access-log-format", "json"]
    Path(folder, "hanging.py").write_text(HANGS)
    service = start(kind, *options, app=f"hanging:{kind.interface}", workers=workers, ends_with=None)
    with service.connect() as hung:
        hung.begin(params_for("/hang"), keep=False)
        hung.body(b"", end=True)
        wait_until(lambda: service.has_told("here it hangs"))
        before = len(service.lines())
        service.signal(signal.SIGTERM)
        service.wait()
        with contextlib.suppress(EOFError, ConnectionError):
            assert hung.response().status == 500
    lines = service.lines()[before:]
    (told_at,) = (at for at, line in enumerate(lines) if "cut off (graceful_timeout): GET /hang, " in line)
    assert "in hang_for_good" in "\n".join(lines[told_at:])
    assert [(row["uri"], row["status"], row["failed"]) for row in rows_of(log)] == [("/hang", 500, True)]
    assert not service.has_told("SIGKILL")


def test_of_many_that_are_cut_off_a_few_are_told_with_their_stacks(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor()
    requests = [monitor.arrived(params_for(f"/{number}")) for number in range(25)]
    monitor.start(requests[0])
    # Whoever leaves because of one tells of all, as long as that is under way.
    monitor.hopeless.add(requests[1])
    assert cut_off(monitor) == 0
    tell: Any = CutOff(monitor)
    tell(SimpleNamespace(params=requests[0].params, aborted=False, stdout_begun=False))
    tell.log()
    assert not caplog.messages
    monitor.hopeless.clear()
    assert cut_off(monitor) == 25
    assert not monitor.in_flight
    assert [info.status for info in requests] == [500] + [503] * 24
    assert len(caplog.messages) == 21
    assert caplog.messages[0].startswith("cut off (graceful_timeout): GET /0, ")
    assert caplog.messages[-1] == "cut off (graceful_timeout): 5 more requests"
    assert cut_off(monitor) == 0


# ----------------------------------------------------------------------------- a single process


@pytest.mark.once
def test_a_single_process_ends_once_others_are_done(start: Start, folder: str) -> None:
    log = f"{folder}/access.log"
    options = seen(folder, "--slowlog-timeout", "0.2", "--request-timeout", "1.5", "--access-log", log)
    service = start(THREADS, *options, workers=1, ends_with=1)
    with service.connect() as hung:
        hung.begin(params_for("/hang"), keep=False)
        hung.body(b"", end=True)
        wait_until(lambda: "slow: GET /hang, " in log_of(service))
        with service.hold() as held:
            wait_until(lambda: "given up after 1.5 s (request_timeout): GET /hang, " in log_of(service))
            assert service.process.poll() is None
            held.finish()
        assert service.wait() == 1
    assert re.search(r'"GET /hang HTTP/1\.1" 500 0 .* [1-9]\d*\.\d+ 0\.\d+\n$', Path(log).read_text())
    assert not os.path.exists(service.path)
    assert not os.path.exists(f"{folder}/status.sock")


@pytest.mark.once
def test_who_waits_for_a_thread_keeps_nobody_back_where_all_hang(start: Start, folder: str) -> None:
    log = Path(folder, "access.log")
    options = ["--request-timeout", "1.5", "--graceful-timeout", "3600"]
    options += ["--access-log", str(log), "--access-log-format", "json"]
    service = start(THREADS, *options, workers=1, ends_with=1)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(THREADS.threads + 1)]
        for connection in connections:
            connection.begin(params_for("/hang"), keep=False)
            connection.body(b"", end=True)
        assert service.wait() == 1
        assert all(connection.at_eof() for connection in connections)
    assert service.has_told("3 of its handlers cannot be ended (request_timeout), 1 other request is cut off")
    assert [(row["status"], row["failed"]) for row in rows_of(log)] == [(500, True)] * 3 + [(503, True)]


@pytest.mark.once
def test_the_ordinary_end_may_come_first(start: Start) -> None:
    """Before the others have ended: the status tells of a failure all the same."""
    options = ["--slowlog-timeout", "1", "--request-timeout", "2", "--graceful-timeout", "0.1"]
    service = start(THREADS, *options, workers=1, ends_with=1)
    with service.connect() as hung:
        hung.begin(params_for("/hang"), keep=False)
        hung.body(b"", end=True)
        wait_until(lambda: "slow: GET /hang, " in log_of(service))
        with service.hold():
            assert service.wait() == 1
    assert service.has_told("of its handlers cannot be ended (request_timeout)")


@pytest.mark.once
def test_a_handler_that_ends_after_all_ends_the_process_in_good_order(start: Start, folder: str) -> None:
    Path(folder, "stuck.py").write_text(STUCK)
    options = ["--slowlog-timeout", "1", "--request-timeout", "2"]
    service = start(THREADS, *options, app="stuck:app", workers=1, ends_with=1)
    with service.connect() as stuck:
        stuck.begin(params_for("/stuck"), keep=False)
        stuck.body(b"", end=True)
        wait_until(lambda: "slow: GET /stuck, " in log_of(service))
        with service.hold() as held:
            wait_until(lambda: "given up after 2 s (request_timeout): GET /stuck, " in log_of(service))
            Path(folder, "go").touch()
            assert stuck.response().body == b"after all"
            held.finish()
        assert service.wait() == 1
    assert not service.has_told("the process ends")
    assert service.lines()[-1].endswith("stopped")


@both
def test_a_process_that_observes_nothing_tells_where_its_code_is(kind: Kind, start: Start) -> None:
    service = start(kind, workers=1)
    with service.hold() as held:
        ask_where(service, kind)
        assert service.has_told("1 threads and tasks are busy (their requests are told with --ping-path")
        held.finish()


# ----------------------------------------------------------------------------- gunicorn's own

HOOKS = """\
import os

def pre_request(worker, req):
    os.write(1, f"before {req.method} {req.path}\\n".encode())

def post_request(worker, req, environ, resp):
    os.write(1, f"behind {req.uri} {resp.status_code} {environ['QUERY_STRING']}\\n".encode())
    if req.path == "/fails":
        raise RuntimeError("on purpose")
"""


@pytest.mark.parametrize("kind", [Kind("gunicorn", "wsgi"), Kind("gunicorn", "asgi")], ids=str)
def test_gunicorn_s_access_log_hooks_and_statsd(kind: Kind, start: Start, folder: str) -> None:
    Path(folder, "hooks.py").write_text(HOOKS)
    form = "%(h)s|%(m)s|%(U)s|%(q)s|%(s)s|%(b)s|%(L)s|%(r)s|%({user-agent}i)s"
    # Nobody listens to the statistics, which does no harm.
    options = ["-c", f"{folder}/hooks.py", "--access-logfile", "-", "--access-logformat", form]
    service = start(kind, *options, "--statsd-host", "127.0.0.1:9", workers=1)
    with service.connect() as connection:
        params = params_for("/a b?c=%20d", REMOTE_ADDR="192.0.2.7", HTTP_USER_AGENT="tests")
        size = len(connection.request(params, keep=False).body)
    wait_until(lambda: service.has_told("behind /a b?c=%20d 200 c=%20d"))
    assert service.has_told("before GET /a b")
    (line,) = [line for line in service.lines() if line.startswith("192.0.2.7|")]
    pattern = rf"192\.0\.2\.7\|GET\|/a b\|c=%20d\|200\|{size}\|0\.\d{{6}}\|GET /a b\?c=%20d HTTP/1\.1\|tests"
    assert re.fullmatch(pattern, line)
    # A hook that fails costs nobody his answer.
    assert service.ask("/fails")
    wait_until(lambda: service.has_told("error in the access log or in the hook post_request"))
    assert service.pid()


# A worker of a master that has board_for(1) has a place behind twelve others.
KILLED = """\
import os, signal
from simple_fastcgi.workers import WsgiWorker

left = list(range(20))

class Shown(WsgiWorker):
    status_path = "/fcgi-status"

def pre_fork(server, worker):
    killed = bool(left and left.pop() >= 0)
    os.environ["KILLED"] = "1" if killed else ""

def in_child():
    if os.environ.get("KILLED"):
        os.kill(os.getpid(), signal.SIGKILL)

os.register_at_fork(after_in_child=in_child)
"""


@pytest.mark.once
def test_workers_that_are_killed_as_they_are_forked_leave_their_places(start: Start, folder: str) -> None:
    Path(folder, "killed.py").write_text(KILLED)
    options = ["-c", f"{folder}/killed.py", "-k", "killed.Shown"]
    service = start(Kind("gunicorn", "wsgi"), *options, workers=1)
    with service.connect() as connection:
        answer = json.loads(connection.request(params_for("/fcgi-status?json&full")).body)
    assert [process["pid"] for process in answer["processes"]] == [service.pid()]


def test_a_log_that_cannot_be_opened_anew_is_written_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with AccessLog(f"{folder}/access.log") as log:
        folder.rename(tmp_path / "old")
        open_anew(log)
        open_anew(None)
        assert os.path.realpath(f"/proc/self/fd/{log._fd}") == f"{tmp_path}/old/access.log"
    (told,) = caplog.messages
    assert told.startswith("the access log cannot be opened anew: [Errno 2] No such file or directory: ")


@pytest.mark.once
def test_gauges_of_living_workers(start: Start, folder: str) -> None:
    Path(folder, "counting.py").write_text(COUNTING)
    metrics = Path(folder, "metrics")
    metrics.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    service = start(Kind("serve", "wsgi"), *seen(folder), app="counting:app", env=env)

    def living() -> str:
        with service.connect(f"{folder}/status.sock") as connection:
            body = connection.request(params_for("/fcgi-status?openmetrics")).body.decode()
        return next((line for line in body.splitlines() if line.startswith("living ")), "")

    wait_until(lambda: living() == "living 2.0")
    killed = min(service.workers())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not (metrics / f"gauge_livesum_{killed}.db").exists())
    wait_until(lambda: living() == "living 2.0")


@pytest.mark.once
def test_as_many_as_the_machine_can_have(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{folder}/app.sock"
    machine = this_machine()
    workers = machine.workers()
    processes = "" if workers == 1 else f"{workers} workers of "
    monkeypatch.delenv("SIMPLE_FASTCGI_WORKERS")
    with Service(["simple_fastcgi", "serve", "tests.workers.apps:wsgi", "--bind", f"unix:{path}"], path) as service:
        pids = service.pids(workers)
        assert len(pids) == workers
        if workers > 1 and os.access("/dev/shm", os.W_OK):
            assert any(name.startswith("/dev/shm/") for name in open_files(min(pids)))
        assert service.has_told(f"(WSGI, {processes}{machine.threads(workers)} threads for {machine}) on unix:")
