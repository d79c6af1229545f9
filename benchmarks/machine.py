"""The machine under the measurements: its cores, its clocks, and what else it was doing."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds in one unit of /proc's times."""


@dataclass(frozen=True)
class Cores:
    """Which core serves and which makes the load; one and the same on a machine that has only one."""

    server: int
    load: int

    @property
    def shared(self) -> bool:
        return self.server == self.load


def pick_cores() -> Cores:
    """The last core that this process may use for the server, the first for the load.

    Interrupts and other programs gather on the first.
    """
    cores = sorted(os.sched_getaffinity(0))
    return Cores(server=cores[-1], load=cores[0])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What this thread starts within runs on `core`: children inherit their place."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(core: int) -> float:
    """The time for which `core` has done anything at all since it started; stolen time counts."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) * TICK
    raise LookupError(f"no core {core}")


def describe() -> dict[str, str]:
    """What a reader needs to know of this machine to judge the figures."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": _system(),
        "kernel": platform.release(),
        "load average at the start": load_average(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def load_average() -> str:
    """Of the last 1, 5 and 15 minutes; a run adds about 2 by itself."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
