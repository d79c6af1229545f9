"""Name-value pairs (sections 3.4 and 5.2): what is sent is what a handler sees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conformance.support import connect
from tests.protocol.wire import PARAMS, STDIN, begin, block, pair, record, stream

if TYPE_CHECKING:
    from tests.conformance.support import Peer
    from tests.protocol.wire import Pairs
    from tests.servers.support import Handler, Serve

SIZES = (0, 1, 127, 128, 255, 256, 65_535, 70_000)
CASES: dict[str, Pairs] = {
    "none": [],
    "values": [(b"V%d" % size, b"x" * size) for size in SIZES],
    "names": [(b"N" * size, b"%d" % size) for size in SIZES],
    "names-and-values": [(b"%d:" % size + b"N" * size, b"y" * size) for size in SIZES],
    "thousands": [(b"N%d" % i, b"%d" % i) for i in range(2000)],
    "empty-name": [(b"", b"value"), (b"EMPTY_VALUE", b"")],
    "only-an-empty-pair": [(b"", b"")],
    "every-byte": [(b"A", bytes(range(256))), (b"B", bytes(range(255, -1, -1))), (b"\xff\xfe\x80", b"\0")],
    "utf-8": [("GRÜSSE".encode(), "grüße, ☃".encode()), (b"LATIN", "grüße".encode("latin-1"))],
}


async def show(h: Handler) -> None:
    await h.send_response(200, "application/json", h.environ)


def seen(peer: Peer, wire: bytes, size: int) -> dict[str, str]:
    """What a handler sees of `wire`, sent in records of `size` bytes."""
    peer.send(begin() + stream(PARAMS, 1, wire, size) + record(STDIN, 1))
    environ: dict[str, str] = json.loads(peer.response().body)
    return environ


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.no_cover
@pytest.mark.parametrize("case", CASES)
def test_what_is_sent_is_seen(serve: Serve, case: str) -> None:
    """In either form of the lengths, however they are cut into records."""
    peer = connect(serve(show))
    pairs = CASES[case]
    expected = {text(name): text(value) for name, value in pairs}
    assert len(expected) == len(pairs)
    long = b"".join(pair(name, value, long=True) for name, value in pairs)
    for wire in (block(pairs), long):
        for size in (65_535, 1000, 8, 1) if len(wire) < 100_000 else (65_535, 1000, 37):
            assert seen(peer, wire, size) == expected


def test_a_pair_may_be_cut_anywhere(serve: Serve) -> None:
    """Within lengths of either form, names and values."""
    peer = connect(serve(show))
    wire = pair(b"SHORT", b"value") + pair(b"LONG", b"x" * 128) + pair(b"FORM", b"of lengths", long=True) + pair(b"Z")
    expected = {"SHORT": "value", "LONG": "x" * 128, "FORM": "of lengths", "Z": ""}
    for cut in range(1, len(wire)):
        assert seen(peer, wire, cut) == expected
        peer.send(begin() + record(PARAMS, 1, wire[:cut]))
        peer.send(record(PARAMS, 1, wire[cut:]) + record(PARAMS, 1) + record(STDIN, 1))
        assert json.loads(peer.response().body) == expected
