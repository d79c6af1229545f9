"""Applications in processes of their own whose coverage counts: what begins anew does so nowhere else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.webserver import WebServer, params_for
from tests.webservers.children import App

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.webserver import Address


class Served(App):
    """An application, or any other program."""

    measured = True


WSGI = """\
import os

def app(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%s %%d" %% os.getpid()]
"""
ASGI = """\
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%s %%d" %% os.getpid()})
"""
SOURCES = {"WSGI": WSGI, "ASGI": ASGI}


def write(path: Path, text: str) -> None:
    """As an upload does; the time of modification is another one, even in whole seconds, as compiled files have it."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))


def set_back(path: Path) -> None:
    """Older than before: what a change is, too."""
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))


def answer(address: Address) -> list[bytes]:
    with WebServer(address) as web_server:
        return web_server.request(params_for()).body.split()
