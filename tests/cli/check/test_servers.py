"""Behind every web server that the tests know, set up as it should be, no problem is found."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.webservers.children import App, wait_until
from tests.webservers.sites import FRONTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.check.support import Check
    from tests.webservers.fronts import Front

pytestmark = pytest.mark.once

PROBE = "simple_fastcgi.check:app"
# Of each server, and each way in which it has applications, the first is the main one.
MAIN = list({(front.server, front.spawns): front for front in reversed(FRONTS) if front.full}.values())


def listens(origin: str) -> bool:
    parts = urlsplit(origin)
    with socket.socket() as sock:
        return sock.connect_ex((parts.hostname, parts.port)) == 0


@pytest.mark.parametrize("front", MAIN, ids=[front.name for front in MAIN])
def test_no_problem_is_found(check: Check, program: Callable[[str], str], front: Front) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "run").mkdir()
        app: App | None = None
        if not front.spawns:
            bind = f"unix:{folder}/run/app.sock" if front.transport == "unix" else "127.0.0.1:0"
            app = stack.enter_context(App.serve(PROBE, bind, folder / "app.log"))
        command = [sys.executable, "-m", "simple_fastcgi", "serve", PROBE]
        server = front.server.start(program, [front], app, command, folder)
        # With which status it ends is for the tests of web servers: some have another one for each connection's state.
        stack.callback(server.stop)
        wait_until(lambda: listens(server.origin(front)))
        said = check(f"{server.origin(front)}{front.mount}/", "--timeout", "4", "--max-body-size", "1")
    assert said.told["problems"] == 0, said.told
    assert said.told["not_checked"] == 0
