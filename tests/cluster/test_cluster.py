"""Three hosts in network namespaces behind HAProxy and nginx: the example, as a reader runs it, with less load."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.cluster.network import Network
from examples.cluster.programs import CLIENT, FRONT, HOSTS, PORT, AppServer
from tests.support.examples import ROOT, blocks_of
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

EXAMPLE = ROOT / "examples" / "cluster"
DOCS = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
RUN = [sys.executable, "-m", "examples.cluster"]
NAMESPACES = Path("/run/netns")


@pytest.mark.parametrize(
    ("balancer", "steps"),
    [("haproxy", ("cut", "drain", "kill")), ("nginx", ("cut",))],
    ids=("haproxy", "nginx"),
)
@pytest.mark.slow
def test_no_request_that_may_be_repeated_fails(
    balancer: str, steps: tuple[str, ...], program: Callable[[str], str]
) -> None:
    program("ip")
    program(balancer)
    # Slow answers: many requests are under way at once, and the machine is not busy.
    options = ["--requests", "400", "--visitors", "16", "--seconds", "0.05", "--steps", *steps]
    done = subprocess.run([*RUN, balancer, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    requests, *served, failed = re.findall(
        r"^(\d+) requests \(a (\d+), b (\d+), c (\d+)\): (\d+) GET", done.stdout, re.MULTILINE
    )[0]
    assert failed == "0"
    assert int(requests) >= 400
    assert min(map(int, served)) > 0
    assert len(re.findall(r"longest answer", done.stdout)) == 2 + len(steps) + ("cut" in steps)


def test_only_the_web_server_may_connect(program: Callable[[str], str], tmp_path: Path) -> None:
    program("ip")
    ask = [sys.executable, "-m", "simple_fastcgi", "call", f"{HOSTS['a']}:{PORT}", "/fcgi-ping"]
    with ExitStack() as stack:
        hosts = {"front": FRONT, "client": CLIENT, "a": HOSTS["a"]}
        network = stack.enter_context(Network({host: f"{address}/24" for host, address in hosts.items()}))
        app = stack.enter_context(AppServer(network, "a", tmp_path, 0))
        app.ready()
        asked = {
            host: subprocess.run(network.command(host, *ask), cwd=ROOT, capture_output=True, text=True, check=False)
            for host in ("front", "client")
        }
        assert app.terminate() == 0
    assert (asked["front"].returncode, asked["front"].stdout) == (0, "pong\n"), asked
    assert (asked["client"].returncode != 0, asked["client"].stdout) == (True, ""), asked
    assert CLIENT in app.log()


def test_nothing_is_left_when_it_is_interrupted(program: Callable[[str], str]) -> None:
    program("ip")
    program("nginx")
    with subprocess.Popen([*RUN, "nginx"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "all three hosts" in process.stdout.readline()
        ours = f"fcgi-{process.pid}-"
        names = [path.name for path in NAMESPACES.iterdir() if path.name.startswith(ours)]
        assert len(names) == 6
        inodes = {os.stat(NAMESPACES / name).st_ino for name in names}
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(TIMEOUT) == 128 + signal.SIGINT
    assert [path for path in NAMESPACES.iterdir() if path.name.startswith(ours)] == []
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and namespace_of(pid) in inodes] == []


def namespace_of(pid: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def test_without_the_right_it_says_so(program: Callable[[str], str]) -> None:
    program("ip")
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*powerless, *RUN, "nginx"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Network namespaces need root, or the capabilities SYS_ADMIN and NET_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_ip_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.cluster.network._SYSTEM_PATH", str(tmp_path))
    with pytest.raises(Exception, match="apt-get install iproute2"):
        Network({})


def test_the_page_shows_the_configurations_of_the_example() -> None:
    assert blocks_of(DOCS, "text")[1] == (EXAMPLE / "haproxy.cfg").read_text(encoding="utf-8")
    assert blocks_of(DOCS, "nginx")[0] == (EXAMPLE / "nginx.conf").read_text(encoding="utf-8")
    for page in (EXAMPLE / "README.md").read_text(encoding="utf-8"), DOCS:
        assert "python -m examples.cluster haproxy" in page
