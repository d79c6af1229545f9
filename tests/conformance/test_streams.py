"""Records and the streams made of them (sections 3.3, 5.3 and 6.2)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.conformance.support import connect, echo
from tests.protocol.wire import (
    ABORT,
    BEGIN,
    COMPLETE,
    DATA,
    END,
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
    begin,
    block,
    record,
    request,
    stream,
)
from tests.servers.support import HEAD, Flag

if TYPE_CHECKING:
    from tests.servers.support import Handler, Serve


# ------------------------------------------------------------------------------------------ input


def test_padding_of_any_length_on_every_type(serve: Serve) -> None:
    """And reserved bytes of any value, in records and in the body of FCGI_BEGIN_REQUEST."""
    peer = connect(serve(echo))
    for padding in range(256):
        sent = [
            (BEGIN, 1, struct.pack("!HB5s", RESPONDER, 1, bytes((padding,)) * 5)),
            (GET_VALUES, 0, b""),
            (PARAMS, 1, block([(b"NAME", b"%d " % padding)])),
            (PARAMS, 1, b""),
            (99, 0, b"unknown"),
            (ABORT, 2, b""),
            (DATA, 1, b"data"),
            (STDIN, 1, b"x" * padding),
            (DATA, 1, b""),
            (STDIN, 1, b""),
        ]
        peer.send(b"".join(record(*parts, padding=padding, reserved=255 - padding) for parts in sent))
        assert {peer.record().type, peer.record().type} == {GET_VALUES_RESULT, UNKNOWN_TYPE}
        assert peer.response().body == b"%d " % padding + b"x" * padding


def test_the_longest_records(serve: Serve) -> None:
    peer = connect(serve(echo))
    body = bytes(range(256)) * 1024
    for size in (65_535, 65_528, 32_768):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        stdin = b"".join(record(STDIN, 1, piece, 255, reserved=255) for piece in pieces)
        peer.send(begin() + record(PARAMS, 1) + stdin + record(STDIN, 1))
        assert peer.response().body == body


def test_the_end_of_stdin_is_the_end_of_the_body(serve: Serve) -> None:
    """Whatever CONTENT_LENGTH says."""
    peer = connect(serve(echo))
    for body in (b"", b"0123456789"):
        for told in (None, b"", b"10", b"5", b"100", b"0", b"-1", b"18446744073709551616", b"ten"):
            peer.send(request(1, [] if told is None else [(b"CONTENT_LENGTH", told)], body))
            assert peer.response().body == body


def test_data_for_a_responder_is_passed_over(serve: Serve) -> None:
    """Before, between and behind its input, however much."""
    peer = connect(serve(echo))
    data = record(DATA, 1, bytes(65_535)) * 10
    for before, between, behind in ((data, b"", b""), (b"", data, data), (record(DATA, 1),) * 3):
        stdin = (record(STDIN, 1, b"some "), record(STDIN, 1, b"body"))
        peer.send(begin() + record(PARAMS, 1) + before + stdin[0] + between + stdin[1] + behind)
        peer.send(record(STDIN, 1) + data)
        assert peer.response().body == b"some body"


def test_what_belongs_to_nobody_is_passed_over(serve: Serve) -> None:
    """Records of ids that are not active, and of types that have no meaning under an id, between any two others."""
    peer = connect(serve(echo))
    noise = b"".join(
        [
            *(record(type_, 9, b"\xff" * 50) + record(type_, 9) for type_ in (PARAMS, STDIN, DATA, ABORT)),
            *(record(type_, id_, b"what is this", 3) for type_ in (0, 9, 10, 11, 12, 255) for id_ in (1, 9)),
        ]
    )
    pieces = [
        begin(),
        record(PARAMS, 1, block([(b"NAME", b"named ")])),
        record(PARAMS, 1),
        record(STDIN, 1, b"body"),
        record(STDIN, 1),
    ]
    for piece in pieces:
        peer.send(noise + piece)
    assert peer.response().body == b"named body"
    peer.send(noise)
    assert peer.is_quiet()


def test_ids_are_labels(serve: Serve) -> None:
    peer = connect(serve(echo))
    for id_ in (1, 2, 255, 256, 32_768, 65_535):
        peer.send(request(id_, body=b"%d" % id_))
        assert peer.response(id_).body == b"%d" % id_


# ------------------------------------------------------------------------------------------ output


def test_answers_of_any_size(serve: Serve) -> None:
    """Aligned, and each stream ended: the connection sees to it for every record of this battery."""

    async def body(h: Handler) -> None:
        out, errors, flush = map(int, h.environ["SIZES"].split())
        await h.write(b"o" * out, flush=bool(flush))
        await h.write_err(b"e" * errors)
        await h.write(b"p" * out)

    peer = connect(serve(body))
    for size in (*range(18), 1600, 16_384, 16_385, 65_527, 65_528, 65_529, 65_535, 65_536, 70_000, 200_003):
        for errors in (0, size % 3000):
            for flush in (0, 1):
                peer.send(request(1, [(b"SIZES", b"%d %d %d" % (size, errors, flush))]))
                response = peer.response()
                assert response.stdout == b"o" * size + b"p" * size
                assert response.stderr == b"e" * errors
                assert (response.app_status, response.protocol_status) == (0, COMPLETE)


def test_nothing_is_sent_of_a_stream_that_nobody_used(serve: Serve) -> None:
    """FCGI_STDERR is optional, FCGI_STDOUT is not (6.1)."""

    async def body(h: Handler) -> None:
        if "ERROR" in h.environ:
            await h.write_err(b"an error")

    peer = connect(serve(body))
    peer.send(request())
    assert [record.type for record in peer.response().records] == [STDOUT, END]
    peer.send(request(1, [(b"ERROR", b"")]))
    assert sorted(record.type for record in peer.response().records) == [END, STDOUT, STDERR, STDERR]


def test_the_end_leaves_with_the_last_of_the_answer(serve: Serve) -> None:
    """In one write, though some has left before."""
    seen = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        await h.wait(seen)
        await h.write_err(b"an error")
        await h.write(b"the last")

    peer = connect(serve(body))
    peer.send(begin() + record(PARAMS, 1) + stream(STDIN, 1, b""))
    assert peer.record().content == HEAD
    seen.set()
    data = peer.socket.recv(65_536)
    assert b"the las" in data
    assert b"an error" in data
    assert data.endswith(record(STDOUT, 1) + record(END, 1, bytes(8)))
