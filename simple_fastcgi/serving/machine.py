"""How many CPUs and how much memory this process may use, and what that means for workers and threads."""

from __future__ import annotations

import math
import os
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[str], str | None]

WORKER_MEMORY = 128 << 20
"""Bytes that a worker process is reckoned to need."""
THREADS_A_CPU = 4
"""Requests at once for each CPU: most of the time they wait for a database."""
_FEWEST_THREADS, _MOST_THREADS = 4, 32
_CGROUPS = "/sys/fs/cgroup"


class Machine(namedtuple("Machine", ("cpus", "memory"))):
    """`cpus`, of which there may be half a one, and `memory` in bytes, 0 where it is not known."""

    __slots__ = ()
    cpus: float
    memory: int

    def workers(self) -> int:
        """One process for each CPU, as far as the memory allows; at least one."""
        fitting = self.memory // WORKER_MEMORY if self.memory else math.inf
        return max(1, int(min(math.ceil(self.cpus), fitting)))

    def threads(self, workers: int) -> int:
        """Threads of each of so many processes."""
        return min(_MOST_THREADS, max(_FEWEST_THREADS, math.ceil(THREADS_A_CPU * self.cpus / workers)))

    def __str__(self) -> str:
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus != 1 else ''}"
        return f"{cpus} and {self.memory >> 20} MiB of memory" if self.memory else cpus


def this_machine() -> Machine:
    """What this process may use: of the machine, and of what its cgroup leaves it."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        memory = 0
    return within(Machine(float(affinity), max(0, memory)), _read)


def within(machine: Machine, read: Read) -> Machine:
    """`machine`, as far as the cgroups of this process leave it.

    `read` gives the text of a file, None if there is none. Version 2 of cgroups and version 1; what cannot be read, or
    understood, limits nothing. A container that is told its path as the host sees it finds its limits at the root.
    """
    cpus, memory = machine
    for folder in _folders(read("/proc/self/cgroup") or ""):
        for quota, period in (
            _two((read(f"{folder}/cpu.max") or "").split()),
            _two([read(f"{folder}/cpu.cfs_quota_us") or "", read(f"{folder}/cpu.cfs_period_us") or ""]),
        ):
            if quota > 0 and period > 0:
                cpus = min(cpus, max(quota / period, 0.01))
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (limit := _number(read(f"{folder}/{name}") or "")) > 0:
                memory = min(memory or limit, limit)
    return Machine(round(cpus, 2), memory)


def _folders(told: str) -> Iterator[str]:
    """Where the limits of the cgroups in `told` (/proc/self/cgroup) stand: each one's own, and those of all above."""
    for line in told.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        kinds = controllers.split(",")
        if not colon or not ({"", "cpu", "memory"} & set(kinds)):
            continue
        root = f"{_CGROUPS}/{controllers}" if controllers else _CGROUPS
        parts = [part for part in path.split("/") if part and part != ".."]
        for count in range(len(parts), -1, -1):
            yield "/".join([root, *parts[:count]])


def _two(words: list[str]) -> tuple[int, int]:
    return (_number(words[0]), _number(words[1])) if len(words) == 2 else (0, 0)


def _number(text: str) -> int:
    """A whole number above 0; 0 for what is none, as "max" and -1, which mean that there is no limit."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return None
