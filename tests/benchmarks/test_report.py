from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from benchmarks.contestants.prepare import Missing
from benchmarks.contestants.table import BY_NAME
from benchmarks.load.wrk import parse
from benchmarks.report import chart, markdown
from benchmarks.results import Row, Run, Sample, Table
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from benchmarks.scenarios import Scenario

pytestmark = pytest.mark.once


def row(name: str, *cpu_us: float, python: str = "", rate: float = 1000.0) -> Row:
    samples = [Sample(1000, 1000 / rate, value / 1000, p99_ms=2.0, memory=1 << 20) for value in cpu_us]
    return Row(name, python, {"python": "3.11.7"} if python else {}, samples)


@pytest.fixture
def run() -> Run:
    rows = [
        row("limit-epoll", 6.0, python="3.11"),
        row("simple_fastcgi-wsgi", 11.0, 12.0, 13.0, python="3.11"),
        row("simple_fastcgi-wsgi", 14.0, python="3.12"),
        row("uwsgi-fcgi", 15.0, 16.0, 40.0, python="3.11"),
        row("uwsgi-fcgi", 20.0, python="3.12"),
        Row("flup6", "3.11", missing="pip failed: no | such package"),
        row("go-fcgi", 8.0),
    ]
    table = Table("hello-wsgi", "Hello <WSGI>", "request", "uwsgi-fcgi", columns=tuple(markdown.COLUMNS), rows=rows)
    return Run("python -m benchmarks quick", "quick", 3, 0.5, {"processor": "A & B"}, [table])


def test_ratios_go_to_the_reference_on_the_same_interpreter(run: Run) -> None:
    table = run.tables[0]
    ratios = [table.ratio(one) for one in table.rows if one.measured]
    assert ratios == pytest.approx([6 / 16, 12 / 16, 14 / 20, 1, 1, 8 / 16])


def test_no_ratio_without_the_reference(run: Run) -> None:
    table = run.tables[0]
    table.reference = "flup6"
    assert table.ratio(table.rows[0]) is None
    assert " |  | " in markdown.render(run)


def test_rates_are_compared_when_they_are_what_counts() -> None:
    table = Table("slow", "Slow", "request", "a", main="rate", rows=[row("a", 1.0, rate=100), row("b", 9.0, rate=150)])
    assert table.ratio(table.rows[1]) == pytest.approx(1.5)


def test_turns_without_an_answer_count_nowhere() -> None:
    one = row("a", 3.0, 5.0)
    one.samples.append(Sample(0, 1.0, 9.0, errors=7, note="closed"))
    assert one.cpu_us == pytest.approx(4.0)
    assert (one.errors, one.measured) == (7, True)
    assert not Row("b", samples=one.samples[2:]).measured


def test_the_page_has_every_row_and_says_what_is_missing(run: Run) -> None:
    page = markdown.render(run)
    assert "| simple_fastcgi-wsgi (3.11) | 12.0 |" in page
    assert "Not measured: flup6 (3.11) (pip failed: no | such package)." in page
    assert "python -m benchmarks quick" in page
    widths = {line.count(" | ") for line in page.splitlines() if line.startswith("| ") and "us/request" in line}
    assert widths == {len(markdown.COLUMNS)}


def test_the_data_holds_every_sample_and_the_figures(run: Run) -> None:
    data = json.loads(json.dumps(run.as_json()))
    ours, flup = data["tables"][0]["rows"][1], data["tables"][0]["rows"][5]
    assert len(ours["samples"]) == 3
    assert ours["figures"]["ratio"] == pytest.approx(0.75)
    assert flup["missing"]
    assert "figures" not in flup


def test_the_chart_is_xml_with_a_bar_for_each_contestant_of_the_interpreter(run: Run) -> None:
    root = ET.fromstring(chart.headline(run, ["hello-wsgi"], "3.11"))
    names = {"s": "http://www.w3.org/2000/svg"}
    widths = [float(bar.get("width", "")) for bar in root.findall("s:rect", names)]
    assert len(widths) == 4
    assert widths == sorted(widths)
    assert chart.headline(run, ["none"], "3.11").startswith("<svg")


def test_the_report_of_wrk_is_read_behind_other_output() -> None:
    turn = parse(
        "Running 3600s test\n  noise\n"
        '{"requests": 1000, "seconds": 0.5, "connect": 1, "read": 2, "write": 0, "timeout": 0, "status": 10,'
        ' "p50": 500.0, "p99": 2500.0}\n'
    )
    assert (turn.units, turn.errors, turn.p99_ms) == (990, 13, 2.5)
    with pytest.raises(Missing, match="no report"):
        parse("")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_the_tables_of_scenarios_and_contestants_agree(scenario: Scenario) -> None:
    assert {*scenario.contestants, *scenario.quick, scenario.reference} <= BY_NAME.keys()
    assert scenario.reference in scenario.contestants
    assert not scenario.quick or scenario.reference in scenario.quick
    assert set(scenario.columns) <= markdown.COLUMNS.keys()
    assert len({one.name for one in SCENARIOS}) == len(SCENARIOS)
