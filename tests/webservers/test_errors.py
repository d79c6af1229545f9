"""Applications that fail: what the web server logs, and what the visitor sees."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import pytest

from .children import wait_until
from .scenarios import scenario
from .sites import FRONTS, FULL, each

if TYPE_CHECKING:
    from pathlib import Path

    from .sites import Site

BEFORE = "RuntimeError: this application failed before its answer began"
DURING = "RuntimeError: this application failed in the middle of its answer"
DEEP = "RuntimeError: this is the bottom of a deep recursion"
EXIT = "SystemExit: this application called for its end"
EXAMPLES = [front for front in FRONTS if front.example]


def logged(site: Site, last: str, mark: int) -> str:
    """What came by FCGI_STDERR, when the last line of a traceback is there: a web server may answer before it logs.

    Where the web server does not log it, what the application logged, from the first line of the traceback on.
    """

    def find() -> str:
        text = errors_since(site, mark)
        return text if last in text else ""

    return wait_until(find)


def mark_errors(site: Site) -> int:
    return site.server.mark() if site.front.logs_errors else site.app.mark()


def errors_since(site: Site, mark: int) -> str:
    if site.front.logs_errors:
        return site.server.errors_since(mark)
    text = site.app.log_since(mark)
    return text[max(text.find("Traceback"), 0) :]


def squeezed(text: str) -> str:
    """Without white space."""
    return "".join(text.split())


def check_that_it_goes_on(site: Site, client: httpx.Client) -> None:
    assert client.get("/status/200").text == "status 200\n"
    assert site.app.runs


@scenario("error before the response")
@each([*FULL, *EXAMPLES])
def test_an_error_before_the_answer(site: Site, client: httpx.Client) -> None:
    mark = mark_errors(site)
    answer = client.get("/error/before")
    assert answer.status_code == 500
    assert "Internal Server Error" in answer.text
    assert "Traceback" not in answer.text
    assert "failed" not in answer.text
    trace = logged(site, BEFORE, mark)
    assert "Traceback (most recent call last):\n" in trace
    assert "in error_before\n" in trace
    assert trace.count(BEFORE) == 1
    mark = mark_errors(site)
    assert client.head("/error/before").status_code == 500
    assert logged(site, BEFORE, mark).count(BEFORE) == 1
    check_that_it_goes_on(site, client)


@scenario("traceback in the error log")
@each(FULL)
def test_a_long_traceback_is_logged_whole(site: Site, client: httpx.Client) -> None:
    """A message may be cut by the web server (nginx: at 2 KB); what went wrong stands in a traceback's last line."""
    mark = mark_errors(site)
    answer = client.get("/probe/deep")
    assert (answer.status_code, "recursion" in answer.text) == (500, False)
    last = squeezed(DEEP)
    # A message of nginx may also end in the middle of a line, where its own buffer ended; it takes off blanks then.
    whole = wait_until(lambda: text if last in (text := squeezed(errors_since(site, mark))) else "")
    assert whole.count(",indescend") == 101
    assert whole.count(",ingo_on") == 100
    assert whole.index("Traceback(mostrecentcalllast):") < whole.index(",indescend") < whole.index(last)
    check_that_it_goes_on(site, client)


@scenario("traceback in the error log")
@each(FULL, "flask")
def test_errors_of_an_answer_without_a_body_come_within_its_head(site: Site, client: httpx.Client) -> None:
    for method in ("GET", "HEAD"):
        mark = mark_errors(site)
        answer = client.request(method, "/probe/complaint")
        assert (answer.status_code, answer.headers["Location"]) == (302, "http://other.example/")
        assert answer.content == b""
        assert logged(site, "a complaint", mark).count("a complaint") == 1


@scenario("error before the response")
@each(FULL)
def test_a_call_for_the_end_is_an_error_of_one_request(site: Site, client: httpx.Client) -> None:
    mark = mark_errors(site)
    answer = client.get("/probe/exit")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error\n")
    assert logged(site, EXIT, mark).startswith("Traceback (most recent call last):\n")
    check_that_it_goes_on(site, client)


@scenario("error within the response")
@each(FULL)
@pytest.mark.parametrize("path", ("/error/during", "/probe/short"), ids=("chunked", "length"))
def test_an_answer_that_breaks_off_is_seen_to(site: Site, client: httpx.Client, path: str) -> None:
    """The client's connection is closed before the answer is complete, or before it has begun if that was held back."""
    seen: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if path == "/probe/short" or (site.front.breaks_off and site.front.breaks_off_early):
        seen = pytest.raises(httpx.RemoteProtocolError)
    elif site.front.breaks_off:
        seen = contextlib.suppress(httpx.RemoteProtocolError)
    for url in site.urls(path):
        mark = mark_errors(site)
        received = b""
        with seen, client.stream("GET", url) as answer:
            assert answer.status_code == 200
            for block in answer.iter_raw():
                received += block
        if site.front.adds_error_page:
            received = received.partition(b"<!DOCTYPE")[0]
        assert received in {b"", b"This answer begins well.\n"}
        assert logged(site, DURING, mark).startswith("Traceback (most recent call last):\n")
    check_that_it_goes_on(site, client)


@scenario("error within the response")
@each([front for front in FULL if front.breaks_off and front.streams])
def test_an_answer_that_breaks_off_when_a_part_has_come_is_seen_to(
    site: Site, client: httpx.Client, tmp_path: Path
) -> None:
    for number, url in enumerate(site.urls("/probe/handshake")):
        seen, mark = tmp_path / str(number), mark_errors(site)
        with client.stream("GET", url, params={"seen": str(seen), "fails": "yes"}) as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first\n"
            seen.touch()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        assert logged(site, DURING, mark).startswith("Traceback (most recent call last):\n")


@each(EXAMPLES)
def test_an_answer_of_the_example_that_breaks_off(site: Site, client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/error/during")
    check_that_it_goes_on(site, client)
