"""What is special about Caddy: no kept connections, no FCGI_STDERR in its log, and its limits."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.examples import blocks_of

from .caddy import FRONTS, MOUNTED, TIMED
from .children import ROOT, wait_until
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from .sites import Site, Sites

pytestmark = pytest.mark.once

MAIN = FRONTS[0]


@each([MAIN], "flask")
def test_each_request_has_a_connection_of_its_own(site: Site, client: httpx.Client) -> None:
    before = site.app.sockets
    for _ in range(5):
        assert client.get("/url").status_code == 200
        wait_until(lambda: site.app.sockets <= before)


@each([MAIN], "flask")
def test_complaints_are_in_the_log_of_the_application(site: Site, client: httpx.Client) -> None:
    """Caddy 2.6 has them nowhere, and others only if told so."""
    log, errors = site.app.mark(), site.server.mark()
    assert client.get("/probe/complaints?count=1").text == "line 0\n"
    site.app.wait_for("ERROR simple_fastcgi: complaint 0\n", log)
    assert "complaint" not in site.server.log_since(errors)


@each([MAIN], "flask")
def test_a_body_beyond_the_limit(client: httpx.Client) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(65):
            yield b"x" * (1 << 20)

    assert client.put("/upload/raw", content=blocks()).status_code == 413


@each([MAIN], "flask")
def test_an_answer_to_a_large_body_that_nobody_reads(client: httpx.Client) -> None:
    """Caddy sends all of a body before it looks for an answer."""
    assert client.post("/status/418", content=b"x" * (20 << 20)).status_code == 405


@each([MAIN], "flask")
def test_the_line_with_the_status_is_not_shown(client: httpx.Client) -> None:
    assert "Status" not in client.get("/url").headers


def test_read_timeout_is_for_the_whole_answer(sites: Sites) -> None:
    """Therefore what is printed has none: the answer ends early, and looks complete."""
    with sites.start("starlette", TIMED).client() as client:
        text = client.get("/stream?count=30&interval=0.1").text
    assert text.startswith("line 1 of 30\n")
    assert "line 30" not in text


@each([MAIN, MOUNTED], "starlette")
@pytest.mark.parametrize(("sent", "path"), [("/unicode/a%2Fb", "a/b"), ("/unicode/a//b", "a//b")])
def test_slashes_arrive_as_they_were_sent(client: httpx.Client, sent: str, path: str) -> None:
    assert client.get(sent).json()["name"] == path


def test_caddy_accepts_what_its_page_shows(program: Callable[[str], str], tmp_path: Path) -> None:
    """A site with a name listens on the port of HTTPS; what is printed is formatted as Caddy wants it."""
    blocks = blocks_of((ROOT / "docs" / "webservers" / "caddy.md").read_text("utf-8"), "text")
    ports = []
    for block in blocks:
        (tmp_path / "Caddyfile").write_text(block)
        command = [program("caddy"), "adapt", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
        adapted = subprocess.run(command, capture_output=True, check=True, env={"HOME": str(tmp_path)})
        assert (b"not formatted" in adapted.stderr) == ("Made by" not in block)
        (server,) = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
        ports += server["listen"]
    assert ports == [":443", ":8080", ":8080", ":8080", ":8080"]
