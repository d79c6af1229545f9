"""What one turn of load tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """`units` (requests, megabytes, events) in `seconds`, their latencies, and what went wrong."""

    units: float
    seconds: float
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    note: str = ""
