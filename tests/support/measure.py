"""What coverage does not measure: child processes, and tests marked no_cover."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_of_coverage(variable: str) -> bool:
    """Whether a child process learns by this variable of its environment that it is measured."""
    return variable.startswith("COVERAGE_")


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure nothing in this process for the time of the block."""
    stopped = []
    if "coverage" in sys.modules:
        while (measuring := sys.modules["coverage"].Coverage.current()) is not None:
            measuring.stop()
            stopped.append(measuring)
    try:
        yield
    finally:
        for measuring in reversed(stopped):
            # Each start would wrap os._exit and hook into forks once more: hundreds of starts made a fork take seconds.
            patches = measuring.get_option("run:patch")
            measuring.set_option("run:patch", [])
            measuring.start()
            measuring.set_option("run:patch", patches)
