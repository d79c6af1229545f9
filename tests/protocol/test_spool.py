"""Input of multiplexed requests that memory has no room for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.limits import Limits
from simple_fastcgi.net.spool import ConnectionSpool
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.spool import Spool
from simple_fastcgi.protocol.streams import NO_INPUT, InputStream
from simple_fastcgi.protocol.terms import Terms
from tests.protocol import wire
from tests.protocol.wire import FILTER, ROLES, begin, begun, check_state, record
from tests.support.spool import LimitedSpool

if TYPE_CHECKING:
    from simple_fastcgi.protocol.terms import OpenSpool

LIMITS = Limits(max_buffered_input=1000, max_spooled_input=5000)
STDIN, DATA, PARAMS, ABORT = wire.STDIN, wire.DATA, wire.PARAMS, wire.ABORT


def connect(limits: Limits = LIMITS, files: int = 99) -> ApplicationConnection:
    """A connection for which at most so many files can be made."""
    opened = 0

    def open_spool() -> LimitedSpool:
        nonlocal opened
        opened += 1
        if opened > files:
            raise OSError("no file")
        return LimitedSpool(limits.max_spooled_input + 2000)

    return ApplicationConnection(Terms(limits, ROLES, make_spool=lambda: open_spool))


def body(number: int, size: int = 600) -> bytes:
    return bytes((number,)) * size


@given(st.lists(st.binary(min_size=1, max_size=700) | st.integers(-1, 900) | st.just("spool"), max_size=60))
def test_a_stream_is_the_same_with_a_file(acts: list[bytes | int | str]) -> None:
    """Whatever is fed, taken and spooled, and although the file takes but a part."""
    stream, expected, taken = InputStream(), bytearray(), 0
    buffer = bytearray(900)
    for act in acts:
        if isinstance(act, bytes):
            stream.feed(act)
            expected += act
        elif act == "spool":
            if stream.in_memory:
                stream.spool(LimitedSpool(1500))
        else:
            assert isinstance(act, int)
            if act % 2:
                data = stream.take(act)
            else:
                data = bytes(buffer[: stream.take_into(memoryview(buffer)[:act])])
            assert type(data) is bytes
            assert expected[taken : taken + len(data)] == data
            taken += len(data)
            assert act == 0 or bool(data) is (taken > 0 and bool(len(expected) - taken + len(data)))
        assert stream.buffered == len(expected) - taken
        assert 0 <= stream.spooled <= stream.buffered
        assert (stream.unread.in_memory, stream.unread.in_files) == (stream.buffered - stream.spooled, stream.spooled)
    assert stream.take() == expected[taken:]
    assert stream.spooled == 0


def test_many_small_chunks_cost_little() -> None:
    import tracemalloc

    stream = InputStream()
    tracemalloc.start()
    for _ in range(100_000):
        stream.feed(bytes((1, 2)))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2 * stream.buffered
    assert stream.take() == b"\1\2" * 100_000


def test_a_single_request_waits_for_its_handler() -> None:
    connection = connect()
    request = begun(connection, begin() + record(PARAMS, 1))
    connection.receive_data(record(STDIN, 1, body(1)) * 3)
    assert not connection.wants_input
    assert request.stdin.spooled == 0


def test_the_largest_goes_to_a_file_when_requests_share_the_connection() -> None:
    connection = connect()
    one = begun(connection, begin() + record(PARAMS, 1))
    two = begun(connection, begin(2, FILTER) + record(PARAMS, 2))
    connection.receive_data(record(STDIN, 1, body(1)) + record(STDIN, 2, body(2, 100)) + record(STDIN, 2))
    assert connection.wants_input
    assert one.stdin.spooled == 0
    connection.receive_data(record(DATA, 2, body(3)))
    assert connection.wants_input
    assert (one.stdin.spooled, two.stdin.spooled, two.data and two.data.spooled) in {(600, 0, 0), (0, 0, 600)}
    connection.receive_data((record(DATA, 2, body(3)) + record(STDIN, 1, body(1))) * 2)
    assert connection.wants_input
    check_state(connection)
    assert one.stdin.take() == body(1, 1800)
    assert two.stdin.take() == body(2, 100)
    assert two.data is not None
    assert two.data.take() == body(3, 1800)
    assert connection.buffered_input == 0


@pytest.mark.parametrize("sizes", [(1000,), (600, 401), (600, 399, 1), (999, 1)], ids=repr)
def test_input_that_just_reaches_its_bound_holds_up_nobody(sizes: tuple[int, ...]) -> None:
    connection = connect()
    begun(connection, begin() + record(PARAMS, 1))
    slow = begun(connection, begin(2) + record(PARAMS, 2))
    for size in sizes:
        connection.receive_data(record(STDIN, 2, body(2, size)))
        assert connection.wants_input
    assert slow.stdin.spooled == slow.stdin.buffered == sum(sizes)
    check_state(connection)


def spooled_in_blocks() -> tuple[InputStream, LimitedSpool, bytes]:
    """A stream of which one byte was taken from the first of several blocks in a file."""
    stream, file = InputStream(), LimitedSpool(100_000)
    stream.spool(file)
    data = bytes(range(250)) * 200
    stream.feed(data)
    assert stream.take(1) == data[:1]
    return stream, file, data[1:]


def test_nothing_is_lost_when_a_file_cannot_be_read_for_a_moment() -> None:
    stream, file, data = spooled_in_blocks()
    file.unreadable = True
    taken = stream.take()
    assert taken == data[: len(taken)] != b""
    with pytest.raises(OSError, match="input/output"):
        stream.take()
    file.unreadable = False
    assert taken + stream.take() == data


def test_nothing_is_lost_into_a_buffer_either() -> None:
    stream, file, data = spooled_in_blocks()
    buffer = memoryview(bytearray(len(data)))
    file.unreadable = True
    size = stream.take_into(buffer)
    with pytest.raises(OSError, match="input/output"):
        stream.take_into(buffer[size:])
    file.unreadable = False
    assert stream.take_into(buffer[size:]) == len(data) - size
    assert bytes(buffer) == data


def test_the_files_have_a_bound() -> None:
    connection = connect()
    slow = begun(connection, begin() + record(PARAMS, 1))
    other = begun(connection, begin(2) + record(PARAMS, 2))
    for _ in range(9):
        assert connection.wants_input
        connection.receive_data(record(STDIN, 1, body(1)))
    assert not connection.wants_input
    assert slow.stdin.spooled == 5400
    # Enough was taken for more to come.
    assert len(slow.stdin.take(6000)) == 5400
    assert connection.wants_input
    connection.end(slow)
    connection.end(other)
    check_state(connection)


def test_without_a_file_the_connection_waits() -> None:
    connection = connect(files=0)
    slow = begun(connection, begin() + record(PARAMS, 1))
    begun(connection, begin(2) + record(PARAMS, 2))
    connection.receive_data(record(STDIN, 1, body(1)) * 2)
    assert not connection.wants_input
    connection.receive_data(record(STDIN, 1, body(1)))
    assert slow.stdin.take() == body(1, 1800)
    assert connection.wants_input


@pytest.mark.parametrize("how", ["abort", "end", "eof"])
def test_the_file_is_closed_with_its_request(how: str) -> None:
    open_spool = ConnectionSpool()
    connection = ApplicationConnection(Terms(LIMITS, ROLES, make_spool=lambda: open_spool))
    slow = begun(connection, begin() + record(PARAMS, 1))
    begun(connection, begin(2) + record(PARAMS, 2))
    connection.receive_data(record(STDIN, 1, body(1)) * 2)
    assert slow.stdin.spooled
    if how == "abort":
        connection.receive_data(record(ABORT, 1))
    elif how == "end":
        connection.end(slow)
        assert len(slow.stdin.take()) == 1200
    else:
        connection.receive_eof()
    assert open_spool._file is not None
    assert open_spool._file.descriptor < 0


def test_a_file_that_is_full_for_a_while() -> None:
    spool = Spool(LimitedSpool(10))
    assert spool.feed(b"12345678")
    assert not spool.feed(b"abc")
    # In order, although there would be room now.
    assert spool.take() == deque([b"12345678"])
    assert not spool.feed(b"d")
    assert spool.take() == deque([b"abc", b"d"])
    assert spool.empty


def test_what_a_full_disk_left_in_memory_is_not_spooled_again() -> None:
    """It would take the place of what waits there."""
    connection = ApplicationConnection(Terms(LIMITS, ROLES, make_spool=lambda: lambda: LimitedSpool(700)))
    slow = begun(connection, begin() + record(PARAMS, 1))
    begun(connection, begin(2) + record(PARAMS, 2))
    for number in range(1, 4):
        connection.receive_data(record(STDIN, 1, body(number)))
    assert slow.stdin.take(600) == body(1)
    assert slow.stdin.spooled == 0
    connection.receive_data(record(STDIN, 1, body(4)))
    assert slow.stdin.take() == body(2) + body(3) + body(4)


def test_a_stream_without_anything_gets_no_file() -> None:
    """Not the one that all requests without a body share, above all."""
    connection = ApplicationConnection(Terms(LIMITS, ROLES, make_spool=lambda: lambda: LimitedSpool(0)))
    begun(connection, begin() + record(PARAMS, 1))
    params = record(PARAMS, 2, wire.block([(b"A", b"b")]))
    assert begun(connection, begin(2) + params + record(PARAMS, 2) + record(STDIN, 2)).stdin is NO_INPUT
    for _ in range(2):
        connection.receive_data(record(STDIN, 1, body(1)))
    assert not connection.wants_input
    try:
        assert NO_INPUT.in_memory
    finally:
        NO_INPUT.clear()


def test_where_no_spool_can_be_made_the_connection_waits() -> None:
    asked = 0

    def make_spool() -> OpenSpool:
        nonlocal asked
        asked += 1
        raise OSError("no descriptor is left")

    connection = ApplicationConnection(Terms(LIMITS, ROLES, make_spool=make_spool))
    slow = begun(connection, begin() + record(PARAMS, 1))
    begun(connection, begin(2) + record(PARAMS, 2))
    for number in range(2):
        connection.receive_data(record(STDIN, 1, body(number)))
    assert asked
    assert not connection.wants_input
    assert slow.stdin.take() == body(0) + body(1)
    assert connection.wants_input
