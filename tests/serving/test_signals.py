"""How a server that runs in a process of its own ends at signals."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, params_for
from tests.webservers.children import App

if TYPE_CHECKING:
    from pathlib import Path

# Each request tells that it runs, and ends when the test lets it: a fixed time would be too short or too long.
APPS = """\
import asyncio, os, time

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/wait":
        yield b"waiting"
        wait("go")
    yield b", done"

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/wait":
        await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b", done"})
"""
KINDS = {
    "one thread": ("apps:wsgi", "--threads", "1"),
    "threads": ("apps:wsgi", "--threads", "3"),
    "asyncio": ("apps:asgi", "--loop", "asyncio"),
    "uvloop": ("apps:asgi", "--loop", "uvloop"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "apps.py").write_text(APPS)
    return KINDS[request.param]


def start(kind: tuple[str, ...], folder: Path, *options: str) -> App:
    app, *own = kind
    return App.serve(app, f"unix:{folder}/app.sock", folder / "log", *own, *options, cwd=folder)


def begin_request(web_server: WebServer) -> None:
    web_server.begin(params_for("/wait"))
    web_server.body(b"", end=True)
    while b"waiting" not in web_server.record().content:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_request_under_way_is_completed(kind: tuple[str, ...], tmp_path: Path, number: signal.Signals) -> None:
    with start(kind, tmp_path) as app, WebServer(app.address) as web_server, WebServer(app.address) as idle:
        assert idle.request(params_for("/")).body == b", done"
        begin_request(web_server)
        app.signal(number)
        if "1" not in kind:
            # Of a single thread the one request has all the attention.
            assert idle.at_eof()
        (tmp_path / "go").touch()
        assert web_server.response().stdout == b", done"
        assert web_server.at_eof()
        assert app.wait() == 0
        assert not (tmp_path / "app.sock").exists()


def test_a_second_signal_ends_at_once(kind: tuple[str, ...], tmp_path: Path) -> None:
    with start(kind, tmp_path) as app, WebServer(app.address) as web_server:
        begin_request(web_server)
        app.signal(signal.SIGTERM)
        app.signal(signal.SIGTERM)
        # Signals of the same kind may melt into one.
        while app.process.poll() is None:
            app.signal(signal.SIGTERM)
        assert app.wait() == -signal.SIGTERM
        assert not (tmp_path / "app.sock").exists()


def test_a_handler_that_never_ends_is_given_up(kind: tuple[str, ...], tmp_path: Path) -> None:
    with start(kind, tmp_path, "--graceful-timeout", "0.2") as app, WebServer(app.address) as web_server:
        begin_request(web_server)
        app.signal(signal.SIGTERM)
        status = app.wait()
        # Tasks are cancelled, threads left behind; but the one that serves alone can only be ended with the process.
        assert status == (1 if "1" in kind else 0), app.log_since()
        assert "graceful_timeout" in app.log_since()
        assert not (tmp_path / "app.sock").exists()
        app.ends_with = (status,)
