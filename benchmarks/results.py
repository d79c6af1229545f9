"""What a run yields, as data: samples of each turn, the figures made of them, and the run around them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .figures import median, spread

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Sample:
    """One turn of one contestant.

    `cpu`: seconds of processor time of the server's whole process tree. `others`: the share of the server's core that
    somebody else used meanwhile, 0 to 1. `growth`: bytes of memory that its peak was above where it began.
    """

    units: float
    seconds: float
    cpu: float
    errors: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    others: float = 0.0
    growth: int | None = None
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
    versions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    missing: str = ""

    @property
    def measured(self) -> bool:
        return any(sample.units for sample in self.samples)

    @property
    def cpu_us(self) -> float:
        """The median of the turns."""
        return self._median(lambda sample: sample.cpu_us)

    @property
    def cpu_spread(self) -> float:
        """From the lowest turn to the highest, as a share of the median."""
        return spread([sample.cpu_us for sample in self.samples if sample.units])

    @property
    def rate(self) -> float:
        return self._median(lambda sample: sample.rate)

    @property
    def p99_ms(self) -> float | None:
        known = [sample.p99_ms for sample in self.samples if sample.p99_ms is not None]
        return median(known) if known else None

    @property
    def others(self) -> float:
        return self._median(lambda sample: sample.others)

    @property
    def errors(self) -> int:
        return sum(sample.errors for sample in self.samples)

    @property
    def growth(self) -> int | None:
        known = [sample.growth for sample in self.samples if sample.growth is not None]
        return max(known) if known else None

    def _median(self, value: Callable[[Sample], float]) -> float:
        return median([value(sample) for sample in self.samples if sample.units])


@dataclass
class Table:
    """One scenario."""

    scenario: str
    title: str
    unit: str
    reference: str
    rows: list[Row] = field(default_factory=list)

    def ratio(self, row: Row) -> float | None:
        """Its processor time as a multiple of the reference's on the same interpreter, in the same run."""
        if (other := self.reference_of(row)) is None:
            return None
        return row.cpu_us / other.cpu_us

    def reference_of(self, row: Row) -> Row | None:
        """The reference on the row's interpreter; for a row without one, the first."""
        measured = [one for one in self.rows if one.measured and _bare(one.contestant) == self.reference]
        same = [one for one in measured if _python(one.contestant) == _python(row.contestant)]
        return next(iter(same or ([] if _python(row.contestant) and measured else measured)), None)


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
                        "cpu_spread": row.cpu_spread,
                        "ratio": table.ratio(row),
                        "rate": row.rate,
                        "p99_ms": row.p99_ms,
                        "errors": row.errors,
                        "others": row.others,
                        "growth": row.growth,
                    }
        return data


def _bare(title: str) -> str:
    return title.partition(" ")[0]


def _python(title: str) -> str:
    return title.partition(" ")[2]
