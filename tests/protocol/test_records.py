"""Records (3.3, 5, 8): their bytes, and how a stream is cut into them."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.protocol import records
from simple_fastcgi.protocol.records import (
    BEGIN_REQUEST_BODY,
    COPY_LIMIT,
    END_REQUEST_BODY,
    HEADER,
    LARGE,
    MAX_ALIGNED_CONTENT,
    SHORT,
    STDERR_CONTENT,
    Openings,
    chunk_frames,
    encode_chunk,
    encode_record,
    encode_stderr,
    encode_stream,
    parts_of,
)
from tests.protocol.wire import (
    AUTHORIZER,
    DATA,
    END,
    FILTER,
    PARAMS,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    Answer,
    begin,
    end,
    parse,
    record,
)

ids = st.integers(1, 65535)


def test_header() -> None:
    assert HEADER.size == 8
    assert HEADER.unpack(b"\x01\x05\x12\x34\xff\xfe\x07\xaa") == (1, 5, 0x1234, 0xFFFE, 7)
    assert HEADER.pack(1, 6, 65535, 1, 7) == b"\x01\x06\xff\xff\x00\x01\x07\x00"


def test_bodies() -> None:
    assert BEGIN_REQUEST_BODY.unpack(b"\x00\x01\x01\xff\xff\xff\xff\xff") == (1, 1)
    assert BEGIN_REQUEST_BODY.pack(3, 0) == b"\x00\x03\x00\x00\x00\x00\x00\x00"
    assert END_REQUEST_BODY.pack(0x01020304, 2) == b"\x01\x02\x03\x04\x02\x00\x00\x00"


@given(st.integers(0, 255), ids | st.just(0), st.binary(max_size=100))
def test_round_trip(type_: int, id_: int, content: bytes) -> None:
    wire = encode_record(type_, id_, content)
    assert parse(wire) == [Answer(type_, id_, content)]
    assert HEADER.unpack_from(wire) == (1, type_, id_, len(content), -len(content) % 8)
    assert wire[: 8 + len(content)] == record(type_, id_, content, -len(content) % 8)[: 8 + len(content)]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 65_527, 65_528, 65_529, 65_535])
def test_records_are_aligned(size: int) -> None:
    wire = encode_record(STDOUT, 1, b"x" * size)
    assert len(wire) % 8 == 0
    assert len(wire) - 8 - size < 8
    assert parse(wire) == [Answer(STDOUT, 1, b"x" * size)]


@given(ids, st.integers(1, 3), st.booleans())
def test_begin_request(id_: int, role: int, keep: bool) -> None:
    assert records.encode_begin_request(id_, role, int(keep)) == begin(id_, role, keep=keep)


@pytest.mark.parametrize("status", [0, 1, 255, 0xFFFFFFFF])
def test_end_request(status: int) -> None:
    assert parse(records.encode_end_request(7, status, 2)) == [end(7, status, 2)]
    assert parse(records.encode_stdout_end_and_end_request(65535, status)) == [
        Answer(STDOUT, 65535),
        end(65535, status),
    ]
    assert END_REQUEST_BODY.size == 8


@pytest.mark.parametrize("type_", [0, 12, 100, 255])
def test_unknown_type(type_: int) -> None:
    assert parse(records.encode_unknown_type(type_)) == [Answer(11, 0, bytes((type_, 0, 0, 0, 0, 0, 0, 0)))]


# --------------------------------------------------------------------- streams

chunks = st.lists(st.binary(max_size=40) | st.integers(0, 3 * 65_536).map(bytes), max_size=8)


@given(ids, chunks)
def test_stream(id_: int, chunks: list[bytes]) -> None:
    buffers = encode_stream(STDOUT, id_, chunks)
    assert all(buffers)
    wire = b"".join(buffers)
    assert len(wire) % 8 == 0
    found = parse(wire)
    assert b"".join(answer.content for answer in found) == b"".join(chunks)
    # An empty record would end the stream.
    assert all(answer.content for answer in found)
    assert {(answer.type, answer.id) for answer in found} <= {(STDOUT, id_)}


@given(st.lists(st.integers(1, COPY_LIMIT), max_size=100))
def test_small_chunks_share_a_record(sizes: list[int]) -> None:
    buffers = encode_stream(STDOUT, 1, [bytes(size) for size in sizes])
    assert len(buffers) <= 1 + sum(sizes) // (MAX_ALIGNED_CONTENT - COPY_LIMIT)
    assert all(isinstance(buffer, bytes) for buffer in buffers)


def test_a_chunk_has_the_records_of_a_stream_of_it() -> None:
    for size in (1, 7, 8, COPY_LIMIT, COPY_LIMIT + 1, 65_536, 2 * MAX_ALIGNED_CONTENT, 300_001):
        chunk = bytes(size)
        assert b"".join(encode_chunk(STDOUT, 3, chunk)) == b"".join(encode_stream(STDOUT, 3, [chunk]))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    ("size", "buffers"),
    [
        (COPY_LIMIT + 1, 3),
        (COPY_LIMIT + 8, 2),
        (MAX_ALIGNED_CONTENT, 2),
        (MAX_ALIGNED_CONTENT + 1, 3),
        (65_536, 3),
        (MAX_ALIGNED_CONTENT + SHORT, 3),
        (MAX_ALIGNED_CONTENT + SHORT + 1, 5),
        (MAX_ALIGNED_CONTENT + SHORT + 8, 4),
        (2 * MAX_ALIGNED_CONTENT, 4),
        (2 * MAX_ALIGNED_CONTENT + 1, 5),
        (300_001, 11),
    ],
)
def test_frames_of_chunks(size: int, buffers: int, kind: type[bytes | bytearray | memoryview]) -> None:
    chunk = os.urandom(size)
    frame = chunk_frames[STDERR, 3, size]
    around = frame.around(kind(chunk))
    assert len(around) == buffers
    wire = b"".join(around)
    assert len(wire) == frame.total
    assert len(wire) % 8 == 0
    expected = [chunk[at : at + MAX_ALIGNED_CONTENT] for at in range(0, size, MAX_ALIGNED_CONTENT)]
    assert parse(wire) == [Answer(STDERR, 3, content) for content in expected]
    assert chunk_frames[STDERR, 3, size] is frame
    assert around == encode_chunk(STDERR, 3, chunk)


def test_chunks_of_ever_other_sizes() -> None:
    """More of them than are known again."""
    for size in [*range(COPY_LIMIT + 1, COPY_LIMIT + 600), 65_536]:
        chunk = bytes(size)
        assert parse(b"".join(encode_chunk(STDOUT, 3, chunk))) == parse(b"".join(encode_stream(STDOUT, 3, [chunk])))
    assert len(chunk_frames) <= 256


def test_a_thousand_lines_are_one_record() -> None:
    buffers = encode_stream(STDOUT, 1, [b"a line of output\n"] * 1000)
    assert parse(b"".join(buffers)) == [Answer(STDOUT, 1, b"a line of output\n" * 1000)]
    assert len(buffers) == 1


@pytest.mark.parametrize("size", [COPY_LIMIT + 1, MAX_ALIGNED_CONTENT, MAX_ALIGNED_CONTENT + 1, 300_000])
def test_large_chunks_are_not_copied_but_for_a_short_rest(size: int) -> None:
    chunk = bytes(size)
    buffers = encode_stream(STDOUT, 1, [b"head", chunk, b"tail"])
    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert size - SHORT <= sum(map(len, views)) <= size
    assert all(view.obj is chunk for view in views)
    assert parse(buffers[0] + b"") == [Answer(STDOUT, 1, b"head")]  # type: ignore[operator]
    assert parse(buffers[-1] + b"") == [Answer(STDOUT, 1, b"tail")]  # type: ignore[operator]
    assert b"".join(answer.content for answer in parse(b"".join(buffers))) == b"head" + chunk + b"tail"


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_nothing_makes_no_record(chunks: list[bytes]) -> None:
    assert encode_stream(STDOUT, 1, chunks) == []
    assert encode_stderr(1, b"".join(chunks)) == []


LEAD = record(STDIN, 1)[:4]
bodies = st.lists(
    st.tuples(
        st.sampled_from([(STDIN, 1), (STDIN, 1), (STDIN, 1), (STDIN, 257), (DATA, 1)]),
        st.sampled_from([1, LARGE - 1, LARGE, LARGE, LARGE + 1, 65535]),
        st.integers(0, 7),
        st.integers(1, 4),
    ),
    max_size=5,
)


@given(st.integers(0, 3 * LARGE), st.integers(0, 255), bodies, st.integers(0, 20 * LARGE))
def test_large_records_of_a_stream_are_found_together(
    size: int, padding: int, runs: list[tuple[tuple[int, int], int, int, int]], shown: int
) -> None:
    """What is left of a record, and runs of records behind it; of all that only so much has come."""
    wire = (content := os.urandom(size)) + bytes(padding)
    expected, position, last_padding = content[:shown], len(wire), padding
    is_over = False
    for (type_, request_id), length, pad, times in runs:
        for _ in range(times):
            # A header behind which nothing has come is left to whoever looks at what follows.
            is_over |= (type_, request_id) != (STDIN, 1) or length < LARGE or len(wire) + 8 >= shown
            content = os.urandom(length)
            if not is_over:
                expected += content[: shown - len(wire) - 8]
                position, last_padding = len(wire) + 8 + length + pad, pad
            wire += record(type_, request_id, content, pad)
    data = wire[:shown]
    parts, *found = parts_of(data, 0, size + padding, padding, LEAD)
    assert b"".join(parts) == expected
    assert all(parts)
    assert found[:2] == [position, last_padding]
    # The same in a buffer, in which anything may follow.
    parts_of_view, *found_in_view = parts_of(memoryview(bytearray(wire))[:shown], 0, size + padding, padding, LEAD)
    assert (parts_of_view, found_in_view) == (parts, found)
    if any(type(part) is memoryview for part in parts):
        # What is little is copied, rather than to keep all of it.
        assert 8 * len(expected) + 8 * 255 * len(parts) >= len(data)


@pytest.mark.parametrize(("behind", "kind"), [(7 * LARGE, memoryview), (7 * LARGE + 1, bytes)])
def test_what_is_little_is_copied(behind: int, kind: type) -> None:
    parts, *found = parts_of(bytes(LARGE + behind), 0, LARGE, 0, LEAD)
    assert [type(part) for part in parts] == [kind]
    assert found == [LARGE, 0, b""]
    assert parts_of(b"", 0, 10, 10, LEAD) == ([], 10, 10, b"")


# --------------------------------------------------------------------- errors


@given(st.lists(st.integers(0, 2000).map(lambda size: b"x" * size), max_size=12))
def test_errors_are_cut_at_line_ends(lines: list[bytes]) -> None:
    text = b"\n".join(lines)
    found = parse(b"".join(encode_stderr(9, text)))
    assert b"".join(answer.content for answer in found) == text
    for answer in found:
        assert (answer.type, answer.id) == (STDERR, 9)
        assert 0 < len(answer.content) <= STDERR_CONTENT
    for before, after in pairwise(found):
        # As many lines as there is room for; a line is broken only where it is longer than a record.
        assert before.content.endswith(b"\n") or b"\n" not in before.content
        line = after.content.partition(b"\n")[0]
        assert len(before.content) + len(line) >= STDERR_CONTENT or not before.content.endswith(b"\n")


def test_a_long_traceback() -> None:
    lines = [f'  File "app.py", line {number}, in view\n'.encode() for number in range(100)]
    contents = [answer.content for answer in parse(b"".join(encode_stderr(1, b"".join(lines))))]
    assert b"".join(contents) == b"".join(lines)
    assert all(content.endswith(b"\n") and len(content) > 850 for content in contents[:-1])


def test_an_endless_line() -> None:
    contents = [answer.content for answer in parse(b"".join(encode_stderr(1, b"x" * 4000)))]
    assert [len(content) for content in contents] == [900, 900, 900, 900, 400]


@pytest.mark.parametrize("size", range(1, 20))
def test_errors_are_padded(size: int) -> None:
    """Always: HAProxy before 2.6.16 crashes otherwise."""
    (record,) = encode_stderr(1, b"x" * size)
    assert record[6] in range(1, 9)
    assert len(record) == 8 + size + record[6]
    assert len(record) % 8 == 0


def test_any_stream_type() -> None:
    assert parse(b"".join(encode_stream(STDIN, 1, [b"in"]))) == [Answer(STDIN, 1, b"in")]
    assert parse(encode_record(END, 1)) == [Answer(END, 1)]


def test_an_opening_is_known_again() -> None:
    opening = begin(5, keep=False) + HEADER.pack(1, PARAMS, 5, 300, 4)
    openings = Openings((RESPONDER,), 300)
    found = openings[opening]
    assert found == (5, 1, False, 300, 304, record(PARAMS, 5) + record(STDIN, 5), True)
    assert openings[opening] is found
    assert list(openings) == [opening]


@pytest.mark.parametrize(
    ("role", "size", "roles", "most", "is_plain"),
    [
        (RESPONDER, 300, (RESPONDER,), 300, True),
        (RESPONDER, 300, (RESPONDER,), 299, False),
        (RESPONDER, 300, (AUTHORIZER,), 300, False),
        (AUTHORIZER, 300, (RESPONDER, AUTHORIZER), 300, False),
        (9, 300, (RESPONDER,), 300, False),
    ],
)
def test_about_what_an_opening_says_all(
    role: int, size: int, roles: tuple[int, ...], most: int, *, is_plain: bool
) -> None:
    found = Openings(roles, most)[begin(5, role) + HEADER.pack(1, PARAMS, 5, size, 0)]
    assert found is not None
    assert found[1] == role
    assert found[-1] is is_plain


@pytest.mark.parametrize(
    "data",
    [
        begin(5) + HEADER.pack(1, PARAMS, 5, 300, 4)[:-1],
        begin(5) + HEADER.pack(1, PARAMS, 5, 0, 8),
        begin(5) + HEADER.pack(1, PARAMS, 6, 300, 4),
        begin(5) + HEADER.pack(1, STDIN, 5, 300, 4),
        begin(5) + HEADER.pack(2, PARAMS, 5, 300, 4),
        begin(0) + HEADER.pack(1, PARAMS, 0, 300, 4),
        begin(5, FILTER) + HEADER.pack(1, PARAMS, 5, 300, 4),
        b"\2" + begin(5)[1:] + HEADER.pack(1, PARAMS, 5, 300, 4),
    ],
)
def test_what_is_no_opening(data: bytes) -> None:
    openings = Openings((RESPONDER, FILTER), 1000)
    assert openings[data] is None
    assert not openings


def test_what_is_remembered_of_openings_has_a_bound() -> None:
    # As when each request has other cookies, under ids as a web server may choose them.
    openings = [
        begin(id_) + HEADER.pack(1, PARAMS, id_, size, -size & 7) for id_ in (1, 2, 3) for size in range(1, 900)
    ]
    known = Openings((RESPONDER,), 1000)
    for opening in openings:
        assert known[opening] is known[opening]
        assert len(known) <= 1024
