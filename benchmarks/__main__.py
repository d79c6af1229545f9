"""The command line: `python -m benchmarks --help`, from the top of the checkout."""

from __future__ import annotations

import argparse
import fnmatch
import json
import shlex
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.prepare import say

from .contestants.prepare import LOAD, Missing, prepare, prepare_all, pythons
from .contestants.table import CONTESTANTS
from .load import nginx, wrk
from .machine import describe, load_average, pick_cores
from .processes import end_on_sigterm
from .report import chart, markdown, targets
from .results import Run
from .run import Plan, measure
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from .contestants.model import Contestant
    from .scenarios import Scenario

PRESETS = {"quick": (3, 0.5), "full": (5, 1.0)}
"""Rounds, and seconds of a turn."""
HEADLINE = ("hello-wsgi", "hello-asgi")
"""The scenarios of the chart."""


def main() -> None:
    """Prepare, measure, report."""
    options = _options()
    rounds, seconds = PRESETS[options.preset]
    scenarios = [
        one for one in SCENARIOS if _chosen(one.name, options.scenario) and (options.preset == "full" or one.quick)
    ]
    if not scenarios:
        sys.exit("no such scenario; --list names them")
    versions = options.python or list(pythons())
    plan = Plan(
        cores=pick_cores(),
        rounds=options.rounds or rounds,
        seconds=options.seconds or seconds,
        pythons=versions if options.python or options.preset == "full" else versions[:1],
        quick=options.preset == "quick",
        only=frozenset(one.name for one in CONTESTANTS if options.contestant and _chosen(one.name, options.contestant)),
        extra=[one for text in options.against for one in _checkout(text)],
        is_compared=partial(targets.is_compared, first_python=versions[0]) if options.preset == "full" else None,
    )
    if options.list:
        for scenario in scenarios:
            print(f"{scenario.name}: {scenario.title}")
            print("   ", ", ".join(one.title for one in plan.contestants(scenario)))
        return
    _prepare(plan, scenarios)
    if options.prepare:
        return
    run = Run(
        command=_command(),
        preset=options.preset,
        rounds=plan.rounds,
        seconds=plan.seconds,
        machine={
            **describe(),
            "cores used": f"{plan.cores.server} serves, {plan.cores.load} makes the load",
            "load": f"{nginx.version()}, {wrk.version()}",
        },
    )
    started = time.monotonic()
    for scenario in scenarios:
        table = measure(scenario, plan)
        run.tables.append(table)
        print("\n".join(["", *markdown.section(table), ""]), flush=True)
    run.machine["load average at the end"] = load_average()
    say(f"measured in {time.monotonic() - started:.0f} s")
    _write(run, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure simple_fastcgi beside others.")
    parser.add_argument("preset", choices=PRESETS, help="quick: within a minute; full: all there is")
    names = partial(parser.add_argument, action="append", default=[], metavar="PATTERN")
    names("--scenario", help="only scenarios of that name; * stands for anything")
    names("--contestant", help="only contestants of that name, and the reference")
    parser.add_argument("--python", action="append", default=[], metavar="VERSION", help="such as 3.12 (default: all)")
    parser.add_argument("--rounds", type=int, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, help="length of a turn")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="LABEL=FOLDER",
        help="let another checkout of this project take part, as simple_fastcgi-...@LABEL",
    )
    parser.add_argument(
        "--output", type=Path, help="folder for results.md, results.json and headline.svg (default: nothing written)"
    )
    parser.add_argument("--prepare", action="store_true", help="only get the contestants")
    parser.add_argument("--list", action="store_true", help="name scenarios and their contestants")
    return parser.parse_args()


def _chosen(name: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _checkout(text: str) -> list[Contestant]:
    label, _, folder = text.partition("=")
    if not label or not (Path(folder) / "simple_fastcgi").is_dir():
        sys.exit(f"--against {text}: LABEL=FOLDER, with a checkout of this project in it")
    source = Path(folder).absolute()
    return [replace(one, name=f"{one.name}@{label}", source=source) for one in CONTESTANTS if one.ours]


def _prepare(plan: Plan, scenarios: list[Scenario]) -> None:
    try:
        prepare(LOAD, "", "")
    except Missing as reason:
        say(f"load: {reason}")
    prepare_all([one for scenario in scenarios for one in plan.contestants(scenario)])


def _command() -> str:
    return shlex.join(["python3", "-m", "benchmarks", *sys.argv[1:]])


def _write(run: Run, folder: Path | None) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(markdown.render(run))
    (folder / "results.json").write_text(json.dumps(run.as_json(), indent=1) + "\n")
    picture = chart.headline(run, HEADLINE, run.tables[0].rows[0].python)
    (folder / "headline.svg").write_text(picture)
    say(f"written: {folder}/results.md, results.json and headline.svg")


if __name__ == "__main__":
    end_on_sigterm()
    main()
