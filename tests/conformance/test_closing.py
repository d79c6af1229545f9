"""Who closes a connection, when, and how (sections 3.5 and 5.1)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.conformance.support import CONCURRENT, connect
from tests.protocol.wire import (
    ABORT,
    BEGIN,
    COMPLETE,
    DATA,
    FILTER,
    OVERLOADED,
    PARAMS,
    RESPONDER,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    block,
    record,
    request,
    stream,
)
from tests.servers.support import HEAD

if TYPE_CHECKING:
    import socket

    from tests.servers.support import Handler, Log, Serve


async def serve_by_name(h: Handler) -> None:
    name = h.environ["NAME"]
    if name == "large":
        await h.write(HEAD + bytes(300_000))
    elif name == "fails":
        raise ValueError("of the application")
    elif name == "breaks":
        await h.write(HEAD, flush=True)
        raise ValueError("of the application")
    elif name == "echo":
        await h.write(HEAD + await h.read())
    elif name == "aborted":
        await h.write(HEAD, flush=True)
        await h.until_aborted()


def asked(name: str, flags: int, request_id: int = 1, role: int = RESPONDER) -> bytes:
    """A request up to its body."""
    start = record(BEGIN, request_id, struct.pack("!HB5x", role, flags))
    return start + stream(PARAMS, request_id, block([(b"NAME", name.encode())]))


END_OF_BODY = record(STDIN, 1)
# Role, name, what follows the parameters, and how long the answer's body is (None: the text of a failure).
OUTCOMES: dict[str, tuple[int, str, bytes, int | None]] = {
    "answer": (RESPONDER, "echo", stream(STDIN, 1, b"body"), 4),
    "nothing": (RESPONDER, "nothing", END_OF_BODY, 0),
    "large": (RESPONDER, "large", END_OF_BODY, 300_000),
    "early": (RESPONDER, "nothing", record(STDIN, 1, bytes(50_000)) + END_OF_BODY, 0),
    "failure": (RESPONDER, "fails", END_OF_BODY, None),
    "refusal": (FILTER, "echo", stream(STDIN, 1, b"body") + record(DATA, 1), 59),
    "abort": (RESPONDER, "aborted", record(ABORT, 1), 0),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_whoever_is_told_to_closes(serve: Serve, log: Log, family: socket.AddressFamily, outcome: str) -> None:
    """However a request ends, its own flag decides, and of that one bit: the last answer is whole, with no reset."""
    running = serve(serve_by_name, family=family)
    role, name, rest, size = OUTCOMES[outcome]
    peer = connect(running)
    for flags in (0x01, 0xFF, 0xFE, 0x00):
        peer.send(asked(name, flags, role=role))
        if outcome == "abort":
            assert peer.record().content == HEAD
        peer.send(rest)
        response = peer.response()
        assert response.protocol_status == (UNKNOWN_ROLE if outcome == "refusal" else COMPLETE)
        if size is None:
            log.claim_failure("failed")
        else:
            assert len(response.body) == size
        if flags & 1:
            assert peer.is_quiet()
        else:
            peer.eof()
            peer = connect(running)
    if outcome == "refusal":
        log.claim("requests in role 3 (Filter) are refused")


def test_others_are_answered_before_the_close(serve: Serve, log: Log) -> None:
    """One request says that the connection is not to be kept, another is still under way; refusals count too."""
    running = serve(serve_by_name)
    for last in (asked("nothing", 0, 2) + record(STDIN, 2), asked("", 0, 2, FILTER) + record(STDIN, 2)):
        peer = connect(running)
        peer.send(asked("echo", 1) + last)
        if running.kind.concurrent:
            peer.response(2)
        peer.send(stream(STDIN, 1, b"body"))
        ids = (1,) if running.kind.concurrent else (1, 2)
        assert peer.responses(ids)[1].body == b"body"
        peer.eof()
    log.claim("requests in role 3 (Filter) are refused")


@CONCURRENT
def test_nothing_begins_on_a_connection_that_is_about_to_be_cut(serve: Serve, log: Log) -> None:
    """It would be cut off too: the web server can still send it elsewhere."""
    peer = connect(serve(serve_by_name))
    peer.send(asked("echo", 1) + asked("breaks", 1, 2) + record(STDIN, 2))
    assert (peer.record().type, peer.record().type) == (STDOUT, STDERR)
    log.claim_failure("failed")
    peer.send(request(3, [(b"NAME", b"echo")]))
    while (late := peer.record()).id == 2:
        assert late.type == STDERR
    assert (late.type, late.id, peer.record().content) == (STDOUT, 3, b"")
    assert peer.record().content[4] == OVERLOADED
    peer.send(stream(STDIN, 1, b"body"))
    assert peer.response(1).body == b"body"
    cut = peer.record()
    assert cut.id not in {1, 2, 3}
    peer.eof()


def test_a_web_server_may_close_when_nothing_is_under_way(serve: Serve) -> None:
    """The application has nothing to say to it, in the log either; a new connection is served (3.5)."""
    running = serve(serve_by_name)
    for _ in range(20):
        peer = connect(running)
        peer.send(asked("echo", 1) + stream(STDIN, 1, b"body"))
        assert peer.response().body == b"body"
        peer.close()
        connect(running).close()
