"""wrk, which asks through nginx as fast as it gets answers. It counts answers that are not 200, and reads no bodies."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants.prepare import Missing
from benchmarks.machine import pinned

from .turn import Turn
from .wires import WIRES

if TYPE_CHECKING:
    from .requests import Traffic

SCRIPT = Path(__file__).with_name("wrk.lua")
VARIED_REQUESTS = 20_000
"""How many different ones there are before the first comes again."""
_SECONDS_TO_END = 10.0


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
    try:
        wrk.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        wrk.send_signal(signal.SIGINT)
    try:
        output, _ = wrk.communicate(timeout=_SECONDS_TO_END)
    finally:
        wrk.kill()
    return parse(output)


def parse(output: str) -> Turn:
    """The report that ends the output; ValueError when there is none."""
    *_, last = output.strip().splitlines() or [""]
    report = json.loads(last)
    return Turn(
        units=report["requests"] - report["status"],
        seconds=report["seconds"],
        errors=sum(report[kind] for kind in ("connect", "read", "write", "timeout", "status")),
        p50_ms=report["p50"] / 1000,
        p99_ms=report["p99"] / 1000,
    )
