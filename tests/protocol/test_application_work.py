"""Work is linear in what was received, however it is sliced, and memory has a bound.

Work is counted as calls (of Python functions and of built-in ones), which no machine and no neighbour changes.
"""

from __future__ import annotations

import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import RequestBegun
from simple_fastcgi.protocol.terms import Terms
from tests.protocol import wire
from tests.protocol.wire import ABORT, GET_VALUES, PARAMS, STDIN, STDOUT, Answer, begin, block, end, record, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

MANY = Limits(max_requests_per_connection=65535)


def calls(act: Callable[[], object]) -> int:
    """How many calls are made while `act` runs."""
    count = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def peak(act: Callable[[], object]) -> int:
    """The most bytes that are allocated while `act` runs."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def slices(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def serve(connection: ApplicationConnection, pieces: list[bytes]) -> None:
    """As a shell does that answers at once."""
    for piece in pieces:
        for event in connection.receive_data(piece):
            request = event.request
            request.stdin.take()
            if isinstance(event, RequestBegun):
                connection.write(request, b"x")
                connection.end(request)
        assert connection.wants_input
        assert not connection.finished
        connection.data_to_send()


def one_byte_records(type_: int, content: bytes) -> bytes:
    return b"".join(record(type_, 1, content[i : i + 1]) for i in range(len(content)))


def params_a_byte_a_record(count: int) -> list[bytes]:
    value = b"\x01" + (count - 6 | 1 << 31).to_bytes(4, "big") + b"A" + b"v" * (count - 6)
    return [begin() + one_byte_records(PARAMS, value) + record(PARAMS, 1)]


def small_pairs_a_byte_a_feed(count: int) -> list[bytes]:
    return slices(begin() + stream(PARAMS, 1, block([(b"A", b"b")] * (count // 4))), 1)


def stdin_a_byte_a_record(count: int) -> list[bytes]:
    return [begin() + record(PARAMS, 1) + one_byte_records(STDIN, b"x" * count) + record(STDIN, 1)]


def stdin_a_byte_a_feed(count: int) -> list[bytes]:
    return slices(begin() + record(PARAMS, 1) + stream(STDIN, 1, b"x" * count), 1)


def get_values_a_byte_a_feed(count: int) -> list[bytes]:
    return slices(record(GET_VALUES, 0, block([(b"A", b"b")] * (count // 4))), 1)


def pipelined(count: int) -> list[bytes]:
    return [b"".join(wire.request(1 + number, [(b"A", b"b")], b"body") for number in range(count // 8))]


def flood_of_unknown_types(count: int) -> list[bytes]:
    return slices(record(200, 0) * (count // 8), 4096)


def flood_of_get_values(count: int) -> list[bytes]:
    return slices(record(GET_VALUES, 0, b"\x0d\0FCGI_MAX_REQS") * (count // 8), 4096)


def flood_of_aborts(count: int) -> list[bytes]:
    return slices(b"".join(record(ABORT, number % 65535 + 1) for number in range(count // 8)), 4096)


def begun_and_aborted(count: int) -> list[bytes]:
    return [(begin() + record(PARAMS, 1, b"\x01\x01A") + record(ABORT, 1)) * (count // 8)]


def padding_a_byte_a_feed(count: int) -> list[bytes]:
    return slices(record(STDIN, 5, b"", 255) * (count // 255), 1)


CASES = [
    # what came, and the calls for each byte (or record) that it may cost
    (params_a_byte_a_record, 12),
    (small_pairs_a_byte_a_feed, 30),
    (stdin_a_byte_a_record, 10),
    (stdin_a_byte_a_feed, 25),
    (get_values_a_byte_a_feed, 20),
    (pipelined, 25),
    (flood_of_unknown_types, 5),
    (flood_of_get_values, 15),
    (flood_of_aborts, 5),
    (begun_and_aborted, 10),
    (padding_a_byte_a_feed, 20),
]


@pytest.mark.parametrize(("case", "bound"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_work_is_linear(case: Callable[[int], list[bytes]], bound: int) -> None:
    found = []
    for count in (2048, 8192):
        connection = ApplicationConnection(Terms(MANY))
        pieces = case(count)
        found.append(calls(lambda: serve(connection, pieces)))  # noqa: B023 - it is called at once
    few, many = found
    # A little is remembered of the first ids, which are a larger part of few.
    assert many <= 5 * few + 200
    assert many <= bound * 8192


@pytest.mark.parametrize("begun", [1, 100, 5000])
def test_requests_that_stall_cost_others_nothing(begun: int) -> None:
    connection = ApplicationConnection(Terms(MANY))
    connection.receive_data(b"".join(begin(id_) + record(PARAMS, id_, b"\x01") for id_ in range(2, 2 + begun)))
    connection.receive_data(b"".join(wire.request(id_, body=b"x") for id_ in range(10_000, 10_000 + begun)))
    pieces = slices(wire.request(1, [(b"A", b"b")], b"body"), 1)
    assert calls(lambda: serve(connection, pieces)) <= 25 * len(pieces)


def test_64_kb_of_parameters_one_byte_a_record() -> None:
    connection = ApplicationConnection(Terms())
    value = b"v" * (64 * 1024 - 10)
    data = begin() + one_byte_records(PARAMS, wire.pair(b"NAME", value)) + record(PARAMS, 1)
    for piece in slices(data, 16 * 1024):
        events = connection.receive_data(piece)
    assert events[0].request.params == {"NAME": value.decode()}


def test_40_000_records_of_one_byte() -> None:
    connection = ApplicationConnection(Terms())
    request = wire.begun(connection, begin() + record(PARAMS, 1))
    body = bytes(number % 251 for number in range(40_000))
    (event,) = connection.receive_data(one_byte_records(STDIN, body) + record(STDIN, 1))
    assert event.request is request
    assert request.stdin.take() == body
    assert request.stdin.at_eof


@pytest.mark.parametrize("limit", [128, 65535])
def test_5_000_requests_in_one_feed(limit: int) -> None:
    connection = ApplicationConnection(Terms(Limits(max_requests_per_connection=limit)))
    events = connection.receive_data(b"".join(wire.request(1 + number, [(b"A", b"b")]) for number in range(5000)))
    assert [event.request.id for event in events] == list(range(1, 1 + min(limit, 5000)))
    for event in events:
        connection.end(event.request)
    found = wire.answers(connection)
    refused = [end(id_, 0, wire.OVERLOADED) for id_ in range(1 + limit, 5001)]
    assert found[: len(refused)] == refused
    assert [answer.id for answer in found if answer.type == wire.END] == [
        *range(1 + limit, 5001),
        *range(1, 1 + min(limit, 5000)),
    ]


# --------------------------------------------------------------------- memory


def test_65_000_requests_begun_and_never_finished() -> None:
    connection = ApplicationConnection(Terms())
    pieces = slices(b"".join(begin(id_) for id_ in range(1, 65_001)), 16 * 500)

    def flood() -> None:
        for piece in pieces:
            connection.receive_data(piece)
            assert len(connection.data_to_send()) <= 500

    assert peak(flood) < 500_000
    assert len(connection.requests) == 128


def test_30_000_requests_begun_with_4_kb_of_parameters_each() -> None:
    connection = ApplicationConnection(Terms())
    pairs = block([(b"NAME", b"v" * 4090)])
    thousand, another = (
        b"".join(begin(id_) + record(PARAMS, id_, pairs) for id_ in range(first, first + 1000)) for first in (1, 1001)
    )

    # Those that were refused may come again.
    pieces = slices(thousand, 40_000) + slices(another, 40_000) * 29

    def flood() -> None:
        for piece in pieces:
            connection.receive_data(piece)
            connection.data_to_send()

    assert peak(flood) < 2_000_000
    wire.check_state(connection)


def test_a_request_that_waits_is_small() -> None:
    connection = ApplicationConnection(Terms(MANY))

    def flood() -> None:
        for id_ in range(1, 10_001):
            connection.receive_data(begin(id_))

    assert peak(flood) < 10_000 * 600


@pytest.mark.parametrize("size", [1, 500, 60_000])
def test_a_gigabyte_of_parameters(size: int) -> None:
    connection = ApplicationConnection(Terms(Limits(max_params_bytes=100_000)))
    connection.receive_data(begin())
    piece = record(PARAMS, 1, wire.pair(b"A", b"v" * size)) * max(1, 10_000 // (size + 8))

    def flood() -> None:
        with pytest.raises(ProtocolError, match="max_params_bytes"):
            for _ in range(10**9 // size):
                connection.receive_data(piece)

    assert peak(flood) < 500_000


def test_a_record_that_nobody_wants_is_not_kept() -> None:
    connection = ApplicationConnection(Terms())
    connection.end(wire.begun(connection, begin() + record(PARAMS, 1)))
    connection.data_to_send()
    pieces = [piece for type_ in (STDIN, PARAMS, 99) for piece in slices(record(type_, 1, bytes(65535), 255), 1000)]
    pieces += slices(record(99, 0, bytes(65535)), 1000)

    def flood() -> None:
        for piece in pieces:
            connection.receive_data(piece)

    # What the interpreter and a measurement of coverage keep of it, they keep from the first time.
    flood()
    assert peak(flood) < 10_000


def test_a_get_values_record_is_bounded_by_the_format() -> None:
    connection = ApplicationConnection(Terms())
    pieces = slices(record(GET_VALUES, 0, bytes(65535)), 100)[:-1]

    def flood() -> None:
        for piece in pieces:
            connection.receive_data(piece)

    assert peak(flood) < 3 * 65535
    # Bytes that are added to bytes would be copied each time.
    assert isinstance(connection._part, bytearray)


def test_input_is_not_copied_and_not_kept() -> None:
    connection = ApplicationConnection(Terms())
    request = wire.begun(connection, begin() + record(PARAMS, 1))
    piece = record(STDIN, 1, bytes(65528))

    def flood() -> None:
        for _ in range(200):
            connection.receive_data(piece)
            assert len(request.stdin.take()) == 65528

    assert peak(flood) < 3 * 65535


def test_output_is_not_copied() -> None:
    connection = ApplicationConnection(Terms())
    request = wire.begun(connection, wire.request())
    data = bytes(10_000_000)

    def respond() -> None:
        connection.write(request, data)
        connection.end(request)

    assert peak(respond) < 200_000
    assert wire.parse(b"".join(connection.data_to_send()))[-2:] == [Answer(STDOUT, 1), end()]


def test_many_small_writes() -> None:
    connection = ApplicationConnection(Terms())
    request = wire.begun(connection, wire.request())

    def respond() -> None:
        for _ in range(100_000):
            if connection.write(request, b"a line\n"):
                connection.flush(request)
                assert len(connection.data_to_send()) <= 2

    assert peak(respond) < 2_000_000


def test_a_connection_is_reused_without_growing() -> None:
    connection = ApplicationConnection(Terms())

    def serve_some(count: int) -> None:
        for number in range(count):
            serve(connection, [wire.request(number % 100 + 1, [(b"A", b"b")], b"body")])
            connection.receive_data(begin(7) + record(PARAMS, 7, b"\x01") + record(ABORT, 7))
            connection.receive_data(begin(8, 9) + record(PARAMS, 8))
            connection.data_to_send()

    # Something is remembered of each id, up to a bound that this test does not reach.
    serve_some(300)
    assert peak(lambda: serve_some(100)) < 10_000
    wire.check_state(connection)
    assert connection.idle
