"""Work grows with what came, and no faster: the server's processor time for some, and for four times as many."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_PARAMS, FCGI_STDIN
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import encode_begin_request, encode_record
from tests.hostile.support import MEGABYTE, exchange, hello
from tests.support.webserver import encode_request, params_for, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.conftest import Start
    from tests.hostile.support import Server

pytestmark = pytest.mark.slow

ONE_BYTE = encode_record(FCGI_STDIN, 1, b"x")


def input_one_byte_a_record(count: int) -> tuple[bytes, int]:
    return encode_request(params_for("/count"), end_stdin=False) + ONE_BYTE * count + encode_record(FCGI_STDIN, 1), 1


def spooled_input_one_byte_a_record(count: int) -> tuple[bytes, int]:
    """Another request waits on the same connection, so that what has no room in memory goes to a file."""
    other = encode_request(params_for("/count"), request_id=2, end_stdin=False)
    data, answers = input_one_byte_a_record(count)
    return other + data + encode_record(FCGI_STDIN, 2), answers + 1


def params_one_byte_a_record(count: int) -> tuple[bytes, int]:
    params = encode_pairs([*params_for().items(), ("X", "x" * count)])
    parts = stream(FCGI_PARAMS, 1, params, size=1)
    return encode_begin_request(1, 1, 1) + b"".join(parts) + encode_record(FCGI_STDIN, 1), 1


def many_params(count: int) -> tuple[bytes, int]:
    return encode_request([*params_for().items(), *((f"X{number}", "") for number in range(count))]), 1


def a_parameter_many_times(count: int) -> tuple[bytes, int]:
    return encode_request([*params_for().items(), *(("HTTP_COOKIE", "a=b") for _ in range(count))]), 1


def pipelined(count: int) -> tuple[bytes, int]:
    return b"".join(hello(number) for number in range(1, count + 1)), count


def pipelined_with_input(count: int) -> tuple[bytes, int]:
    requests = (encode_request(params_for("/count"), b"x" * 100, request_id=i) for i in range(1, count + 1))
    return b"".join(requests), count


def spooled_input_of_many_requests(count: int) -> tuple[bytes, int]:
    """All of them wait on one connection, and their input comes a byte of each in turn."""
    ids = range(1, 129)
    begun = (encode_request(params_for("/count"), request_id=number, end_stdin=False) for number in ids)
    data = (encode_record(FCGI_STDIN, number % 128 + 1, b"x") for number in range(count))
    ends = (encode_record(FCGI_STDIN, number) for number in ids)
    return b"".join((*begun, *data, *ends)), len(ids)


SPOOLED = (spooled_input_one_byte_a_record, spooled_input_of_many_requests)
CASES = [
    # what comes, and how many of it at first
    (spooled_input_of_many_requests, 10_000),
    (input_one_byte_a_record, 10_000),
    (spooled_input_one_byte_a_record, 20_000),
    (params_one_byte_a_record, 16_000),
    (many_params, 2_000),
    (a_parameter_many_times, 2_000),
    (pipelined, 1_250),
    (pipelined_with_input, 1_250),
]


@pytest.mark.parametrize(("make", "few"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_linear(start: Start, make: Callable[[int], tuple[bytes, int]], few: int) -> None:
    """All in one write."""
    spooled = ("--max-buffered-input", "2000") if make in SPOOLED else ()
    server = start("--max-requests-per-connection", "5000", *spooled)

    def cost(count: int) -> float:
        data, answers = make(count)
        before = server.cpu
        with server.connect() as web:
            assert exchange(web, data, answers=answers).statuses[0] == answers
        return server.cpu - before

    with server.ordeal(growth=48 * MEGABYTE, complaints=0):
        assert server.work_grows(cost, few) < 8


def test_one_byte_a_segment(start: Start) -> None:
    """Over TCP, none of them waiting for the next."""
    server = start(tcp=True)

    def cost(count: int) -> float:
        request = encode_request(params_for("/count"), bytes(count))
        before = server.cpu
        with server.connect() as web:
            web.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(request)):
                web.socket.send(request[i : i + 1])
            assert web.response().body == b"%d" % count
        return server.cpu - before

    with server.ordeal(complaints=0):
        assert server.work_grows(cost, 8_000) < 8


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "closed"])
def test_pipelined_requests_beyond_the_limit(server: Server, *, keep: bool) -> None:
    """5,000 in one write: each is answered, or refused where too many are under way already."""
    with server.ordeal(complaints=0), server.connect() as web:
        if keep:
            statuses = exchange(web, pipelined(5000)[0], answers=5000).statuses
            assert statuses[0] >= 128
            assert statuses[0] + statuses[2] == 5000
        else:
            # Behind the first that is not kept nothing more is promised.
            web.send(hello(1) + hello(2, keep=False))
            assert {record.id for record in (web.record() for _ in range(4))} == {1, 2}
