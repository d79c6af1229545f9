"""`write` and `write_err`: the output streams, and how they leave."""

from __future__ import annotations

import array
import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDERR, FCGI_STDOUT
from tests.servers.support import ASYNC, HEAD, TIMEOUT, Flag
from tests.support.webserver import Record, collect, encode_request, params_for

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.servers.support import Handler, Log, Serve
    from tests.support.webserver import Response, WebServer


def shape(response: Response) -> list[tuple[int, int]]:
    """The records by type and length."""
    return [(record.type, len(record.content)) for record in response.records]


def test_written_bytes_arrive_in_turn(serve: Serve, family: socket.AddressFamily) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD)
        for i in range(1000):
            await h.write(b"%d," % i, flush=i % 100 == 0)
        await h.write(b"")

    web = serve(body, family=family).connect()
    for keep in (True, True, False):
        assert web.request(params_for(), keep=keep).body == b"".join(b"%d," % i for i in range(1000))
    web.eof()


@pytest.mark.parametrize("flush", [False, True])
def test_all_bytes_like_objects_can_be_written(serve: Serve, flush: bool) -> None:
    written = [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"s-k-i-p-s-")[::2],
        memoryview(array.array("I", [1, 2])),
        array.array("B", b"array"),
        b"",
        bytearray(),
    ]

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        for data in written:
            await h.write(data, flush=flush)

    assert serve(body).request().body == b"".join(bytes(data) for data in written)


def test_other_objects_cannot_be_written(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        wrong: Any
        for wrong in ("text", None, 5, [b"list"], (b"tuple",), object()):
            with pytest.raises(TypeError, match="bytes"):
                await h.write(wrong)
            with pytest.raises(TypeError, match="bytes"):
                await h.write_err(wrong)
        with pytest.raises(TypeError):
            await h.write(b"", True)  # type: ignore[call-arg] # flush is a keyword
        await h.write(HEAD)

    response = serve(body).request()
    assert (response.stdout, response.stderr) == (HEAD, b"")


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_buffer_may_be_used_again_after_write(serve: Serve, size: int) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD)
        buffer = bytearray(size)
        for i in range(5):
            buffer[:] = bytes([i]) * size
            await h.write(buffer if i % 2 else memoryview(buffer))
        buffer[:] = b"\xff" * size
        buffer.clear()

    assert serve(body).request().body == b"".join(bytes([i]) * size for i in range(5))


def test_flush_sends_now(serve: Serve, family: socket.AddressFamily) -> None:
    """The peer has it before `handle` returns: each side waits for the other."""
    seen = [Flag(), Flag(), Flag()]

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        await h.wait(seen[0])
        await h.write(b"one")
        await h.write(b"two", flush=True)
        await h.wait(seen[1])
        # What was written before is flushed too, even if nothing more is said.
        await h.write(b"three")
        await h.write(b"", flush=True)
        await h.wait(seen[2])
        await h.write(b"the rest")

    web = serve(body, family=family).connect()
    web.send(encode_request(params_for()))
    for expected, flag in zip((HEAD, b"onetwo", b"three"), seen, strict=True):
        arrived = b""
        while len(arrived) < len(expected):
            record = web.record()
            assert record.type == FCGI_STDOUT
            arrived += record.content
        assert arrived == expected
        flag.set()
    assert web.response().stdout == b"the rest"


def test_without_flush_nothing_leaves_before_the_end(serve: Serve) -> None:
    """Only what is too much to be kept."""
    enough = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        await h.write(b"x" * 3000)
        await h.wait(enough)
        await h.write(b"y" * 4000)
        await h.wait(ended)

    ended = Flag()
    web = serve(body, limits={"max_buffered_output": 4096}).connect()
    web.send(encode_request(params_for()))
    web.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        web.socket.recv(1)
    web.socket.settimeout(TIMEOUT)
    enough.set()
    record = web.record()
    assert record.content == HEAD + b"x" * 3000 + b"y" * 4000
    ended.set()
    assert web.response().ended


def one_recv(web: WebServer) -> Response:
    """What one call of recv gives, which must be a whole response."""
    data = web.socket.recv(1 << 20)
    response = web_response(data)
    assert response.ended
    return response


def web_response(data: bytes) -> Response:
    from tests.support.webserver import Response

    response = Response()
    while data:
        size, padding = int.from_bytes(data[4:6], "big"), data[6]
        collect(response, Record(data[1], data[3], data[8 : 8 + size], padding))
        data = data[8 + size + padding :]
    return response


def test_a_small_answer_leaves_in_one_write(serve: Serve, family: socket.AddressFamily) -> None:
    """Together with its end records: whoever sees any of it sees all."""

    async def body(h: Handler) -> None:
        await h.send_response(200, data="x" * int(h.environ["PATH_INFO"][1:]))

    web = serve(body, family=family).connect()
    for size in (0, 5, 1000, 4000):
        web.send(encode_request(params_for(f"/{size}")))
        response = one_recv(web)
        assert len(response.body) == size
        assert shape(response)[-2:] == [(FCGI_STDOUT, 0), (FCGI_END_REQUEST, 8)]
        assert len(response.records) <= 4


def test_an_empty_answer_leaves_in_one_write(serve: Serve) -> None:
    async def body(_: Handler) -> None:
        pass

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    assert shape(one_recv(web)) == [(FCGI_STDOUT, 0), (FCGI_END_REQUEST, 8)]


def test_a_failure_leaves_in_one_write(serve: Serve, log: Log) -> None:
    async def body(_: Handler) -> None:
        raise ValueError("of the application")

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    response = one_recv(web)
    assert response.status == 500
    assert b"of the application" in response.stderr
    log.claim("GET / failed")


def test_errors_leave_behind_the_head(serve: Serve) -> None:
    """Some web servers take them for a broken response otherwise."""

    async def body(h: Handler) -> None:
        await h.write_err(b"first an error\n")
        await h.write(HEAD + b"then the page")
        await h.write_err(bytearray(b"and another\n"))
        await h.write_err(memoryview(b"and one more"))

    response = serve(body).request()
    assert response.body == b"then the page"
    assert response.stderr == b"first an error\nand another\nand one more"
    kinds = [record.type for record in response.records]
    assert kinds.index(FCGI_STDOUT) < kinds.index(FCGI_STDERR)
    # A stream that has begun is ended.
    assert (FCGI_STDERR, 0) in shape(response)
    assert (FCGI_STDOUT, 0) in shape(response)


def test_without_errors_their_stream_is_not_mentioned(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write_err(b"")
        await h.write(HEAD)

    assert FCGI_STDERR not in dict(shape(serve(body).request()))


def test_errors_leave_with_a_flush(serve: Serve) -> None:
    seen = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        await h.write_err(b"an error\n")
        await h.write(b"", flush=True)
        await h.wait(seen)

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    records = [web.record() for _ in range(3)]
    assert [record.type for record in records] == [FCGI_STDOUT, FCGI_STDERR, FCGI_STDOUT]
    assert [record.content for record in records] == [HEAD[:-1], b"an error\n", HEAD[-1:]]
    seen.set()
    assert web.response().ended


def test_many_errors(serve: Serve) -> None:
    lines = b"".join(b"line %d\n" % i for i in range(20_000))

    async def body(h: Handler) -> None:
        for line in lines.splitlines(keepends=True):
            await h.write_err(line)
        await h.write(HEAD)

    response = serve(body).request()
    assert response.stderr == lines
    # Each record ends with a line, for web servers log it as one message.
    assert all(
        record.content.endswith(b"\n") for record in response.records if record.type == FCGI_STDERR if record.content
    )


def test_large_answers(serve: Serve, family: socket.AddressFamily) -> None:
    data = bytes(range(256)) * 20_000

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        if h.environ["PATH_INFO"] == "/whole":
            await h.write(data)
        else:
            for start in range(0, len(data), 70_000):
                await h.write(data[start : start + 70_000], flush=True)

    running = serve(body, family=family)
    web = running.connect()
    for url in ("/whole", "/parts"):
        assert web.request(params_for(url)).body == data
        assert running.request(url, keep=False).body == data


def test_input_and_output_at_once(serve: Serve, family: socket.AddressFamily) -> None:
    """A web server that sends all of its body before it reads: as much as buffers hold goes through."""
    data = bytes(range(256)) * 1000

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        while piece := await h.read(5000):
            await h.write(piece, flush=True)

    web = serve(body, family=family).connect()
    for _ in range(2):
        assert web.request(params_for(), data).body == data


@ASYNC
@pytest.mark.parametrize("then", ["blocks", "file"])
def test_writers_still_wait_behind_a_file_that_was_cancelled(serve: Serve, tmp_path: Path, then: str) -> None:
    """It was cancelled while it waited for what the transport holds, of which nothing has left since."""
    file, tried, size = tmp_path / "file", Flag(), 4 << 20
    file.write_bytes(bytes(size))

    async def body(h: Handler) -> None:
        request = h.real.request
        connection = request.connection
        # More than all sockets hold.
        request.write_now(HEAD + bytes(4 * size))
        with file.open("rb") as opened:

            async def send_file() -> None:
                await request.send_file(opened.fileno(), 0, size)

            cancelled = asyncio.create_task(send_file())
            while not connection.bypassed:
                await h.pause()
            cancelled.cancel()
            await asyncio.wait([cancelled])
            following = asyncio.create_task(send_file() if then == "file" else h.write(bytes(size), flush=True))
            for _ in range(100):
                await asyncio.sleep(0)
            assert connection.paused is not None
            assert not following.done()
            tried.set()
            await following

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for()))
    tried.wait()
    assert not running.is_busy_for_nothing()
    assert len(web.response().body) == 5 * size
