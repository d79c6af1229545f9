"""The headline as a chart: an SVG of horizontal bars, with no library."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.results import Run, Table

OURS = "simple_fastcgi"
LIMIT = "limit"
_WIDTH = 760
_LABELS = 190
_FIGURES = 60
_BAR = 18
_STEP = 24
_HEAD = 34
_NOTE = 16
_STYLE = 'font-family="system-ui, sans-serif" font-size="13" fill="#808080"'
# Colours that can be read on a white page and on a dark one.
_COLOURS = {"ours": "#1f883d", "limit": "#9a9a9a", "other": "#5b7fb4"}


@dataclass(frozen=True)
class Bar:
    """One contestant: `value` in microseconds."""

    label: str
    value: float
    kind: str


def bars(table: Table, python: str) -> list[Bar]:
    """The contestants of one interpreter, the fastest first."""
    rows = [row for row in table.rows if row.measured and row.python in {"", python}]
    return [
        Bar(row.contestant, row.cpu_us, "ours" if row.contestant.startswith(OURS) else _kind(row.contestant))
        for row in sorted(rows, key=lambda row: row.cpu_us)
    ]


def _kind(name: str) -> str:
    return "limit" if name.startswith(LIMIT) else "other"


def headline(run: Run, scenarios: Sequence[str], python: str) -> str:
    """The chart of some of a run's scenarios."""
    groups = [(table, bars(table, python)) for table in run.tables if table.scenario in scenarios]
    groups = [(table, found) for table, found in groups if found]
    height = sum(_HEAD + _STEP * len(found) for _, found in groups) + 3 * _NOTE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" {_STYLE}>',
        "<title>CPU time per request; shorter is better</title>",
    ]
    top = 0
    for table, found in groups:
        lines += _group(table, found, top)
        top += _HEAD + _STEP * len(found)
    where = f"Python {python}, {run.machine.get('processor', '')}, {run.machine.get('date', '')}"
    for note in (where, run.command):
        top += _NOTE
        lines.append(f'<text x="4" y="{top}" font-size="11">{escape(note)}</text>')
    lines += ["</svg>", ""]
    return "\n".join(lines)


def _group(table: Table, found: list[Bar], top: int) -> Iterator[str]:
    title = f"{table.title}: CPU time per {table.unit} in microseconds, shorter is better"
    yield f'<text x="4" y="{top + 22}" font-weight="bold">{escape(title)}</text>'
    scale = (_WIDTH - _LABELS - _FIGURES) / max(bar.value for bar in found)
    for number, bar in enumerate(found):
        y = top + _HEAD + number * _STEP
        width = max(1.0, bar.value * scale)
        weight = ' font-weight="bold"' if bar.kind == "ours" else ""
        yield f'<text x="{_LABELS - 8}" y="{y + 13}" text-anchor="end"{weight}>{escape(bar.label)}</text>'
        yield (f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{_COLOURS[bar.kind]}"/>')
        yield f'<text x="{_LABELS + width + 6:.1f}" y="{y + 13}">{bar.value:.1f}</text>'
