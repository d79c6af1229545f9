"""Input streams as handlers take from them, and which of them a role has (3.3, 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.streams import InputStream, Request
from tests.protocol.wire import AUTHORIZER, FILTER, RESPONDER

steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("take"), st.integers(-1, 12)),
        st.tuples(st.just("into"), st.integers(0, 25)),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=40,
)


@given(steps)
def test_first_in_first_out(steps: list[tuple[str, object]]) -> None:
    stream = InputStream()
    model = b""
    for step, argument in steps:
        if isinstance(argument, bytes):
            stream.feed(argument)
            model += argument
        elif step == "take":
            assert isinstance(argument, int)
            taken = stream.take(argument)
            assert model.startswith(taken)
            if argument < 0:
                assert taken == model
            else:
                assert len(taken) <= argument
                # Fewer are given where that saves a copy, but never none.
                assert taken or not argument or not model
            model = model[len(taken) :]
        elif step == "into":
            assert isinstance(argument, int)
            buffer = bytearray(argument)
            size = stream.take_into(memoryview(buffer))
            assert size == min(argument, len(model))
            assert buffer == model[:size] + bytes(argument - size)
            model = model[size:]
        else:
            stream.clear()
            model = b""
        assert stream.buffered == len(model)
    assert stream.take() == model
    assert not stream.at_eof
    stream.ended = True
    assert stream.at_eof


def test_whoever_has_taken_a_part_does_not_reach_the_end_when_the_rest_is_thrown_away() -> None:
    stream = InputStream()
    stream.feed(b"a whole body")
    stream.ended = True
    assert stream.take(7) == b"a whole"
    stream.clear()
    assert not stream.at_eof
    empty = InputStream()
    empty.ended = True
    empty.clear()
    assert empty.at_eof


@pytest.mark.parametrize("rest", [b"", b"the rest"], ids=len)
def test_what_is_put_back_comes_again(rest: bytes) -> None:
    stream = InputStream()
    stream.feed(b"a part and " + rest)
    taken = stream.take(11)
    stream.put_back([taken[2:5], b"", memoryview(taken)[5:]])
    stream.put_back([b""])
    stream.put_back([])
    assert stream.buffered == stream.unread.in_memory == 9 + len(rest)
    stream.feed(b"!")
    assert stream.take() == b"part and " + rest + b"!"


def test_a_chunk_is_handed_out_as_it_came() -> None:
    stream = InputStream()
    first, second = bytes(1000), bytes(2000)
    for size in (-1, 1000, 5000):
        stream.feed(first)
        assert stream.take(size) is first
    stream.feed(first)
    stream.feed(second)
    assert stream.take(1000) is first
    assert stream.take(5000) is second
    assert stream.take() == b""
    assert stream.take(0) == b""


def test_as_much_is_given_as_there_is() -> None:
    stream = InputStream()
    for size in (-1, 4500, 4000):
        for chunk in (bytes(1000), memoryview(bytes(2000))[500:], bytes(1500)):
            stream.feed(chunk)
        assert stream.take(size) == bytes(4000)
        assert not stream.buffered


def test_a_buffer_that_cannot_be_written_to() -> None:
    stream = InputStream()
    stream.feed(b"body")
    with pytest.raises(TypeError, match="written to"):
        stream.take_into(memoryview(b"1234"))
    assert stream.take() == b"body"


LARGE = bytes(1000)
"""So much is not gathered with its neighbours."""


def test_part_of_a_chunk() -> None:
    stream = InputStream()
    stream.feed(LARGE + b"abcdef")
    stream.feed(LARGE + b"ghi")
    assert stream.take(0) == b""
    assert stream.take(len(LARGE) + 2) == LARGE + b"ab"
    assert stream.take(9) == b"cdef" + LARGE[:5]
    assert stream.take(len(LARGE) - 4) == LARGE[5:] + b"g"
    stream.feed(b"j")
    assert stream.take() == b"hij"
    stream.feed(b"klm")
    assert stream.take(1) == b"k"
    assert stream.take() == b"lm"


def test_the_whole() -> None:
    """It is had at once, or not at all."""
    stream = InputStream()
    for chunk in (LARGE, b"ab", b"c"):
        stream.feed(chunk)
        assert stream.take_whole() is None
    stream.ended = True
    assert stream.take_whole() == LARGE + b"abc"
    assert (stream.buffered, stream.unread.in_memory, stream.take_whole()) == (0, 0, b"")
    begun = InputStream()
    begun.feed(LARGE)
    begun.ended = True
    assert begun.take(10) + (begun.take_whole() or b"") == LARGE
    assert begun.unread.in_memory == 0


def test_the_end() -> None:
    stream = InputStream()
    assert (stream.buffered, stream.ended, stream.at_eof) == (0, False, False)
    stream.feed(b"x")
    stream.ended = True
    assert not stream.at_eof
    assert stream.take_into(memoryview(bytearray(5))) == 1
    assert stream.at_eof
    assert stream.take_into(memoryview(bytearray(5))) == 0


@pytest.mark.parametrize(
    ("role", "has_stdin", "has_data"), [(RESPONDER, True, False), (AUTHORIZER, False, False), (FILTER, True, True)]
)
def test_roles(role: int, *, has_stdin: bool, has_data: bool) -> None:
    request = Request()
    request.start(65535, role, False, InputStream())
    request.set_streams()
    assert (request.id, request.role) == (65535, role)
    assert not any((request.aborted, request.ended, request.stdout_begun, request.stderr, request.unsent))
    assert request.stdin.ended is not has_stdin
    assert (request.data is not None) is has_data
    assert request.input_ended is (not has_stdin and not has_data)
    request.stdin.ended = True
    assert request.input_ended is not has_data
    assert request.buffered_input == 0
    if request.data is not None:
        request.stdin.feed(b"ab")
        request.data.feed(b"cde")
        assert request.buffered_input == 5
        request.data.ended = True
        assert request.input_ended


def test_input_that_can_never_follow() -> None:
    """Unread input of one stream keeps that of the other from coming."""
    limits = Limits(max_buffered_input=10)
    request = Request()
    request.start(1, FILTER, False, InputStream())
    request.set_streams()
    assert request.data is not None
    for stream in (request.stdin, request.data):
        stream.feed(b"x" * 9)
        request.check_input_can_follow(limits)
        stream.feed(b"x")
        with pytest.raises(RuntimeError, match="fills max_buffered_input"):
            request.check_input_can_follow(limits)
        stream.clear()


def test_silence() -> None:
    request = Request()
    request.start(1, AUTHORIZER, False, InputStream())
    request.set_streams()
    request.stderr = [b"an error is no answer"]
    assert request.silent
    request.stdout = [b"Status: 200"]
    assert not request.silent
    request.stdout.clear()
    request.stdout_begun = True
    assert not request.silent
