"""A server with one thread lets the kernel wait for a web server that takes less than the handler gives."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net import files
from simple_fastcgi.protocol.constants import FCGI_END_REQUEST
from simple_fastcgi.sync import pace
from tests.servers.support import HEAD, Flag, kinds, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import WebServer

PIECE = os.urandom(65536)
# More than waits in the kernel, however large the socket's buffer is made.
PIECES = 96


def blocks(running: Running) -> bool:
    (connection,) = running.connections()
    return os.get_blocking(connection.fd)


def begin_to_block(running: Running, web: WebServer) -> int:
    """Take as little of an answer as makes the server's socket block; how many bytes of its body."""
    web.send(encode_request(params_for()))
    until(lambda: bool(running.connections() and running.connections()[0].unsent))
    taken = -len(HEAD)
    while not blocks(running):
        taken += len(web.record().content)
    return taken


def rest(web: WebServer) -> int:
    """The bytes of the rest of an answer's body."""
    taken = 0
    while (record := web.record()).type != FCGI_END_REQUEST:
        taken += len(record.content)
    return taken


async def long_answer(h: Handler) -> None:
    await h.write(HEAD)
    for _ in range(PIECES):
        await h.write(PIECE)


@kinds("sync")
def test_a_long_answer(serve: Serve) -> None:
    running = serve(long_answer)
    web = running.connect()
    taken = begin_to_block(running, web)
    assert taken + rest(web) == PIECES * len(PIECE)
    # An idle connection would keep the others waiting.
    until(lambda: running.connections()[0].core.idle)
    assert not blocks(running)
    web.send(encode_request(params_for()))
    assert rest(web) - len(HEAD) == PIECES * len(PIECE)


@kinds("sync")
def test_an_abort_is_seen_soon(serve: Serve) -> None:
    aborted = Flag()

    async def body(h: Handler) -> None:
        try:
            while True:
                await h.write(PIECE)
        except ConnectionAbortedError:
            aborted.set()

    running = serve(body)
    web = running.connect()
    begin_to_block(running, web)
    web.abort()
    rest(web)
    aborted.wait()
    assert not blocks(running)


@kinds("sync")
def test_a_web_server_that_goes(serve: Serve) -> None:
    gone = Flag()

    async def body(h: Handler) -> None:
        try:
            while True:
                await h.write(PIECE)
        except ConnectionAbortedError:
            gone.set()

    running = serve(body)
    web = running.connect()
    begin_to_block(running, web)
    web.close()
    gone.wait()
    until(lambda: not running.connections())


@kinds("sync")
def test_a_handler_that_fails_and_one_whose_input_has_not_ended(serve: Serve, log: Log) -> None:
    """Neither leaves a socket that blocks, and the second never makes one: its web server may wait for us to read."""

    async def body(h: Handler) -> None:
        await long_answer(h)
        if h.environ["PATH_INFO"] == "/failing":
            raise ConnectionAbortedError

    running = serve(body)
    web = running.connect()
    web.begin(params_for())
    until(lambda: bool(running.connections() and running.connections()[0].unsent))
    seen = -len(HEAD)
    while seen < PIECES * len(PIECE):
        seen += len(web.record().content)
        assert not blocks(running)
    web.body(b"", end=True)
    assert rest(web) == 0
    web.send(encode_request(params_for("/failing")))
    with pytest.raises(EOFError):
        rest(web)
    assert "ConnectionAbortedError" in log.claim_failure("GET /failing failed")


@kinds("sync")
def test_output_in_the_midst_of_a_body(serve: Serve) -> None:
    """Is not waited for in the kernel: the web server may want to be rid of more of the body first."""
    seen = []

    async def body(h: Handler) -> None:
        for _ in range(2):
            await h.read(1)
            seen.append(blocks(running))
            await h.write(HEAD if len(seen) == 1 else b"more")
            seen.append(blocks(running))

    running = serve(body)
    web = running.connect()
    web.begin(params_for())
    until(lambda: bool(running.connections()) and blocks(running))
    web.body(b"a")
    until(lambda: len(seen) == 2 and blocks(running))
    web.body(b"b")
    until(lambda: len(seen) == 4)
    web.body(b"", end=True)
    assert web.response().status == 200
    assert seen == [True, False, True, False]


@kinds("sync")
def test_a_body_that_comes_in_parts(serve: Serve) -> None:
    """Each is waited for in the kernel, and what comes later than that takes is waited for, too."""
    read = 0

    async def body(h: Handler) -> None:
        nonlocal read
        while data := await h.read(100_000):
            read += len(data)
        assert not blocks(running)
        await h.write(HEAD)

    running = serve(body)
    web = running.connect()
    web.begin(params_for())
    sent = 0

    def is_waiting() -> bool:
        return read == sent and bool(running.connections()) and blocks(running)

    for part in (b"a", PIECE * 4, b"b", PIECE):
        until(is_waiting)
        web.body(part)
        sent += len(part)
    (connection,) = running.connections()
    until(lambda: read == sent and connection._polling > 0)
    web.body(b"c", end=True)
    assert web.response().status == 200
    assert read == sent + 1
    assert not blocks(running)


@kinds("sync")
def test_where_waiting_cannot_be_limited(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "limit_waits", lambda sock, seconds: False)
    running = serve(long_answer)
    web = running.connect()
    web.send(encode_request(params_for()))
    until(lambda: bool(running.connections() and running.connections()[0].unsent))
    taken = -len(HEAD)
    while taken < PIECES * len(PIECE):
        taken += len(web.record().content)
        assert not blocks(running)
    assert rest(web) == 0


def test_limit_waits() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            assert files.limit_waits(ours, 0.05)
            sent = 0
            # It comes back, although nobody reads.
            with pytest.raises(BlockingIOError):
                while True:
                    sent += ours.send(PIECE)
            assert sent
        assert not files.limit_waits(ours, 0.05)
