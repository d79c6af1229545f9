"""The status page, with the words that operators know from PHP-FPM, and the answer to a ping."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from .scoreboard import (
    ABORTED,
    ACCEPTED,
    ACTIVE,
    BOUNDS,
    BYTES_IN,
    BYTES_OUT,
    CONNECTIONS,
    ENDED,
    FAILED,
    HAS_LOOP,
    LATENCIES,
    PID,
    QUEUED,
    REJECTED,
    SATURATED,
    SLOW,
    STARTED,
    quantile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .scoreboard import Entry, Scoreboard, Seat

    Snapshot = dict[str, Any]

QUANTILES = (0.5, 0.9, 0.99)
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
PONG = b"Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\r\npong\n"
"""The whole response to a ping."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a status page tells besides what was counted.

    ``pool``: the application's name. ``manager``: "static" with worker processes, "single" without. ``threads``: of one
    process, 0 for an event loop. ``limits``: the settings that bound all this, by name. ``queue``: gives the
    connections that wait for a process and for how many there is room, or None.
    """

    pool: str
    manager: str = "single"
    threads: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    queue: Callable[[], tuple[int, int] | None] = lambda: None


def snapshot(board: Scoreboard, facts: Facts, *, full: bool = False) -> Snapshot:
    """Everything that can be told now; of times in seconds, of sizes in bytes. With `full` also what is under way."""
    seats, sums = list(board.seats()), board.sums()
    now = time.time()
    latencies = sums[LATENCIES : LATENCIES + len(BOUNDS) + 1]
    waiting, room = facts.queue() or (0, 0)
    active = sum(1 for seat in seats if seat.counters[ACTIVE])
    most_requests, most_processes = board.look()
    told: Snapshot = {
        "pool": facts.pool,
        "process manager": facts.manager,
        "start time": int(board.started),
        "start since": int(now - board.started),
        "accepted conn": sums[ACCEPTED],
        "listen queue": waiting,
        "listen queue len": room,
        "idle processes": len(seats) - active,
        "active processes": active,
        "total processes": len(seats),
        "max active processes": most_processes,
        "max active requests": most_requests,
        "max children reached": sums[SATURATED],
        "slow requests": sums[SLOW],
        "requests": sums[ENDED],
        "requests in flight": sum(seat.counters[ACTIVE] for seat in seats),
        "requests queued": sum(seat.counters[QUEUED] for seat in seats),
        "aborted requests": sums[ABORTED],
        "rejected requests": sums[REJECTED],
        "failed requests": sums[FAILED],
        "bytes in": sums[BYTES_IN],
        "bytes out": sums[BYTES_OUT],
        "connections": sum(seat.counters[CONNECTIONS] for seat in seats),
        **{f"latency p{share * 100:g}": round(quantile(latencies, share), 6) for share in QUANTILES},
        "memory": sum(memory_of(int(seat.counters[PID])) for seat in seats),
        # What kind of application it is a worker knows, and not its master.
        "threads": 0 if any(seat.counters[HAS_LOOP] for seat in seats) else facts.threads,
        "limits": dict(facts.limits),
    }
    if full:
        told["processes"] = [_process(seat) for seat in seats]
        told["requests under way"] = [_request(entry) for entry in board.entries()]
    return told


def _process(seat: Seat) -> Snapshot:
    counters = seat.counters
    since = time.monotonic() - counters[STARTED] / 1e6
    return {
        "pid": counters[PID],
        "state": "Running" if counters[ACTIVE] else "Idle",
        "start time": int(time.time() - since),
        "start since": int(since),
        "requests": counters[ENDED],
        "requests in flight": counters[ACTIVE],
        "requests queued": counters[QUEUED],
        "connections": counters[CONNECTIONS],
        "memory": memory_of(int(counters[PID])),
    }


def _request(entry: Entry) -> Snapshot:
    # Asked for once: the time that it has waited is never longer than that since it came.
    now = time.monotonic()
    return {
        "pid": entry.pid,
        "stage": entry.stage.name.capitalize(),
        "request method": entry.method,
        "request URI": entry.uri,
        "request duration": round(now - entry.arrived, 3),
        "queue duration": round((entry.started or now) - entry.arrived, 3),
    }


def memory_of(pid: int) -> int:
    """The bytes of memory that process `pid` holds; 0 where nobody tells."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_SIZE
    except OSError:
        return 0
