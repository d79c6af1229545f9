"""`read`, `readinto` and `readall`: the input stream."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways.input import BodyReader
from simple_fastcgi.protocol.constants import (
    FCGI_DATA,
    FCGI_FILTER,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDIN,
    FCGI_VERSION_1,
)
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import HEADER, encode_begin_request, encode_record
from tests.servers.support import ASYNC, CONCURRENT, HEAD, SYNC, TIMEOUT, TINY, Flag, kinds, run_to_its_end, until
from tests.support.webserver import Response, collect, encode_request, params_for, stream

if TYPE_CHECKING:
    import socket

    from tests.servers.support import Handler, Log, Serve

BODY = bytes(range(256)) * 1200  # more than max_buffered_input


async def by_read(h: Handler) -> bytes:
    return await h.read()


async def by_read_negative(h: Handler) -> bytes:
    return await h.read(-5)


async def by_read_keyword(h: Handler) -> bytes:
    return await h.read(sz=-1)


async def by_readall(h: Handler) -> bytes:
    return await h.readall()


async def by_pieces(h: Handler, size: int = 1000) -> bytes:
    pieces = []
    while piece := await h.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert await h.read(size) == b""
    return b"".join(pieces)


async def by_large_pieces(h: Handler) -> bytes:
    return await by_pieces(h, 10 * len(BODY))


async def by_readinto(h: Handler) -> bytes:
    taken = bytearray()
    buffer = bytearray(1000)
    while size := await h.readinto(buffer):
        taken += buffer[:size]
    assert await h.readinto(buffer) == 0
    return bytes(taken)


async def by_readinto_view(h: Handler) -> bytes:
    """Into a part of a buffer, whose items are not bytes."""
    taken = bytearray()
    buffer = bytearray(b"\xee" * 4096)
    view = memoryview(buffer)[1024:3072].cast("I")
    while size := await h.readinto(view):
        taken += buffer[1024 : 1024 + size]
    assert buffer[:1024] == buffer[3072:] == b"\xee" * 1024
    return bytes(taken)


async def by_both(h: Handler) -> bytes:
    buffer = bytearray(700)
    size = await h.readinto(buffer)
    return bytes(buffer[:size]) + await h.read(5) + await h.readall()


WAYS = [by_read, by_read_negative, by_read_keyword, by_readall, by_pieces, by_large_pieces]
WAYS += [by_readinto, by_readinto_view, by_both]


async def echo_in_each_way(h: Handler) -> None:
    way = next(way for way in WAYS if way.__name__ == h.environ["PATH_INFO"][1:])
    await h.write(HEAD + await way(h))
    assert await h.read() == await h.read(10) == await h.readall() == b""


def test_the_whole_body(serve: Serve, family: socket.AddressFamily) -> None:
    running = serve(echo_in_each_way, family=family)
    web = running.connect()
    for way in WAYS:
        for size in (0, 1, 1000, 1001, len(BODY)):
            assert web.request(params_for(f"/{way.__name__}"), BODY[:size]).body == BODY[:size], way
        assert running.request(f"/{way.__name__}", BODY, keep=False).body == BODY, way


def test_the_body_may_come_in_pieces(serve: Serve, family: socket.AddressFamily) -> None:
    web = serve(echo_in_each_way, family=family).connect()
    for way in WAYS:
        web.begin(params_for(f"/{way.__name__}"))
        for start in range(0, 3000, 300):
            web.body(BODY[start : start + 300])
        web.body(b"", end=True)
        assert web.response().body == BODY[:3000], way


def test_read_gives_what_is_there(serve: Serve) -> None:
    """A read of some bytes does not wait until that many are there."""
    first, second = Flag(), Flag()

    async def body(h: Handler) -> None:
        assert await h.read(100) == b"one"
        first.set()
        buffer = bytearray(100)
        assert await h.readinto(buffer) == 3
        assert buffer.startswith(b"two\0")
        second.set()
        assert await h.read(2) == b"th"
        assert await h.readall() == b"ree"
        await h.write(HEAD)

    web = serve(body).connect()
    web.begin(params_for())
    web.body(b"one")
    first.wait()
    web.body(b"two")
    second.wait()
    web.body(b"three", end=True)
    assert web.response().status == 200


def test_reading_nothing_never_waits(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        assert await h.read(0) == b""
        assert await h.readinto(bytearray()) == 0
        await h.write(HEAD)

    web = serve(body).connect()
    web.begin(params_for())
    assert web.response().status == 200


def test_wrong_arguments(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        wrong: Any
        for wrong in ("1", None, 1.5):
            with pytest.raises(TypeError):
                await h.read(wrong)
        for wrong in (b"immutable", "text", None, 5):
            with pytest.raises(TypeError):
                await h.readinto(wrong)
        # Nothing was lost by it.
        assert await h.readall() == b"body"
        await h.write(HEAD)

    assert serve(body).request(stdin=b"body").status == 200


@CONCURRENT
def test_whoever_waits_for_input_hears_of_the_end_of_the_response(serve: Serve) -> None:
    """Of which no more comes then, whatever the web server goes on to send."""
    errors: list[BaseException] = []
    waiting, heard = Flag(), Flag()

    async def wait_for_input(h: Handler) -> None:
        waiting.set()
        try:
            await h.read(1)
        except BaseException as error:
            errors.append(error)
        heard.set()

    async def body(h: Handler) -> None:
        if h.running.kind.is_async:
            reader = asyncio.ensure_future(wait_for_input(h))
            await h.wait(waiting)
            await h.pause()
            h.real.request.end()
            await reader
        else:
            thread = threading.Thread(target=lambda: run_to_its_end(wait_for_input(h)), name="reader")
            thread.start()
            connection = h.real.request.connection
            until(lambda: connection._changed is not None)
            h.real.request.end()
            thread.join()

    web = serve(body).connect()
    web.begin(params_for())
    assert web.response().ended
    heard.wait()
    (error,) = errors
    assert isinstance(error, ConnectionAbortedError)


def test_a_request_starts_before_its_body(serve: Serve, family: socket.AddressFamily) -> None:
    """It starts with the record that ends its parameters, and not before."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.write(HEAD + await h.read())

    web = serve(body, family=family).connect()
    params = encode_pairs(params_for().items())
    web.send(encode_begin_request(1, 1, 1))
    for piece in (params[:1], params[1:50], params[50:]):
        web.send(encode_record(FCGI_PARAMS, 1, piece))
    assert not begun.is_set
    web.send(encode_record(FCGI_PARAMS, 1))
    begun.wait()
    web.body(b"body", end=True)
    assert web.response().body == b"body"


def test_any_slicing_of_the_bytes(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD + await h.read())

    web = serve(body).connect()
    sent = encode_begin_request(1, 1, 1) + b"".join(stream(FCGI_PARAMS, 1, encode_pairs([("A", "b")])))
    sent += b"".join(stream(FCGI_STDIN, 1, b"body", size=1))
    for i in range(len(sent)):
        web.send(sent[i : i + 1])
    assert web.response().body == b"body"


def test_long_bodies_at_the_same_time(serve: Serve) -> None:
    """Nothing of one gets into another, whatever stays where the servers read it into."""

    async def body(h: Handler) -> None:
        sizes = random.Random(int(h.environ["QUERY_STRING"]))
        digest = sha256()
        while piece := await h.read(sizes.choice((100, 5000, 65536, 300_000))):
            digest.update(piece)
        await h.write(HEAD + digest.digest())

    running = serve(body)

    def upload(number: int) -> None:
        choices = random.Random(number)
        with running.connect() as web:
            for _ in range(3):
                content = choices.randbytes(choices.randrange(500_000, 2_000_000))
                web.begin(params_for(f"/?{number}"))
                start = 0
                while start < len(content):
                    stop = start + choices.choice((10, 3000, 32768, 200_000))
                    records = b"".join(stream(FCGI_STDIN, 1, content[start:stop], end=False, size=32768))
                    cut = choices.randrange(len(records))
                    web.send(records[:cut])
                    web.send(records[cut:])
                    start = stop
                web.body(b"", end=True)
                assert web.response().body == sha256(content).digest()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(4)))


def test_a_long_response_in_the_midst_of_a_long_body(serve: Serve) -> None:
    """The web server is slow to take it, and goes on with the body behind that."""

    async def body(h: Handler) -> None:
        size = len(await h.read(10))
        await h.write(HEAD + bytes(1_500_000), flush=True)
        await h.write(b"%d" % (size + len(await h.readall())))

    web = serve(body).connect()
    web.begin(params_for())
    web.body(bytes(100_000))
    response = Response()
    while len(response.stdout) < 1_500_000:
        collect(response, web.record())
    web.body(bytes(100_000), end=True)
    while not response.ended:
        collect(response, web.record())
    assert response.stdout == HEAD + bytes(1_500_000) + b"200000"


def test_a_body_that_nobody_reads(serve: Serve) -> None:
    """It is answered all the same, and what comes late is thrown away."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/some":
            await h.read(1)
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    web = serve(body).connect()
    for path in ("/none", "/some", "/none"):
        web.begin(params_for(path))
        web.body(b"x" * 50_000)
        assert web.response().body == path.encode()
        web.body(b"x" * 300_000)
        web.body(b"late", end=True)
    assert web.request(params_for("/next"), b"ordinary").body == b"/next"


def test_requests_behind_a_long_body_that_nobody_reads(serve: Serve) -> None:
    """The first of them comes together with the end of the body."""

    async def body(h: Handler) -> None:
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    web = serve(body).connect()
    web.begin(params_for("/none"))
    web.body(bytes(100_000))
    assert web.response().body == b"/none"
    web.body(bytes(100_000))
    web.send(encode_record(FCGI_STDIN, 1) + encode_request(params_for("/first")))
    assert web.response().body == b"/first"
    for path in ("/second", "/third"):
        assert web.request(params_for(path)).body == path.encode()
    assert web.request(params_for("/with"), bytes(100_000)).body == b"/with"


def test_input_that_does_not_come(serve: Serve) -> None:
    """`read_timeout`: the handler is told, and may still answer."""

    async def body(h: Handler) -> None:
        assert await h.read(100) == b"some"
        for reading in (h.read, h.readall):
            with pytest.raises(TimeoutError, match="read_timeout"):
                await reading()
        with pytest.raises(TimeoutError):
            await h.readinto(bytearray(5))
        await h.write(HEAD + b"told")

    web = serve(body, limits={"read_timeout": TINY}).connect()
    # In one piece: what comes so much later is too late.
    web.send(encode_request(params_for(), b"some", end_stdin=False))
    assert web.response().body == b"told"
    web.body(b"late", end=True)
    # The connection goes on.
    web.send(encode_request(params_for(), b"some", end_stdin=False))
    assert web.response().body == b"told"


def test_input_that_comes_at_last(serve: Serve) -> None:
    """A handler that was told of a timeout may go on reading."""
    told = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(TimeoutError):
            await h.read()
        told.set()
        data = b""
        while data != b"late":
            try:
                data += await h.read(1)
            except TimeoutError:
                await h.pause()
        await h.write(HEAD + data)

    web = serve(body, limits={"read_timeout": TINY}).connect()
    web.begin(params_for())
    told.wait()
    web.body(b"late", end=True)
    assert web.response().body == b"late"


@pytest.mark.parametrize("name", ["stdin", "data"])
def test_what_was_read_before_a_timeout_comes_once_more(serve: Serve, name: str) -> None:
    """Of a body that is wanted whole nothing is lost, however long it takes and in however many parts it comes."""
    parts = [bytes([i]) * size for i, size in enumerate((3, 100, 600, 20_000, 300_000))]
    timeouts = threading.Semaphore(0)

    async def body(h: Handler) -> None:
        read = h.readall
        if name == "data":
            assert await h.readall() == b""
            read = h.read_data
        while True:
            try:
                data = await read()
                break
            except TimeoutError:
                timeouts.release()
        await h.write(HEAD + sha256(data).digest())

    web = serve(body, limits={"read_timeout": TINY}, handler={"roles": (FCGI_RESPONDER, FCGI_FILTER)}).connect()
    if name == "data":
        web.begin(params_for(), role=FCGI_FILTER)
        web.body(b"", end=True)
    else:
        web.begin(params_for())
    type_ = FCGI_DATA if name == "data" else FCGI_STDIN
    for part in parts:
        # In many pieces, which are gathered.
        web.send(b"".join(stream(type_, 1, part, end=False, size=max(3, len(part) // 100))))
        assert timeouts.acquire(timeout=TIMEOUT)
    web.send(encode_record(type_, 1))
    assert web.response().body == sha256(b"".join(parts)).digest()


@ASYNC
def test_what_was_read_by_who_is_cancelled_comes_once_more(serve: Serve) -> None:
    taken = Flag()

    async def body(h: Handler) -> None:
        reader = asyncio.ensure_future(h.readall())
        while not h.real.request.waiters or h.real.request.core.stdin.buffered:
            await h.pause()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        taken.set()
        await h.write(HEAD + await h.read(2) + await h.readall())

    web = serve(body).connect()
    web.send(encode_request(params_for(), b"one", end_stdin=False))
    taken.wait()
    web.body(b"two", end=True)
    assert web.response().body == b"onetwo"


def test_a_timeout_that_nobody_catches_is_an_error(serve: Serve, log: Log) -> None:
    async def body(h: Handler) -> None:
        await h.read()

    running = serve(body, limits={"read_timeout": TINY})
    web = running.connect()
    web.begin(params_for("/slow"))
    response = web.response()
    assert response.status == 500
    assert b"read_timeout" in response.stderr
    assert b"read_timeout" not in response.stdout
    assert "TimeoutError" in log.claim_failure("GET /slow failed")


@SYNC
def test_a_long_body_as_a_file(serve: Serve, family: socket.AddressFamily) -> None:
    """In blocks; tests/gateways/test_long_input.py reads it in every way."""
    sent = os.urandom(2_000_001)

    async def body(h: Handler) -> None:
        file = BodyReader(h.real.request)
        await h.write(HEAD + b"".join(iter(partial(file.read, int(h.environ["QUERY_STRING"])), b"")))

    web = serve(body, family=family).connect()
    for padding in (0, 8):
        for size in (65_536, 100_000, 500_000):
            web.begin(params_for(f"/?{size}", CONTENT_LENGTH=str(len(sent))))
            for at in range(0, len(sent), 32768):
                content = sent[at : at + 32768]
                header = HEADER.pack(FCGI_VERSION_1, FCGI_STDIN, 1, len(content), padding)
                web.send(header + content + bytes(padding))
            web.body(b"", end=True)
            assert web.response().body == sent


@kinds("mixin", "threads")
def test_what_a_thread_gives_back_behind_the_end_of_the_response(serve: Serve) -> None:
    """It is nobody's, and in nobody's way: the next requests are read."""
    refused = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/next":
            await h.write(HEAD + await h.read())
            return
        block = bytearray(20_000)

        def fill() -> None:
            with pytest.raises(ConnectionAbortedError):
                h.real.request.fill(memoryview(block), comes=False)
            refused.set()

        threading.Thread(target=fill).start()
        until(lambda: block[4999])
        await h.write(HEAD)

    web = serve(body, limits={"max_buffered_input": 1000}).connect()
    web.begin(params_for())
    web.body(b"x" * 5000)
    assert web.response().status == 200
    refused.wait()
    web.body(b"", end=True)
    for _ in range(3):
        assert web.request(params_for("/next"), b"y" * 5000).body == b"y" * 5000
