"""200 MB through the server: whoever is slow slows the other side, and memory stays flat."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_STDIN
from simple_fastcgi.protocol.records import encode_record
from tests.hostile.support import FULL, MEGABYTE, crowd, exchange, hello, send_until_stuck
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.hostile.conftest import Start
    from tests.hostile.support import Server

pytestmark = [pytest.mark.slow, *([pytest.mark.timeout(900)] if FULL else [])]

SIZE = (200 if FULL else 16) * MEGABYTE
RATE = (20 if FULL else 32) * MEGABYTE
"""Bytes that the slow side takes in a second."""
ENDLESS = 1 << 40


def download(size: int, request_id: int = 1) -> bytes:
    return encode_request(params_for(f"/download?{size}"), request_id=request_id)


def begin(path: str, request_id: int = 1) -> bytes:
    return encode_request(params_for(path), request_id=request_id, end_stdin=False)


def upload(path: str, size: int, ids: tuple[int, ...] = (1,), others: Iterable[bytes] = ()) -> Iterator[bytes]:
    """Requests with a body each, a megabyte of each in turn, with `others` among them."""
    others = iter(others)
    yield b"".join(begin(path, number) for number in ids)
    pieces = [encode_record(FCGI_STDIN, number, bytes(32768)) * 32 for number in ids]
    for sent in range(0, size, MEGABYTE * len(ids)):
        yield from pieces
        if sent % (2 * MEGABYTE) == 0:
            yield from itertools.islice(others, 1)
    yield b"".join(encode_record(FCGI_STDIN, number) for number in ids)


def test_download_by_a_slow_reader(server: Server) -> None:
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        got = exchange(web, download(SIZE), answers=1, rate=RATE, between=ordeal.goes_on_meanwhile)
        assert got.received > SIZE


def test_upload_into_a_slow_application(server: Server) -> None:
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        exchange(web, upload(f"/slow?{RATE}", SIZE), answers=1, between=ordeal.goes_on_meanwhile)


def test_upload_that_nobody_reads(server: Server) -> None:
    """The application answers at once; the rest is thrown away."""
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        exchange(web, itertools.chain(upload("/", SIZE), [hello(2)]), answers=2, between=ordeal.goes_on)


def test_download_by_a_slow_reader_beside_other_requests(server: Server) -> None:
    """On one connection, whose answers can only leave in turn: the others wait no longer than the reader makes them."""
    others = b"".join(hello(number) for number in range(2, 102))
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        got = exchange(web, download(SIZE) + others, answers=101, rate=RATE, between=ordeal.goes_on_meanwhile)
        assert got.received > SIZE
        assert got.statuses[0] == 101


def test_downloads_by_a_slow_reader_beside_each_other(server: Server) -> None:
    requests = b"".join(download(SIZE // 8, number) for number in range(1, 9))
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        between = ordeal.goes_on if server.shell.threads is None else None
        assert exchange(web, requests, answers=8, rate=RATE, between=between).received > SIZE


def test_upload_into_a_slow_application_beside_other_requests(server: Server) -> None:
    """On one connection: what has to wait lies in a file, and in the end the web server waits."""
    count = SIZE // (2 * MEGABYTE)
    data = upload(f"/slow?{RATE}", SIZE, others=map(hello, range(2, 2 + count)))
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        got = exchange(web, data, answers=1 + count, between=ordeal.goes_on_meanwhile)
        assert got.statuses[0] == 1 + count


def test_uploads_into_a_slow_application_beside_each_other(server: Server) -> None:
    """Three on one connection; with threads, one is left for the neighbours."""
    # One after the other, what the first leaves no room for has to fit in max_spooled_input.
    size = SIZE if server.shell.concurrent else min(SIZE, 72 * MEGABYTE)
    data = upload(f"/slow?{RATE // 3}", size, ids=(1, 2, 3))
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        exchange(web, data, answers=3, between=ordeal.goes_on_meanwhile)


def test_an_upload_that_came_whole_before_its_turn(server: Server) -> None:
    """It lies in a file then, and is not read into memory at once."""
    size = 32 * MEGABYTE
    # A single thread reads on for the request that it serves, on that connection alone.
    count = (server.shell.threads or 1) if server.shell.concurrent else 0
    with server.ordeal(complaints=0), crowd(server, count) as busy, server.connect() as web:
        for other in busy:
            other.send(download(2 * MEGABYTE))
        web.send(begin("/count", 2))
        for piece in upload("/count", size):
            web.send(piece)
        for other in busy:
            assert other.response().status == 200
        web.body(b"", request_id=2, end=True)
        responses = web.responses([1, 2])
        assert [responses[number].body for number in (1, 2)] == [b"%d" % size, b"0"]


def test_a_stalled_upload_beside_other_requests(start: Start) -> None:
    """The body of one never comes; where handlers run at once, the others on the same connection are answered."""
    server = start("--read-timeout", "0.5")
    with server.ordeal() as ordeal, server.connect() as web:
        others = b"".join(hello(number) for number in range(2, 102))
        # Where they run one after the other, the first has to fail before.
        assert exchange(web, begin("/count") + others, answers=100).statuses[0] >= 100
        ordeal.goes_on()


def test_clients_that_never_read(server: Server) -> None:
    """As many as leave a thread free; they cost what waits for them, and no time."""
    count = 30 if server.shell.threads is None else server.shell.threads - 1
    with server.ordeal(complaints=0) as ordeal, crowd(server, count) as webs:
        for web in webs:
            web.send(download(ENDLESS))
            # It has begun.
            web.socket.recv(1)
        ordeal.goes_on()
        assert not server.is_busy_for_nothing()
        ordeal.goes_on()


def test_more_clients_that_never_read_than_threads(start: Start) -> None:
    """They are given up in turn, and everybody else is served then."""
    server = start("--write-timeout", "0.3")
    count = 8
    with server.ordeal(complaints=count) as ordeal, crowd(server, count) as webs:
        for web in webs:
            web.send(download(ENDLESS))
        ordeal.goes_on()


def test_a_client_that_never_reads_many_answers(server: Server) -> None:
    """All on one connection: each holds what it has just written, and no more."""
    requests = b"".join(download(ENDLESS, number) for number in range(1, 129))
    with server.ordeal(growth=24 * MEGABYTE, complaints=0) as ordeal, server.connect() as web:
        web.send(requests)
        web.socket.recv(1)
        if server.shell.threads is None:
            ordeal.goes_on()
        assert not server.is_busy_for_nothing()


def test_an_upload_that_stays_unread(server: Server) -> None:
    """The application sleeps over it; the web server feels it."""
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        assert send_until_stuck(web, upload(f"/slow?{MEGABYTE // 4}", SIZE)) < 2 * MEGABYTE
        ordeal.goes_on_meanwhile()
        assert not server.is_busy_for_nothing()
