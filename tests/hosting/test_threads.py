"""A host that allows no threads: one line says so, and the application is served all the same."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, params_for
from tests.webservers.children import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once

APP = """\
import threading

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(threading.active_count()).encode()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(threading.active_count()).encode()})
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o777)
        (path / "app.py").write_text(APP)
        yield path


def limited(command: list[str]) -> list[str]:
    """Run `command` as a user who may have one process, and no thread."""
    set_limit = (
        "import os, resource as r, sys; r.setrlimit(r.RLIMIT_NPROC, (1, 1)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-S", "-c", set_limit, *command]
    if os.geteuid() != 0:
        return command
    # No limit is root's. The user is nobody else's, who may read what the tests may.
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    user = str(700_000_000 + os.getpid())
    rights = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override")
    return [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups", *rights, *command]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("app", ["app", "asgi"])
def test_no_thread_at_all(folder: Path, app: str) -> None:
    path = folder / "app.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
        command = [
            sys.executable,
            "-m",
            "simple_fastcgi",
            "serve",
            f"app:{app}",
            "--bind",
            f"fd://{listening.fileno()}",
        ]
        with Child(
            limited(command),
            folder / "log",
            cwd=folder,
            pass_fds=[listening.fileno()],
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        ) as child:
            with WebServer(str(path)) as web_server:
                for _ in range(3):
                    assert web_server.request(params_for()).body == b"1"
            child.stop()
            assert child.process.returncode == 0
        told = child.log_since()
    if app == "app":
        assert told.count("no thread can be started (can't start new thread)") == 1
        assert "threads=1 (--threads 1) needs none" in told
    assert "a handler that is stuck will not be ended after graceful_timeout" in told
    assert told.endswith("stopped\n")
