"""Mutated streams against running servers: each is closed, nobody else notices, and nothing is left."""

from __future__ import annotations

import gc
import logging
import socket
from contextlib import suppress
from random import Random

import pytest

from simple_fastcgi.aio.connection import Connection as AsyncConnection
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.streams import Request
from simple_fastcgi.sync.connection import Connection
from tests.fuzz.amount import FACTOR, SECONDS
from tests.fuzz.mutation import mutated_stream
from tests.servers.support import HEAD, TIMEOUT, Handler, Log, Running, Serve, kinds, until
from tests.support.webserver import WebServer

BATCHES = max(20, int(50 * FACTOR))
BATCH = 25
"""Mutated streams until a healthy request follows; fewer than connections fit into the listen queue."""
WARM_UP = 10
"""Batches until everything that is made once has been made."""
REMEMBERED = 8
"""How many requests a server may still know of; threads forget the last ones whose input was late when others come."""


async def body(handler: Handler) -> None:
    """What applications do, each request something else."""
    number = sum(map(len, handler.environ.values())) % 6
    if handler.environ.get("PATH_INFO") == "/healthy":
        await handler.write(HEAD + await handler.readall())
    elif number == 0:
        await handler.write(HEAD + b"%d" % len(await handler.readall()))
    elif number == 1:
        await handler.write(HEAD + b"unread")
    elif number == 2:
        await handler.read(10)
        await handler.write(HEAD + b"x" * 100_000, flush=True)
        await handler.write(b"y")
    elif number == 3:
        await handler.write_err(b"an error\n" * 300)
        await handler.write(HEAD)
    elif number == 4:
        await handler.write(HEAD, flush=True)
        raise RuntimeError("broken off")
    else:
        raise RuntimeError("broken")


def play(running: Running, random: Random) -> None:
    """One mutated stream on a connection of its own, which is closed at once or when all is answered."""
    stream = b"".join(mutated_stream(random))
    with WebServer(running.address) as web:
        # Whoever breaks the protocol is hung up on.
        with suppress(BrokenPipeError, ConnectionResetError):
            at = random.choice((0, random.randrange(1 + len(stream))))
            for piece in (stream[:at], stream[at:]):
                web.send(piece)
            if random.random() < 0.2:
                web.socket.shutdown(socket.SHUT_WR)
                while web.socket.recv(65536):
                    pass


def healthy(running: Running, number: int) -> None:
    response = running.request("/healthy", b"%d" % number)
    assert (response.status, response.body) == (200, b"%d" % number)


def claim_expected(log: Log) -> None:
    """Take away what may be logged: violations, and the failures of the application."""
    records, log.records[:] = log.records[:], []
    for record in records:
        message = record.getMessage()
        if message.startswith("requests in role "):
            assert message.endswith(" (told once)")
        elif record.levelno == logging.ERROR:
            assert message.endswith(" failed")
            assert record.exc_info is not None
            assert isinstance(record.exc_info[1], RuntimeError)
        else:
            assert message.startswith("connection from a unix socket closed: ")


def alive() -> list[object]:
    """Connections and requests that something still holds."""
    gc.collect()
    types = (ApplicationConnection, Request, Connection, AsyncConnection)
    return [one for one in gc.get_objects() if type(one) in types]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@kinds("sync", "threads", "asyncio", "uvloop")
def test_mutated_streams_and_healthy_requests(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest keeps each record, which keeps its traceback, which keeps the request.
    monkeypatch.setattr(logging.getLogger("simple_fastcgi"), "propagate", False)
    # Nobody waits so long: what is over closes at once.
    running = serve(body, limits={"linger_timeout": 10 * TIMEOUT})
    objects = 0
    for batch in range(BATCHES):
        for number in range(BATCH):
            play(running, Random(batch << 32 | number))
        healthy(running, batch)
        claim_expected(log)
        if batch == WARM_UP:
            until(lambda: not running.connections())
            until(lambda: len(alive()) <= REMEMBERED)
            objects = len(gc.get_objects())
    until(lambda: not running.connections())
    until(lambda: len(alive()) <= REMEMBERED)
    claim_expected(log)
    grown = len(gc.get_objects()) - objects
    assert grown < (BATCHES - WARM_UP) * BATCH / 2, "something is left of every stream"
