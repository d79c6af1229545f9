"""Child processes that coverage does not measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "COVERAGE_"


def variables_of_coverage(environment: Iterable[str]) -> list[str]:
    """The names of variables by which a child process learns that it is measured."""
    return [name for name in environment if name.startswith(PREFIX)]
