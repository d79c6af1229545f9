"""A handler's thread receives its long body by itself, on a server with threads, instead of the loop's thread."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways.input import BodyReader
from simple_fastcgi.protocol.constants import FCGI_ABORT_REQUEST, FCGI_STDIN
from simple_fastcgi.protocol.records import encode_header, encode_record
from simple_fastcgi.sync.poller import READ
from tests.servers.support import HEAD, TINY, Flag, kinds, until
from tests.support.webserver import params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import WebServer

THREADS = kinds("threads")
RECORD = 60_000
FIRST = 5_000
BLOCK = 65_536


async def digest(h: Handler) -> None:
    """Answer with what the body was."""
    if h.environ["REQUEST_URI"] == "/other":
        await h.write(HEAD + b"other")
        return
    body = hashlib.sha256()
    while data := await h.read(BLOCK):
        body.update(data)
    await h.write(HEAD + body.hexdigest().encode())


def lend(running: Running, web: WebServer, url: str = "/", *, stays: bool = True) -> Any:
    """Begin a request with the first FIRST * 2 zeros of a record of RECORD, whose reading is lent then."""
    web.begin(params_for(url))
    web.send(encode_header(FCGI_STDIN, 1, RECORD) + bytes(FIRST))
    until(running.connections)
    connection = running.connections()[-1]
    until(lambda: connection._pace is not None and connection._pace.asked_for is not None)
    web.send(bytes(FIRST))
    if stays:
        until(lambda: connection.is_lent)
    return connection


def rest(*sizes: int, end: bool = True) -> bytes:
    """What follows: the record's rest, and records of `sizes`."""
    records = [encode_record(FCGI_STDIN, 1, bytes(size)) for size in sizes]
    return b"".join((bytes(RECORD - 2 * FIRST), *records, encode_record(FCGI_STDIN, 1) if end else b""))


def of_zeros(size: int) -> bytes:
    return hashlib.sha256(bytes(size)).hexdigest().encode()


@THREADS
@pytest.mark.parametrize("sizes", [(), (1,), (RECORD,) * 30, (RECORD, RECORD, 100, RECORD, 4096, 4095, 1, RECORD)])
def test_a_body_whose_handler_receives_it(serve: Serve, sizes: tuple[int, ...]) -> None:
    running = serve(digest)
    web = running.connect()
    connection = lend(running, web)
    assert not connection.watched & READ
    web.send(rest(*sizes))
    assert web.response().body == of_zeros(RECORD + sum(sizes))
    until(lambda: connection.watched & READ)
    assert not connection.is_lent
    assert web.request(params_for("/other")).body == b"other"


@THREADS
def test_a_body_that_comes_in_small_parts(serve: Serve) -> None:
    running = serve(digest)
    web = running.connect()
    lend(running, web)
    data = rest(RECORD, 10, 5_000)
    for start in range(0, len(data), 997):
        web.send(data[start : start + 997])
    assert web.response().body == of_zeros(2 * RECORD + 5_010)


@THREADS
def test_an_abort(serve: Serve) -> None:
    running = serve(digest)
    web = running.connect()
    lend(running, web)
    # In the midst of a record there is no other one.
    web.send(rest(RECORD, end=False) + encode_record(FCGI_ABORT_REQUEST, 1))
    assert web.response().protocol_status == 0
    assert web.request(params_for("/other")).body == b"other"


@THREADS
def test_an_abort_while_the_handler_does_something_else(serve: Serve) -> None:
    read_enough, told = Flag(), Flag()

    async def body(h: Handler) -> None:
        while not h.real.request.connection.is_lent_here():
            await h.read(BLOCK)
        read_enough.set()
        await h.until_aborted()
        told.set()

    running = serve(body)
    web = running.connect()
    lend(running, web)
    read_enough.wait()
    web.send(rest(end=False) + encode_record(FCGI_ABORT_REQUEST, 1))
    told.wait()


@THREADS
@pytest.mark.parametrize("half", [True, False])
def test_the_web_server_goes(serve: Serve, half: bool) -> None:
    failed: list[BaseException] = []
    done = Flag()

    async def body(h: Handler) -> None:
        try:
            await h.readall()
        except OSError as error:
            failed.append(error)
            raise
        finally:
            done.set()

    running = serve(body)
    web = running.connect()
    lend(running, web)
    if half:
        web.socket.shutdown(socket.SHUT_WR)
    else:
        web.close()
    done.wait()
    assert type(failed[0]) is ConnectionAbortedError
    until(lambda: not running.connections())


@THREADS
def test_what_is_no_fastcgi(serve: Serve, log: Log) -> None:
    running = serve(digest)
    web = running.connect()
    lend(running, web)
    web.send(rest(end=False) + b"GET / HTTP/1.1\r\n\r\n")
    assert web.at_eof()
    until(lambda: not running.connections())
    log.claim("not FastCGI: b'GET / HT' came")


@THREADS
@pytest.mark.parametrize("reads", [True, False])
def test_another_request_on_the_same_connection(serve: Serve, reads: bool) -> None:
    """It does not wait for the body, nor for its handler, whatever that is doing."""
    release = Flag()

    async def body(h: Handler) -> None:
        if h.environ["REQUEST_URI"] == "/busy":
            while not h.real.request.connection.is_lent_here():
                await h.read(BLOCK)
            await h.wait(release)
            await h.write(HEAD + b"%d" % len(await h.readall()))
        else:
            await digest(h)

    running = serve(body)
    web = running.connect()
    lend(running, web, "/" if reads else "/busy")
    web.send(rest(end=False))
    web.begin(params_for("/"), request_id=2)
    web.body(bytes(100_000), request_id=2, end=True)
    assert web.response(2).body == of_zeros(100_000)
    release.set()
    web.body(bytes(70_000), end=True)
    assert web.response(1).body == (of_zeros(RECORD + 70_000) if reads else b"%d" % (RECORD + 70_000 - 2 * FIRST))


@THREADS
def test_a_response_before_the_body_has_come(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        while h.environ["REQUEST_URI"] == "/" and not h.real.request.connection.is_lent_here():
            await h.read(BLOCK)
        await h.write(HEAD + b"enough")

    running = serve(body)
    web = running.connect()
    connection = lend(running, web, stays=False)
    assert web.response().body == b"enough"
    until(lambda: connection.watched & READ)
    web.send(rest(RECORD))
    assert web.request(params_for("/other")).body == b"enough"


@THREADS
def test_a_response_of_another_thread_of_the_application(serve: Serve) -> None:
    failed: list[BaseException] = []

    async def body(h: Handler) -> None:
        if h.environ["REQUEST_URI"] == "/other":
            await h.write(HEAD + b"other")
            return
        request = h.real.request
        try:
            while True:
                await h.read(BLOCK)
                if request.connection.is_lent_here():
                    threading.Thread(target=lambda: request.end(0, HEAD + b"ended")).start()
        except ConnectionAbortedError as error:
            failed.append(error)

    running = serve(body)
    web = running.connect()
    lend(running, web, stays=False)
    assert web.response().body == b"ended"
    web.send(rest(RECORD))
    assert web.request(params_for("/other")).body == b"other"
    until(lambda: failed)


@THREADS
def test_a_web_server_that_sends_all_before_it_reads(serve: Serve) -> None:
    """What comes is read while the response waits for it to take something."""

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        while data := await h.read(BLOCK):
            await h.write(data, flush=True)

    running = serve(body, limits={"max_buffered_input": 4 << 20})
    web = running.connect()
    lend(running, web)
    web.send(rest(*(RECORD,) * 40))
    assert web.response().body == bytes(41 * RECORD)


@THREADS
def test_nothing_more_comes(serve: Serve) -> None:
    failed: list[BaseException] = []

    async def body(h: Handler) -> None:
        try:
            await h.readall()
        except TimeoutError as error:
            failed.append(error)
        await h.write(HEAD + b"late")

    running = serve(body, limits={"read_timeout": 10 * TINY})
    web = running.connect()
    lend(running, web)
    assert web.response().body == b"late"
    assert failed


@THREADS
def test_the_server_ends(serve: Serve, log: Log) -> None:
    running = serve(digest, limits={"graceful_timeout": TINY})
    web = running.connect()
    lend(running, web)
    running.stop()
    assert web.response().status == 500
    log.claim("1 connections cut off after 0.05 s (graceful_timeout)")


@THREADS
def test_the_server_ends_gracefully(serve: Serve) -> None:
    running = serve(digest)
    web = running.connect()
    lend(running, web)
    running.ask_to_stop()
    web.send(rest(RECORD))
    assert web.response().body == of_zeros(2 * RECORD)
    running.wait_for_end()


@THREADS
def test_bodies_of_many_at_once(serve: Serve) -> None:
    """None of them loses a byte, or gets another one's."""
    seed = random.Random(7)
    bodies = [seed.randbytes(1_500_000 + 1_237 * count) for count in range(10)]
    found: dict[int, set[bytes]] = {count: set() for count in range(len(bodies))}

    async def body(h: Handler) -> None:
        body = hashlib.sha256()
        file = BodyReader(h.real.request)
        left = int(h.environ["CONTENT_LENGTH"])
        while left and (data := file.read(min(left, BLOCK))):
            left -= len(data)
            body.update(data)
        await h.write(HEAD + body.hexdigest().encode())

    def send(running: Running, count: int) -> None:
        web = running.connect()
        for _ in range(3):
            params = params_for("/", CONTENT_LENGTH=str(len(bodies[count])))
            found[count].add(web.request(params, bodies[count]).body)

    running = serve(body)
    senders = [threading.Thread(target=send, args=(running, count)) for count in range(len(bodies))]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert found == {count: {hashlib.sha256(body).hexdigest().encode()} for count, body in enumerate(bodies)}
