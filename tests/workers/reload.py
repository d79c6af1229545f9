"""Load through a web server while workers are reloaded, killed and upgraded; and which requests that cost.

A failed request counts as lost, unless a worker that was killed (SIGKILL) had it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.support.processes import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0
BODIES = (b"x" * 700, bytes(range(256)) * 400)
# A request that a killed worker had fails at once; a busy machine may stand still for moments.
AT_ONCE = 2.0
# So long a web server may take a connection of a killed worker for a good one.
UNNOTICED = 0.05

Front = Literal["nginx", "haproxy"]
Interface = Literal["wsgi", "asgi"]

NGINX = """\
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path client_body;
    fastcgi_temp_path fastcgi;
    proxy_temp_path proxy;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    keepalive_requests 1000000;
    upstream app {{
        server {upstream};
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_pass app;
            fastcgi_keep_conn on;
        }}
    }}
}}
"""

HAPROXY = """\
global
    log {folder}/log.sock local0
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    default_backend app
backend app
    use-fcgi-app app
    server app {upstream} proto fcgi
fcgi-app app
    docroot /
    path-info ^()(/.*)$
    option keep-conn
"""


@dataclass
class Result:
    """What came out."""

    requests: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    """Why: the failed requests that no killed worker had."""
    killed: int = 0
    """The failed requests that a killed worker had."""
    workers: int = 0
    """Processes that served."""
    reloads: int = 0
    kills: int = 0
    upgrades: int = 0
    events: list[tuple[float, str]] = field(default_factory=list)
    """What was done, and when."""
    log: str = ""
    """What masters and workers said."""

    def __str__(self) -> str:
        return (
            f"{self.requests} requests in {self.seconds:.0f} s, {len(self.lost)} lost, {self.killed} failed in "
            f"killed workers; {self.workers} workers, {self.reloads} HUP, {self.kills} KILL, {self.upgrades} USR2"
        )


@dataclass
class Failure:
    number: int
    why: str
    began: float
    ended: float


class Load:
    """A closed loop of clients, each of which asks again when it has its answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests = 0
        self.failures: list[Failure] = []
        self.stopping = False

    async def run(self, clients: int) -> None:
        await asyncio.gather(*(self.client() for _ in range(clients)))

    async def client(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.stopping:
            self.requests += 1
            number, began = self.requests, time.monotonic()
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                async with asyncio.timeout(TIMEOUT):
                    why, again = await self.ask(number, *connection)
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                why, again = repr(error), False
            if why:
                self.failures.append(Failure(number, why, began, time.monotonic()))
            if not again and connection is not None:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def ask(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, bool]:
        """One request: what is wrong with its answer, if anything, and whether the connection stays open."""
        body = BODIES[number % 20 == 0] if number % 2 else b""
        if number % 20 == 4:
            body = BODIES[1]
        path = "/slow" if number % 20 == 7 else "/"
        method = "POST" if body else "GET"
        head = f"{method} {path}?{number} HTTP/1.1\r\nHost: localhost\r\n"
        if body:
            head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n".encode() + body)
        fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = b""
        if "transfer-encoding: chunked" in fields:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        elif "content-length: " in fields:
            content = await reader.readexactly(int(fields.partition("content-length: ")[2].split("\r\n")[0]))
        else:
            content = await reader.read()
        again = "connection: close" not in fields and ("chunked" in fields or "content-length: " in fields)
        status = fields.split()[1]
        expected = f"{'slow ' if path == '/slow' else ''}{number} {len(body)} {zlib.crc32(body)}\n".encode()
        if status != "200":
            return f"{method} {path} -> {status}", again
        return ("" if content == expected else f"{method} {path} -> {content!r}"), again


def wait_until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, in the order of their age."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Workers:
    """gunicorn, or our own command, with the applications of :mod:`tests.workers.reload_apps`."""

    def __init__(self, folder: Path, interface: Interface, upstream: str, *, by: str, options: tuple[str, ...]) -> None:
        self.begun = folder / "begun"
        self.pidfile = folder / "pid"
        self.by = by
        self.log = folder / "workers.log"
        app = f"tests.workers.reload_apps:{interface}"
        common = [app, "--bind", upstream, "--workers", "2", *options]
        if interface == "wsgi":
            common += ["--threads", "4"]
        command = [sys.executable, "-m", "simple_fastcgi", "serve", *common]
        if by == "gunicorn":
            worker = f"simple_fastcgi.workers.{interface.capitalize()}Worker"
            more = ["--pid", str(self.pidfile), "--max-requests", "500", "--max-requests-jitter", "50"]
            command = [sys.executable, "-m", "gunicorn", "-k", worker, "--no-control-socket", *more, *common]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "BEGUN": str(self.begun)}
        with self.log.open("wb") as log:
            self.first = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
            )
        self.master = self.first.pid
        self.killed: dict[int, float] = {}
        wait_until(lambda: self.ready() or self.first.poll() is not None)

    def workers(self) -> list[int]:
        """Those that may be killed."""
        return [pid for pid in children(self.master) if pid not in self.killed]

    def ready(self) -> bool:
        """Whether there are workers that serve."""
        text = self.log.read_text(errors="replace")
        return "Booting worker" in text or ": serving " in text

    def signal(self, number: signal.Signals) -> None:
        """To the master."""
        if self.master == self.first.pid:
            # One that has ended unexpectedly gets none, and neither does who has its number by now.
            self.first.send_signal(number)
        else:
            os.kill(self.master, number)

    def reload(self) -> None:
        self.signal(signal.SIGHUP)

    def kill(self) -> None:
        """End a worker without a warning; any of those that are there."""
        if workers := self.workers():
            pid = random.choice(workers)
            # It may just have ended by itself (max_requests).
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed[pid] = 0.0
            wait_until(lambda: has_ended(pid))
            self.killed[pid] = time.monotonic()

    def upgrade(self) -> None:
        """Start a new master, and end the old one when that has its workers."""
        self.signal(signal.SIGUSR2)
        successor = Path(f"{self.pidfile}.2")
        wait_until(lambda: successor.exists() and len(children(int(successor.read_text() or 0))) >= 2)
        master = int(successor.read_text())
        self.signal(signal.SIGTERM)
        self.master = master
        self.first.wait(TIMEOUT)
        wait_until(lambda: self.pidfile.exists() and int(self.pidfile.read_text() or 0) == self.master)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.first.wait(TIMEOUT)
        wait_until(lambda: has_ended(self.master))


class Deploys(Workers):
    """One process without workers, on a socket that stays open, as systemd has it; each reload starts it anew."""

    def __init__(self, folder: Path, interface: Interface, upstream: str) -> None:
        self.begun, self.log, self.killed = folder / "begun", folder / "workers.log", {}
        host, _, port = upstream.rpartition(":")
        self._socket = socket.socket(socket.AF_UNIX if host == "unix" else socket.AF_INET)
        self._socket.bind(port if host == "unix" else (host, int(port)))
        self._socket.listen(512)
        app = f"tests.workers.reload_apps:{interface}"
        self._command = [sys.executable, "-m", "simple_fastcgi", "serve", app]
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "BEGUN": str(self.begun)}
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.first = subprocess.Popen(
                self._command, env=self._env, stdin=self._socket.fileno(), stdout=log, stderr=log
            )
        self.master = self.first.pid

    def reload(self) -> None:
        self.first.terminate()
        self.first.wait(TIMEOUT)
        self._start()

    def kill(self) -> None:
        self.first.kill()
        self.first.wait(TIMEOUT)
        self.killed[self.first.pid] = time.monotonic()
        self._start()

    def end(self) -> None:
        self.first.terminate()
        self.first.wait(TIMEOUT)
        self._socket.close()


@contextlib.contextmanager
def web_server(front: Front, folder: Path, upstream: str, port: int) -> Iterator[None]:
    if front == "nginx":
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(NGINX.format(user=user, upstream=upstream, port=port))
        command = ["nginx", "-p", f"{folder}/", "-e", "nginx.log", "-c", "nginx.conf"]
    else:
        written = HAPROXY.format(folder=folder, upstream=upstream.replace("unix:", "unix@"), port=port)
        (folder / "haproxy.cfg").write_text(written)
        command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0 or process.poll() is not None

        wait_until(listening)
        yield
    finally:
        process.terminate()
        process.wait()


async def drive(
    load: Load, workers: Workers, result: Result, seconds: float, *, hup: float, kill: float, upgrade: bool, least: int
) -> None:
    began, events = time.monotonic(), result.events
    next_hup, next_kill, upgrade_at = began + hup, began + kill, began + seconds / 2
    while (now := time.monotonic()) < began + seconds or load.requests < least:
        if upgrade and now >= upgrade_at:
            upgrade = False
            events.append((now, "USR2"))
            await asyncio.to_thread(workers.upgrade)
            result.upgrades += 1
        elif now >= next_hup:
            next_hup = now + hup
            await asyncio.to_thread(workers.reload)
            result.reloads += 1
            events.append((now, "HUP"))
        elif now >= next_kill:
            next_kill = now + kill
            await asyncio.to_thread(workers.kill)
            events.append((now, "KILL"))
            result.kills += 1
        await asyncio.sleep(0.01)
    load.stopping = True


def run(
    front: Front,
    interface: Interface,
    folder: Path,
    *,
    by: str = "gunicorn",
    transport: str = "unix",
    clients: int = 32,
    seconds: float = 30.0,
    least: int = 0,
    hup: float = 2.0,
    kill: float = 3.0,
    options: tuple[str, ...] = (),
) -> Result:
    """Load for `seconds`, or longer until there were `least` requests."""
    upstream = f"unix:{folder}/app.sock" if transport == "unix" else f"127.0.0.1:{free_port()}"
    port = free_port()
    if by == "deploys":
        workers: Workers = Deploys(folder, interface, upstream)
    else:
        workers = Workers(folder, interface, upstream, by=by, options=options)
    result = Result()
    load = Load(port)

    async def main() -> None:
        driving = drive(load, workers, result, seconds, hup=hup, kill=kill, upgrade=by == "gunicorn", least=least)
        await asyncio.gather(load.run(clients), driving)

    try:
        with web_server(front, folder, upstream, port):
            # One answer: from now on none may be missing.
            wait_until(lambda: _answers(port))
            began = time.monotonic()
            asyncio.run(main())
            result.seconds = time.monotonic() - began
    finally:
        workers.end()
    result.requests = load.requests
    result.log = workers.log.read_text(errors="replace")
    begun = _read_begun(workers.begun)
    result.workers = len({pid for pids in begun.values() for pid in pids})
    for failure in load.failures:
        at = [at for at in workers.killed.values() if failure.began - UNNOTICED < at and failure.ended - at < AT_ONCE]
        pids = begun.get(failure.number, set())
        if at and pids <= workers.killed.keys():
            result.killed += 1
        else:
            before = [
                f"{failure.began - when:.3f} s behind {what}" for when, what in result.events if when < failure.began
            ]
            within = f"within {failure.ended - failure.began:.3f} s"
            result.lost.append(f"{failure.why} {within}, {', '.join(before[-2:])}, begun by {pids}")
    return result


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(b"GET /?0 HTTP/1.0\r\n\r\n")
        return b" 200 " in sock.recv(4096).split(b"\r\n")[0]
    return False


def _read_begun(file: Path) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for line in file.read_text().splitlines():
        number, pid = line.split()
        found.setdefault(int(number), set()).add(int(pid))
    return found
