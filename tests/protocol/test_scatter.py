"""Long bodies that are read right where they are wanted."""

from __future__ import annotations

import os
from itertools import chain, cycle, islice, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.records import LARGE
from simple_fastcgi.protocol.scatter import MOST, Scatter
from simple_fastcgi.protocol.streams import Request
from simple_fastcgi.protocol.terms import LEFTOVER, Terms
from tests.protocol import wire
from tests.protocol.wire import ABORT, DATA, FILTER, GET_VALUES, ROLES, STDIN, begin, begun, record, stream

SIZE = 2 * LARGE
NO_BODY = record(STDIN, 1)
HEAD = wire.request(1)[: -len(NO_BODY)]
ALIKE = SIZE, SIZE, SIZE


def read(data: bytes, buffers: list[bytearray | memoryview]) -> int:
    """Read what of `data` has room in the buffers, as a system call does."""
    count = 0
    for buffer in buffers:
        part = data[count : count + len(buffer)]
        buffer[: len(part)] = part
        count += len(part)
    return count


@given(
    st.integers(LARGE, 65535),
    st.integers(0, 65535),
    st.lists(st.integers(1, MOST) | st.sampled_from((LARGE, 65536, MOST)), min_size=1, max_size=5),
)
def test_blocks_of_any_size_from_anywhere_in_a_body(size: int, left: int, blocks: list[int]) -> None:
    left %= size
    total = sum(blocks)
    content = os.urandom(left + -(left - total) // size * size + size)
    data = content[:left] + stream(STDIN, 1, content[left:], size, end=False)
    scatter = Scatter(record(STDIN, 1, bytes(size))[:8], left)
    got = b""
    for block in blocks:
        view = memoryview(bytearray(block))
        count = read(data, scatter.buffers(view))
        data = data[count:]
        assert scatter.received(count)
        got += bytes(view)
    assert got == content[:total]
    # What is left of the latest record.
    assert data[scatter.left :][:8] in {b"", record(STDIN, 1, bytes(size))[:8]}


def test_a_block_that_is_read_again_and_again() -> None:
    """Each time where it belongs: nothing refers to the one before."""
    scatter = Scatter(record(STDIN, 1, bytes(SIZE))[:8], 0)
    for content in (b"x", b"y"):
        view = memoryview(bytearray(SIZE))
        buffers = scatter.buffers(view)
        assert scatter.received(read(record(STDIN, 1, SIZE * content), buffers))
        assert bytes(view) == SIZE * content
        assert scatter.left == 0


@pytest.mark.parametrize(
    "data",
    [
        record(STDIN, 1, bytes(SIZE))[:-1],
        record(STDIN, 1, bytes(SIZE - 1), 1),
        record(STDIN, 2, bytes(SIZE)),
        record(DATA, 1, bytes(SIZE)),
        record(STDIN, 1, bytes(SIZE), version=2),
        b"",
    ],
)
def test_what_was_not_expected(data: bytes) -> None:
    scatter = Scatter(record(STDIN, 1, bytes(SIZE))[:8], 10)
    buffers = scatter.buffers(memoryview(bytearray(10 + SIZE)))
    assert not scatter.received(read(bytes(10) + data if data else b"", buffers))
    assert scatter.left == 10


# --------------------------------------------------------------------- on a connection


@pytest.fixture
def connection() -> ApplicationConnection:
    """It serves every role."""
    return ApplicationConnection(Terms(roles=ROLES))


def long_body(connection: ApplicationConnection, *sizes: int, padding: int = 0) -> Request:
    """A request of whose body records of these sizes have come, and were taken."""
    request = begun(connection, HEAD)
    connection.receive_data(b"".join(record(STDIN, 1, bytes(size), padding) for size in sizes))
    request.stdin.take()
    return request


def receive(connection: ApplicationConnection, request: Request, size: int, data: bytes) -> bytes | None:
    """A block of `size` bytes right from `data`; None if that was not possible, and `data` is received as ever."""
    scatter = connection.scatter or connection.begin_scatter(request)
    assert scatter is not None
    view = memoryview(bytearray(size))
    buffers = scatter.buffers(view)
    count = read(data, buffers)
    if scatter.received(count):
        return bytes(view)
    connection.receive_data(b"".join(buffers)[:count])
    return None


RUNS = st.tuples(
    st.sampled_from((STDIN, STDIN, STDIN, STDIN, GET_VALUES, ABORT)),
    st.sampled_from((0, 1, LARGE - 1, LARGE, LARGE, LARGE + 1, SIZE, SIZE, 65535)),
    st.sampled_from((0, 0, 0, 0, 1, 255)),
    st.integers(1, 8),
)
READS = st.sampled_from((7, 1000, 30_000, 100_000, 10**9))


@given(
    st.lists(RUNS, max_size=5), st.lists(st.integers(1, 50_000), min_size=1, max_size=6), st.lists(READS, min_size=1)
)
def test_whatever_comes_is_what_would_have_come_anyway(
    runs: list[tuple[int, int, int, int]], blocks: list[int], reads: list[int]
) -> None:
    """However it is read, in whatever parts: no byte of the body is lost, or comes twice, and all else is answered."""
    data = HEAD
    for type_, size, padding, times in runs:
        for _ in range(times):
            data += record(type_, 0 if type_ == GET_VALUES else 1, os.urandom(size) if type_ == STDIN else b"", padding)
    reference = wire.Shell(ApplicationConnection(Terms()))
    reference.feed(data)
    (expected,) = reference.served.values()
    core, sent = ApplicationConnection(Terms()), b""
    request = begun(core, data[: len(HEAD)])
    stdin, position, got = request.stdin, len(HEAD), bytearray()
    # A megabyte byte by byte shows nothing that its first hundreds do not, and takes minutes.
    sizes, most = (chain(islice(cycle(some), 500), repeat(100_000)) for some in (blocks, reads))
    while position < len(data):
        view, filled = memoryview(bytearray(next(sizes))), 0
        while filled < len(view) and position < len(data):
            shown = data[position : position + next(most)]
            if stdin.buffered:
                filled += stdin.take_into(view[filled:])
            elif scatter := core.scatter or core.begin_scatter(request):
                buffers = scatter.buffers(view[filled:])
                count = read(shown, buffers)
                position += count
                if scatter.received(count):
                    filled = len(view)
                else:
                    core.receive_data(b"".join(buffers)[:count])
            else:
                position += len(shown)
                core.receive_data(shown)
        got += view[:filled]
        sent += wire.sent(core)
    got += stdin.take()
    assert request.aborted == expected.aborted
    # Of an aborted one it depends upon what was taken before.
    assert expected.aborted or (got == expected.stdin and stdin.ended == expected.request.stdin.ended)
    assert sent == reference.sent
    wire.check_state(core)


def test_a_long_body(connection: ApplicationConnection) -> None:
    content = os.urandom(10 * SIZE)
    data = stream(STDIN, 1, content, SIZE)
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, 3 * SIZE, data) == content[: 3 * SIZE]
    # In the midst of a record.
    assert receive(connection, request, SIZE + 100, data[3 * (8 + SIZE) :]) == content[3 * SIZE : 4 * SIZE + 100]
    assert (
        receive(connection, request, 50, data[4 * (8 + SIZE) + 8 + 100 :]) == content[4 * SIZE + 100 : 4 * SIZE + 150]
    )
    connection.receive_data(data[4 * (8 + SIZE) + 8 + 150 :])
    assert connection.scatter is None
    assert request.stdin.ended
    assert request.stdin.take() == content[4 * SIZE + 150 :]
    connection.end(request)
    begun(connection, wire.request(1))


def test_the_first_record_that_is_cut(connection: ApplicationConnection) -> None:
    """Its header, and that of the one before, are enough."""
    content = os.urandom(2 * SIZE)
    request = begun(connection, HEAD)
    connection.receive_data(2 * record(STDIN, 1, bytes(SIZE)) + record(STDIN, 1, content[:SIZE])[:-10])
    request.stdin.take()
    data = content[SIZE - 10 : SIZE] + record(STDIN, 1, content[SIZE:])
    assert receive(connection, request, 10 + SIZE, data) == content[SIZE - 10 :]


@pytest.mark.parametrize("sizes", [(SIZE,), (SIZE, SIZE), (SIZE, SIZE, LARGE), (SIZE, SIZE, SIZE, LARGE)])
def test_records_that_are_not_alike(connection: ApplicationConnection, sizes: tuple[int, ...]) -> None:
    assert connection.begin_scatter(long_body(connection, *sizes)) is None


def test_records_with_padding(connection: ApplicationConnection) -> None:
    assert connection.begin_scatter(long_body(connection, *ALIKE, padding=8)) is None


def test_what_was_read_before_comes_first(connection: ApplicationConnection) -> None:
    request = begun(connection, HEAD)
    connection.receive_data(3 * record(STDIN, 1, bytes(SIZE)))
    assert connection.begin_scatter(request) is None
    request.stdin.take()
    assert connection.begin_scatter(request) is not None


def test_no_long_body(connection: ApplicationConnection) -> None:
    request = begun(connection, HEAD + record(STDIN, 1, b"x"))
    request.stdin.take()
    assert connection.begin_scatter(request) is None


def test_the_data_of_a_filter(connection: ApplicationConnection) -> None:
    request = begun(connection, begin(1, FILTER) + wire.request(1)[len(begin()) :])
    connection.receive_data(3 * record(DATA, 1, bytes(SIZE)))
    assert request.data is not None
    request.data.take()
    assert connection.begin_scatter(request) is None


def test_several_requests_at_once(connection: ApplicationConnection) -> None:
    other = begun(connection, wire.request(2)[:-8])
    request = long_body(connection, *ALIKE)
    assert connection.begin_scatter(request) is None
    assert connection.begin_scatter(other) is None


def test_the_body_of_another_request(connection: ApplicationConnection) -> None:
    request = long_body(connection, *ALIKE)
    assert connection.begin_scatter(Request()) is None
    connection.end(request)
    # The rest of it nobody wants.
    assert connection.begin_scatter(request) is None


@pytest.mark.parametrize(
    "behind",
    [
        record(STDIN, 1, bytes(SIZE))[:-1],
        record(STDIN, 1, bytes(LARGE)) + NO_BODY,
        record(STDIN, 1, bytes(SIZE), 8),
        record(STDIN, 1, bytes(2 * SIZE)),
        record(GET_VALUES, 0) + record(STDIN, 1, bytes(SIZE)),
        NO_BODY,
        record(STDIN, 1, bytes(SIZE))[:4],
    ],
)
def test_a_body_that_does_not_go_on_as_it_was(connection: ApplicationConnection, behind: bytes) -> None:
    """It is received as it would be anyway."""
    content = os.urandom(SIZE)
    data = record(STDIN, 1, content) + behind
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, 2 * SIZE, data) is None
    assert connection.scatter is None
    connection.receive_data(data[16 + 2 * SIZE :])
    other = ApplicationConnection(Terms(roles=ROLES))
    reference = long_body(other, *ALIKE)
    other.receive_data(data)
    assert request.stdin.buffered >= SIZE
    assert request.stdin.take() == reference.stdin.take()
    assert request.stdin.ended == reference.stdin.ended
    assert wire.sent(connection) == wire.sent(other)
    # Nor is it expected to, until it did.
    assert connection.begin_scatter(request) is None or len(behind) == 8 + SIZE


def test_an_abort(connection: ApplicationConnection) -> None:
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, SIZE, record(ABORT, 1)) is None
    assert request.aborted
    assert connection.begin_scatter(request) is None


def test_the_peer_goes(connection: ApplicationConnection) -> None:
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, SIZE, record(STDIN, 1, bytes(SIZE))) is not None
    connection.receive_eof()
    assert connection.scatter is None
    assert connection.begin_scatter(request) is None


def test_a_response_before_the_body_has_come(connection: ApplicationConnection) -> None:
    """Whether the web server still owes a part of a record is known."""
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, SIZE // 2, record(STDIN, 1, bytes(SIZE))) is not None
    connection.end(request)
    assert not connection.idle
    assert connection.awaited is LEFTOVER
    connection.receive_data(bytes(SIZE // 2) + NO_BODY)
    assert connection.idle
    begun(connection, wire.request(1))


def test_a_response_where_a_record_ends(connection: ApplicationConnection) -> None:
    request = long_body(connection, *ALIKE)
    assert receive(connection, request, SIZE, record(STDIN, 1, bytes(SIZE))) is not None
    connection.end(request)
    assert connection.idle
    connection.receive_data(NO_BODY)
    begun(connection, wire.request(1))
