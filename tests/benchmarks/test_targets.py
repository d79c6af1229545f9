from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from benchmarks.contestants.table import BY_NAME as CONTESTANTS
from benchmarks.machine import Cores
from benchmarks.report.markdown import render
from benchmarks.report.targets import TARGETS, Target, is_compared, section
from benchmarks.results import Row, Run, Sample, Table
from benchmarks.run import Plan
from benchmarks.scenarios import BY_NAME as SCENARIOS
from benchmarks.scenarios import SCENARIOS as ALL

pytestmark = pytest.mark.once


def row(name: str, cpu_us: float, *, python: str = "3.11", memory: int = 0) -> Row:
    return Row(name, python, samples=[Sample(1000, 1.0, cpu_us / 1000, memory=memory)])


def run(*tables: Table) -> Run:
    return Run("python -m benchmarks full", "full", 1, 1.0, {}, list(tables))


def table(scenario: str, *rows: Row, **options: object) -> Table:
    return Table(scenario, "", "request", "uwsgi-fcgi", rows=list(rows), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.title}, {target.peer}")
def test_targets_are_about_what_is_measured(target: Target) -> None:
    if target.figure == "slope":
        scenarios = [one for one in ALL if one.point and one.point[0] == target.scenario]
    else:
        scenarios = [SCENARIOS[target.scenario]]
    assert scenarios
    for name in filter(None, (target.ours, target.peer)):
        assert name in CONTESTANTS
        assert all(name in scenario.contestants for scenario in scenarios)
    assert target.must is not None or target.aim is not None


@pytest.mark.parametrize(
    ("ours", "verdict"), [(6.9, "aim reached"), (7.0, "aim reached"), (8.0, "met"), (8.1, "**missed**")]
)
def test_verdicts(ours: float, verdict: str) -> None:
    target = Target("hello", "hello-wsgi", "a", "b", 0.80, 0.70)
    value = target.measured(run(table("hello-wsgi", row("a", ours), row("b", 10.0))))
    assert value == pytest.approx(ours / 10)
    assert target.verdict(value) == verdict


def test_more_may_be_better() -> None:
    target = Target("slow", "slow", "a", "b", 0.95, is_floor=True)
    assert target.verdict(1.2) == "met"
    assert target.verdict(0.9) == "**missed**"


def test_an_aim_alone() -> None:
    target = Target("hello", "hello-wsgi", "a", "b", None, 2.2)
    assert target.verdict(2.0) == "aim reached"
    assert target.verdict(3.0) == "aim missed"


def test_what_was_not_measured() -> None:
    target = Target("hello", "hello-wsgi", "a", "b", 0.8)
    for tables in ((), (table("hello-wsgi", row("b", 1.0)),), (table("hello-wsgi", row("a", 1.0)),)):
        assert target.measured(run(*tables)) is None
    assert target.verdict(None) == "not measured"
    assert list(section(run())) == []


def test_each_interpreter_for_itself() -> None:
    measured = run(table("hello", *(row(name, cost, python=python) for name, cost, python in INTERPRETED)))
    assert Target("hello", "hello", "a", "b", 1.0).measured(measured) == pytest.approx(0.5)
    assert Target("hello", "hello", "a", "b", 1.0, python="3.12").measured(measured) == pytest.approx(0.25)


INTERPRETED = (("a", 5.0, "3.11"), ("a", 3.0, "3.12"), ("b", 10.0, "3.11"), ("b", 12.0, "3.12"))


def test_differences_and_slopes() -> None:
    imports = table("import", row("a", 9000.0, memory=3 << 20), row("b", 1000.0, memory=1 << 20))
    assert Target("", "import", "a", "b", 15, figure="CPU ms").measured(run(imports)) == pytest.approx(8.0)
    assert Target("", "import", "a", "b", 3, figure="memory MB").measured(run(imports)) == pytest.approx(2.0)
    points = [
        table(f"parameters-{count}", row("a", 10.0 + count / 2), row("b", 10.0 + count), point=("parameter", count))
        for count in (10, 100)
    ]
    assert Target("", "parameter", "a", "b", 0.5, figure="slope").measured(run(*points)) == pytest.approx(0.5)
    assert Target("", "parameter", "a", "b", 0.5, figure="slope").measured(run(points[0])) is None


def test_the_section() -> None:
    lines = list(section(run(table("hello-wsgi", row("simple_fastcgi-wsgi", 7.5), row("uwsgi-fcgi", 10.0)))))
    assert "| hello WSGI, one thread | uwsgi-fcgi | 0.8 | 0.7 | 0.75 | met |" in lines


def turns(scenario: str, *, full: bool = True) -> Counter[str]:
    """Of a run of two rounds on two interpreters."""
    compared = partial(is_compared, first_python="3.11") if full else None
    plan = Plan(Cores(0, 1), 2, 1.0, ["3.11", "3.12"], is_compared=compared)
    contestants = plan.contestants(SCENARIOS[scenario])
    counts = Counter(one.title for one in plan.turns(SCENARIOS[scenario], contestants))
    assert set(counts) == {one.title for one in contestants}
    return counts


def test_those_that_a_target_is_about_have_more_turns() -> None:
    counts = turns("hello-asgi")
    assert {title for title, count in counts.items() if count == 6} == {
        *("simple_fastcgi-uvloop (3.11)", "simple_fastcgi-uvloop (3.12)", "simple_fastcgi-asyncio (3.11)"),
        *("uvicorn-uvloop (3.11)", "uvicorn-uvloop (3.12)", "uvicorn-asyncio (3.11)"),
    }
    assert set(counts.values()) == {2, 6}
    assert turns("hello-native-sync")["go-fcgi"] == 6
    assert turns("parameters-10")["fcgisgi-wsgi (3.11)"] == 6


def test_all_have_as_many_turns_where_nothing_is_promised() -> None:
    assert set(turns("connections-1-wsgi").values()) == {2}
    assert set(turns("hello-asgi", full=False).values()) == {2}


def test_the_results_tell_how_many_turns_there_were() -> None:
    rows = row("simple_fastcgi-wsgi", 1.0), row("uwsgi-fcgi", 1.0)
    assert "`: 1 rounds of 1 s." in render(run(table("hello-wsgi", *rows)))
    rows[0].samples *= 3
    assert "`: 1 rounds, 3 for whoever the targets name, of 1 s." in render(run(table("hello-wsgi", *rows)))
