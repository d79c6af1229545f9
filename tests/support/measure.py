"""Child processes that coverage does not measure."""

from __future__ import annotations


def is_of_coverage(variable: str) -> bool:
    """Whether a child process learns by this variable of its environment that it is measured."""
    return variable.startswith("COVERAGE_")
