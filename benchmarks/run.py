"""One scenario after the other: all of its contestants are started, and take turns."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.prepare import say

from .contestants.launch import started
from .contestants.prepare import Missing, versions_of
from .contestants.table import BY_NAME, on_pythons
from .figures import interleaved
from .machine import busy_seconds, pinned
from .results import Row, Sample, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contestants.launch import Server
    from .contestants.model import Contestant
    from .load.kinds import Session
    from .machine import Cores
    from .scenarios import Scenario

WARM_UP_SHARE = 0.3
"""Of a turn's time; the warm-up counts nowhere."""


@dataclass(frozen=True)
class Plan:
    """How much to measure: `rounds` of turns of `seconds`, on the interpreters of `pythons`.

    `only`: the names of the contestants that may take part; empty for all. `extra`: further ones, as other checkouts.
    """

    cores: Cores
    rounds: int
    seconds: float
    pythons: list[str]
    quick: bool = False
    only: frozenset[str] = frozenset()
    extra: list[Contestant] = field(default_factory=list)

    def contestants(self, scenario: Scenario) -> list[Contestant]:
        """Those of a scenario, on each interpreter; the reference always takes part."""
        names = scenario.quick if self.quick else scenario.contestants
        chosen = [name for name in names if not self.only or name in self.only or name == scenario.reference]
        found = [BY_NAME[name] for name in chosen]
        found += [one for one in self.extra if one.name.partition("@")[0] in chosen]
        return [each for one in found for each in on_pythons(one, self.pythons)]


def measure(scenario: Scenario, plan: Plan) -> Table:
    """The table of one scenario."""
    say(f"{scenario.name}: {scenario.title}")
    contestants = plan.contestants(scenario)
    table = Table(scenario.name, scenario.title, scenario.load.unit, scenario.reference)
    rows = {one.title: Row(one.title) for one in contestants}
    table.rows = list(rows.values())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        stack.enter_context(pinned(plan.cores.load))
        servers: list[Server] = []
        for contestant in contestants:
            row = rows[contestant.title]
            try:
                row.versions = versions_of(contestant)
                start = started(contestant, scenario.app, folder, plan.cores.server, scenario.threads)
                servers.append(stack.enter_context(start))
            except Missing as reason:
                _miss(row, reason)
        try:
            session = stack.enter_context(scenario.load.open(servers, folder, plan.cores))
        except Missing as reason:
            for server in servers:
                _miss(rows[server.contestant.title], reason)
            return table
        ready = _warmed_up(session, servers, rows, plan)
        for _, server in interleaved(ready, plan.rounds):
            row = rows[server.contestant.title]
            if row.missing:
                continue
            row.samples.append(sample(session, server, plan.seconds, plan.cores.server))
            if not server.tree.running:
                row.samples.clear()
                _miss(row, Missing(f"died under load: {server.tree.last_words()}"))
    return table


def _warmed_up(session: Session, servers: Sequence[Server], rows: dict[str, Row], plan: Plan) -> list[Server]:
    ready = []
    for server in servers:
        try:
            session.check(server)
            session.turn(server, plan.seconds * WARM_UP_SHARE)
        except Missing as reason:
            _miss(rows[server.contestant.title], reason)
        else:
            ready.append(server)
    return ready


def sample(session: Session, server: Server, seconds: float, core: int) -> Sample:
    """One turn, with the processor time that the server spent in it."""
    server.tree.reset_peak()
    memory = server.tree.resident_bytes()
    busy = busy_seconds(core)
    cpu = server.tree.cpu_seconds()
    turn = session.turn(server, seconds)
    cpu = server.tree.cpu_seconds() - cpu
    busy = busy_seconds(core) - busy
    return Sample(
        units=turn.units,
        seconds=turn.seconds,
        cpu=cpu,
        errors=turn.errors,
        p50_ms=turn.p50_ms,
        p99_ms=turn.p99_ms,
        others=max(0.0, busy - cpu) / turn.seconds,
        growth=server.tree.peak_bytes() - memory,
        note=turn.note,
    )


def _miss(row: Row, reason: Missing) -> None:
    row.missing = str(reason)
    say(f"{row.contestant}: {reason}")
