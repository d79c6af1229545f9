"""One request, to see whether a contestant does what it is asked before it is measured."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from benchmarks.contestants.prepare import Missing

from .wires import WIRES, BrokenAnswer

if TYPE_CHECKING:
    import socket

    from benchmarks.contestants.launch import Server

    from .requests import Request, Traffic
    from .wires import Wire

SECONDS_TO_ANSWER = 20.0


def through_nginx(port: int, request: Request) -> bytes:
    """The body of the answer; BrokenAnswer when its status is not 200, OSError or HTTPException when there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_ANSWER)
    try:
        connection.request(request.method, request.target, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise BrokenAnswer(f"status {answer.status}")
    return body


def straight(server: Server, request: Request) -> bytes:
    """The body of the answer, asked at the socket; BrokenAnswer or OSError when there is none."""
    wire = WIRES[server.contestant.protocol]
    with server.connect() as peer:
        peer.settimeout(SECONDS_TO_ANSWER)
        return ask_on(peer, wire, wire.encode(request, kept=True))


def ask_on(peer: socket.socket, wire: Wire, request: bytes) -> bytes:
    """The same on a connection that is there already; it stays open."""
    peer.sendall(request)
    reader = wire.reader()
    while data := peer.recv(262144):
        if ended := reader.feed(data):
            return ended[0][1]
    raise BrokenAnswer("closed before the answer was complete")


def expect(server: Server, traffic: Traffic, port: int | None) -> None:
    """Ask once, through nginx if there is a `port` for it; Missing when the answer is not the right one."""
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    request = traffic.request(1)
    while True:
        try:
            body = straight(server, request) if port is None else through_nginx(port, request)
        except (BrokenAnswer, OSError, http.client.HTTPException) as problem:
            # A program that inherits its socket may still be loading behind it; one that binds may bind too early.
            if not server.tree.running or time.monotonic() > deadline:
                raise Missing(f"does not answer: {problem}; {server.tree.last_words()}") from None
            time.sleep(0.05)
            continue
        if body != traffic.answer(1):
            raise Missing(f"answers wrongly: {body[:80]!r}")
        return
