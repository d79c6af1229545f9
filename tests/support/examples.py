"""Examples in Markdown files, run as a reader would run them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.webserver import TIMEOUT, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks_of(markdown: str, language: str) -> list[str]:
    """The code blocks in `language`, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE)


@contextmanager
def running(command: list[str], folder: Path, stdin: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs in `folder`; it is told to end, and has to end well."""
    environment = {"PYTHONPATH": f"{ROOT}:{folder}", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=stdin or subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(TIMEOUT) in (0, -15)


def connect(where: Path | tuple[str, int]) -> WebServer:
    """A connection to the socket that a program is about to open."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return WebServer(where if isinstance(where, tuple) else str(where))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def spawned(source: str, folder: Path) -> Iterator[WebServer]:
    """A connection to the program `source`, started as a web server does, with a listening socket on fd 0."""
    script, path = folder / "example.py", folder / "example.sock"
    script.write_text(source)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with running([sys.executable, str(script)], folder, stdin=listening.fileno()), connect(path) as web_server:
            yield web_server


def check_nginx(nginx: str, inside_http: str, folder: Path) -> None:
    """Have nginx check a configuration."""
    text = inside_http.replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
    text = text.replace("listen 80", "listen unix:x")
    kinds = ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
    temp_paths = " ".join(f"{kind}_temp_path {kind};" for kind in kinds)
    path = folder / "nginx.conf"
    path.write_text(f"pid nginx.pid; events {{}} http {{ access_log off; {temp_paths} {text} }}")
    done = subprocess.run(
        [nginx, "-t", "-p", str(folder), "-e", "error.log", "-c", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
