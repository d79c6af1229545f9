"""FCGI_ABORT_REQUEST in every phase (section 5.4): one FCGI_END_REQUEST, and nothing under that id behind it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.conformance.support import CONCURRENT, begun, connect, echo
from tests.protocol.wire import (
    ABORT,
    COMPLETE,
    END,
    FILTER,
    OVERLOADED,
    PARAMS,
    STDERR,
    STDIN,
    STDOUT,
    begin,
    block,
    record,
    request,
    stream,
)
from tests.servers.support import HEAD, Flag, until

if TYPE_CHECKING:
    from tests.conformance.support import Peer
    from tests.servers.support import Handler, Log, Serve

PAIRS = block([(b"NAME", b"next"), (b"LONG", b"x" * 200)])


def goes_on(peer: Peer, request_id: int = 1) -> None:
    """The connection, and the id, can be used."""
    peer.send(request(request_id, [(b"NAME", b"next")], b" body"))
    assert peer.response(request_id).body == b"next body"


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not-kept"])
def test_before_the_parameters_end(serve: Serve, keep: bool) -> None:
    running = serve(echo)
    peer = connect(running)
    for cut in (0, 1, 4, len(PAIRS)):
        peer.send(begin(keep=keep) + (record(PARAMS, 1, PAIRS[:cut]) if cut else b""))
        peer.abort()
        assert peer.refusal(1) == COMPLETE
        if keep:
            # What was under way when the web server decided so is passed over.
            peer.send(record(PARAMS, 1, PAIRS[cut:]) + record(PARAMS, 1) + record(STDIN, 1))
            assert peer.is_quiet()
            goes_on(peer)
        else:
            peer.eof()
            peer = connect(running)


PHASES = {
    # What the handler has sent, and whether it then waits for input.
    "reading": (0, True),
    "thinking": (0, False),
    "writing": (STDOUT, False),
    "writing-and-reading": (STDOUT, True),
    "complaining": (STDERR, False),
}


@pytest.mark.parametrize("phase", PHASES)
def test_while_the_handler_runs(serve: Serve, phase: str) -> None:
    """It is told at once; where it does not end at once, its id is free all the same, and its words go nowhere."""
    sent, reads = PHASES[phase]
    begun_, released, ended = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["NAME"] == "next":
            await echo(h)
            return
        if sent == STDERR:
            await h.write_err(b"an error")
        if sent:
            await h.write(HEAD if sent == STDOUT else b"", flush=True)
        begun_.set()
        if reads:
            with pytest.raises(ConnectionAbortedError):
                await h.readall()
        else:
            await h.until_aborted()
        assert h.aborted()
        await h.wait(released)
        for write in (h.write, h.write_err):
            with suppress(ConnectionAbortedError):
                await write(b"too late")
        ended.set()

    running = serve(body)
    peer = connect(running)
    peer.send(begun(1, b"aborted") + record(STDIN, 1, b"some"))
    begun_.wait()
    if not running.kind.concurrent:
        released.set()
    peer.abort()
    response = peer.response(1)
    assert response.protocol_status == COMPLETE
    assert response.stdout == (HEAD if sent == STDOUT else b"")
    assert response.stderr == (b"an error" if sent == STDERR else b"")
    # The rest of the body, and an abort that crossed the end.
    peer.send(stream(STDIN, 1, b"the rest"))
    peer.abort()
    assert peer.is_quiet()
    goes_on(peer)
    released.set()
    ended.wait()
    assert peer.is_quiet()
    goes_on(peer)
    peer.send(request(1, [(b"NAME", b"next")], keep=False))
    assert peer.response(1).body == b"next"
    peer.eof()


@CONCURRENT
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not-kept"])
def test_handlers_that_go_on_all_the_same(serve: Serve, keep: bool) -> None:
    """They keep no connection open, and have a place on the one that is kept until they end."""
    begun_, released = Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["NAME"] == "next":
            await echo(h)
            return
        begun_.set()
        await h.wait(released)

    peer = connect(serve(body, limits={"max_requests_per_connection": 2}))
    peer.send(begun(1, b"deaf", keep=keep) + record(STDIN, 1))
    begun_.wait()
    peer.abort()
    assert peer.refusal(1) == COMPLETE
    if not keep:
        peer.eof()
        released.set()
        return

    def is_accepted() -> bool:
        peer.send(begun(1, b"next") + begin(2) + record(ABORT, 2) + stream(STDIN, 1, b""))
        responses = peer.responses((1, 2))
        assert responses[1].protocol_status == COMPLETE
        assert responses[2].protocol_status in {COMPLETE, OVERLOADED}
        return responses[2].protocol_status == COMPLETE

    assert not is_accepted()
    goes_on(peer)
    released.set()
    until(is_accepted)


def test_in_one_piece_with_the_request(serve: Serve) -> None:
    """Whether or not a handler has begun: one end, and no answer."""
    running = serve(echo)
    peer = connect(running)
    for _ in range(20):
        peer.send(begun(1) + record(STDIN, 1, b"some") + record(ABORT, 1) + record(ABORT, 1))
        response = peer.response(1)
        assert (response.stdout, response.protocol_status) == (b"", COMPLETE)
        assert peer.is_quiet()
    goes_on(peer)


def test_ids_that_nobody_uses(serve: Serve, log: Log) -> None:
    """Never begun, ended, refused, aborted already."""
    peer = connect(serve(echo))
    peer.send(request(2) + begin(3, FILTER) + begin(4) + record(ABORT, 4))
    responses = peer.responses((2, 3, 4))
    assert [record.type for record in responses[4].records] == [END]
    log.claim("requests in role 3 (Filter) are refused")
    peer.send(b"".join(record(ABORT, id_, b"ignored", 9) for id_ in (1, 2, 3, 4, 65535)))
    assert peer.is_quiet()
    for id_ in (1, 2, 3, 4, 65535):
        goes_on(peer, id_)


def test_one_of_several(serve: Serve) -> None:
    """The others do not notice, whichever it is."""
    peer = connect(serve(echo))
    ids = (1, 2, 3)
    for aborted in ids:
        peer.send(b"".join(begun(id_) + record(STDIN, id_, b"%d" % id_) for id_ in ids))
        peer.send(record(ABORT, aborted, padding=aborted))
        peer.send(b"".join(stream(STDIN, id_, b" whole") for id_ in ids))
        responses = peer.responses(ids)
        for id_ in ids:
            assert responses[id_].body == (b"" if id_ == aborted else b"%d whole" % id_)
    assert peer.is_quiet()
