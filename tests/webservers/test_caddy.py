"""What is special about Caddy: no kept connections, no FCGI_STDERR in its log, and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .caddy import FRONTS, MOUNTED, TIMED
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from .sites import Site

MAIN = FRONTS[0]


@each([MAIN], "flask")
def test_each_request_has_a_connection_of_its_own(site: Site, client: httpx.Client) -> None:
    before = site.app.sockets
    for _ in range(5):
        assert client.get("/url").status_code == 200
    # The one that is being closed may still be there.
    assert len(site.app.sockets - before) <= 1


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


@each([TIMED], "starlette")
def test_read_timeout_is_for_the_whole_answer(client: httpx.Client) -> None:
    """Therefore what is printed has none: the answer ends early, and looks complete."""
    text = client.get("/stream?count=30&interval=0.1").text
    assert text.startswith("line 1 of 30\n")
    assert "line 30" not in text


@each([MAIN, MOUNTED], "starlette")
@pytest.mark.parametrize(("sent", "path"), [("/unicode/a%2Fb", "a/b"), ("/unicode/a//b", "a//b")])
def test_slashes_arrive_as_they_were_sent(client: httpx.Client, sent: str, path: str) -> None:
    assert client.get(sent).json()["name"] == path
