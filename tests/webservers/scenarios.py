"""The scenarios that every web server goes through, and the matrix of what came out (``make matrix``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

PASSED, CANNOT, FAILED = "ok", "-", "FAILED"
PROPERTY = "scenario"
"""Under this name the report of a test tells front, scenario, and why the web server cannot, if it cannot."""


def scenario(name: str) -> pytest.MarkDecorator:
    """Count a test as part of the scenario `name`; several tests may be parts of one.

    A front whose web server cannot do all of it says why under the same name in its `limits`; the test then looks at
    what really happens.
    """
    return pytest.mark.scenario(name)


class Matrix:
    """What came out: for each front and each scenario all tests together, with both frameworks."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], str] = {}
        self._reasons: dict[tuple[str, str], str] = {}

    def add(self, front: str, name: str, reason: str, *, passed: bool) -> None:
        cell = (front, name)
        if not passed:
            self._cells[cell] = FAILED
        elif self._cells.get(cell) != FAILED:
            self._cells[cell] = CANNOT if reason else PASSED
        if reason:
            self._reasons[cell] = reason

    def lines(self) -> Iterable[str]:
        """A table in Markdown, with the reasons below it."""
        fronts = list(dict.fromkeys(front for front, _ in sorted(self._cells)))
        names = list(dict.fromkeys(name for _, name in sorted(self._cells, key=lambda cell: cell[1])))
        notes = {reason: number for number, reason in enumerate(dict.fromkeys(self._reasons.values()), 1)}
        yield "| | " + " | ".join(fronts) + " |"
        yield "|---|" + ":---:|" * len(fronts)
        for name in names:
            row = []
            for front in fronts:
                text = self._cells.get((front, name), "")
                reason = self._reasons.get((front, name))
                row.append(f"{text} ({notes[reason]})" if reason else text)
            yield f"| {name} | " + " | ".join(row) + " |"
        yield ""
        yield from (f"({number}) the web server cannot: {reason}" for reason, number in notes.items())
