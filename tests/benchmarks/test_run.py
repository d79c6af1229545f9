"""The parts of a run, on real servers: this project and a canned answer. What the figures are is nobody's concern."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as command_line
from benchmarks import run as running
from benchmarks.contestants import table
from benchmarks.contestants.model import Environment
from benchmarks.load.kinds import EventStreams, Straight, StraightTransfer, Transfer
from benchmarks.load.requests import POST_10K, VARIED
from benchmarks.machine import pick_cores
from benchmarks.probes import FirstAnswer, IdleConnections, Import
from benchmarks.run import Plan, measure
from benchmarks.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.contestants.model import Contestant
    from benchmarks.load.kinds import Load
    from benchmarks.probes import Probe
    from benchmarks.results import Row

pytestmark = pytest.mark.once

# No environments of their own: they run on the interpreter that runs the tests.
HERE = {
    name: replace(table.BY_NAME[name], environment=Environment(name.partition("-")[0]))
    for name in (
        "limit-epoll",
        "limit-uvloop",
        "simple_fastcgi-wsgi",
        "simple_fastcgi-asyncio",
        "simple_fastcgi-sync",
        "simple_fastcgi-async",
    )
}
WSGI = ("simple_fastcgi-wsgi",)
ASGI = ("simple_fastcgi-asyncio",)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, unmeasured: None) -> Callable[..., dict[str, Row]]:
    """One round of a tenth of a second; gives the rows by contestant."""

    def one(app: str, load: Load | Probe, *names: str, extra: tuple[Contestant, ...] = ()) -> dict[str, Row]:
        here = {**HERE, **{each.name: each for each in extra}}
        monkeypatch.setattr(running, "BY_NAME", here)
        scenario = Scenario("test", "Test", app, load, (*names, *(each.name for each in extra)), names[0])
        found = measure(scenario, Plan(pick_cores(), 1, 0.1, ["3.11"]))
        return {row.contestant: row for row in found.rows}

    return one


def assert_measured(rows: dict[str, Row]) -> None:
    for row in rows.values():
        assert not row.missing
        assert row.measured, row.samples
        assert row.errors == 0, row.samples
        assert row.samples[0].cpu > 0


@pytest.mark.parametrize(
    ("app", "load", "names"),
    [
        ("hello", Straight(), ("limit-epoll", "limit-uvloop", *WSGI, *ASGI)),
        ("hello", Straight(connections=2), ("simple_fastcgi-sync", "simple_fastcgi-async")),
        ("varied", Straight(VARIED, kept=False), ("simple_fastcgi-sync", "simple_fastcgi-async", *WSGI, *ASGI)),
        ("echo", Straight(POST_10K, depth=4, connections=2), (*WSGI, *ASGI)),
        ("upload", StraightTransfer("upload", 2), WSGI),
        ("download", StraightTransfer("download", 2), ASGI),
    ],
    ids=["hello", "native", "varied, not kept", "multiplexed", "upload", "download"],
)
def test_straight_at_the_socket(
    run: Callable[..., dict[str, Row]], app: str, load: Load, names: tuple[str, ...]
) -> None:
    assert_measured(run(app, load, *names))


@pytest.mark.parametrize(
    ("app", "load", "names"),
    [
        ("upload", Transfer("upload", 2), (*WSGI, *ASGI)),
        ("download", Transfer("download", 2), (*WSGI, *ASGI)),
        ("file", Transfer("file", 2), (*WSGI, *ASGI)),
        ("events", EventStreams(5), ASGI),
    ],
    ids=["upload", "download", "file", "events"],
)
def test_through_nginx(
    run: Callable[..., dict[str, Row]],
    program: Callable[[str], str],
    app: str,
    load: Transfer | EventStreams,
    names: tuple[str, ...],
) -> None:
    program("nginx")
    assert_measured(run(app, load, *names))


@pytest.mark.parametrize(
    ("probe", "names"),
    [(FirstAnswer(), (*WSGI, *ASGI, "limit-epoll")), (IdleConnections(20), (*WSGI, *ASGI, "limit-epoll"))],
    ids=["first answer", "idle connections"],
)
def test_once_in_a_life(run: Callable[..., dict[str, Row]], probe: Probe, names: tuple[str, ...]) -> None:
    assert_measured(run("hello", probe, *names))


def test_an_import(run: Callable[..., dict[str, Row]]) -> None:
    nothing = replace(table.BY_NAME["import-nothing"], environment=Environment("here"))
    assert_measured(run("", Import(), nothing.name, extra=(nothing,)))


def test_who_cannot_take_part_is_named_and_the_others_go_on(run: Callable[..., dict[str, Row]]) -> None:
    known = HERE["simple_fastcgi-wsgi"]
    absent = replace(known, name="absent", command=("/nonexistent/server",))
    dying = replace(known, name="dying", command=(sys.executable, "-c", "raise SystemExit('no such luck')"))
    wrong = replace(known, name="wrong", application="varied")
    rows = run("hello", Straight(), "simple_fastcgi-wsgi", extra=(absent, dying, wrong))
    assert "No such file" in rows["absent"].missing
    assert "no such luck" in rows["dying"].missing
    assert "answers wrongly" in rows["wrong"].missing
    assert_measured({"ours": rows["simple_fastcgi-wsgi"]})


def test_the_place_of_the_tests_is_not_changed(run: Callable[..., dict[str, Row]]) -> None:
    before = os.sched_getaffinity(0)
    run("hello", Straight(connections=1), "limit-epoll")
    assert os.sched_getaffinity(0) == before


def test_the_command_line_names_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "simple_fastcgi").mkdir()
    against = ["--against", f"old={tmp_path}", "--contestant", "simple_fastcgi*", "--python", "3.11"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "quick", "--list", "--scenario", "hello-wsgi", *against])
    command_line.main()
    assert capsys.readouterr().out.splitlines()[1].split(", ") == [
        "    simple_fastcgi-wsgi (3.11)",
        "uwsgi-fcgi (3.11)",
        "simple_fastcgi-wsgi@old (3.11)",
    ]
