"""Folders with a program in them, and processes that are started as others start them."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.webserver import WebServer, encode_request, params_for
from tests.webservers.children import ROOT, Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.webserver import Address

PAGE = (ROOT / "docs" / "spawning.md").read_text(encoding="utf-8")

# What systemd does between fork and exec: the sockets from descriptor 3 on, and the number of this very process.
_ACTIVATE = """\
import fcntl, os, sys
sockets = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in sys.argv[1].split(",")]
os.closerange(3, 100)
for number, fd in enumerate(sockets, 3):
    os.dup2(fd, number)
os.environ.update(LISTEN_PID=sys.argv[2] or str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=sys.argv[3])
os.execvp(sys.argv[4], sys.argv[4:])
"""
SERVE = (sys.executable, "-m", "simple_fastcgi", "serve")


class Program(Child):
    """One that the tests' coverage counts."""

    measured = True


class Hello:
    """The folder ``/srv/hello`` of the page, with another application in it."""

    def __init__(self, folder: Path, interface: str) -> None:
        self.folder = folder
        self.interface = interface
        self.sock = folder / "run" / "app.sock"
        self.sock.parent.mkdir()
        self.log = folder / "hello.log"
        self.log.touch()
        self.settings = folder / "pyproject.toml"
        shutil.copy(Path(__file__).with_name("apps.py"), folder)
        (folder / "hello.py").write_text(f"from apps import {interface} as app\n")
        tools = folder / "venv" / "bin"
        tools.mkdir(parents=True)
        for name, module in (("python", ""), ("simple-fastcgi", "-m simple_fastcgi ")):
            path = tools / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
            path.chmod(0o755)

    def set_an_address(self) -> None:
        """In the project's settings, for when it is started by hand."""
        self.settings.write_text('[tool.simple-fastcgi]\nbind = "unix:run/by-hand.sock"\nsocket-mode = "600"\n')

    def placed(self, text: str) -> str:
        """A text of the page with the paths of this folder."""
        for stands, means in (("/srv/hello", ""), ("/run/hello", "/run"), ("/var/log", ""), ("/run/hello.sock", "")):
            text = text.replace(stands, f"{self.folder}{means}")
        return text

    def served(self) -> int:
        """How many processes have begun to serve."""
        return self.log.read_text(errors="replace").count("INFO simple_fastcgi: serving hello:app (")

    @contextmanager
    def in_flight(self, child: Child, address: Address) -> Iterator[int]:
        """A request is under way in the process whose number this gives; behind the block it ends, and well."""
        mark = self.log.stat().st_size
        release = self.folder / "release"
        with WebServer(address) as web_server:
            web_server.send(encode_request(params_for("/wait")))
            found = wait_until(lambda: _began(self.log, mark) if child.runs else -1)
            assert found > 0, child.log_since()
            yield found
            release.touch()
            assert web_server.response().status == 200
            release.unlink()


def _began(log: Path, mark: int) -> int:
    words = log.read_text(errors="replace")[mark:].partition("began ")[2].split()
    return int(words[0]) if words else 0


def activated(
    sockets: Sequence[socket.socket],
    command: Sequence[str],
    log: Path,
    *,
    names: str = "",
    pid: str = "",
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Program:
    """A program that systemd has started, but for `pid`, if that is another process."""
    fds = [sock.fileno() for sock in sockets]
    launcher = [sys.executable, "-c", _ACTIVATE, ",".join(map(str, fds)), pid, names, *command]
    return Program(launcher, log, cwd=cwd, env=env, pass_fds=fds)


def listen_at(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


@contextmanager
def folders(count: int) -> Iterator[list[Path]]:
    """Of short names, for sockets."""
    with ExitStack() as stack:
        yield [Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))) for _ in range(count)]
