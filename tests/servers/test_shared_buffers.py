"""On plain asyncio long bodies are read into buffers that all connections share: none stays busy without need."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.aio import body as aio_body
from simple_fastcgi.net.heap import BodyBuffers
from simple_fastcgi.protocol.constants import FCGI_STDIN
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import HEAD, Flag, kinds, until
from tests.support.webserver import params_for

if TYPE_CHECKING:
    from simple_fastcgi.protocol.streams import InputStream
    from tests.servers.support import Handler, Log, Serve

pytestmark = kinds("asyncio")

RECORD = encode_record(FCGI_STDIN, 1, bytes(60_000))


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> BodyBuffers:
    """Such as only the test has to do with."""
    own = BodyBuffers()
    monkeypatch.setattr(aio_body, "_buffers", own)
    return own


def count_busy(buffers: BodyBuffers) -> int:
    """How many of them somebody refers to a part of."""
    busy = 0
    for buffer in list(buffers._buffers):
        try:
            buffer.append(buffer.pop())
        except BufferError:
            busy += 1
    return busy


def test_at_the_end_of_file(serve: Serve, buffers: BodyBuffers) -> None:
    begun, aborted, answer = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        received = 0
        try:
            while data := await h.read(65536):
                received += len(data)
                if received == 50_000:
                    begun.set()
        except ConnectionAbortedError:
            aborted.set()
        # The connection stays open for the answer.
        await h.wait(answer)

    web = serve(body, family=socket.AF_UNIX).connect()
    web.begin(params_for())
    web.send(RECORD[:20_008])
    web.send(RECORD[20_008:50_008])
    begun.wait()
    web.socket.shutdown(socket.SHUT_WR)
    aborted.wait()
    assert buffers._buffers
    until(lambda: count_busy(buffers) == 0)
    answer.set()


def test_behind_a_violation(serve: Serve, buffers: BodyBuffers, log: Log) -> None:
    """The line in the log, which a handler of the program's may keep, keeps nothing of what came."""
    begun, ended = Flag(), Flag()

    async def body(h: Handler) -> None:
        # The server knows by then that the body is long.
        assert await h.read(1)
        begun.set()
        try:
            await h.read()
        finally:
            ended.set()

    web = serve(body).connect()
    web.begin(params_for())
    web.send(RECORD[:20_000])
    begun.wait()
    web.send(RECORD[20_000:] + bytes(8))
    ended.wait()
    assert web.socket.recv(1) == b""
    record = log.claim("FastCGI version 0, this is version 1")
    assert record.args
    assert buffers._buffers
    until(lambda: count_busy(buffers) == 0)


def has_come(stream: InputStream, size: int) -> bool:
    return stream.buffered == size


def test_where_all_are_busy(serve: Serve, buffers: BodyBuffers) -> None:
    """Parts of a body take as much memory as they are long."""
    begun, answer = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(answer)
        await h.write(HEAD + b"%d" % len(await h.read()))

    kept = []
    while (view := buffers.view()) is not None:
        kept.append(view)
    running = serve(body)
    web = running.connect()
    web.begin(params_for())
    begun.wait()
    (connection,) = running.connections()
    stdin = connection.core.requests[1].stdin
    for stop in range(6008, len(RECORD), 6000):
        web.send(RECORD[stop - 6000 if stop > 6008 else 0 : stop])
        until(partial(has_come, stdin, stop - 8))
    sizes = {id(owner): memoryview(owner).nbytes for owner in (memoryview(chunk).obj for chunk in stdin._chunks)}
    assert sum(sizes.values()) < 2 * len(RECORD)
    web.send(RECORD[stop:] + encode_record(FCGI_STDIN, 1))
    answer.set()
    assert web.response().body == b"60000"
    assert count_busy(buffers) == len(kept)
