"""One scenario after the other: all of its contestants are started, and take turns."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.prepare import say

from .contestants.launch import started
from .contestants.prepare import Missing, versions_of
from .contestants.table import BY_NAME, on_pythons
from .figures import interleaved
from .machine import busy_seconds, pinned
from .probes import Probe
from .results import Row, Sample, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .contestants.launch import Server
    from .contestants.model import Contestant
    from .load.kinds import Load, Session
    from .machine import Cores
    from .scenarios import Scenario

    Rows = dict[str, Row]

WARM_UP_SHARE = 0.3
"""Of a turn's time; the warm-up counts nowhere."""
MORE_ROUNDS = 3
"""A median of few turns on a shared machine is off by a tenth; this is for the ratios that matter most."""


@dataclass(frozen=True)
class Plan:
    """How much to measure: `rounds` of turns of `seconds`, on the interpreters of `pythons`.

    `only`: the names of the contestants that may take part; empty for all. `extra`: further ones, as other checkouts.
    Whoever `is_compared` in a scenario has :data:`MORE_ROUNDS` times as many rounds.
    """

    cores: Cores
    rounds: int
    seconds: float
    pythons: list[str]
    quick: bool = False
    only: frozenset[str] = frozenset()
    extra: list[Contestant] = field(default_factory=list)
    is_compared: Callable[[Scenario, Contestant], bool] | None = None

    def contestants(self, scenario: Scenario) -> list[Contestant]:
        """Those of a scenario, on each interpreter; the reference always takes part."""
        names = scenario.quick if self.quick else scenario.contestants
        chosen = [name for name in names if not self.only or name in self.only or name == scenario.reference]
        found = [BY_NAME[name] for name in chosen]
        found += [one for one in self.extra if one.name.partition("@")[0] in chosen]
        versions = self.pythons if scenario.every_python else self.pythons[:1]
        return [each for one in found for each in on_pythons(one, versions)]

    def turns(self, scenario: Scenario, contestants: Sequence[Contestant]) -> Iterator[Contestant]:
        """Whose turn it is, until all are over."""
        often = [bool(self.is_compared and self.is_compared(scenario, one)) for one in contestants]
        more = MORE_ROUNDS if any(often) else 1
        for number, (one, is_often) in interleaved(list(zip(contestants, often, strict=True)), self.rounds * more):
            if is_often or number % more == 0:
                yield one


def measure(scenario: Scenario, plan: Plan) -> Table:
    """The table of one scenario."""
    say(f"{scenario.name}: {scenario.title}")
    contestants = plan.contestants(scenario)
    rows = {one.title: Row(one.name, one.python) for one in contestants}
    for contestant in contestants:
        try:
            rows[contestant.title].versions = versions_of(contestant)
        except Missing as reason:
            _miss(rows[contestant.title], reason)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        stack.enter_context(pinned(plan.cores.load))
        if isinstance(scenario.load, Probe):
            _probe(scenario, scenario.load, contestants, rows, folder, plan)
        else:
            _load(scenario, scenario.load, contestants, rows, folder, plan)
    return Table(
        scenario=scenario.name,
        title=scenario.title,
        unit=scenario.load.unit,
        reference=scenario.reference,
        main=scenario.main,
        columns=scenario.columns,
        point=scenario.point,
        rows=list(rows.values()),
    )


def _probe(
    scenario: Scenario, probe: Probe, contestants: Sequence[Contestant], rows: Rows, folder: Path, plan: Plan
) -> None:
    """Contestants that are started anew for each sample. The first start writes bytecode and fills caches."""
    for number, contestant in enumerate((*contestants, *plan.turns(scenario, contestants))):
        row = rows[contestant.title]
        if not row.missing:
            try:
                sample = probe.sample(contestant, scenario.app, folder, plan.cores, scenario.threads)
            except Missing as reason:
                _miss(row, reason)
            else:
                row.samples += [sample] if number >= len(contestants) else []


def _load(
    scenario: Scenario, load: Load, contestants: Sequence[Contestant], rows: Rows, folder: Path, plan: Plan
) -> None:
    """Contestants that all run the whole time, and take turns."""
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []
        for contestant in contestants:
            row = rows[contestant.title]
            if row.missing:
                continue
            try:
                start = started(contestant, scenario.app, folder, plan.cores.server, scenario.threads)
                servers.append(stack.enter_context(start))
            except Missing as reason:
                _miss(row, reason)
        try:
            session = stack.enter_context(load.open(servers, folder, plan.cores))
        except Missing as reason:
            for server in servers:
                _miss(rows[server.contestant.title], reason)
            return
        meters = {server.contestant.title: Meter(server, session, plan.cores.server) for server in servers}
        for meter in meters.values():
            _turn(rows, meter, lambda meter: meter.warm_up(plan.seconds * WARM_UP_SHARE))
        for contestant in plan.turns(scenario, [server.contestant for server in servers]):
            _turn(rows, meters[contestant.title], lambda meter: meter.sample(plan.seconds))


def _turn(rows: Rows, meter: Meter, act: Callable[[Meter], Sample | None]) -> None:
    row = rows[meter.server.contestant.title]
    if row.missing:
        return
    try:
        sample = act(meter)
        if not meter.server.tree.running:
            raise Missing(f"died under load: {meter.server.tree.last_words()}")
    except (Missing, OSError) as reason:
        row.samples.clear()
        _miss(row, reason)
    else:
        if sample:
            row.samples.append(sample)


class Meter:
    """Watches a server during its turns."""

    def __init__(self, server: Server, session: Session, core: int) -> None:
        self.server = server
        self._session = session
        self._core = core
        self._memory_before = 0

    def warm_up(self, seconds: float) -> None:
        """See whether it answers, and let it run for a while; Missing when it does not answer."""
        self._session.check(self.server)
        self.server.tree.forget_peak()
        self._memory_before = self.server.tree.resident_bytes()
        with self._session.visit(self.server) as turn:
            turn(seconds)

    def sample(self, seconds: float) -> Sample:
        """One turn, with the processor time that the server spent in it."""
        tree = self.server.tree
        with self._session.visit(self.server) as turn:
            began = time.perf_counter()
            busy = busy_seconds(self._core)
            cpu = tree.cpu_seconds()
            told = turn(seconds)
            cpu = tree.cpu_seconds() - cpu
            busy = busy_seconds(self._core) - busy
            elapsed = time.perf_counter() - began
        return Sample(
            units=told.units,
            seconds=told.seconds,
            cpu=cpu,
            errors=told.errors,
            p50_ms=told.p50_ms,
            p99_ms=told.p99_ms,
            others=max(0.0, busy - cpu) / elapsed,
            memory=tree.peak_bytes() - self._memory_before,
            note=told.note,
        )


def _miss(row: Row, reason: Exception) -> None:
    row.missing = str(reason)
    say(f"{row.title}: {reason}")
