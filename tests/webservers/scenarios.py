"""The scenarios that every web server goes through, and the matrix of what came out (``make matrix``)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PASSED, CANNOT, FAILED, SKIPPED, NOT_RUN = "ok", "-", "FAILED", "skipped", "."
_WORST = (FAILED, SKIPPED, CANNOT, PASSED)
PROPERTY = "scenario"
"""Under this name a test's report tells web server, front, scenario, and why the web server cannot, if it cannot."""


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
        self._software: dict[str, str] = {}

    def add(self, software: str, front: str, name: str, reason: str, outcome: str) -> None:
        """Note the `outcome` of a test ("passed", "failed", "skipped") behind a front of the web server `software`."""
        self._software[front] = software
        cell = (front, name)
        known = (CANNOT if reason else PASSED) if outcome == "passed" else FAILED if outcome == "failed" else SKIPPED
        self._cells[cell] = min(known, self._cells.get(cell, PASSED), key=_WORST.index)
        if reason:
            self._reasons[cell] = reason

    def lines(self) -> Iterable[str]:
        """Two tables in Markdown, of web servers and of all their fronts, with the reasons below them."""
        names = sorted({name for _, name in self._cells}, key=str.lower)
        fronts = sorted(self._software, key=lambda front: (self._software[front].lower(), front))
        servers = list(dict.fromkeys(self._software[front] for front in fronts))
        behind = {server: [front for front in fronts if self._software[front] == server] for server in servers}
        cells = [(front, name) for name in names for front in fronts]
        reasons = dict.fromkeys(self._reasons[cell] for cell in cells if cell in self._reasons)
        notes = {reason: number for number, reason in enumerate(reasons, 1)}
        yield from _table(
            ["scenario", *servers],
            [
                [f"{number}. {name}", *(self._all(behind[server], name, notes) for server in servers)]
                for number, name in enumerate(names, 1)
            ],
        )
        yield ""
        yield from _table(
            ["web server", "front", *(str(number) for number, _ in enumerate(names, 1))],
            [[self._software[front], front, *(self._one(front, name, notes) for name in names)] for front in fronts],
        )
        yield ""
        yield f"{PASSED}: as asked. {CANNOT}N: the web server cannot, the test looks at what happens; N is the reason."
        yield f"{NOT_RUN}: not run: this front is asked for URLs only, or has no part in the scenario."
        yield from (f"{CANNOT}{number}: {reason}" for reason, number in notes.items())
        count = Counter(self._cells.values())
        words = {PASSED: PASSED, CANNOT: "the web server cannot", FAILED: FAILED, SKIPPED: SKIPPED}
        told = ", ".join(f"{count[state]} {word}" for state, word in words.items() if count[state])
        yield f"{len(servers)} web servers, {len(fronts)} fronts, {len(names)} scenarios: {told}"

    def _one(self, front: str, name: str, notes: Mapping[str, int]) -> str:
        state = self._cells.get((front, name), NOT_RUN)
        return f"{CANNOT}{notes[self._reasons[front, name]]}" if state == CANNOT else state

    def _all(self, fronts: Sequence[str], name: str, notes: Mapping[str, int]) -> str:
        """What all fronts of a web server say: each thing once, the best first."""
        found = {self._one(front, name, notes) for front in fronts if (front, name) in self._cells}
        return ", ".join(sorted(found, key=lambda text: (text in {FAILED, SKIPPED}, text != PASSED, text))) or NOT_RUN


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for number, row in enumerate((head, *rows)):
        yield "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
