"""A request's body whose end comes before CONTENT_LENGTH bytes: the application reads it, and the log tells."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from simple_fastcgi.gateways.body import report_short_body
from tests.gateways.support import TEXT, async_server, sync_server
from tests.support.examples import ROOT, blocks_of
from tests.support.webserver import WebServer, params_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[Any], bytes]

READS: dict[str, Read] = {
    "all": lambda body: body.read(),
    "blocks": lambda body: b"".join(iter(lambda: body.read(3), b"")),
    "lines": lambda body: b"".join(body),
    "read1": lambda body: b"".join(iter(body.read1, b"")),
}


@pytest.fixture(params=READS)
def wsgi(request: pytest.FixtureRequest) -> Iterator[WebServer]:
    """A connection to an application that answers with the body, read in one of several ways."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [READS[request.param](environ["wsgi.input"])]

    with sync_server(WsgiHandler.for_app(app)) as address, WebServer(address) as web:
        yield web


@pytest.fixture
def asgi() -> Iterator[WebServer]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with (
        async_server(AsgiHandler.for_app(app, lifespan="off"), asyncio.new_event_loop) as address,
        WebServer(address) as web,
    ):
        yield web


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def check(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    for sent, length, is_short in (
        (b"", "5", True),
        (b"abc\n", "5", True),
        (b"abc\nd", "5", False),
        (b"abc\nd", "4", False),
        (b"", "0", False),
        (b"abc", "-1", False),
        (b"abc", "", False),
    ):
        params = params_for("/up", REQUEST_METHOD="POST", CONTENT_LENGTH=length)
        assert web.request(params, sent).body == sent
        expected = (
            f"POST /up: the web server ended the body after {len(sent)} of the {length} bytes that CONTENT_LENGTH"
        )
        assert [line[: len(expected)] for line in told(caplog)] == [expected] * is_short
        # The same, with a body that comes after the application has begun.
        web.begin(params)
        for byte in sent:
            web.body(bytes((byte,)))
        web.body(b"", end=True)
        assert web.response().body == sent
        assert [line[: len(expected)] for line in told(caplog)] == [expected] * is_short


def test_wsgi(wsgi: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    check(wsgi, caplog)


def test_asgi(asgi: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    check(asgi, caplog)


def test_the_line_is_the_one_that_the_documentation_shows(caplog: pytest.LogCaptureFixture) -> None:
    page = (ROOT / "docs" / "webservers" / "parameters.md").read_text(encoding="utf-8")
    (shown,) = blocks_of(page, "text")
    sent = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/upload", "CONTENT_LENGTH": "200000"}
    report_short_body(sent, 131072)
    assert told(caplog) == [" ".join(shown.split())]


def test_nothing_is_told_of_a_body_that_was_not_read(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].readline()]

    with sync_server(WsgiHandler.for_app(app)) as address, WebServer(address) as web:
        web.begin(params_for("/up", REQUEST_METHOD="POST", CONTENT_LENGTH="9"))
        web.body(b"one\n")
        assert web.response().body == b"one\n"
        web.body(b"two", end=True)
        assert web.request(params_for("/")).body == b""
    assert not told(caplog)
