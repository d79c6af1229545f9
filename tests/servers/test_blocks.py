"""Blocks of a long body, as WSGI applications give them: each leaves at once, most of them past the protocol core."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDERR, FCGI_STDOUT
from simple_fastcgi.protocol.records import COPY_LIMIT
from simple_fastcgi.sync import link
from tests.servers.support import HEAD, SYNC, Flag, kinds, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.servers.support import Handler, Log, Serve
    from tests.support.webserver import WebServer

PIECE = os.urandom(65536)


def send(h: Handler, blocks: Iterable[bytes]) -> None:
    assert h.real.request.write_blocks(iter(blocks), None) == (None, None)


def output_until(web: WebServer, type_: int) -> bytes:
    """FCGI_STDOUT as far as it comes before a record of another type."""
    content = b""
    while (record := web.record()).type != type_:
        assert record.type == FCGI_STDOUT
        content += record.content
    return content


@SYNC
def test_blocks_of_many_sizes(serve: Serve) -> None:
    sizes = [65_536, 65_536, 100, 65_536, 20_001, 20_001, 0, 65_528, 65_529, 66_041, 300_001, 300_001, 4_000_000]
    blocks = [os.urandom(size) for size in (*sizes, COPY_LIMIT, COPY_LIMIT + 1, 65_536)]

    async def body(h: Handler) -> None:
        send(h, (HEAD, *blocks))

    assert serve(body).request().body == b"".join(blocks)


@SYNC
def test_each_block_takes_one_system_call(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is copied, so that it is one buffer; nothing of a large one is."""
    buffers: list[int] = []

    def write(descriptor: int, data: bytes) -> int:
        buffers.append(1)
        return os.write(descriptor, data)

    def writev(descriptor: int, parts: Sequence[bytes]) -> int:
        buffers.append(len(parts))
        return os.writev(descriptor, parts)

    monkeypatch.setattr(link, "write", write)
    monkeypatch.setattr(link, "writev", writev)

    async def body(h: Handler) -> None:
        send(h, [HEAD, bytes(20_000), bytes(20_001), bytes(20_000), b"small", PIECE])

    assert len(serve(body).request().body) == 60_001 + 5 + len(PIECE)
    end = 1
    assert buffers == [1, 2, 3, 2, 1, 3, end]


@SYNC
@pytest.mark.parametrize("size", [20_000, 20_001, 65_536, 200_000])
@pytest.mark.parametrize("taken", [0, 1, 8, 9, 20_008, 65_536, 65_543])
def test_blocks_leave_in_parts(serve: Serve, monkeypatch: pytest.MonkeyPatch, size: int, taken: int) -> None:
    """A web server that is slow leaves no more room in the socket than that."""

    def writev(descriptor: int, parts: Sequence[bytes]) -> int:
        if not taken:
            raise BlockingIOError
        return os.write(descriptor, b"".join(parts)[:taken])

    monkeypatch.setattr(link, "writev", writev)
    blocks = [os.urandom(size) for _ in range(4)]

    async def body(h: Handler) -> None:
        send(h, (HEAD, *blocks))

    assert serve(body).request().body == b"".join(blocks)


@SYNC
def test_a_slow_web_server(serve: Serve) -> None:
    pieces = 96

    async def body(h: Handler) -> None:
        send(h, (HEAD, *([PIECE] * pieces)))

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for()))
    until(lambda: bool(running.connections()) and running.connections()[0].unsent)
    assert web.response().body == PIECE * pieces


@kinds("mixin", "threads")
def test_blocks_of_several_requests_on_one_connection(serve: Serve) -> None:
    """What the kernel did not take of one response comes before a block of another."""

    async def body(h: Handler) -> None:
        send(h, (HEAD, *([bytes([65 + int(h.environ["QUERY_STRING"])]) * 65_536] * 40)))

    web = serve(body).connect()
    ids = range(1, 5)
    for request_id in ids:
        web.send(encode_request(params_for(f"/?{request_id}"), request_id=request_id))
    for request_id, response in web.responses(ids).items():
        assert response.body == bytes([65 + request_id]) * (65_536 * 40)


@SYNC
def test_an_error_between_two_blocks(serve: Serve) -> None:
    """It leaves behind the block that comes next, but for the last byte, as always."""

    async def body(h: Handler) -> None:
        def blocks() -> Iterator[bytes]:
            yield from (HEAD, PIECE, PIECE)
            h.real.request.write_err(b"an error\n")
            yield from (PIECE, PIECE)

        send(h, blocks())

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    assert output_until(web, FCGI_STDERR) == (HEAD + PIECE * 3)[:-1]
    # The end of FCGI_STDERR.
    assert output_until(web, FCGI_STDERR) == PIECE[-1:] + PIECE
    assert output_until(web, FCGI_END_REQUEST) == b""


@SYNC
def test_output_that_waits_leaves_before_a_block(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        def blocks() -> Iterator[bytes]:
            yield PIECE
            yield PIECE
            h.real.request.write(b"written")
            yield PIECE

        await h.write(HEAD)
        send(h, blocks())

    assert serve(body).request().body == PIECE * 2 + b"written" + PIECE


@SYNC
def test_an_abort_between_two_blocks(serve: Serve) -> None:
    """What comes behind it is not sent, and not taken for a part of the next response."""
    ended = Flag()

    async def body(h: Handler) -> None:
        if ended.is_set:
            await h.write(HEAD)
            return

        def blocks() -> Iterator[bytes]:
            yield from (HEAD, PIECE, PIECE)
            until(h.aborted)
            yield PIECE

        with pytest.raises(ConnectionAbortedError):
            send(h, blocks())
        ended.set()

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    received = b""
    while len(received) < len(HEAD) + 2 * len(PIECE):
        received += web.record().content
    web.abort()
    assert output_until(web, FCGI_END_REQUEST) == b""
    ended.wait()
    assert web.request(params_for()).stdout == HEAD


@SYNC
def test_a_violation_of_the_protocol_between_two_blocks(serve: Serve, log: Log) -> None:
    """Whoever does that gets no more."""

    async def body(h: Handler) -> None:
        def blocks() -> Iterator[bytes]:
            yield from (HEAD, PIECE)
            until(h.aborted)
            yield PIECE

        with pytest.raises(ConnectionAbortedError):
            send(h, blocks())

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    received = b""
    while len(received) < len(HEAD) + len(PIECE):
        received += web.record().content
    web.send(b"no FastCGI")
    assert web.at_eof()
    log.claim("not FastCGI")


@SYNC
def test_a_web_server_that_goes_between_two_blocks(serve: Serve) -> None:
    gone, ended = Flag(), Flag()

    async def body(h: Handler) -> None:
        def blocks() -> Iterator[bytes]:
            yield HEAD
            yield PIECE
            gone.wait()
            yield PIECE

        with pytest.raises(ConnectionAbortedError):
            send(h, blocks())
        ended.set()

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for()))
    web.record()
    web.close()
    gone.set()
    ended.wait()
    until(lambda: not running.connections())


@SYNC
def test_a_failure_behind_the_first_block_cuts_the_response(serve: Serve, log: Log) -> None:
    async def body(h: Handler) -> None:
        send(h, [HEAD + PIECE])
        raise LookupError("too late")

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    content = b""
    while (record := web.record()).id == 1:
        content += record.content if record.type == FCGI_STDOUT else b""
    assert content == HEAD + PIECE
    assert web.at_eof()
    assert "too late" in log.claim_failure("GET / failed")


@SYNC
def test_blocks_behind_the_end_are_dropped(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD)
        h.real.request.end()
        send(h, [PIECE, PIECE])

    web = serve(body).connect()
    for _ in range(2):
        assert web.request(params_for()).stdout == HEAD


@kinds("sync")
def test_input_is_read_between_two_blocks(serve: Serve) -> None:
    """The kernel waits for input then, and must not wait for the web server to take a block meanwhile."""
    seen: list[bool] = []

    def blocks_now() -> bool:
        (connection,) = running.connections()
        return os.get_blocking(connection.fd)

    async def body(h: Handler) -> None:
        def blocks() -> Iterator[bytes]:
            yield HEAD
            for _ in range(2):
                h.real.request.read(1)
                seen.append(blocks_now())
                yield PIECE
                seen.append(blocks_now())

        send(h, blocks())

    running = serve(body)
    web = running.connect()
    web.begin(params_for())
    until(lambda: bool(running.connections()) and blocks_now())
    web.body(b"a")
    until(lambda: len(seen) == 2 and blocks_now())
    web.body(b"b")
    until(lambda: len(seen) == 4)
    web.body(b"", end=True)
    assert web.response().body == PIECE * 2
    assert seen == [True, False, True, False]
