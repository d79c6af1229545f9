"""Long bodies that are read right where they are wanted."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.records import LARGE
from simple_fastcgi.protocol.scatter import MOST, Scatter
from simple_fastcgi.protocol.streams import Request
from simple_fastcgi.protocol.terms import Terms
from tests.protocol import wire
from tests.protocol.wire import ABORT, DATA, FILTER, GET_VALUES, ROLES, STDIN, begin, begun, record, stream

SIZE = 2 * LARGE
NO_BODY = record(STDIN, 1)


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


def in_body(connection: ApplicationConnection, behind: bytes = b"") -> Request:
    """A request of which two records of its long body have come, and were taken."""
    request = begun(connection, wire.request(1, [], bytes(2 * SIZE))[:-16] + behind)
    return request


def long_body(connection: ApplicationConnection, *sizes: int, padding: int = 0) -> Request:
    """A request of whose body records of these sizes have come, and were taken."""
    records = b"".join(record(STDIN, 1, bytes(size), padding) for size in sizes)
    request = begun(connection, wire.request(1)[:-8] + records)
    request.stdin.take()
    return request
