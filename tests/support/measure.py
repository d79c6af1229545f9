"""What coverage does not measure: child processes, tests marked no_cover, and pytest itself."""

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


class Tracing:
    """Whether this thread is traced: with a tracer that looks at each line pytest's own code takes twice as long.

    Coverage goes on, and so do other threads, which it traces from their start.
    """

    def __init__(self) -> None:
        self._tracer = sys.gettrace()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Trace nothing in this thread for the time of the block."""
        self._pause()
        try:
            yield
        finally:
            self._resume()

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Within a block that is paused: trace after all."""
        self._resume()
        try:
            yield
        finally:
            # Another one than before, if measuring was stopped meanwhile.
            self._pause()

    def _pause(self) -> None:
        self._tracer = sys.gettrace()
        sys.settrace(None)

    def _resume(self) -> None:
        sys.settrace(self._tracer)


tracing = Tracing()
