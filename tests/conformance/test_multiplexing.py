"""Several requests on one connection, and roles (sections 3.3, 5.5 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.support import CONCURRENT, begun, connect, echo
from tests.protocol.wire import (
    AUTHORIZER,
    DATA,
    FILTER,
    OVERLOADED,
    PARAMS,
    RESPONDER,
    STDIN,
    UNKNOWN_ROLE,
    begin,
    block,
    record,
    request,
    stream,
)
from tests.servers.support import HEAD, Flag

if TYPE_CHECKING:
    from tests.conformance.support import Peer
    from tests.servers.support import Handler, Log, Serve

LARGE = bytes(range(256)) * 1200  # more than max_buffered_input


def bodies(peer: Peer, *ids: int) -> list[bytes]:
    return [response.body for response in peer.responses(ids).values()]


# ------------------------------------------------------------------------------------------ interleaved


def test_interleaved_up_to_the_limit(serve: Serve) -> None:
    """Piece by piece in turn, the parameters too; one more is refused in the middle of it, and has a place later."""
    peer = connect(serve(echo))
    ids = [*range(1, 128), 65535]
    pairs = {id_: block([(b"NAME", b"%d:" % id_ * 20)]) for id_ in ids}
    for id_ in ids:
        peer.send(begin(id_))
    peer.send(request(1000, body=b"too many"))
    refused = peer.response(1000)
    assert (refused.status, refused.protocol_status) == (503, OVERLOADED)
    for start in (0, 3, 40):
        stop = {0: 3, 3: 40, 40: None}[start]
        peer.send(b"".join(record(PARAMS, id_, pairs[id_][start:stop]) for id_ in reversed(ids)))
    peer.send(b"".join(record(PARAMS, id_) for id_ in ids))
    for piece in range(10):
        peer.send(b"".join(record(STDIN, id_, b"%d " % piece * 20) for id_ in reversed(ids)))
    peer.send(b"".join(record(STDIN, id_) for id_ in ids))
    body = b"".join(b"%d " % piece * 20 for piece in range(10))
    assert bodies(peer, *ids) == [b"%d:" % id_ * 20 + body for id_ in ids]
    peer.send(request(1000, body=b"now"))
    assert peer.response(1000).body == b"now"


def test_large_bodies_that_come_in_the_wrong_order(serve: Serve) -> None:
    """The request that is served first gets its body last; together they are more than memory is used for."""

    async def body(h: Handler) -> None:
        assert await h.read() == LARGE
        await h.write(HEAD + h.environ["NAME"].encode())

    peer = connect(serve(body))
    ids = (1, 2, 3, 4)
    peer.send(b"".join(begun(id_, b"%d" % id_) for id_ in ids))
    for id_ in reversed(ids):
        peer.send(stream(STDIN, id_, LARGE))
    assert bodies(peer, *ids) == [b"1", b"2", b"3", b"4"]


@CONCURRENT
def test_a_stalled_body_delays_nobody(serve: Serve) -> None:
    peer = connect(serve(echo))
    peer.send(begun(1, b"slow ") + record(STDIN, 1, b"half"))
    for _ in range(3):
        peer.send(request(2, body=LARGE))
        assert peer.response(2).body == LARGE
    peer.send(stream(STDIN, 1, b" whole"))
    assert peer.response(1).body == b"slow half whole"


@CONCURRENT
def test_a_handler_that_does_not_read_delays_nobody(serve: Serve) -> None:
    """However much has come for it."""
    release = Flag()

    async def body(h: Handler) -> None:
        if h.environ["NAME"] == "deaf":
            await h.wait(release)
            assert await h.readall() == LARGE * 3
            return
        await echo(h)

    peer = connect(serve(body))
    peer.send(begun(1, b"deaf") + begun(2, b"other "))
    peer.send(stream(STDIN, 1, LARGE * 3))
    peer.send(stream(STDIN, 2, b"body"))
    assert peer.response(2).body == b"other body"
    release.set()
    assert peer.response(1).stdout == b""


# ------------------------------------------------------------------------------------------ ids


def test_an_id_may_be_used_again_right_behind_its_end(serve: Serve) -> None:
    """While others go on, and with the rest of the first body still under way."""
    peer = connect(serve(echo))
    if peer.running.kind.concurrent:
        peer.send(begun(1, b"other "))
    for i in range(50):
        peer.send(request(7, body=b"%d" % i) + record(STDIN, 7, b"late") + record(STDIN, 7))
        assert peer.response(7).body == b"%d" % i
    if peer.running.kind.concurrent:
        peer.send(stream(STDIN, 1, b"body"))
        assert peer.response(1).body == b"other body"


# ------------------------------------------------------------------------------------------ roles


def test_roles_that_are_not_served(serve: Serve, log: Log) -> None:
    """The rest of such a request is passed over, whatever it is; its id is free at once."""
    peer = connect(serve(echo))
    for role in (0, AUTHORIZER, FILTER, 4, 256, 65535):
        rest = stream(PARAMS, 1, b"\xff" * 100) + stream(DATA, 1, b"data") + stream(STDIN, 1, b"body")
        # Web servers take an end alone for an empty answer, and an Authorizer's for consent.
        for more in (rest, request(1, body=b"next")):
            peer.send(begin(1, role) + more)
            response = peer.response(1)
            assert (response.status, response.protocol_status) == (500, UNKNOWN_ROLE)
        assert peer.response(1).body == b"next"
    for name in ("unknown", "Authorizer", "Filter"):
        log.claim(f"({name}) are refused")


def test_streams_of_the_roles_that_are_served(serve: Serve) -> None:
    """An answer waits for no stream that its role does not have, and input that it has not is passed over."""

    async def body(h: Handler) -> None:
        await h.write(HEAD + b"%d:" % h.real.role + (b"" if h.real.role == AUTHORIZER else await h.read()))

    peer = connect(serve(body, handler={"roles": (RESPONDER, AUTHORIZER, FILTER)}))
    streams = {
        AUTHORIZER: b"",
        RESPONDER: stream(STDIN, 1, b"body"),
        FILTER: stream(STDIN, 1, b"body") + stream(DATA, 1, b"a file"),
    }
    for role, input_ in streams.items():
        peer.send(begin(1, role) + record(PARAMS, 1) + input_)
        assert peer.response(1).body == (b"%d:" % role) + (b"body" if role != AUTHORIZER else b"")
    peer.send(begin(1, AUTHORIZER) + record(PARAMS, 1) + stream(STDIN, 1, b"body"))
    assert peer.response(1).body == b"2:"
    assert peer.is_quiet()
