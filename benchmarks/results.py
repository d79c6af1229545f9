"""What a run yields, as data: samples of each turn, the figures made of them, and the run around them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .figures import median, spread

if TYPE_CHECKING:
    from collections.abc import Callable

Main = Literal["cpu", "rate", "memory"]
"""The figure that a scenario is about, and that its ratios are made of."""


@dataclass(frozen=True)
class Sample:
    """One turn of one contestant.

    `cpu`: seconds of processor time of the server's whole process tree. `others`: the share of the server's core that
    somebody else used meanwhile, 0 to 1. `memory`: bytes; what they are depends on the scenario: how much the peak was
    above what the server had before its first turn, or what it has at rest.
    """

    units: float
    seconds: float
    cpu: float
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    others: float = 0.0
    memory: int | None = None
    note: str = ""

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time for each unit."""
        return self.cpu / self.units * 1e6

    @property
    def rate(self) -> float:
        """Units in a second."""
        return self.units / self.seconds


@dataclass
class Row:
    """One contestant in one scenario: its samples, or why there are none."""

    contestant: str
    python: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    missing: str = ""

    @property
    def title(self) -> str:
        """The contestant with its interpreter."""
        return f"{self.contestant} ({self.python})" if self.python else self.contestant

    @property
    def measured(self) -> bool:
        return any(sample.units for sample in self.samples)

    @property
    def cpu_us(self) -> float:
        """The median of the turns, in microseconds for each unit."""
        return median(self._values(lambda sample: sample.cpu_us))

    @property
    def cpu_us_lowest(self) -> float:
        """That of the turn that was disturbed the least."""
        return min(self._values(lambda sample: sample.cpu_us))

    @property
    def rate(self) -> float:
        """The median of the turns, in units a second."""
        return median(self._values(lambda sample: sample.rate))

    @property
    def memory(self) -> float | None:
        """The most of all turns, in bytes for each unit of a turn that counts connections, in bytes otherwise."""
        return max(self._values(lambda sample: sample.memory), default=None)

    @property
    def p99_ms(self) -> float | None:
        known = self._values(lambda sample: sample.p99_ms)
        return median(known) if known else None

    @property
    def others(self) -> float:
        return median(self._values(lambda sample: sample.others))

    @property
    def errors(self) -> int:
        return sum(sample.errors for sample in self.samples)

    @property
    def cpu_spread(self) -> float:
        """From the lowest turn to the highest, as a share of the median."""
        return spread(self._values(lambda sample: sample.cpu_us))

    def main(self, which: Main) -> float:
        """The figure that a scenario is about."""
        if which == "memory":
            return self.memory or 0.0
        return self.cpu_us if which == "cpu" else self.rate

    def _values(self, value: Callable[[Sample], float | None]) -> list[float]:
        values = [value(sample) for sample in self.samples if sample.units]
        return [each for each in values if each is not None]


@dataclass
class Table:
    """One scenario."""

    scenario: str
    title: str
    unit: str
    reference: str
    main: Main = "cpu"
    columns: tuple[str, ...] = ()
    point: tuple[str, float] | None = None
    """What grows from table to table of one series, and how much of it there is here."""
    rows: list[Row] = field(default_factory=list)

    def ratio(self, row: Row) -> float | None:
        """Its main figure as a multiple of the reference's on the same interpreter, in the same run."""
        other = self.reference_of(row)
        return row.main(self.main) / other.main(self.main) if other and other.main(self.main) else None

    def reference_of(self, row: Row) -> Row | None:
        """The reference on the row's interpreter; where either has none, the first one measured."""
        measured = [one for one in self.rows if one.measured and one.contestant == self.reference]
        same = [one for one in measured if not row.python or not one.python or one.python == row.python]
        return next(iter(same), None)


@dataclass
class Run:
    """All tables of one run, and what is needed to judge and to repeat it."""

    command: str
    preset: str
    rounds: int
    seconds: float
    machine: dict[str, str]
    tables: list[Table] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, each sample included; the figures are added for readers."""
        data = asdict(self)
        for table, out in zip(self.tables, data["tables"], strict=True):
            for row, row_out in zip(table.rows, out["rows"], strict=True):
                if row.measured:
                    row_out["figures"] = {
                        "cpu_us": row.cpu_us,
                        "cpu_us_lowest": row.cpu_us_lowest,
                        "cpu_spread": row.cpu_spread,
                        "rate": row.rate,
                        "memory": row.memory,
                        "ratio": table.ratio(row),
                        "p99_ms": row.p99_ms,
                        "errors": row.errors,
                        "others": row.others,
                    }
        return data
