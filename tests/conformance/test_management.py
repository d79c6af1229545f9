"""FCGI_GET_VALUES and types that are not known (section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.support import connect, echo, pairs_in
from tests.protocol.wire import (
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    STDIN,
    UNKNOWN_TYPE,
    begin,
    block,
    pair,
    record,
    request,
    stream,
)

if TYPE_CHECKING:
    from tests.conformance.support import Peer
    from tests.servers.support import Serve

CONNS, REQS, MPXS = b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"
KNOWN = {CONNS, REQS, MPXS}


def asked(peer: Peer, content: bytes, padding: int = 0) -> dict[bytes, bytes]:
    peer.send(record(GET_VALUES, 0, content, padding))
    answer = peer.record()
    assert (answer.type, answer.id) == (GET_VALUES_RESULT, 0)
    pairs = pairs_in(answer.content)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_exactly_the_values_that_are_asked_for(serve: Serve) -> None:
    running = serve(echo, limits={"max_connections": 7, "max_requests_per_connection": 5})
    values = {CONNS: b"7", REQS: b"5", MPXS: b"1" if running.kind.concurrent else b"0"}
    peer = connect(running)
    questions: list[list[bytes]] = [
        [],
        [CONNS],
        [REQS],
        [MPXS],
        [MPXS, CONNS],
        [REQS, REQS],
        [b"FCGI_SOMETHING_NEW"],
        [b"", b"FCGI_MAX_REQ", b"fcgi_max_reqs", REQS + b"S", b"\xff" * 200, CONNS],
        [*(b"X%d" % i for i in range(5000)), MPXS, REQS, CONNS],
    ]
    for padding, names in enumerate(questions):
        expected = {name: values[name] for name in names if name in KNOWN}
        assert asked(peer, block((name, b"") for name in names), padding) == expected
    assert asked(peer, pair(REQS, long=True), 255) == {REQS: b"5"}


def test_values_are_told_in_every_phase_of_a_request(serve: Serve) -> None:
    """Between any two records, and in the middle of a pair."""
    peer = connect(serve(echo))
    params = block([(b"REQUEST_METHOD", b"POST"), (b"OTHER", b"value" * 50)])
    pieces = [
        b"",
        begin(),
        record(PARAMS, 1, params[:1]),
        record(PARAMS, 1, params[1:30]),
        record(PARAMS, 1, params[30:]),
        record(PARAMS, 1),
        record(STDIN, 1, b"some "),
        record(STDIN, 1, b"body"),
    ]
    for piece in pieces:
        peer.send(piece)
        assert asked(peer, pair(REQS)) == {REQS: b"128"}
    peer.send(record(STDIN, 1))
    assert peer.response().body == b"some body"
    assert asked(peer, pair(REQS)) == {REQS: b"128"}


def test_every_unknown_type_is_answered(serve: Serve) -> None:
    """In turn, whatever they carry."""
    peer = connect(serve(echo))
    types = [0, *range(12, 256)]
    peer.send(b"".join(record(type_, 0, b"?" * type_, 255 - type_, reserved=type_) for type_ in types))
    for type_ in types:
        answer = peer.record()
        assert (answer.type, answer.id, answer.content) == (UNKNOWN_TYPE, 0, bytes((type_,)) + bytes(7))
    peer.send(request(body=b"next"))
    assert peer.response().body == b"next"


def test_an_unknown_type_between_the_records_of_a_request(serve: Serve) -> None:
    peer = connect(serve(echo))
    unknown = record(77, 0, b"what is this")
    for piece in (begin(), stream(PARAMS, 1, block([(b"A", b"b")])), record(STDIN, 1, b"body")):
        peer.send(piece + unknown)
        assert peer.record().type == UNKNOWN_TYPE
    peer.send(record(STDIN, 1))
    assert peer.response().body == b"body"
