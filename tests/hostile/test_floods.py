"""More than anybody needs of what is allowed: parameters, requests, records. Refused early, memory flat."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.constants import (
    FCGI_ABORT_REQUEST,
    FCGI_GET_VALUES,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_STDIN,
)
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import HEADER, encode_begin_request, encode_record
from tests.hostile.support import MEGABYTE, exchange, hello, send_until_refused, send_until_stuck
from tests.support.webserver import encode_request, params_for, stream
from tests.webservers.children import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.hostile.conftest import Start
    from tests.hostile.support import Server

pytestmark = pytest.mark.slow

GIGABYTE = 1 << 30
BEGIN = encode_begin_request(1, 1, 1)
LONG = (GIGABYTE | 1 << 31).to_bytes(4, "big")
# What comes again and again, a megabyte of it at a time.
VALUE = encode_record(FCGI_PARAMS, 1, bytes(65528)) * 16
SMALL_PAIRS = encode_record(FCGI_PARAMS, 1, b"\1\1Ab" * 16382) * 16
PAIRS_OF_MANY_NAMES = b"".join(stream(FCGI_PARAMS, 1, b"".join(b"\4\0%04x" % n for n in range(65536)), end=False))
EMPTY_PAIRS = encode_record(FCGI_PARAMS, 1, bytes(65528)) * 16
TINY_RECORDS = encode_record(FCGI_PARAMS, 1, b"\1\1Ab") * (MEGABYTE // 16)

PARAMETERS = {
    "one-value": (BEGIN + encode_record(FCGI_PARAMS, 1, b"\1" + LONG + b"A"), VALUE),
    "one-name": (BEGIN + encode_record(FCGI_PARAMS, 1, LONG + b"\0"), VALUE),
    "small-pairs": (BEGIN, SMALL_PAIRS),
    "pairs-of-many-names": (BEGIN, PAIRS_OF_MANY_NAMES),
    "empty-pairs": (BEGIN, EMPTY_PAIRS),
    "pairs-in-tiny-records": (BEGIN, TINY_RECORDS),
}


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_gigabyte_of_parameters(shared: Server, parameters: str) -> None:
    """Refused long before it has come, and before memory has grown."""
    first, more = PARAMETERS[parameters]
    with shared.ordeal(complaints=1) as ordeal, shared.connect() as web:
        web.send(first)
        assert send_until_refused(web, more, GIGABYTE) < 8 * MEGABYTE
        ordeal.goes_on()


ALLOWED = Limits().max_requests_per_connection


def test_requests_begun_and_never_finished(server: Server) -> None:
    """65,000 on one connection: as many as are allowed wait, the others are refused."""
    refused = 65000 - ALLOWED
    with server.ordeal() as ordeal, server.connect() as web:
        begun = b"".join(encode_begin_request(number, 1, 1) for number in range(1, 65001))
        assert exchange(web, begun, answers=refused).statuses[FCGI_OVERLOADED] == refused
        ordeal.goes_on()


def test_as_many_requests_begun_as_there_are_ids(start: Start) -> None:
    """Where the operator allows them: about half a kilobyte each, all of it free again behind them."""
    server = start("--max-requests-per-connection", "65535")
    with server.ordeal(growth=48 * MEGABYTE) as ordeal, server.connect() as web:
        web.send(b"".join(encode_begin_request(number, 1, 1) for number in range(1, 65536)))
        ordeal.goes_on()


def begun_with_4_kb(numbers: Iterable[int]) -> bytes:
    params = encode_pairs([("A", "b" * 4000)])
    return b"".join(
        part
        for number in numbers
        for part in (encode_begin_request(number, 1, 1), *stream(4, number, params, end=False))
    )


def test_requests_begun_with_4_kb_of_parameters_each(server: Server) -> None:
    """30,000 on one connection, 120 MB."""
    refused = 30000 - ALLOWED
    with server.ordeal() as ordeal, server.connect() as web:
        data = (begun_with_4_kb(range(first, first + 1000)) for first in range(1, 30001, 1000))
        assert exchange(web, data, answers=refused).statuses[FCGI_OVERLOADED] == refused
        ordeal.goes_on()


def test_parameters_of_all_requests_count_together(start: Start) -> None:
    """The same where the operator allows so many requests: what bounds them is max_params_bytes."""
    server = start("--max-requests-per-connection", "65535")
    with server.ordeal(complaints=1) as ordeal, server.connect() as web:
        data = begun_with_4_kb(range(1, 1001))
        assert send_until_refused(web, data, 120 * MEGABYTE) < 3 * len(data)
        ordeal.goes_on()


def test_aborted_requests_whose_handlers_still_run(server: Server) -> None:
    """Each is answered at once, but its handler counts until it has ended."""
    count = 5 * ALLOWED
    aborted = encode_request(params_for(f"/slow?{MEGABYTE}"), bytes(65528), end_stdin=False)
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        # Each of these occupies its handler until the server is told of the abort, and somewhat longer.
        data = itertools.repeat(aborted + encode_record(FCGI_ABORT_REQUEST, 1), count)
        statuses = exchange(web, data, answers=count, between=ordeal.goes_on_meanwhile).statuses
        assert statuses[0] + statuses[FCGI_OVERLOADED] == count
        ordeal.goes_on_meanwhile()
        wait_until(lambda: exchange(web, hello(), answers=1).statuses[0])


FLOODS = {
    # what comes again and again, and how many ends of requests each of it gets
    "unknown-types": (encode_record(200, 0) * 1000, 0),
    "unknown-types-with-content": (encode_record(200, 0, bytes(65535)), 0),
    "unknown-types-of-a-request": (encode_record(200, 77) * 1000, 0),
    "get-values": (encode_record(FCGI_GET_VALUES, 0, encode_pairs([("FCGI_MAX_CONNS", "")])) * 1000, 0),
    "get-values-of-nothing": (encode_record(FCGI_GET_VALUES, 0) * 1000, 0),
    "get-values-of-much": (encode_record(FCGI_GET_VALUES, 0, b"\4\0ABCD" * 10000), 0),
    "aborts-of-nobody": (b"".join(encode_record(FCGI_ABORT_REQUEST, number) for number in range(1, 1001)), 0),
    "input-of-nobody": (encode_record(FCGI_STDIN, 77, b"x") * 1000, 0),
    "ends-of-input": (encode_record(FCGI_STDIN, 77) * 1000, 0),
    "padding": ((HEADER.pack(1, FCGI_STDIN, 77, 0, 255) + bytes(255)) * 1000, 0),
    "begun-and-aborted": (
        b"".join(
            BEGIN[:2] + number.to_bytes(2, "big") + BEGIN[4:] + encode_record(FCGI_ABORT_REQUEST, number)
            for number in range(1, 65536)
        ),
        65535,
    ),
    "begun-with-parameters-and-aborted": (
        encode_request(params_for("/count"), end_stdin=False) + encode_record(FCGI_ABORT_REQUEST, 1),
        1,
    ),
    "other-roles": (b"".join(encode_begin_request(1, role, 1) for role in range(2, 1002)), 1000),
}

# Each role that is not served is told once.
COMPLAINTS = {"other-roles": 3}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods(shared: Server, flood: str) -> None:
    """Whoever reads the answers gets them all, and a request behind is served as any other."""
    piece, ends = FLOODS[flood]
    count = max(1, MEGABYTE // 2 // len(piece))
    with shared.ordeal(complaints=COMPLAINTS.get(flood, 0)) as ordeal, shared.connect() as web:
        data = itertools.chain(itertools.repeat(piece, count), [hello(65535)])
        exchange(web, data, answers=ends * count + 1, between=ordeal.goes_on)


@pytest.mark.parametrize("flood", ["unknown-types", "get-values", "begun-and-aborted", "other-roles"])
def test_floods_whose_answers_nobody_reads(shared: Server, flood: str) -> None:
    """They are taken as long as there is room for the answers."""
    piece, _ = FLOODS[flood]
    with shared.ordeal(complaints=COMPLAINTS.get(flood, 0)) as ordeal, shared.connect() as web:
        send_until_stuck(web, itertools.repeat(piece, max(1, MEGABYTE // 2 // len(piece))))
        ordeal.goes_on()
