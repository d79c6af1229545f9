"""Status pages in each format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.pages import ping_page, status_page
from simple_fastcgi.monitor.scoreboard import ACCEPTED, BOUNDS, CONNECTIONS, SLOW, Scoreboard, own_process
from simple_fastcgi.monitor.status import PONG, Facts, memory_of

if TYPE_CHECKING:
    from pathlib import Path

    from simple_fastcgi.monitor.monitor import Page

FACTS = Facts(pool="shop:app", threads=4, limits={"max_connections": 1024}, queue=lambda: (2, 128))


@pytest.fixture
def page() -> Page:
    """Of a server that has served one request, and is busy with another one."""
    board, seat = own_process()
    monitor = Monitor([seat])
    served = monitor.arrived({"REQUEST_METHOD": "GET", "REQUEST_URI": "/"})
    monitor.start(served)
    served.output(b"\n\n12345")
    monitor.end(served, aborted=False)
    monitor.start(monitor.arrived({"REQUEST_METHOD": "GET", "REQUEST_URI": "/<script>\n\xe4"}))
    monitor.arrived({"REQUEST_METHOD": "POST", "REQUEST_URI": "/waits"})
    seat.count(ACCEPTED, 7)
    seat.count(CONNECTIONS, 3)
    seat.count(SLOW)
    return status_page(board, FACTS)


def ask(page: Page, query: str) -> tuple[str, str]:
    head, _, body = page({"QUERY_STRING": query}).decode().partition("\r\n\r\n")
    assert head.startswith("Status: ")
    assert "no-store" in head
    return head, body


def test_json(page: Page) -> None:
    head, body = ask(page, "json")
    assert "application/json" in head
    told = json.loads(body)
    assert told["pool"] == "shop:app"
    assert (told["listen queue"], told["listen queue len"], told["accepted conn"]) == (2, 128, 7)
    assert (told["idle processes"], told["active processes"], told["total processes"]) == (0, 1, 1)
    assert (told["requests"], told["requests in flight"], told["requests queued"]) == (1, 1, 1)
    assert (told["bytes out"], told["slow requests"], told["connections"]) == (5, 1, 3)
    assert (told["max active processes"], told["max active requests"]) == (1, 1)
    assert told["limits"] == {"max_connections": 1024}
    assert told["latency p50"] in [round(bound, 6) for bound in BOUNDS]
    assert told["memory"] > 1e6
    assert "processes" not in told


def test_full_json(page: Page) -> None:
    told = json.loads(ask(page, "json&full")[1])
    (process,) = told["processes"]
    assert (process["pid"], process["state"], process["requests"]) == (os.getpid(), "Running", 1)
    assert [(row["stage"], row["request method"]) for row in told["requests under way"]] == [
        ("Running", "GET"),
        ("Queued", "POST"),
    ]
    assert all(row["request duration"] >= row["queue duration"] >= 0 for row in told["requests under way"])


@pytest.mark.parametrize("query", ("", "full", "full&unknown", "xml"))
def test_text(page: Page, query: str) -> None:
    head, body = ask(page, query)
    assert "text/plain" in head
    lines = body.splitlines()
    assert lines[0] == "pool:                        shop:app"
    assert "max_connections:             1024" in lines
    assert ("request URI:                 /<script>\\n\\xe4" in lines) == query.startswith("full")


@pytest.mark.parametrize("query", ("html", "html&full", "full&html"))
def test_html(page: Page, query: str) -> None:
    head, body = ask(page, query)
    assert "text/html" in head
    assert body.startswith("<!doctype html>")
    assert "<td>max_connections</td><td>1024</td>" in body
    assert "<script>" not in body
    assert ("/&lt;script&gt;" in body) == ("full" in query)


def test_openmetrics(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, body = ask(page, "openmetrics")
    assert "application/openmetrics-text" in head
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert families["fcgi_requests"].samples[0].labels == {"pool": "shop:app"}
    assert families["fcgi_requests"].samples[0].value == 1
    assert families["fcgi_listen_queue"].samples[0].value == 2
    quantiles = {sample.labels["quantile"] for sample in families["fcgi_request_latency_seconds"].samples}
    assert quantiles == {"0.5", "0.9", "0.99"}
    assert families["fcgi_limit"].samples[0].labels["setting"] == "max_connections"


def test_metrics_of_the_application_in_several_processes(tmp_path: Path) -> None:
    """As prometheus_client keeps them in PROMETHEUS_MULTIPROC_DIR."""
    program = (
        "from prometheus_client import Counter\n"
        "from simple_fastcgi.monitor.pages import status_page\n"
        "from simple_fastcgi.monitor.scoreboard import own_process\n"
        "from simple_fastcgi.monitor.status import Facts\n"
        "Counter('sold', 'Things sold').inc(3)\n"
        "board, seat = own_process()\n"
        "print(status_page(board, Facts(pool='shop'))({'QUERY_STRING': 'openmetrics'}).decode())\n"
    )
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
    assert "sold_total 3.0" in told
    assert 'fcgi_requests_total{pool="shop"} 0.0' in told


def test_openmetrics_without_what_it_needs(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.openmetrics.exposition", None)
    head, body = ask(page, "openmetrics")
    assert head.startswith("Status: 501 ")
    assert "pip install 'simple_fastcgi[metrics]'" in body


def test_openmetrics_without_its_folder(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/no/such")
    head, body = ask(page, "openmetrics")
    assert head.startswith("Status: 500 ")
    assert body.startswith("PROMETHEUS_MULTIPROC_DIR=/no/such is no directory: create it")


def test_nobody_waits_where_nobody_tells() -> None:
    board = Scoreboard()
    told = json.loads(ask(status_page(board, Facts(pool="x")), "json&full")[1])
    assert (told["listen queue"], told["total processes"], told["latency p99"], told["memory"]) == (0, 0, 0, 0)
    assert (told["processes"], told["requests under way"]) == ([], [])
    assert "<h2>processes" not in ask(status_page(board, Facts(pool="x")), "html&full")[1]
    assert memory_of(0) == 0


def test_pong() -> None:
    assert ping_page({}) == PONG
    assert PONG.endswith(b"\r\n\r\npong\n")
