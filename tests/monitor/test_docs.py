"""docs/operation.md: its commands run, its tables are complete."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from simple_fastcgi.cli import main
from simple_fastcgi.monitor.info import RequestInfo
from simple_fastcgi.monitor.metrics import _COUNTERS, _GAUGES
from simple_fastcgi.monitor.scoreboard import own_process
from simple_fastcgi.monitor.status import Facts, snapshot
from tests.support.examples import ROOT, blocks_of, check_nginx
from tests.support.webserver import params_for
from tests.webservers.children import Child
from tests.workers.support import QUIET, Service, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'Hello']\n"


def rows(heading: str) -> list[list[str]]:
    """The table whose head begins with `heading`."""
    (table,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def commands() -> list[list[str]]:
    lines = [line for block in blocks_of(PAGE, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:]) for line in lines]


def test_every_field_of_the_status_is_explained() -> None:
    board, _ = own_process()
    fields = list(snapshot(board, Facts(pool="hello"), full=True))
    assert [row[0].strip("`") for row in rows("field")] == fields


def test_every_metric_that_is_named_exists() -> None:
    metrics = {name for name, _ in (*_COUNTERS.values(), *_GAUGES.values())} | {"fcgi_limit"}
    assert {name.removesuffix("_total") for name in re.findall(r"`(fcgi_\w+)`", PAGE)} <= metrics


def test_what_it_shows(program: Callable[[str], str], capfd: pytest.CaptureFixture[str]) -> None:
    serve, ping, *statuses, _ = commands()
    (healthcheck,) = blocks_of(PAGE, "dockerfile")
    health = json.loads(healthcheck.partition("CMD ")[2])
    assert [words[1] for words in (serve, ping, *statuses, health)] == ["serve", "ping", "status", "status", "ping"]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder, "hello.py").write_text(APP)

        def here(words: list[str]) -> list[str]:
            return [re.sub("/run/hello|/var/log/hello", folder, word) for word in words[1:]]

        with Service(["simple_fastcgi", *here(serve)], f"{folder}/app.sock") as service:
            with service.connect() as connection:
                connection.request(params_for("/news?page=2", HTTP_USER_AGENT="Mozilla/5.0"), keep=False)
            for words in (ping, health):
                assert main(here(words)) == 0
                assert capfd.readouterr().out == "pong\n"
            assert main(here(statuses[0])) == 0
            text = capfd.readouterr().out
            for name, *_ in rows("field"):
                assert name.strip("`") in ("limits", "processes", "requests under way") or f"{name.strip('`')}:" in text

            def processes() -> int:
                assert main(here(statuses[1])) == 0
                return len(json.loads(capfd.readouterr().out)["processes"])

            # One worker may answer while the other one still starts.
            wait_until(lambda: processes() == 2)
            # As Prometheus asks for it.
            (scrape,) = blocks_of(PAGE, "yaml")
            assert 'openmetrics: [""]' in scrape
            (path,) = re.findall("metrics_path: (.*)", scrape)
            with service.connect(f"{folder}/status.sock") as connection:
                body = connection.request(params_for(f"{path}?openmetrics=")).body.decode()
            assert "fcgi_requests" in {family.name for family in text_string_to_metric_families(body)}
            line = wait_until(lambda: Path(folder, "access.log").read_text())
        shown = next(block for block in blocks_of(PAGE, "text") if "Mozilla" in block)
        assert shape_of(line.splitlines()[0]) == shape_of(shown.strip())
        (nginx,) = blocks_of(PAGE, "nginx")
        check_nginx(program("nginx"), f"server {{ {nginx} }}", Path(folder))


def test_gunicorn_with_a_class_of_ones_own(capfd: pytest.CaptureFixture[str]) -> None:
    *_, words = commands()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder, "hello.py").write_text(APP)
        (source,) = (block for block in blocks_of(PAGE, "python") if "WsgiWorker" in block)
        Path(folder, "seen.py").write_text(source)
        here = [re.sub("/run/hello", folder, word) for word in words]
        with Service([*here, *QUIET], f"{folder}/app.sock") as service:
            service.connect().close()
            assert main(["ping", f"unix:{folder}/app.sock"]) == 0
            assert main(["status", f"unix:{folder}/app.sock", "--json", "--full"]) == 0
        told = json.loads(capfd.readouterr().out.partition("pong\n")[2])
    assert (told["pool"], told["process manager"], told["threads"]) == ("hello:app", "static", 4)


def test_the_log_as_json() -> None:
    shown = json.loads(blocks_of(PAGE, "json")[0])
    info = RequestInfo({})
    assert list(shown) == ["time", "level", "logger", "pid", "message", "event", *info.fields(), "stage", "stack"]
    code = "".join(path.read_text() for path in (ROOT / "simple_fastcgi").rglob("*.py"))
    events = re.findall(r'about\("([\w.]+)"', code) + re.findall(r'_lines\.\w+\(\s*\*?\(?"\w+", "(\w+)"', code)
    assert {row[0].strip("`") for row in rows("event")} == set(events)
    (config,) = (block for block in blocks_of(PAGE, "python") if "dictConfig" in block)
    program = f"{config}\nfrom simple_fastcgi.log import report_failure\n"
    program += "report_failure(ValueError('x'), 'GET /', aborted=False, fields={'status': 500})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stderr)
    assert (told["event"], told["status"], told["level"]) == ("failed", 500, "ERROR")


@pytest.mark.parametrize("way", ["command", "program"])
def test_a_log_of_the_applications_own(way: str, tmp_path: Path) -> None:
    """Its handler has each of our lines, once, however it is started."""
    (config,) = (block for block in blocks_of(PAGE, "python") if "dictConfig" in block)
    (tmp_path / "logs.py").write_text(config)
    (tmp_path / "hello.py").write_text(
        f"import logging, logs\nlogging.getLogger('hello').warning('of the application')\n{APP}"
        "if __name__ == '__main__':\n    from simple_fastcgi import serve\n"
        "    serve(app, 'unix:a.sock', name='hello')\n"
    )
    command = (
        ["-m", "simple_fastcgi", "serve", "hello:app", "--bind", "unix:a.sock"] if way == "command" else ["hello.py"]
    )
    with Child([sys.executable, *command], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving hello")
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
    told = [json.loads(line) for line in child.log_since().splitlines()]
    assert [line["logger"] for line in told] == ["hello", "simple_fastcgi", "simple_fastcgi"]
    assert told[1]["message"].startswith("serving hello")
    assert told[2]["message"] == "stopped"


def shape_of(line: str) -> str:
    """A line without what differs each time."""
    line = re.sub(r'" 200 \d+ ', '" 200 N ', re.sub(r"\[.*?\]", "[]", line))
    return re.sub(r"\d+\.\d{6}", "S", line)


def test_each_timeout_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    for name, _ in rows("timeout"):
        assert f"--{name.strip('`')} " in text
