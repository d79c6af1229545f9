"""What every test relies on: nothing leaks, Hypothesis has profiles, programs are found or missed loudly."""

from __future__ import annotations

import faulthandler
import gc
import logging
import math
import os
import shutil
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

from simple_fastcgi.net import pipes
from tests.support import measure
from tests.support.outcome import FAILED
from tests.support.php import PhpFpm, php_fpm
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

IN_CI = bool(os.environ.get("CI"))

# The machine is shared by several test processes, and may stand still: a deadline for each example, or for the making
# of the first ones, would only measure the neighbours.
TIMELESS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", TIMELESS)
settings.register_profile("ci", TIMELESS, derandomize=False, max_examples=200, print_blob=True)
settings.load_profile("ci" if IN_CI else "default")

# As many as the machine has would make tests depend on it; those of that default take the setting away.
os.environ["SIMPLE_FASTCGI_WORKERS"] = "1"

# Debian keeps servers where an ordinary user's PATH does not look.
PROGRAM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))

# Characters of two values that are compared in full.
MOST_COMPARED = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed, for the fixtures that are torn down behind it."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_assertrepr_compare(left: object, right: object) -> Generator[None, list[list[str]], list[list[str]]]:
    """Tell of long values where they differ first, as at home: with CI set pytest would look for all differences.

    In 30 kB of bytes that takes half a minute, for each example of a property that fails, and in 100 kB minutes: the
    time limit would be all that a test tells.
    """
    with pytest.MonkeyPatch.context() as patch:
        if len(repr(left)) + len(repr(right)) > MOST_COMPARED:
            patch.delenv("CI", raising=False)
        return (yield)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="print what came out for each web server and scenario")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of neither what chance makes nor what computes long: see CONTRIBUTING.md."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False) or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Trace modules while they are imported, and not what pytest makes of them."""
    with measure.tracing.paused():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Trace tests and fixtures, and not what is between them."""
    with measure.tracing.paused():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with measure.tracing.resumed():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Stop measuring for the time of a test marked no_cover."""
    with measure.tracing.resumed(), measure.unmeasured() if item.get_closest_marker("no_cover") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    with measure.tracing.resumed():
        return (yield)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In a process of pytest-xdist's, tell of a test with one message; of set-up and teardown only what went wrong.

    By itself it sends five, which is a third of what a short test costs.
    """
    if not hasattr(item.config, "workerinput"):
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


class Watch:
    """Writes where every thread stands when a test hangs, be it in C, just before pytest-timeout ends it.

    pytest's own `faulthandler_timeout` starts and joins a thread for each test; this one's serves those of ten seconds.
    """

    KEPT = 10.0

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._renewed_at = -math.inf

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        if time.monotonic() > self._renewed_at + self.KEPT:
            self._renewed_at = time.monotonic()
            faulthandler.dump_traceback_later(self._seconds, file=item.config.stash[fault_handler_stderr_fd_key])

    def pytest_sessionfinish(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def pytest_configure(config: pytest.Config) -> None:
    seconds = float(config.getoption("timeout") or config.getini("timeout")) - 20
    if seconds > 0:
        config.pluginmanager.register(Watch(seconds))
    logging.root.manager.loggerDict = Loggers(logging.root.manager.loggerDict)


class Loggers(dict[str, "logging.Logger | logging.PlaceHolder"]):
    """All loggers by name; who goes through them is not disturbed by a thread that makes one meanwhile.

    pytest goes through them before and behind each test, while a server of some fixture may log its first line.
    """

    def values(self) -> list[logging.Logger | logging.PlaceHolder]:  # type: ignore[override]
        return list(super().values())


def pytest_sessionstart() -> None:
    """Let the garbage collector come more rarely by itself, which is a tenth of the processor time.

    Who looks for leaks calls it.
    """
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what stays until the end: thousands of tests, and all that they import.

    It looks for leaks many times, and would go through all of that each time.
    """
    gc.collect()
    gc.freeze()


def find_program(name: str) -> str | None:
    """Where an installed program is; of php-fpm, whose name tells its version, the newest."""
    path = shutil.which(name, path=PROGRAM_PATH)
    if path is None and name == "php-fpm":
        folders = map(Path, PROGRAM_PATH.split(os.pathsep))
        versions = [found for folder in folders for found in folder.glob("php-fpm[0-9]*") if os.access(found, os.X_OK)]
        newest = max(versions, key=lambda found: [int(part) for part in found.name[7:].split(".")], default=None)
        path = None if newest is None else str(newest)
    return path


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Find an installed program by its name. Where it is missing the test is skipped; in CI the test fails."""

    def find(name: str) -> str:
        path = find_program(name)
        if path is not None:
            return path
        missing = f"{name} is not installed"
        if IN_CI:
            pytest.fail(missing)
        pytest.skip(missing)

    return find


@pytest.fixture(scope="session")
def php(program: Callable[[str], str]) -> Iterator[PhpFpm]:
    """A PHP-FPM with four processes, for all tests of this process; each adds scripts under names of its own."""
    with php_fpm(program("php-fpm")) as server:
        yield server


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes run without coverage: for tests of what one loads or prints, or where it becomes another user."""
    for name in filter(measure.is_of_coverage, tuple(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _children_of_what_is_not_measured(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("no_cover"):
        request.getfixturevalue("unmeasured")


# --------------------------------------------------------------------- nothing leaks

FD_FOLDER = "/proc/self/fd"
# asyncio only logs these, when a task is collected.
TASK_LEAKS = ("Task was destroyed but it is pending", "Task exception was never retrieved")


def descriptors() -> set[str]:
    """The open sockets, pipes, epolls and the like: number and what it is. Ordinary files do not count."""
    found = set()
    for number in os.listdir(FD_FOLDER) if os.path.isdir(FD_FOLDER) else ():
        try:
            target = os.readlink(f"{FD_FOLDER}/{number}")
        except OSError:  # the folder's own descriptor, or one just closed
            continue
        if not target.startswith("/"):
            found.add(f"descriptor {number} = {target}")
    return found


def threads() -> set[str]:
    return {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}


def added_since(before: set[str]) -> list[str]:
    """What is there now and was not before, given some time to go away."""
    # These the package keeps for the next file; one that a thread is using is not among them.
    for pipe in filter(None, tuple(pipes._free)):
        pipe.close()
    deadline = time.monotonic() + TIMEOUT
    while added := (descriptors() | threads()) - before:
        if time.monotonic() > deadline:
            break
        gc.collect()  # a socket in a reference cycle has its own complaint, ResourceWarning
        time.sleep(0.01)
    return sorted(added)


class TaskLog(logging.Handler):
    """Collects what asyncio says of tasks that nobody awaited."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.leaks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(TASK_LEAKS):
            self.leaks.append(message)

    def __enter__(self) -> list[str]:
        logging.getLogger("asyncio").addHandler(self)
        return self.leaks

    def __exit__(self, *_: object) -> None:
        logging.getLogger("asyncio").removeHandler(self)


def fail_if(leaks: list[str]) -> None:
    if leaks:
        pytest.fail("left behind: " + "; ".join(leaks), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _kept() -> Iterator[set[str]]:
    """What tests marked "keeps" left; at the end of each test process nothing else may remain."""
    kept = descriptors() | threads()
    yield kept
    with TaskLog() as task_leaks:
        gc.collect()  # some tasks only the collector finds
    fail_if(added_since(kept) + task_leaks)


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest, _kept: set[str]) -> Iterator[None]:
    """Fail a test that leaves a thread, a task or a descriptor behind.

    It is the first fixture of a test, so it looks when all others of the test are torn down; what fixtures of a
    wider scope hold was there before.
    """
    before = descriptors() | threads()
    with TaskLog() as task_leaks:
        yield
        if request.node.get_closest_marker("keeps"):
            _kept |= (descriptors() | threads()) - before
            return
        leaks = added_since(before)
    _kept |= set(leaks)  # said once is enough
    fail_if(leaks + task_leaks)
