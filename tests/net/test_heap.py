"""Memory for bodies."""

from __future__ import annotations

import os
import threading
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
    for number in range(9):
        os.write(writing, b"number %d" % number)
        kept.append(buffers.read(reading)[7:])
    assert [bytes(part) for part in kept] == [b"%d" % number for number in range(9)]
    # Some buffers, and memory of its own for what is more.
    assert [type(part) for part in kept] == [memoryview] * 4 + [bytes] * 5
    del kept[1]
    os.write(writing, b"again")
    view = buffers.read(reading)
    assert isinstance(view, memoryview)
    assert [bytes(part) for part in kept] == [b"%d" % number for number in range(9) if number != 1]


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


def test_each_thread_has_its_own(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    buffers = BodyBuffers()
    os.write(writing, b"x")
    found = [buffers.read(reading)]

    def read() -> None:
        os.write(writing, b"y")
        found.append(buffers.read(reading))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    first, second = found
    assert isinstance(first, memoryview)
    assert isinstance(second, memoryview)
    assert first.obj is not second.obj
    assert found == [b"x", b"y"]
