"""wrk, which asks through nginx as fast as it gets answers. It counts answers that are not 200, and reads no bodies."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants.prepare import Missing
from benchmarks.machine import pinned

from .turn import Turn
from .wires import WIRES

if TYPE_CHECKING:
    from .requests import Traffic

SCRIPT = Path(__file__).with_name("wrk.lua")
VARIED_REQUESTS = 50_000
"""How many different ones there are before the first comes again."""
READY = "ready"
"""The line that the script writes when it has read the requests."""
_SECONDS_TO_END = 20.0
_SECONDS_TO_LISTEN = 0.5


def version() -> str:
    """Its name and version, or that it is missing."""
    if shutil.which("wrk") is None:
        return "no wrk"
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout  # its status is 1
    return " ".join(told.split()[:2])


def write_requests(traffic: Traffic, file: Path) -> None:
    """The file that the script reads: a line with the length, the request, and so on."""
    wire = WIRES["http"]
    with file.open("wb") as out:
        for number in range(VARIED_REQUESTS if traffic.varied else 1):
            data = wire.encode(traffic.request(number), kept=True)
            out.write(b"%d\n%s" % (len(data), data))


def run(port: int, requests: Path, connections: int, seconds: float, core: int) -> Turn:
    """One turn; Missing when there is no wrk."""
    program = shutil.which("wrk")
    if program is None:
        raise Missing("wrk is not installed")
    # It knows whole seconds only; SIGINT ends it earlier, with its report.
    command = [program, "-t1", f"-c{connections}", "-d3600s", "--timeout", "10s", "-s", str(SCRIPT)]
    with pinned(core):
        wrk = subprocess.Popen(
            [*command, f"http://127.0.0.1:{port}/", "--", str(requests)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with wrk:
        try:
            _await(wrk, READY)
            time.sleep(seconds)
            output = _interrupt(wrk)
        finally:
            wrk.kill()
    return parse(output)


def _await(wrk: subprocess.Popen[str], line: str) -> None:
    assert wrk.stdout is not None
    for each in wrk.stdout:
        if each.strip() == line:
            return
    raise Missing("wrk does not start")


def _interrupt(wrk: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < deadline:
        wrk.send_signal(signal.SIGINT)
        try:
            return wrk.communicate(timeout=_SECONDS_TO_LISTEN)[0]
        except subprocess.TimeoutExpired:
            continue  # it came before wrk fell asleep
    raise Missing("wrk does not end")


def parse(output: str) -> Turn:
    """The report that ends the output; Missing when there is none."""
    *_, last = output.strip().splitlines() or [""]
    try:
        report = json.loads(last)
    except ValueError:
        raise Missing(f"wrk gives no report: {last[-100:]}") from None
    return Turn(
        units=report["requests"] - report["status"],
        seconds=report["seconds"],
        errors=sum(report[kind] for kind in ("connect", "read", "write", "timeout", "status")),
        p50_ms=report["p50"] / 1000,
        p99_ms=report["p99"] / 1000,
    )
