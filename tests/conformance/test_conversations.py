"""Long conversations made by chance, all of them valid: requests interleaved, cut anywhere, aborted, ids used again."""

from __future__ import annotations

import random
from collections import deque
from select import select
from typing import TYPE_CHECKING

import pytest

from tests.conformance.support import check_streams, connect
from tests.protocol.wire import ABORT, COMPLETE, PARAMS, STDIN, begin, block, record
from tests.servers.support import HEAD, TIMEOUT
from tests.support.webserver import Response, collect

if TYPE_CHECKING:
    from tests.conformance.support import Peer
    from tests.servers.support import Handler, Serve

REQUESTS = 120
AT_ONCE = 8
IDS = range(1, 20)


async def answer(h: Handler) -> None:
    """Echo the body: as a whole, piece by piece, its first byte only, or nothing of it."""
    name = h.environ["NAME"]
    if name == "whole":
        await h.write(HEAD + await h.read())
    elif name == "stream":
        await h.write(HEAD, flush=True)
        while piece := await h.read(1000):
            await h.write(piece, flush=True)
            await h.write_err(b"a line\n")
    else:
        await h.write(HEAD + await h.read(int(name)))


class Exchange:
    """One request: the records that are still to be sent for it, and what has come back."""

    def __init__(self, rng: random.Random, request_id: int) -> None:
        name = rng.choice(["whole", "stream", "1", "0"])
        body = rng.randbytes(rng.choice([0, 1, 500, 5000, 70_000]))
        pairs = block([(b"NAME", name.encode()), (b"LONG", b"x" * rng.randrange(300))])
        records = [begin(request_id), *cut(rng, PARAMS, request_id, pairs), *cut(rng, STDIN, request_id, body)]
        self.aborted = rng.random() < 0.3
        if self.aborted:
            records = [*records[: rng.randrange(1, len(records) + 1)], record(ABORT, request_id)]
        self.unsent = deque(records)
        self.expected = body if name in {"whole", "stream"} else body[: int(name)]
        self.response = Response()

    def check(self) -> None:
        """Fail unless what has come back is whole, and what was asked for."""
        check_streams(self.response)
        assert self.response.protocol_status == COMPLETE
        assert self.aborted or self.response.body == self.expected


def cut(rng: random.Random, type_: int, request_id: int, content: bytes) -> list[bytes]:
    """`content` as the records of a stream, of any length and padding."""
    records = []
    while content:
        size = rng.randrange(1, min(len(content), 65_535) + 1)
        records.append(record(type_, request_id, content[:size], rng.randrange(256)))
        content = content[size:]
    return [*records, record(type_, request_id)]


def converse(peer: Peer, rng: random.Random) -> None:
    active: dict[int, Exchange] = {}
    begun, out = 0, b""
    while begun < REQUESTS or active:
        while begun < REQUESTS and len(active) < AT_ONCE:
            request_id = rng.choice([id_ for id_ in IDS if id_ not in active])
            active[request_id] = Exchange(rng, request_id)
            begun += 1
        waiting = [exchange for exchange in active.values() if exchange.unsent]
        if waiting and not out:
            out = rng.choice(waiting).unsent.popleft()
        readable, writable, _ = select([peer.socket], [peer.socket] if out else [], [], TIMEOUT)
        assert readable or writable, "nothing more comes"
        if writable:
            out = out[peer.socket.send(out[: rng.choice([1, 9, 100, 65_536])]) :]
        for came in peer.records_that_have_come() if readable else ():
            collect(active[came.id].response, came)
            if active[came.id].response.ended:
                exchange = active.pop(came.id)
                exchange.check()
                # What it had not taken yet still comes, before the id is used again.
                out += b"".join(exchange.unsent)
    peer.send(out)


@pytest.mark.parametrize("seed", range(3))
def test_conversations(serve: Serve, seed: int) -> None:
    peer = connect(serve(answer))
    converse(peer, random.Random(seed))
    assert peer.is_quiet()
