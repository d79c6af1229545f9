"""What Apache has spawned ends when a file is touched, and serves what has connected before.

In place of Apache there is a program of its name, which cannot but ask one process.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, encode_request, params_for

from .support import SOURCES, Served, answer, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.once

SPAWNER = """\
import socket, subprocess, sys
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    process = subprocess.Popen(sys.argv[2:], stdin=listening)
sys.exit(process.wait())
"""


@pytest.mark.parametrize(("kind", "threads"), [("WSGI", 1), ("WSGI", 4), ("ASGI", 1)])
def test_no_connection_is_reset(tmp_path: Path, kind: str, threads: int) -> None:
    apache = tmp_path / "apache2"
    apache.symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "shop.py").write_text(SOURCES[kind] % "old")
    path = tmp_path / "app.sock"
    command = [sys.executable, "-m", "simple_fastcgi", "serve", "shop:app", "--reload-on-touch", f"--threads={threads}"]
    with Served([str(apache), "-S", "-c", SPAWNER, str(path), *command], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving shop:app")
        with WebServer(str(path)) as begun:
            begun.begin(params_for(), keep=False)
            # Elsewhere than with a single thread, which reads for the request.
            if (kind, threads) != ("WSGI", 1):
                assert answer(str(path))[0] == b"old"
            write(tmp_path / "shop.py", SOURCES[kind] % "new")
            if (kind, threads) != ("WSGI", 1):
                child.wait_for("shop.py was touched")
            waiting = [web_server for _ in range(5) if (web_server := connect(path)) is not None]
            for web_server in waiting:
                web_server.send(encode_request(params_for(), keep=False))
            begun.body(b"", end=True)
            assert begun.response().body.split()[0] == b"old"
            for web_server in waiting:
                with web_server:
                    assert web_server.response().body.split()[0] == b"old"
        assert child.wait() == 0
        assert connect(path) is None
    assert child.log_since().count("serving shop:app") == 1


def connect(path: Path) -> WebServer | None:
    try:
        return WebServer(str(path))
    except ConnectionRefusedError:
        return None
