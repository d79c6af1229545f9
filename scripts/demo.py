"""Shows the Flask example in a browser: the application over FastCGI, nginx in front of it, until Ctrl+C.

Everything lives in a private temporary folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "flask_app"
USUAL_PORT = 8000
SECONDS_TO_START = 60
SECONDS_TO_ANSWER = 5
SECONDS_TO_END = 10
STOCK_PARAMS = "/etc/nginx/fastcgi_params"


class DemoError(Exception):
    """What went wrong, in one line for the user."""


class Stop:
    """Whether a signal has asked for the end. Nothing is raised: that could disturb the start or the tidying up."""

    def __init__(self) -> None:
        """Listen from now on."""
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True


class Child:
    """A program that runs beside this one."""

    def __init__(self, name: str, command: list[str], folder: Path, log: Path) -> None:
        """Start it. In a process group of its own it gets no Ctrl+C by itself, and can be ended in good order."""
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )

    def check(self) -> None:
        """Raise DemoError if it has ended."""
        if (status := self.process.poll()) is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise DemoError(f"{self.name} ended with status {status}: {last.strip()}")

    def end(self) -> None:
        """End it politely, or else by force."""
        self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def find_nginx() -> str:
    """Give the path of nginx, which an ordinary user's PATH often lacks."""
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/opt/homebrew/bin"]
    nginx = shutil.which("nginx", path=os.pathsep.join(places))
    if nginx is None:
        raise DemoError("nginx is missing; install it, on Debian or Ubuntu with: sudo apt-get install nginx-light")
    return nginx


def stock_params(nginx: str) -> str:
    """Give the path of the fastcgi_params that came with nginx: beside its own nginx.conf."""
    if Path(STOCK_PARAMS).is_file():
        return STOCK_PARAMS
    options = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"--conf-path=(\S+)", options)
    path = Path(found.group(1)).with_name("fastcgi_params") if found else Path(STOCK_PARAMS)
    if not path.is_file():
        raise DemoError(f"nginx is there, but not its file {path}")
    return str(path)


def choose_port(wanted: int | None) -> int:
    """Give the port that was asked for, or else the usual one if it is free, or else any."""
    for port in (USUAL_PORT, 0) if wanted is None else (wanted,):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoError(f"port {wanted} on 127.0.0.1 cannot be had; leave --port out to get a free one")


def configuration(nginx: str, port: int) -> str:
    """Give the configuration of the example, with another port and place of nginx's own file where need be."""
    text = (EXAMPLE / "nginx.conf").read_text()
    text = text.replace(f"127.0.0.1:{USUAL_PORT}", f"127.0.0.1:{port}").replace(STOCK_PARAMS, stock_params(nginx))
    if os.geteuid() == 0:
        # As root nginx gives its workers to another user, who could not reach the private folder.
        text = f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};\n" + text
    return text


@contextlib.contextmanager
def running(port: int) -> Iterator[list[Child]]:
    """Run the application and nginx, and end both."""
    nginx = find_nginx()
    conf = configuration(nginx, port)
    with tempfile.TemporaryDirectory(prefix="simple-fastcgi-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        run = folder / "run"
        run.mkdir()
        (folder / "nginx.conf").write_text(conf)
        serve = [sys.executable, "-m", "simple_fastcgi", "serve", "app:app", "--bind", f"unix:{run / 'app.sock'}"]
        front = [nginx, "-p", f"{folder}/", "-e", "run/error.log", "-c", "nginx.conf", "-g", "daemon off;"]
        children: list[Child] = []
        for label, command, cwd in (("the application", serve, EXAMPLE), ("nginx", front, folder)):
            child = Child(label, command, cwd, run / f"{len(children)}.log")
            stack.callback(child.end)
            children.append(child)
        yield children


def get_status(port: int) -> tuple[int, str] | None:
    """Ask for the first page; None while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_ANSWER)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status, response.reason
    return None


def wait_for_answer(port: int, children: list[Child], stop: Stop) -> str:
    """Wait until the first page is there, and give its status."""
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and not stop.asked:
        for child in children:
            child.check()
        match get_status(port):
            case None | (http.HTTPStatus.BAD_GATEWAY, _):  # nginx is not up yet, or the application is not
                time.sleep(0.05)
            case (http.HTTPStatus.OK, reason):
                return f"{http.HTTPStatus.OK:d} {reason}"
            case (code, reason):
                raise DemoError(f"the first page was answered with {code} {reason}")
    raise DemoError("stopped" if stop.asked else f"no answer on port {port} after {SECONDS_TO_START} seconds")


def show(port: int, stop: Stop, *, once: bool) -> None:
    """Run the demonstration until it is told to stop."""
    with running(port) as children:
        status = wait_for_answer(port, children, stop)
        url = f"http://127.0.0.1:{port}/"
        if once:
            print(f"{status} {url}")
            return
        print(f"open {url} — Ctrl+C ends", flush=True)
        while not stop.asked:
            for child in children:
                child.check()
            time.sleep(0.1)


def main() -> int:
    """Read the command line and run the demonstration; the exit status is 0, or 1 after an error."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="ask for the first page, print the status and end")
    parser.add_argument("--port", type=int, help=f"port on 127.0.0.1 (default: {USUAL_PORT}, or any if it is taken)")
    arguments = parser.parse_args()
    stop = Stop()
    try:
        show(choose_port(arguments.port), stop, once=arguments.once)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
