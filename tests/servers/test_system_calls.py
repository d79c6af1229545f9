"""A hello takes one system call to receive it, one to send the answer, and one to wait: not for each, if several come.

A connection for each adds those that make it, and none else.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_STDIN
from tests.servers.support import child_environment, listening_socket, python
from tests.support.webserver import TIMEOUT, WebServer, encode_request, params_for, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.webserver import Address, Response

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

for name in ("recv", "recv_into", "recvmsg"):
    count(socket.socket, name, "receive")
for name in ("send", "sendall", "sendmsg"):
    count(socket.socket, name, "send")

from simple_fastcgi import AsyncFcgiServer, FcgiServer, FcgiThreadingServer
from simple_fastcgi.gateways.asgi import AsgiHandler
from simple_fastcgi.gateways.wsgi import WsgiHandler
from simple_fastcgi.sync import connections, link, poller

class CountedPoller(poller.EpollPoller):
    def __init__(self):
        super().__init__()
        count(self, "poll", "wait")
        count(self, "register", "other")
        count(self, "modify", "other")

# Of the synchronous servers.
connections.Poller = CountedPoller

class CountedSocket(link.SocketType):
    def recvmsg_into(self, *arguments):
        counts["receive"] += 1
        return super().recvmsg_into(*arguments)

link.SocketType = CountedSocket
count(link, "SocketType", "other")
count(selectors.EpollSelector, "select", "wait")

def body(path):
    if path != "/counts":
        return b"Hello, World!"
    # Not all system calls are those of Python's sockets; the kernel counts the others.
    with open("/proc/self/io") as file:
        kernel = dict(line.split(": ") for line in file.read().splitlines())
    return json.dumps({**counts, "read": int(kernel["syscr"]), "write": int(kernel["syscw"])}).encode()

def wsgi(environ, start_response):
    size = int(environ["QUERY_STRING"] or -1)
    while environ["wsgi.input"].read(size):
        pass
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
WAITING = 100
# A wait that ends because of the time, on a machine that stands still for a moment.
SPARE = 50


def ask(web: WebServer, path: str) -> Response:
    return web.request({**params_for(path), "SCRIPT_NAME": "", "PATH_INFO": path})


@contextmanager
def program(kind: str) -> Iterator[Address]:
    """The address of a server of this kind."""
    with process(kind) as (_, address):
        yield address


@contextmanager
def process(kind: str) -> Iterator[tuple[subprocess.Popen[bytes], Address]]:
    """The same, and its process."""
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(
            python("-c", textwrap.dedent(PROGRAM), kind), stdin=sock.fileno(), env=child_environment()
        ) as child,
    ):
        try:
            yield child, address
        finally:
            child.kill()


def difference(kind: str) -> dict[str, int]:
    """How often each was called for REQUESTS requests, one after the other on one connection."""
    with program(kind) as address, WebServer(address) as web:
        for _ in range(20):
            assert ask(web, "/").body == b"Hello, World!"
        before = json.loads(ask(web, "/counts").body)
        for _ in range(REQUESTS):
            assert ask(web, "/").body == b"Hello, World!"
        after = json.loads(ask(web, "/counts").body)
    return {what: after[what] - before[what] for what in after}


def test_one_call_to_receive_and_one_to_send_on_asyncio() -> None:
    called = difference("asyncio")
    # Each of the two that tell has one half in between.
    assert called["receive"] == REQUESTS + 1
    assert called["send"] == REQUESTS + 1
    # A task begins in the next turn of the loop, from Python 3.12 on at once.
    waits = 2 if sys.version_info < (3, 12) else 1
    assert called["wait"] <= waits * (REQUESTS + 1) + SPARE


@pytest.mark.parametrize("kind", ["sync", "threads", "uvloop"])
def test_one_call_to_receive_and_one_to_send(kind: str) -> None:
    called = difference(kind)
    # What tells reads a file, too.
    assert REQUESTS < called["read"] <= REQUESTS + 10
    assert REQUESTS < called["write"] <= REQUESTS + 2
    if kind != "uvloop":
        assert called["wait"] <= REQUESTS + 1 + SPARE


def test_a_connection_for_each_request() -> None:
    """It is not registered with the poller, nor made an object, if its request is there already."""
    with program("sync") as address, WebServer(address) as web, WebServer(address) as busy, ExitStack() as stack:
        assert ask(busy, "/").body == b"Hello, World!"
        before = json.loads(ask(web, "/counts").body)
        begun = encode_request(params_for("/"), b"x")
        busy.send(begun[:-1])
        others = [stack.enter_context(WebServer(address)) for _ in range(WAITING)]
        for other in others:
            other.send(encode_request(params_for("/"), keep=False))
        busy.send(begun[-1:])
        for each in (busy, *others):
            assert each.response().body == b"Hello, World!"
        for other in others:
            other.eof()
        after = json.loads(ask(web, "/counts").body)
    assert WAITING < after["read"] - before["read"] <= WAITING + 10
    assert WAITING < after["write"] - before["write"] <= WAITING + 3
    assert after["wait"] - before["wait"] <= WAITING + SPARE
    # The object of the one that is busy, once it waits for its body.
    assert after["other"] - before["other"] <= 1


BLOCK = 65536
BLOCKS = 64


def test_one_call_to_receive_for_each_block_of_an_upload() -> None:
    """Once the body is under way, as long as the web server sends it without a pause.

    On a machine that stands still for a moment the kernel does not wait so long: some upload then goes through.
    """
    wire = b"".join(stream(FCGI_STDIN, 1, bytes(BLOCK * BLOCKS), size=32768))
    seen = []
    with process("sync") as (child, address), WebServer(address) as web:
        before = json.loads(ask(web, "/counts").body)
        for _ in range(20):
            # As much as the socket holds is there before any of it is read.
            os.kill(child.pid, signal.SIGSTOP)
            try:
                length = str(BLOCK * BLOCKS)
                web.begin(params_for(f"/?{BLOCK}", REQUEST_METHOD="POST", CONTENT_LENGTH=length))
                web.socket.settimeout(0)
                sent = 0
                try:
                    while sent < len(wire):
                        sent += web.socket.send(wire[sent:])
                except BlockingIOError:
                    web.socket.settimeout(TIMEOUT)
            finally:
                os.kill(child.pid, signal.SIGCONT)
            web.send(wire[sent:])
            assert web.response().body == b"Hello, World!"
            after = json.loads(ask(web, "/counts").body)
            received, read = (after.get(what, 0) - before.get(what, 0) for what in ("receive", "read"))
            before = after
            seen.append((received, read))
            if BLOCKS - 8 <= received <= BLOCKS and read <= 16:
                break
        else:
            pytest.fail(f"calls of recvmsg_into() and read() for {BLOCKS} blocks: {seen}")
