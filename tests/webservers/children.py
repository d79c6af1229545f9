"""Child processes for tests: applications and web servers, each with a log file.

Nothing here waits for a fixed time.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import pytest

from tests.support.measure import is_of_coverage
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.support.webserver import Address

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SERVING = re.compile(r"serving .* on (?:unix:(?P<path>\S+)|(?P<host>[\d.]+):(?P<port>\d+))")


def wait_until(what: Callable[[], T | None], seconds: float = TIMEOUT, *, seen: Callable[[], str] = str) -> T:
    """Ask again and again until the answer is true; the test fails when it never is, and tells what was `seen`."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain{seen()}")
        time.sleep(0.01)
    return answer


class Child:
    """A program that runs until it is stopped, or until the end of the `with` block."""

    ends_with: tuple[int, ...] = (0, -signal.SIGTERM)
    """The exit statuses that are right after SIGTERM."""
    measured = False
    """Whether its coverage counts: what is behind a web server serves thousands of requests, by lines that other tests
    reach."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        self.cwd = cwd
        # The package need not be installed. The log is a file and no pipe: nobody has to read it.
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        # Several processes of one application sign their cookies alike.
        env = {**os.environ, "PYTHONPATH": path, "SECRET_KEY": "of the tests", **(env or {})}
        if not self.measured:
            env = {name: value for name, value in env.items() if not is_of_coverage(name)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        status = self.stop()
        assert status in self.ends_with, f"{self.process.args!r} ended with {status}:\n{self.log_since()}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """End it, if it runs; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def mark(self) -> int:
        """The log's end, from which :meth:`log_since` and :meth:`wait_for` look on."""
        return self.log.stat().st_size

    def log_since(self, mark: int = 0) -> str:
        with self.log.open("rb") as log:
            log.seek(mark)
            return log.read().decode(errors="replace")

    def wait_for(self, pattern: str | re.Pattern[str], mark: int = 0) -> re.Match[str]:
        """Wait until the log has `pattern` behind `mark`."""

        def find() -> re.Match[str] | None:
            status = self.process.poll()
            found = re.search(pattern, self.log_since(mark))
            if found is None and status is not None:
                pytest.fail(f"{self.process.args!r} ended with {status}:\n{self.log_since()}")
            return found

        return wait_until(find, seen=lambda: f" for {pattern}; since then:\n{self.log_since(mark)}")

    # What the kernel knows of it

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def sockets(self) -> set[str]:
        """Its sockets, by names that are not used again."""
        return sockets_of(self.process.pid)

    def memory_peak(self, *, reset: bool = False) -> int:
        """The most bytes of memory that it had since the last reset."""
        return memory_peak(self.process.pid, reset=reset)


def sockets_of(pid: int) -> set[str]:
    found = set()
    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"{folder}/{number}"))
    return {name for name in found if name.startswith("socket:")}


def memory_peak(pid: int, *, reset: bool = False) -> int:
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


class App(Child):
    """An application that serves FastCGI at :attr:`address`."""

    address: Address
    """As the tests' WebServer takes it."""

    @property
    def upstream(self) -> str:
        """The address as nginx's configuration has it."""
        return f"unix:{self.address}" if isinstance(self.address, str) else "{}:{}".format(*self.address)

    @classmethod
    def serve(cls, app: str, bind: str, log: Path, *options: str, cwd: Path = ROOT) -> Self:
        """Start ``simple-fastcgi serve`` and wait until it serves. The port may be 0: any that is free."""
        command = [sys.executable, "-m", "simple_fastcgi", "serve", app, "--bind", bind, *options]
        child = cls(command, log, cwd=cwd)
        try:
            found = child.wait_for(SERVING)
        except BaseException:
            child.stop()
            raise
        child.address = found["path"] or (found["host"], int(found["port"]))
        return child

    @classmethod
    def spawn(
        cls, spawn_fcgi: str, path: Path, log: Path, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Self:
        """Start a Python program with a listening socket on descriptor 0, as web servers do.

        The socket listens before the program starts: it need not be waited for any longer.
        """
        child = cls([spawn_fcgi, "-s", str(path), "-n", "--", sys.executable, *arguments], log, env=env)
        child.address = str(path)

        def listening() -> bool:
            with socket.socket(socket.AF_UNIX) as client:
                return child.process.poll() is not None or client.connect_ex(str(path)) == 0

        wait_until(listening)
        return child


class Spawned:
    """An application that a web server has started, in one process or several, and starts anew when it ends.

    Its standard error is the web server's, so :attr:`log` is, too.
    """

    def __init__(self, server: Child, *words: str) -> None:
        """Its processes are those below `server` that have all of `words` in their command line."""
        self._server = server
        self._words = words

    @property
    def log(self) -> Path:
        return self._server.log

    def mark(self) -> int:
        return self._server.mark()

    def log_since(self, mark: int = 0) -> str:
        return self._server.log_since(mark)

    def wait_for(self, pattern: str | re.Pattern[str], mark: int = 0) -> re.Match[str]:
        return self._server.wait_for(pattern, mark)

    def signal(self, number: signal.Signals) -> None:
        """Send it to all processes that there are now."""
        for pid in self.pids:
            os.kill(pid, number)

    @property
    def runs(self) -> bool:
        return bool(self.pids)

    @property
    def pids(self) -> list[int]:
        """Those that run the application: none of it is a shell that waits, as that would have children."""
        found = []
        for pid in descendants(self._server.process.pid):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                if all(word in command for word in self._words):
                    found.append(pid)
        return found

    @property
    def sockets(self) -> set[str]:
        return set().union(*map(sockets_of, self.pids))

    def memory_peak(self, *, reset: bool = False) -> int:
        """The most that one of its processes had."""
        return max(memory_peak(pid, reset=reset) for pid in self.pids)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = children.get(pid, [])[:]
    for child in found:
        found += children.get(child, [])  # the list grows while it is walked
    return found
