"""Results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.results import Row, Run, Table


def render(run: Run) -> str:
    """The whole page."""
    parts = ["# Benchmark results", "", f"Made by `{run.command}`: {run.rounds} rounds of {run.seconds:g} s.", ""]
    parts += [*grid(("", ""), [(key, value) for key, value in run.machine.items()]), ""]
    parts += [
        "CPU: processor time of the server's whole process tree for each unit, median of the rounds; spread: from the",
        "lowest round to the highest. Ratio: to the reference of the same table and interpreter. Others: the share of",
        "the server's core that was busy with something else.",
        "",
    ]
    for table in run.tables:
        parts += [*section(table), ""]
    parts += ["## Versions", "", *versions(run)]
    return "\n".join(parts) + "\n"


def section(table: Table) -> Iterator[str]:
    """One scenario."""
    yield f"## {table.scenario}: {table.title}"
    yield ""
    head = (
        "contestant",
        f"CPU us/{table.unit}",
        "spread",
        f"ratio to {table.reference}",
        f"{table.unit}s/s",
        "p99 ms",
        "errors",
        "others",
    )
    yield from grid(head, [_cells(table, row) for row in table.rows if row.measured])
    absent = [row for row in table.rows if not row.measured]
    if absent:
        yield ""
        yield "Not measured: " + "; ".join(f"{row.contestant} ({_reason(row)})" for row in absent) + "."


def _cells(table: Table, row: Row) -> tuple[str, ...]:
    ratio = table.ratio(row)
    return (
        row.contestant,
        f"{row.cpu_us:.1f}",
        f"{row.cpu_spread:.0%}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{row.rate:,.0f}",
        "" if row.p99_ms is None else f"{row.p99_ms:.1f}",
        str(row.errors),
        f"{row.others:.0%}",
    )


def _reason(row: Row) -> str:
    notes = [sample.note for sample in row.samples if sample.note]
    return row.missing or (notes[0] if notes else "no answers")


def versions(run: Run) -> Iterator[str]:
    """What each contestant consists of."""
    seen: dict[str, dict[str, str]] = {}
    for table in run.tables:
        for row in table.rows:
            if row.versions:
                seen.setdefault(row.contestant, row.versions)
    rows = [(name, ", ".join(f"{part} {version}" for part, version in parts.items())) for name, parts in seen.items()]
    yield from grid(("contestant", "versions"), rows)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if not number else "---:" for number in range(len(head))) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
