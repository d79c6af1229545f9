"""A hello on a kept connection takes one system call to receive it, one to send the answer, and one to wait."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.servers.support import child_environment, listening_socket, python
from tests.support.webserver import WebServer, params_for

if TYPE_CHECKING:
    from tests.support.webserver import Response

PROGRAM = """
import asyncio, json, selectors, socket, sys
from collections import Counter

counts = Counter()

def count(owner, name, what):
    real = getattr(owner, name)
    def counted(*arguments, **options):
        counts[what] += 1
        return real(*arguments, **options)
    setattr(owner, name, counted)

class Counted(socket.SocketType):
    pass

for owner in (socket.socket, Counted):
    for name in ("recv", "recv_into", "recvmsg"):
        count(owner, name, "receive")
    for name in ("send", "sendall", "sendmsg"):
        count(owner, name, "send")

from simple_fastcgi import AsyncFcgiServer, FcgiServer, FcgiThreadingServer
from simple_fastcgi.gateways.asgi import AsgiHandler
from simple_fastcgi.gateways.wsgi import WsgiHandler
from simple_fastcgi.net import accept
from simple_fastcgi.sync import connection, poller, server as sync_server

class CountedPoller(poller.EpollPoller):
    def __init__(self):
        super().__init__()
        count(self, "poll", "wait")

# Of the synchronous servers.
accept.SocketType = Counted
sync_server.Poller = CountedPoller
count(connection, "read", "receive")
count(connection, "write", "send")
count(selectors.EpollSelector, "select", "wait")

def body(path):
    if path != "/counts":
        return b"Hello, World!"
    # uvloop's system calls are not made in Python; the kernel counts those that it uses.
    with open("/proc/self/io") as file:
        kernel = dict(line.split(": ") for line in file.read().splitlines())
    return json.dumps({**counts, "read": int(kernel["syscr"]), "write": int(kernel["syscw"])}).encode()

def wsgi(environ, start_response):
    data = body(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]

async def asgi(scope, receive, send):
    data = body(scope["path"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})

async def serve_async():
    async with AsyncFcgiServer(AsgiHandler.for_app(asgi, lifespan="off")) as server:
        await server.serve_forever()

kind = sys.argv[1]
if kind == "sync":
    with FcgiServer(WsgiHandler.for_app(wsgi)) as server:
        server.serve_forever()
elif kind == "threads":
    with FcgiThreadingServer(WsgiHandler.for_app(wsgi)) as server:
        server.serve_forever()
elif kind == "asyncio":
    asyncio.run(serve_async())
else:
    import uvloop
    uvloop.run(serve_async())
"""
REQUESTS = 200
# A wait that ends because of the time, on a machine that stands still for a moment.
SPARE = 50


def ask(web: WebServer, path: str) -> Response:
    return web.request({**params_for(path), "SCRIPT_NAME": "", "PATH_INFO": path})


def difference(kind: str) -> dict[str, int]:
    """How often each was called for REQUESTS requests, one after the other on one connection."""
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(
            python("-c", textwrap.dedent(PROGRAM), kind), stdin=sock.fileno(), env=child_environment()
        ) as child,
    ):
        try:
            with WebServer(address) as web:
                for _ in range(20):
                    assert ask(web, "/").body == b"Hello, World!"
                before = json.loads(ask(web, "/counts").body)
                for _ in range(REQUESTS):
                    assert ask(web, "/").body == b"Hello, World!"
                after = json.loads(ask(web, "/counts").body)
        finally:
            child.kill()
    return {what: after[what] - before[what] for what in after}


@pytest.mark.parametrize("kind", ["sync", "threads", "asyncio"])
def test_one_call_to_receive_and_one_to_send(kind: str) -> None:
    called = difference(kind)
    # Each of the two that tell has one half in between.
    assert called["receive"] == REQUESTS + 1
    assert called["send"] == REQUESTS + 1
    # A task of asyncio's begins in the next turn of the loop, from Python 3.12 on at once.
    waits = 2 if kind == "asyncio" and sys.version_info < (3, 12) else 1
    assert called["wait"] <= waits * (REQUESTS + 1) + SPARE


def test_one_call_to_receive_and_one_to_send_on_uvloop() -> None:
    called = difference("uvloop")
    # What tells reads a file, too.
    assert REQUESTS < called["read"] <= REQUESTS + 10
    assert REQUESTS < called["write"] <= REQUESTS + 2
