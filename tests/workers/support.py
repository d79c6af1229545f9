"""A master and its workers as child processes, and what is asked of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import pytest
from gunicorn.config import Config

from tests.support.processes import has_ended
from tests.support.webserver import TIMEOUT, WebServer, collect, params_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.support.webserver import Response

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
QUIET = ["--no-control-socket"] if "control_socket_disable" in Config().settings else []

ENDED_HERE = "-- from here on the test ends it --"


class Kind(NamedTuple):
    """A way to run workers."""

    by: str  # "gunicorn" or "serve"
    interface: str
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.by}-{self.interface}" + (f"-{self.threads}" if self.threads > 1 else "")

    def command(self, path: str, *options: str, app: str | None = None, workers: int = 2) -> list[str]:
        """What serves one of the test applications on the unix socket `path`, or on any address."""
        bind = path if ":" in path else f"unix:{path}"
        app = app or f"tests.workers.apps:{self.interface}"
        common = [app, "--bind", bind, "--workers", str(workers), "--threads", str(self.threads), *options]
        if self.by == "serve":
            return ["simple_fastcgi", "serve", *common]
        return ["gunicorn", "-k", f"simple_fastcgi.workers.{self.interface.capitalize()}Worker", *QUIET, *common]

    def timeout(self, seconds: int) -> list[str]:
        return ["--timeout" if self.by == "gunicorn" else "--worker-timeout", str(seconds)]


KINDS = [
    Kind("gunicorn", "wsgi"),
    Kind("gunicorn", "wsgi", 3),
    Kind("gunicorn", "asgi"),
    Kind("serve", "wsgi"),
    Kind("serve", "wsgi", 3),
    Kind("serve", "asgi"),
]


def among(*kinds: Kind, everywhere: Kind) -> pytest.MarkDecorator:
    """These kinds of workers; another Python than the first is asked for one of them only."""
    rest = [pytest.param(kind, marks=pytest.mark.once) for kind in kinds if kind != everywhere]
    return pytest.mark.parametrize("kind", [everywhere, *rest], ids=str)


def wait_until(what: Callable[[], T], seconds: float = TIMEOUT) -> T:
    """Ask again and again until the answer is true; the test fails when it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain")
        time.sleep(0.01)
    return answer


class Service:
    """``python -m`` something, in a session of its own; nothing of it may be left behind the `with` block."""

    def __init__(
        self,
        command: Sequence[str],
        path: str,
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        ends_with: int | None = 0,
    ) -> None:
        self.path = path
        self.log = Path(path).with_suffix(".log")
        self.ends_with = ends_with
        folder = self.log.parent
        paths = os.pathsep.join((str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")))
        # Files and no pipes: nobody has to read them.
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": paths, **(env or {})},
                stdin=stdin,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A signal that is told of here came from somebody else.
        before = self.lines()
        try:
            if self.process.poll() is None:
                self.end(signal.SIGTERM)
            status = self.process.wait()
            wait_until(self.all_gone)
            if kind is None:
                assert self.ends_with in (None, status), self.lines()
        finally:
            if not self.all_gone():
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            if kind is not None:
                print(*before, ENDED_HERE, *self.lines()[len(before) :], sep="\n")

    def end(self, number: signal.Signals) -> None:
        """Send the master a signal that ends everything, and wait for its end."""
        self.signal(number)
        next_time = time.monotonic() + 3.0

        def ended() -> bool:
            nonlocal next_time
            if self.process.poll() is not None:
                return True
            if time.monotonic() > next_time:
                next_time += 3.0
                # Gunicorn loses a signal to a worker that it has just forked; to others another one changes nothing.
                for pid in self.workers():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            return False

        wait_until(ended)

    def workers(self) -> set[int]:
        """The master's children that are alive."""
        master = self.process.pid
        with open(f"/proc/{master}/task/{master}/children", encoding="ascii") as children:
            return {pid for pid in map(int, children.read().split()) if not has_ended(pid)}

    def all_gone(self) -> bool:
        """Whether neither the master nor any worker is left."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """To the master alone."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The master's exit status, when it has ended by itself."""
        return self.process.wait(TIMEOUT)

    def lines(self) -> list[str]:
        """What was written to standard output and standard error so far."""
        return self.log.read_text(errors="replace").splitlines()

    def has_told(self, text: str) -> bool:
        return any(text in line for line in self.lines())

    # Requests

    def connect(self, path: str | None = None) -> WebServer:
        """A connection; waits for the listening socket to be there."""

        def connected() -> WebServer | None:
            assert self.process.poll() is None, self.lines()
            try:
                return WebServer(path or self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        made = wait_until(connected)
        assert made is not None
        return made

    def ask(self, url: str = "/", path: str | None = None) -> dict[str, Any]:
        """The answer to a request on a connection of its own."""
        with self.connect(path) as connection:
            response = connection.request(params_for(url), keep=False)
        assert response.status == 200, response
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def pid(self) -> int:
        """The process that answers."""
        number: int = self.ask()["pid"]
        return number

    def pids(self, count: int = 2) -> set[int]:
        """The processes that answer, once there are `count` of them."""
        found: set[int] = set()

        def enough() -> bool:
            found.add(self.pid())
            return len(found) >= count

        wait_until(enough)
        return found

    def hold(self, path: str | None = None) -> Held:
        return Held(self.connect(path))


class Held:
    """A request under way: its application has started, and waits for the rest of the body."""

    def __init__(self, connection: WebServer) -> None:
        self.connection = connection
        connection.begin(params_for("/hold"), keep=False)
        self.record = connection.record()
        assert self.record.content.endswith(b"started"), self.record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def finish(self) -> Response:
        """Send the end of the body; the whole response."""
        self.connection.body(b"", end=True)
        response = self.connection.response()
        collect(whole := type(response)(), self.record)
        whole.stdout += response.stdout
        whole.app_status, whole.protocol_status = response.app_status, response.protocol_status
        assert whole.body == b"started, ended"
        return whole
