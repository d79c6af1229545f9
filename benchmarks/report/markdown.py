"""Results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import slope

from . import targets
from .grid import grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Row, Run, Table

_EXPLANATION = """\
CPU is the processor time of the server's whole process tree for each unit, the median of the rounds. Lowest is the
round that was disturbed the least; the spread goes from there to the highest, as a share of the median. The ratio goes
to the reference of the same table, on the same interpreter, in the same run. Memory is how far the server's peak rose
above what it had before the load, unless the title says otherwise. "Others" is how much of the server's core was busy
with something else: the higher, the less the figures are worth.
"""


def render(run: Run) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"Made by `{run.command}`: {_rounds(run)} of {run.seconds:g} s.",
            "",
            *grid(("machine", ""), run.machine.items()),
            "",
            _EXPLANATION,
            *targets.section(run),
            *(line for table in run.tables for line in (*section(table), "")),
            *slopes(run),
            "## Versions",
            "",
            *versions(run),
            "",
        ]
    )


def _rounds(run: Run) -> str:
    most = max((len(row.samples) for table in run.tables for row in table.rows), default=run.rounds)
    # In a full run.
    more = f", {most} for whoever the targets name," if most > run.rounds else ""
    return f"{run.rounds} rounds{more}"


def section(table: Table) -> Iterator[str]:
    """One scenario."""
    yield f"## {table.scenario}"
    yield ""
    yield f"{table.title}."
    yield ""
    columns = [COLUMNS[name] for name in table.columns]
    if any(row.measured for row in table.rows):
        head = ("contestant", *(heading(table) for heading, _ in columns))
        rows = [(row.title, *(cell(table, row) for _, cell in columns)) for row in table.rows if row.measured]
        yield from grid(head, rows)
    absent = [row for row in table.rows if not row.measured]
    if absent:
        yield ""
        yield "Not measured: " + "; ".join(f"{row.title} ({_reason(row)})" for row in absent) + "."


def slopes(run: Run) -> Iterator[str]:
    """What one more of something costs, for each series of scenarios in which it grows."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for table in run.tables:
        if table.point:
            name, size = table.point
            for row in table.rows:
                if row.measured:
                    series.setdefault(name, {}).setdefault(row.title, []).append((size, row.cpu_us))
    for name, lines in series.items():
        yield f"## What one more {name} costs"
        yield ""
        rows = [(title, f"{slope(points):.2f}") for title, points in lines.items() if len(points) > 1]
        yield from grid(("contestant", f"CPU us/{name}"), rows)
        yield ""


def _ratio(table: Table, row: Row) -> str:
    ratio = table.ratio(row)
    return "" if ratio is None else f"{ratio:.2f}"


def _over(table: Table, row: Row) -> str:
    other = table.reference_of(row)
    return "" if other is None else f"{(row.cpu_us - other.cpu_us) / 1000:+.1f}"


def _memory_over(table: Table, row: Row) -> str:
    other = table.reference_of(row)
    return "" if other is None else f"{((row.memory or 0) - (other.memory or 0)) / 2**20:+.1f}"


Cell = tuple["Callable[[Table], str]", "Callable[[Table, Row], str]"]
COLUMNS: dict[str, Cell] = {
    "cpu": (lambda table: f"CPU us/{table.unit}", lambda _, row: f"{row.cpu_us:,.1f}"),
    "cpu ms": (lambda _: "CPU ms", lambda _, row: f"{row.cpu_us / 1000:,.1f}"),
    "cpu over": (lambda table: f"CPU ms over {table.reference}", _over),
    "lowest": (lambda _: "lowest", lambda _, row: f"{row.cpu_us_lowest:,.1f}"),
    "spread": (lambda _: "spread", lambda _, row: f"{row.cpu_spread:.0%}"),
    "ratio": (lambda table: f"ratio to {table.reference}", _ratio),
    "rate": (lambda table: f"{_plural(table.unit)}/s", lambda _, row: f"{row.rate:,.0f}"),
    "wall ms": (lambda _: "ms", lambda _, row: f"{1000 / row.rate:,.1f}"),
    "p99": (lambda _: "p99 ms", lambda _, row: "" if row.p99_ms is None else f"{row.p99_ms:.1f}"),
    "memory": (lambda _: "memory MB", lambda _, row: "" if row.memory is None else f"{row.memory / 2**20:.1f}"),
    "memory over": (lambda table: f"MB over {table.reference}", _memory_over),
    "bytes": (lambda table: f"bytes/{table.unit}", lambda _, row: f"{row.memory or 0:,.0f}"),
    "errors": (lambda _: "errors", lambda _, row: str(row.errors)),
    "others": (lambda _: "others", lambda _, row: f"{row.others:.0%}"),
}


def _plural(unit: str) -> str:
    return unit if unit.isupper() else f"{unit}s"


def _reason(row: Row) -> str:
    notes = [sample.note for sample in row.samples if sample.note]
    return row.missing or (notes[0] if notes else "no answers")


def versions(run: Run) -> Iterator[str]:
    """What each contestant consists of."""
    seen = {row.title: row.versions for table in run.tables for row in table.rows if row.versions}
    rows = [(name, ", ".join(f"{part} {version}" for part, version in parts.items())) for name, parts in seen.items()]
    yield from grid(("contestant", "versions"), rows)
