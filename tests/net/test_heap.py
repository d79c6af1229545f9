"""Memory for bodies."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net.heap import BodyBuffers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_the_same_buffer_as_long_as_nobody_needs_what_is_in_it(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    buffers = BodyBuffers()
    found = set()
    for content in (b"one", b"", b"three"):
        os.write(writing, content + b"!")
        view = buffers.read(reading)
        assert view == content + b"!"
        assert isinstance(view, memoryview)
        found.add(id(view.obj))
        part = view[1:]
        del view
        # As if that were the end of it.
        part.release()
    assert len(found) == 1


def test_what_somebody_needs_stays_as_it_is(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    buffers = BodyBuffers()
    kept = []
    for number in range(21):
        os.write(writing, b"number %d" % number)
        kept.append(buffers.read(reading)[7:])
    assert [bytes(part) for part in kept] == [b"%d" % number for number in range(21)]
    # Some buffers, and memory of its own for what is more.
    assert [type(part) for part in kept] == [memoryview] * 16 + [bytes] * 5
    del kept[1]
    os.write(writing, b"again")
    view = buffers.read(reading)
    assert isinstance(view, memoryview)
    assert [bytes(part) for part in kept] == [b"%d" % number for number in range(21) if number != 1]


def test_the_end_and_errors(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    buffers = BodyBuffers()
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        buffers.read(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        buffers.read(-1)
    os.write(writing, b"last")
    assert buffers.read(reading) == b"last"
    with open(os.devnull, "rb") as nothing:
        assert not buffers.read(nothing.fileno())


def test_threads_share_them_and_none_has_that_of_another() -> None:
    buffers = BodyBuffers()
    found: set[int] = set()
    begin = threading.Barrier(6)

    def read_on(mark: bytes) -> None:
        reading, writing = os.pipe()
        content = mark * 4096
        begin.wait()
        for _ in range(500):
            os.write(writing, content)
            data = buffers.read(reading)
            part = data[1:]
            # Another thread may be at it meanwhile.
            assert data == content
            if isinstance(data, memoryview):
                found.add(id(data.obj))
            del data
            assert part == content[1:]
        os.close(reading)
        os.close(writing)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(read_on, [b"a", b"b", b"c", b"d", b"e", b"f"]))
    finally:
        sys.setswitchinterval(interval)
    # Two for each of them, and some that were made at the same time as another.
    assert len(found) <= 16 + 6
