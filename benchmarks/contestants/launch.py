"""Starting contestants, and waiting until they answer."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.processes import Tree

from .model import APPS, HERE
from .prepare import Missing, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .model import Contestant

SECONDS_TO_START = 30.0
BACKLOG = 1024


class Server:
    """A contestant that runs: `tree` is its processes, `path` its unix socket."""

    def __init__(self, contestant: Contestant, path: Path, tree: Tree) -> None:
        self.contestant = contestant
        self.path = path
        self.tree = tree

    def connect(self) -> socket.socket:
        """A new connection; OSError when nobody listens."""
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(str(self.path))
        except OSError:
            peer.close()
            raise
        return peer


def command_of(contestant: Contestant, app: str, path: Path, threads: int = 1) -> list[str]:
    """The command line that starts it."""
    folder = folder_of(contestant.environment, contestant.python)
    threads = contestant.threads or threads
    words = {
        "python": str(folder / "bin" / "python") if contestant.environment.python else sys.executable,
        "bin": str(folder / "bin"),
        "folder": str(folder),
        "socket": str(path),
        "app": contestant.app(app),
        "name": app,
        "threads": str(threads),
        "here": str(HERE),
        "root": str(contestant.source),
    }
    parts = contestant.command + (contestant.threaded if threads > 1 else ())
    return [part.format(**words) for part in parts]


def environment_of(contestant: Contestant) -> dict[str, str]:
    """The environment variables that it runs with: none that change what Python does, such as writing no bytecode."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env = {**inherited, **contestant.env}
    if contestant.ours:
        env["PYTHONPATH"] = str(contestant.source)
    return env


@contextlib.contextmanager
def started(contestant: Contestant, app: str, folder: Path, core: int, threads: int = 1) -> Iterator[Server]:
    """The contestant serving `app` on `core`, from the moment on at which it takes connections.

    `folder` takes its socket and its log. Missing when it does not start.
    """
    path = folder / f"{contestant.title.replace(' ', '-')}.sock"
    server = start(contestant, app, path, core, threads)
    try:
        if not contestant.inherits:  # whose socket takes connections already
            _wait(server)
        os.chmod(path, 0o666)  # nginx may run as another user
        yield server
    finally:
        server.tree.end()
        path.unlink(missing_ok=True)


def start(contestant: Contestant, app: str, path: Path, core: int, threads: int = 1) -> Server:
    """The same without waiting, and without an end; Missing when there is nothing to run."""
    command = command_of(contestant, app, path, threads)
    listener = _listen(path) if contestant.inherits else None
    try:
        stdin = listener.fileno() if listener else subprocess.DEVNULL
        log = path.with_suffix(".log")
        tree = Tree(command, core, log, cwd=APPS, env=environment_of(contestant), stdin=stdin)
        return Server(contestant, path, tree)
    except OSError as problem:
        raise Missing(f"does not start: {problem}") from None
    finally:
        if listener:
            listener.close()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def _wait(server: Server) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            server.connect().close()
        except OSError:
            pass
        else:
            return
        if not server.tree.running or time.monotonic() > deadline:
            raise Missing(f"does not start: {server.tree.last_words() or 'no message'}")
        time.sleep(0.02)
