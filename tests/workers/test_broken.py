"""Code that cannot be loaded, and workers that are lost meanwhile: what serves goes on, and heals once it is mended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.workers.stage import Stage
from simple_fastcgi.workers.starts import Starts
from tests.support.processes import has_ended
from tests.support.webserver import params_for

from .support import Kind, Service, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Service]

WSGI, ASGI = Kind("serve", "wsgi"), Kind("serve", "asgi")
# A source that changes twice in a second must not be taken for the one before.
FRESH = {"PYTHONDONTWRITEBYTECODE": "1"}
# With this even one worker has a master.
MASTER = ("--max-requests", "1000000")
GOOD = "from tests.workers.apps import asgi, wsgi\n"
RAISES = "raise KeyError('half of an upload')\n"
HANGS = "import time\nwhile True: time.sleep(0.01)\n"
HANGS_FOR_GOOD = """
import os
from tests.workers.apps import hang_for_good
os.write(2, b"here it hangs\\n")
hang_for_good()
"""
HANGS_LATER = """
import os
from tests.workers.apps import hang_for_good
def wsgi(environ, start_response):
    os.write(2, b"here it hangs\\n")
    hang_for_good()
"""
ABORTS = "import os\nos.abort()\n"
EXITS = "import os\nos._exit(0)\n"
ENDS = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n"
FAILS_TO_START = """
async def asgi(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""
HANGS_AT_START = """
import asyncio
async def asgi(scope, receive, send):
    await asyncio.Event().wait()
"""
NEVER_ENDS = """
import asyncio
from tests.workers import apps
async def asgi(scope, receive, send):
    if scope["type"] == "http":
        return await apps.asgi(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.Event().wait()
"""
FORKS = """
import os, signal, time
from tests.workers import apps
def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/returns":
        if child := os.fork():
            with open("child.new", "w") as file:
                file.write(str(child))
            os.rename("child.new", "child")
        start_response("200 OK", [])
        return [b"came back"]
    if environ["PATH_INFO"] == "/is-ended":
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            # Python forgets signals that came while it forked, and heeds one that came just before a sleep behind it.
            os.write(tell, b".")
            while True:
                time.sleep(0.01)
        os.read(told, 1)
        os.kill(child, signal.SIGTERM)
        start_response("200 OK", [])
        return [b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
    return apps.wsgi(environ, start_response)
"""
LOADS_SLOWLY = f"""
import os, time
print("loading", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
{GOOD}
"""
LEAVES = """
import os
def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/leave":
        os._exit(0)
    start_response("200 OK", [])
    return [b"{}"]
"""


class Site:
    """A service whose code changes under it."""

    def __init__(
        self, start: Start, folder: str, kind: Kind, *options: str, code: str = GOOD, workers: int = 2
    ) -> None:
        self.source = Path(folder, "changing.py")
        self.write(code)
        app = f"changing:{kind.interface}"
        self.service = start(kind, *options, app=app, workers=workers, env=FRESH)

    def write(self, code: str) -> None:
        """At once: no worker may find half of it."""
        new = self.source.with_suffix(".new")
        new.write_text(code)
        new.replace(self.source)

    def reload(self, code: str) -> None:
        self.write(code)
        self.service.signal(signal.SIGHUP)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: self.service.has_told(text))

    def count(self, text: str) -> int:
        return sum(text in line for line in self.service.lines())


@pytest.fixture
def site(start: Start, folder: str) -> Callable[..., Site]:
    def make(kind: Kind = WSGI, *options: str, code: str = GOOD, workers: int = 2) -> Site:
        return Site(start, folder, kind, *options, code=code, workers=workers)

    return make


# ------------------------------------------------------------------------------ reloading what is broken

BROKEN = {
    "raises": (WSGI, RAISES, "changing:wsgi failed while it was loaded:"),
    "syntax": (WSGI, "def (\n", "changing:wsgi failed while it was loaded:"),
    "exits": (
        WSGI,
        "raise SystemExit('no secret')\n",
        "ended the process while it was loaded: SystemExit('no secret')",
    ),
    "has none": (WSGI, "", "has no attribute 'wsgi'"),
    "aborts": (WSGI, ABORTS, "a worker was ended by SIGABRT while it was starting"),
    "leaves": (WSGI, EXITS, "a worker exited with status 0 though nobody had told it to end"),
    "is interrupted": (WSGI, "raise KeyboardInterrupt\n", "ended the process while it was loaded: KeyboardInterrupt()"),
    "ends itself": (WSGI, ENDS, "a worker told itself to end while it was starting, and exited with status 0"),
    "fails to start": (ASGI, FAILS_TO_START, "the application failed to start: no database"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "raises" else [pytest.mark.once]) for name in BROKEN]
)
def test_broken_new_code_leaves_the_old_one_serving(name: str, site: Callable[..., Site]) -> None:
    kind, code, why = BROKEN[name]
    its = site(kind)
    old = its.service.pids(2)
    its.reload(code)
    its.wait_for("the new code cannot be loaded; the 2 workers that run serve on.")
    assert its.service.has_told(why)
    assert its.service.pids(2) == old
    # However often it was tried. Not behind the next line, for one that just fails would show what is there then.
    assert its.count("the new code cannot be loaded") == 1
    its.write(GOOD)
    wait_until(lambda: not its.service.workers() & old)
    assert len(its.service.pids(2)) == 2
    its.wait_for("new workers start again")


def test_a_reload_of_mended_code_waits_for_no_pause(site: Callable[..., Site]) -> None:
    its = site()
    old = its.service.pids(2)
    its.reload(RAISES)
    # 1 s, 2 s, and so on: the next pause is longer than all of what follows.
    its.wait_for("the new code cannot be loaded")
    its.reload(GOOD)
    wait_until(lambda: not its.service.workers() & old)
    its.reload(RAISES)
    wait_until(lambda: its.count("the new code cannot be loaded") == 2)
    assert its.service.pid()


@pytest.mark.once
@pytest.mark.parametrize("kind", [WSGI, ASGI], ids=str)
def test_new_code_that_hangs_is_told_and_given_up_by_the_next_reload(kind: Kind, site: Callable[..., Site]) -> None:
    its = site(kind, "--worker-timeout", "2")
    service = its.service
    old = service.pids(2)
    its.reload(HANGS if kind == WSGI else HANGS_AT_START)
    hung = wait_until(lambda: len(service.workers()) == 4 and service.workers() - old)
    assert hung
    its.wait_for("workers that have not begun to serve for 2 s: ")
    (line,) = (line for line in service.lines() if "have not begun to serve" in line)
    assert all(str(pid) in line for pid in hung)
    assert "the 2 workers that run serve on" in line
    assert service.pids(2) == old
    its.reload(GOOD)
    wait_until(lambda: not service.workers() & (old | hung))
    assert len(service.pids(2)) == 2
    assert not service.has_told("Traceback")


@pytest.mark.once
def test_new_code_that_heeds_no_signal_is_killed_behind_the_next_reload(site: Callable[..., Site]) -> None:
    its = site(WSGI, "--graceful-timeout", "1")
    old = its.service.pids(2)
    its.reload(HANGS_FOR_GOOD)
    wait_until(lambda: its.count("here it hangs") == 2)
    hung = its.service.workers() - old
    its.reload(GOOD)
    wait_until(lambda: not its.service.workers() & (old | hung))
    its.wait_for("had been told to end and did not: killed (SIGKILL)")
    assert not its.service.has_told("out of memory")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=str)
def test_the_end_waits_for_no_reload(number: signal.Signals, site: Callable[..., Site]) -> None:
    its = site(WSGI, "--graceful-timeout", "3600")
    old = its.service.pids(2)
    its.reload(HANGS)
    wait_until(lambda: len(its.service.workers() - old) == 2)
    its.service.signal(number)
    assert its.service.wait() == 0


def test_more_and_fewer_workers_while_a_reload_is_under_way(site: Callable[..., Site]) -> None:
    its = site()
    old = its.service.pids(2)
    its.reload(HANGS)
    wait_until(lambda: len(its.service.workers() - old) == 2)
    its.service.signal(signal.SIGTTIN)
    wait_until(lambda: len(its.service.workers() - old) == 3)
    its.service.signal(signal.SIGTTOU)
    wait_until(lambda: len(its.service.workers() - old) == 2)
    # Of those that serve none had to go.
    assert its.service.pids(2) == old


def test_who_is_more_than_needed_and_does_not_serve_goes_first(site: Callable[..., Site]) -> None:
    its = site()
    healthy = its.service.pids(2)
    its.write(HANGS)
    its.service.signal(signal.SIGTTIN)
    wait_until(lambda: len(its.service.workers()) == 3)
    its.service.signal(signal.SIGTTOU)
    wait_until(lambda: its.service.workers() == healthy)


# ------------------------------------------------------------------------------ lost while the code is broken


def test_a_worker_that_is_lost_while_the_code_is_broken(site: Callable[..., Site]) -> None:
    its = site()
    lost, other = its.service.pids(2)
    its.write(RAISES)
    os.kill(lost, signal.SIGKILL)
    its.wait_for("a new worker cannot start; the worker that runs serves on.")
    assert its.count("KeyError: 'half of an upload'") == 1
    its.wait_for(f"worker {lost} was killed (SIGKILL), though not by its master")
    assert its.service.pid() == other
    its.write(GOOD)
    wait_until(lambda: len(its.service.workers() - {lost}) == 2)
    assert other in its.service.pids(2)


def test_without_any_worker_the_master_stays_to_heal(site: Callable[..., Site]) -> None:
    its = site(WSGI, *MASTER, workers=1)
    lost = its.service.pid()
    its.write(RAISES)
    os.kill(lost, signal.SIGKILL)
    its.wait_for("a new worker cannot start; no worker serves.")
    its.write(GOOD)
    assert its.service.pid() != lost


def test_the_working_directory_is_gone(start: Start, folder: str) -> None:
    release = Path(folder, "release")
    release.mkdir()
    service = start(WSGI, "--chdir", str(release))
    lost, _ = service.pids(2)
    release.rmdir()
    os.kill(lost, signal.SIGKILL)
    wait_until(lambda: service.has_told("a new worker cannot start; the worker that runs serves on."))
    service.signal(signal.SIGHUP)
    wait_until(lambda: service.has_told("the new code cannot be loaded; the worker that runs serves on."))
    assert service.pid() != lost


def test_no_room_for_another_process(site: Callable[..., Site]) -> None:
    its = site()
    lost, other = its.service.pids(2)
    umask = umask_of(other)
    limits = resource.prlimit(its.service.process.pid, resource.RLIMIT_NOFILE)
    # What is open stays so.
    resource.prlimit(its.service.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(lost, signal.SIGKILL)
    its.wait_for("the system has no room for a process: [Errno 24]")
    assert its.service.pid() == other
    resource.prlimit(its.service.process.pid, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: len(its.service.workers() - {lost}) == 2)
    assert other in its.service.pids(2)
    assert {umask_of(pid) for pid in its.service.pids(2)} == {umask}


def umask_of(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Umask:"))


def test_a_child_that_a_worker_has_forked_ends_by_its_signals(site: Callable[..., Site]) -> None:
    """As multiprocessing ends its own; nobody takes that for the worker's end."""
    its = site(code=FORKS)
    workers = its.service.pids(2)
    for _ in range(4):
        with its.service.connect() as connection:
            assert connection.request(params_for("/is-ended")).body == b"-15"
    assert its.service.pids(2) == workers
    assert its.service.workers() == workers
    its.reload(GOOD)
    wait_until(lambda: not its.service.workers() & workers)


@pytest.mark.once
def test_a_child_that_comes_back_from_a_handler_is_no_worker(site: Callable[..., Site], folder: str) -> None:
    its = site(code=FORKS)
    workers = its.service.pids(2)
    with its.service.connect() as connection:
        # The two of them answer.
        connection.begin(params_for("/returns"), keep=False)
        connection.body(b"", end=True)
        child = int(wait_until(lambda: told.read_text() if (told := Path(folder, "child")).exists() else ""))
        wait_until(partial(has_ended, child))
    assert its.service.pids(2) == workers
    assert not its.service.has_told("the master is gone")


@pytest.mark.once
def test_a_shutdown_that_never_ends_is_ended(site: Callable[..., Site]) -> None:
    its = site(ASGI, "--max-requests", "1", "--graceful-timeout", "1", code=NEVER_ENDS, workers=1)
    first = its.service.pid()
    wait_until(lambda: its.service.pid() != first)
    wait_until(lambda: first not in its.service.workers())
    assert its.service.has_told(f"worker {first} had been told to end and did not: killed (SIGKILL)")


def test_reloads_wait_for_those_that_end(site: Callable[..., Site]) -> None:
    its = site(WSGI, *MASTER, "--graceful-timeout", "3600", workers=1)
    service = its.service
    with service.hold() as first:
        (oldest,) = service.workers()
        service.signal(signal.SIGHUP)
        second = wait_until(lambda: service.workers() - {oldest})
        with service.hold() as held:
            service.signal(signal.SIGHUP)
            third = wait_until(lambda: service.workers() - {oldest} - second)
            wait_until(lambda: service.pid() in third)
            service.signal(signal.SIGHUP)
            # There are three of one worker: this one serves on.
            assert {service.pid() for _ in range(20)} == third
            assert len(service.workers()) == 3
            held.finish()
        wait_until(lambda: service.pid() not in second | third)
        first.finish()
    wait_until(lambda: len(service.workers()) == 1)


def test_max_requests_end_nobody_without_a_successor(site: Callable[..., Site]) -> None:
    its = site(WSGI, "--max-requests", "3", workers=1)
    pid = its.service.pid()
    its.write(RAISES)
    for _ in range(5):
        assert its.service.pid() == pid
    its.wait_for("a new worker cannot start; the worker that runs serves on.")
    assert its.count("(max_requests)") == 1
    its.write(GOOD)
    wait_until(lambda: its.service.pid() != pid)
    wait_until(lambda: pid not in its.service.workers())


@pytest.mark.slow
def test_what_dies_while_it_is_loaded_is_tried_with_pauses(site: Callable[..., Site], folder: str) -> None:
    """From the first start on."""
    note = f"open({folder + '/tries'!r}, 'a').write(f'{{time.monotonic()}}\\n')"
    its = site(WSGI, code=f"import os, time\n{note}\nos.abort()\n")
    tries = Path(folder, "tries")

    def times() -> list[float]:
        return [float(line) for line in tries.read_text().split()] if tries.exists() else []

    # Both at once; then one, and one.
    wait_until(lambda: len(times()) >= 4)
    first, _, third, fourth = times()[:4]
    assert third - first > 0.9
    assert fourth - third > 1.9
    its.write(GOOD)
    assert len(its.service.pids(2)) == 2
    its.wait_for(": serving changing:wsgi (WSGI, 2 workers")
    assert its.count("a worker was ended by SIGABRT while it was starting") == 1


def test_what_dies_as_soon_as_it_serves_is_tried_with_pauses(site: Callable[..., Site], folder: str) -> None:
    file = Path(folder, "tries")
    note = f"open({str(file)!r}, 'a').write(f'{{time.monotonic()}} {{os.getpid()}}\\n')"
    its = site(WSGI, code=f"import os, threading, time\n{note}\nthreading.Timer(0.3, os.abort).start()\n{GOOD}")

    def tries() -> list[list[str]]:
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    wait_until(lambda: len(tries()) >= 3)
    first, _, third = (float(when) for when, _ in tries()[:3])
    assert third - first > 0.9
    its.write(GOOD)
    wait_until(lambda: its.count("was ended by SIGABRT") >= 2)
    healthy: set[int] = set()

    def healed() -> bool:
        # The last one that dies may still take a request, and answer it or not.
        with contextlib.suppress(EOFError, ConnectionError):
            healthy.add(its.service.pid())
        healthy.difference_update(int(pid) for _, pid in tries())
        return len(healthy) == 2

    wait_until(healed)


# ------------------------------------------------------------------------------ how a worker has ended


def test_a_worker_that_leaves_without_a_word_is_told(site: Callable[..., Site]) -> None:
    its = site(code=LEAVES)
    with its.service.connect() as connection, pytest.raises((EOFError, ConnectionResetError)):
        connection.request(params_for("/leave"), keep=False)
    its.wait_for("exited with status 0 though nobody had told it to end (does the application call os._exit()?)")
    wait_until(lambda: len(its.service.workers()) == 2)


@pytest.mark.once
def test_who_is_killed_by_its_master_was_not_out_of_memory(site: Callable[..., Site]) -> None:
    its = site(WSGI, *MASTER, "--graceful-timeout", "1", code=HANGS_LATER, workers=1)
    with its.service.connect() as connection:
        connection.begin(params_for("/"), keep=False)
        connection.body(b"", end=True)
        its.wait_for("here it hangs")
        its.service.signal(signal.SIGTERM)
        assert its.service.wait() == 0
    assert its.service.has_told("had been told to end and did not: killed (SIGKILL)")
    assert not its.service.has_told("out of memory")


@pytest.mark.once
def test_a_reload_before_anybody_serves(site: Callable[..., Site], folder: str) -> None:
    """The start is told once, by whoever has come so far."""
    its = site(code=LOADS_SLOWLY)
    its.wait_for("loading")
    first = its.service.workers()
    its.service.signal(signal.SIGHUP)
    its.wait_for("reloading: 2 new workers take over")
    wait_until(lambda: len(its.service.workers() - first) == 2)
    Path(folder, "go").touch()
    its.service.pids(2)
    its.wait_for("serving changing:wsgi (WSGI, 2 workers of 1 thread) on unix:")
    its.service.signal(signal.SIGHUP)
    wait_until(lambda: its.count("reloading") == 2)
    its.service.pids(2)
    assert its.count("serving changing:wsgi") == 1


# ------------------------------------------------------------------------------ signals of the application's

GUNICORN_WSGI, GUNICORN_ASGI = Kind("gunicorn", "wsgi"), Kind("gunicorn", "asgi")
HEEDS_ITSELF = """
import os, signal
for name in ("TERM", "QUIT", "USR1", "USR2"):
    signal.signal(getattr(signal, f"SIG{name}"), lambda *_: os.write(2, b"a handler of the application's\\n"))
from tests.workers.apps import asgi, wsgi
"""


@pytest.mark.parametrize(
    "kind",
    [WSGI, *(pytest.param(each, marks=pytest.mark.once) for each in (ASGI, GUNICORN_WSGI, GUNICORN_ASGI))],
    ids=str,
)
def test_an_application_that_handles_signals_itself(kind: Kind, site: Callable[..., Site]) -> None:
    """It would never hear of a reload, and be killed amid its requests."""
    its = site(kind, code=HEEDS_ITSELF)
    old = its.service.pids(2)
    with its.service.hold() as held:
        its.service.signal(signal.SIGHUP)
        wait_until(lambda: len(its.service.workers() & old) == 1)
        assert not its.service.pids(2) & old
        for worker in its.service.workers():
            os.kill(worker, signal.SIGUSR2)
        its.wait_for('environ["wsgi.input"].read()' if kind.interface == "wsgi" else "await receive()")
        held.finish()
    wait_until(lambda: not its.service.workers() & old)
    its.service.end(signal.SIGTERM)
    assert its.count("the application has handlers of its own for SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2: they") == 1
    assert not its.service.has_told("a handler of the application's")
    assert not its.service.has_told("SIGKILL")


# ------------------------------------------------------------------------------ parts


def test_pauses_grow_to_half_a_minute() -> None:
    starts, now, pauses = Starts(), 1000.0, []
    for _ in range(7):
        assert starts.are_due(now)
        starts.failed(now)
        # Another one of the same moment.
        starts.failed(now + 0.1)
        assert not starts.are_due(now + starts.pause() - 0.01)
        pauses.append(starts.pause())
        now += starts.pause()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    starts.try_at_once()
    assert starts.are_due(now)
    starts.failed(now)
    assert starts.pause() == 1


def test_the_same_reason_is_told_once_a_minute() -> None:
    starts = Starts()
    told = [
        starts.is_news(reason, now)
        for reason, now in [
            ("<object at 0x7f01>", 0.0),
            ("<object at 0x8f02>", 30.0),
            ("another", 31.0),
            ("another", 90.0),
            ("another", 92.0),
        ]
    ]
    assert told == [True, False, True, False, True]
    starts.try_at_once()
    assert starts.is_news("another", 93.0)


def test_stages() -> None:
    stage = Stage()
    stage.ask_for_successor()
    assert stage.starts
    assert not stage.serves
    stage.serve()
    assert stage.serves
    assert not stage.is_due
    stage.ask_for_successor()
    assert stage.serves
    assert stage.is_due
    stage.end()
    stage.serve()
    assert stage.ends
    assert not stage.starts
    assert not stage.serves
