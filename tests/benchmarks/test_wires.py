from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.requests import BARE, HELLO, POST_10K, VARIED, Request, parameters
from benchmarks.load.wires import BrokenAnswer as Broken
from benchmarks.load.wires import FastcgiReader, FastcgiWire, HttpReader, HttpWire, Reader, cgi_variables
from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDOUT
from simple_fastcgi.protocol.records import END_REQUEST_BODY, encode_record

pytestmark = pytest.mark.once

HEAD = b"Content-Type: text/plain\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n3;x=y\r\n, W\r\n0\r\n\r\n"
KNOWN_LENGTH = b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nHello"


def answer(request_id: int, body: bytes, head: bytes = HEAD, status: int = 0) -> list[bytes]:
    """The records of an answer, each content in records of 7 bytes."""
    data = head + body
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    stdout = [encode_record(FCGI_STDOUT, request_id, piece) for piece in [*pieces, b""]]
    return [*stdout, encode_record(FCGI_END_REQUEST, request_id, END_REQUEST_BODY.pack(0, status))]


def read(reader: Reader, data: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    found = []
    for start, end in itertools.pairwise(places):
        found += reader.feed(data[start:end])
    return found


CUTS = st.lists(st.integers(0, 10000), max_size=8)


@given(CUTS)
def test_answers_of_one_connection_may_come_mixed_and_in_pieces(cuts: list[int]) -> None:
    first, second = answer(1, b"one"), answer(2, b"the second")
    mixed = b"".join(record for pair in zip(first, second, strict=False) for record in pair) + b"".join(
        second[len(first) :]
    )
    assert sorted(read(FastcgiReader(), mixed + b"".join(answer(1, b"again")), cuts)) == [
        (1, b"again"),
        (1, b"one"),
        (2, b"the second"),
    ]


@given(CUTS)
def test_http_answers_in_pieces(cuts: list[int]) -> None:
    reader = HttpReader()
    for data, body in ((CHUNKED, b"Hello, W"), (KNOWN_LENGTH, b"Hello"), (CHUNKED, b"Hello, W")):
        assert read(reader, data, cuts) == [(1, body)]


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (FastcgiReader(), b"".join(answer(1, b"", b"Status: 500 Oh\r\n\r\n"))),
        (FastcgiReader(), b"".join(answer(1, b"", b""))),
        (FastcgiReader(), b"".join(answer(1, b"x", status=2))),
        (HttpReader(), b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        (HttpReader(), b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["status", "no head", "overloaded", "HTTP status", "no length"],
)
def test_what_is_no_good_answer_is_told(reader: Reader, data: bytes) -> None:
    with pytest.raises(Broken):
        reader.feed(data)


def test_no_two_varied_requests_are_alike() -> None:
    wire = FastcgiWire()
    requests = {wire.encode(VARIED.request(number), kept=True) for number in range(1000)}
    assert len(requests) == 1000
    assert len({VARIED.answer(number) for number in range(1000)}) == 1000
    assert HELLO.request(1) == HELLO.request(2)


@pytest.mark.parametrize("count", [BARE, 100, 2000])
def test_parameters_are_as_many_as_asked_for(count: int) -> None:
    variables = cgi_variables(parameters(count).request(1))
    assert len(variables) == len(dict(variables)) == count


def test_a_body_goes_with_its_length() -> None:
    request = POST_10K.request(1)
    assert b"Content-Length: 10240\r\n" in HttpWire().encode(request, kept=True)
    assert dict(cgi_variables(request))["CONTENT_LENGTH"] == "10240"
    assert b"Connection: close" in HttpWire().encode(Request(), kept=False)
