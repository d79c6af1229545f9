"""What runs on the hosts: application servers, and HAProxy or nginx in front of them; all of them end with the run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from .network import Network

HERE = Path(__file__).resolve().parent
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
TIMEOUT = 60.0
"""Seconds for anything that should happen: a busy machine may stand still for moments."""
LOOK_SECONDS = 0.02
MOMENT_SECONDS = 0.5
"""In which every host is asked."""

FRONT = "10.77.0.1"
CLIENT = "10.77.0.2"
HOSTS = {"a": "10.77.0.11", "b": "10.77.0.12", "c": "10.77.0.13"}
PORT = 9000


class ClusterError(Exception):
    """The cluster did not do what it should; the message says what."""


def wait_for(what: str, happened: Callable[[], bool]) -> float:
    """Wait until it has happened: seconds that it took; ClusterError when it does not."""
    began = time.monotonic()
    while not happened():
        if time.monotonic() > began + TIMEOUT:
            raise ClusterError(f"waited {TIMEOUT:.0f} s in vain: {what}")
        time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


class Program:
    """A process on a host of the network; a context at whose end it is ended."""

    def __init__(self, network: Network, host: str, command: list[str], folder: Path, name: str, **more: Any) -> None:
        self._log = folder / f"{name}.log"
        self._name = name
        with self._log.open("ab") as log:
            self._log_begins = log.tell()
            # A session of its own: Ctrl+C is for who has started it.
            self.process = subprocess.Popen(
                network.command(host, *command),
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                **{"stdout": log, **more},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_bytes()[self._log_begins :].decode(errors="replace")

    def wait_until_logged(self, words: str) -> None:
        """Wait for a line that tells it is ready; ClusterError with its log when it has ended instead."""

        def logged() -> bool:
            ended = self.process.poll() is not None
            if words in self.log():
                return True
            if ended:
                raise ClusterError(f"{self._name} has ended with {self.process.returncode}:\n{self.log()}")
            return False

        wait_for(f"{self._name} tells {words!r}", logged)

    def terminate(self) -> int:
        """End it as a service manager does (SIGTERM): its exit status."""
        self.process.terminate()
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """End it as a crash does; nothing happens if it has ended."""
        self.process.kill()
        self.process.wait()


class AppServer(Program):
    """`simple-fastcgi serve` on one host; only the web server's host may connect."""

    def __init__(self, network: Network, host: str, folder: Path, seconds: float) -> None:
        command = [sys.executable, "-m", "simple_fastcgi", "serve", "app:app", "--workers", "1"]
        command += ["--bind", f"{HOSTS[host]}:{PORT}", "--allow-from", FRONT, "--ping-path", "/fcgi-ping"]
        environment = {**os.environ, "CLUSTER_HOST": host, "CLUSTER_SECONDS": str(seconds)}
        super().__init__(network, host, command, folder, f"app-{host}", cwd=HERE, env=environment)

    def ready(self) -> None:
        """Wait until it serves."""
        self.wait_until_logged("serving ")


class Load(Program):
    """The visitors, and what they have counted (see load.py)."""

    def __init__(self, network: Network, visitors: int, folder: Path) -> None:
        command = [sys.executable, str(HERE / "load.py"), FRONT, "80", str(visitors)]
        super().__init__(network, "client", command, folder, "load", stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.seen: dict[str, Any] = {"done": 0, "hosts": {}, "failed": {}, "again": 0, "reasons": []}
        self.longest = 0.0
        """Seconds of the answer that took longest, since somebody has set this to 0."""
        self._thread = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            self.seen = json.loads(line)
            self.longest = max(self.longest, self.seen["longest"])

    def wait_until(self, what: str, happened: Callable[[dict[str, Any]], bool]) -> float:
        """Wait until what the visitors have counted is so: seconds that it took."""

        def checked() -> bool:
            if self.process.poll() is not None:
                raise ClusterError(f"the visitors have left:\n{self.log()}")
            return happened(self.seen)

        return wait_for(what, checked)

    def flows(self, requests: int) -> None:
        """Wait until so many more are answered, and all that was asked before now or within a moment."""
        begins = time.monotonic() + MOMENT_SECONDS
        target = self.seen["done"] + requests
        self.wait_until(f"{requests} answers", lambda seen: seen["done"] >= target and seen["oldest"] > begins)

    def serves(self, host: str, requests: int) -> float:
        """Wait until `host` has answered so many more: seconds until it has."""
        target = self.seen["hosts"].get(host, 0) + requests
        return self.wait_until(f"{host} serves", lambda seen: seen["hosts"].get(host, 0) >= target)

    def finish(self) -> None:
        """Let them have their answers, and leave."""
        status = self.terminate()
        self._thread.join()
        if status != 0:
            raise ClusterError(f"the visitors have left:\n{self.log()}")

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._thread.join()
        super().__exit__(*exc)


class Balancer(Program):
    """What stands in front of the application servers."""

    name: ClassVar[str]

    def drain(self, host: str) -> None:
        """Send no more requests to `host`, and wait until those under way there are answered."""
        raise NotImplementedError

    def undrain(self, host: str) -> None:
        """Send requests to it again."""
        raise NotImplementedError

    def notices(self, host: str, up: bool) -> float | None:
        """Wait until it knows that `host` is there, or is not: seconds; None where nobody can ask it."""
        return None

    @classmethod
    def _find(cls, package: str) -> str:
        path = shutil.which(cls.name, path=SYSTEM_PATH)
        if path is None:
            raise ClusterError(f"the program {cls.name} is missing; on Debian: apt-get install {package}")
        return path


class HaProxy(Balancer):
    name = "haproxy"
    connections = "option keep-conn"

    def __init__(self, network: Network, folder: Path) -> None:
        self._socket = folder / "admin.sock"
        configuration = folder / "haproxy.cfg"
        text = (HERE / "haproxy.cfg").read_text(encoding="utf-8")
        configuration.write_text(text.replace("option keep-conn", self.connections), encoding="utf-8")
        command = [self._find("haproxy"), "-db", "-f", str(configuration)]
        super().__init__(network, "front", command, folder, self.name, env={**os.environ, "CLUSTER_RUN": str(folder)})
        wait_for("HAProxy begins", self._answers)
        for host in HOSTS:
            self.notices(host, up=True)

    def drain(self, host: str) -> None:
        self._say(f"set server shop/{host} state drain")
        wait_for(f"{host} is drained", lambda: self._of(host)["scur"] == "0")

    def undrain(self, host: str) -> None:
        self._say(f"set server shop/{host} state ready")

    def notices(self, host: str, up: bool) -> float:
        # While one check contradicts it is "UP 1/2".
        return wait_for(f"{host} is {up=}", lambda: self._of(host)["status"] == ("UP" if up else "DOWN"))

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise ClusterError(f"haproxy has ended with {self.process.returncode}:\n{self.log()}")
        try:
            return bool(self._say("show info"))
        except OSError:
            return False

    def _say(self, command: str) -> str:
        """A command on the runtime socket: its answer."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(TIMEOUT)
            admin.connect(str(self._socket))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def _of(self, host: str) -> dict[str, str]:
        rows = csv.DictReader(self._say("show stat").removeprefix("# ").splitlines())
        return next(row for row in rows if (row["pxname"], row["svname"]) == ("shop", host))


class HaProxyMultiplexed(HaProxy):
    """Several requests at once on one connection."""

    connections = "option mpxs-conns"


class Nginx(Balancer):
    name = "nginx"

    def __init__(self, network: Network, folder: Path) -> None:
        self._configuration = folder / "nginx.conf"
        self._configuration.write_bytes((HERE / "nginx.conf").read_bytes())
        command = [self._find("nginx-light"), "-p", str(folder), "-e", "error.log", "-c", str(self._configuration)]
        super().__init__(network, "front", [*command, "-g", "daemon off;"], folder, self.name)
        wait_for("nginx begins", self._begun)

    def _begun(self) -> bool:
        if self.process.poll() is not None:
            raise ClusterError(f"nginx has ended with {self.process.returncode}:\n{self.log()}")
        return len(self._children()) >= 2

    def drain(self, host: str) -> None:
        text = (HERE / "nginx.conf").read_text(encoding="utf-8")
        server = f"server {HOSTS[host]}:{PORT}"
        self._configuration.write_text(text.replace(server, f"{server} down"), encoding="utf-8")
        self._reload()

    def undrain(self, host: str) -> None:
        self._configuration.write_bytes((HERE / "nginx.conf").read_bytes())
        self._reload()

    def _reload(self) -> None:
        """As `nginx -s reload`; the old processes leave when they have answered what they began."""
        before = self._children()
        self.process.send_signal(signal.SIGHUP)
        wait_for("nginx reads its configuration", lambda: not before & self._children())

    def _children(self) -> set[str]:
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def kill(self) -> None:
        """End it with its worker processes, which nobody else would."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT)
