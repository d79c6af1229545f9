"""A web server that keeps its connections is told before one is closed, and what it still sends is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cgi.parting import heeds_parting
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.constants import FCGI_STDERR
from simple_fastcgi.protocol.terms import Terms
from tests.servers.support import HEAD
from tests.support.webserver import Record, encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Serve
    from tests.support.webserver import Response, WebServer

TOLD = Record(FCGI_STDERR, 1, b"")
NGINX = {"SERVER_SOFTWARE": "nginx/1.22.1"}


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


def response_behind(web: WebServer) -> Response:
    """The next response, whatever was told before it."""
    while (record := web.record()) == TOLD:
        pass
    response = web.response()
    response.stdout = record.content + response.stdout
    return response


def test_an_idle_connection_is_closed_by_its_web_server(serve: Serve) -> None:
    running = serve(echo_path, limits={"graceful_timeout": 3600})
    with running.connect() as idle, running.connect() as other:
        assert idle.request(params_for("/a", **NGINX)).body == b"/a"
        assert other.request(params_for("/a", **NGINX)).body == b"/a"
        running.ask_to_stop()
        assert idle.record() == TOLD
        # It had been sent already when that came.
        idle.send(encode_request(params_for("/b", **NGINX)))
        assert response_behind(idle).body == b"/b"
        # And once more, for web servers that were not listening yet.
        assert [idle.record(), idle.record(), other.record()] == [TOLD] * 3
    running.wait_for_end()


def test_one_who_does_not_close_is_not_waited_for(serve: Serve) -> None:
    running = serve(echo_path, limits={"graceful_timeout": 1})
    with running.connect() as web:
        web.request(params_for(**NGINX))
        running.ask_to_stop()
        with pytest.raises(EOFError, match="0 of 8 bytes"):
            while web.record() == TOLD:
                pass
    running.wait_for_end()


def test_others_are_told_by_the_close_alone(serve: Serve) -> None:
    running = serve(echo_path)
    with running.connect() as web:
        web.request(params_for(SERVER_SOFTWARE="Apache/2.4.62 (Debian)"))
        running.ask_to_stop()
        web.eof()
    running.wait_for_end()


@pytest.mark.parametrize(
    ("software", "heeds"),
    [
        ("nginx/1.22.1", True),
        ("HAProxy 2.6.12-1", True),
        ("openresty/1.21", True),
        ("lighttpd/1.4", False),
        (None, False),
    ],
)
def test_who_heeds_it(software: str | None, heeds: bool) -> None:
    assert heeds_parting({} if software is None else {"SERVER_SOFTWARE": software}) is heeds


def test_nothing_follows_the_end() -> None:
    core = ApplicationConnection(Terms())
    core.part()
    assert b"".join(core.data_to_send()) == bytes([1, FCGI_STDERR, 0, 1, 0, 0, 0, 0])
    core.receive_eof(half_closed=True)
    core.part()
    assert not core.data_to_send()
