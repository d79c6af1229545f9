"""A PHP-FPM of the tests' own."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.webserver import TIMEOUT, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS_PATH = "/fpm-status"
PING_PATH = "/fpm-ping"

_CONFIGURATION = """\
[global]
daemonize = no
error_log = {folder}/fpm.log
log_level = notice
[www]
{user}
listen = {folder}/php.sock
listen.backlog = {backlog}
pm = static
pm.max_children = {children}
pm.status_path = {status}
ping.path = {ping}
catch_workers_output = yes
php_admin_value[upload_tmp_dir] = {folder}
php_admin_value[session.save_path] = {folder}
php_admin_value[post_max_size] = 64M
php_admin_value[upload_max_filesize] = 64M
php_admin_value[max_execution_time] = 60
php_admin_flag[log_errors] = on
php_admin_flag[display_errors] = off
"""


class PhpFpm:
    """A running PHP-FPM: its `address`, the `document_root` of its scripts, and what it logged."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self.document_root = folder / "www"

    @property
    def address(self) -> str:
        return f"unix:{self.folder}/php.sock"

    @property
    def log(self) -> str:
        return (self.folder / "fpm.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it with all of its processes, those too that are busy and would not hear of it."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def add(self, name: str, source: str) -> None:
        """A script below the document root; `source` without its opening tag."""
        path = self.document_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<?php\n{source}")


@contextmanager
def php_fpm(binary: str, *, children: int = 4, backlog: int = 511) -> Iterator[PhpFpm]:
    """Run PHP-FPM with so many processes, as the current user."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "www").mkdir()
        user = f"user = {pwd.getpwuid(0).pw_name}" if os.geteuid() == 0 else ""
        configuration = folder / "fpm.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, user=user, children=children, backlog=backlog, status=STATUS_PATH, ping=PING_PATH
            )
        )
        # -n: whatever this machine's php.ini says.
        command = [binary, "--nodaemonize", "-n", "--fpm-config", str(configuration), "--prefix", name]
        if os.geteuid() == 0:
            command.append("--allow-to-run-as-root")
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        server = PhpFpm(folder, process)
        try:
            _wait(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                server.kill()
                process.wait()


def _wait(server: PhpFpm) -> None:
    """Until it takes connections."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            WebServer(f"{server.folder}/php.sock").close()
        except OSError:
            output = (server.folder / "output").read_text(errors="replace")
            assert server.process.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.01)
        else:
            return
