"""Pairs that come with every request: decoded once, and always to the same result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import RequestBegun
from simple_fastcgi.protocol.pairs import decode_pairs
from simple_fastcgi.protocol.runs import Layout, PairDecoder
from simple_fastcgi.protocol.terms import Terms
from tests.protocol import wire

MANY = 10_000
CONFIGURED = [(b"DOCUMENT_ROOT", b"/srv"), (b"SERVER_SOFTWARE", b"nginx"), (b"GATEWAY_INTERFACE", b"CGI/1.1")]
HOST = [(b"SERVER_NAME", b"localhost"), (b"SERVER_PORT", b"80"), (b"REDIRECT_STATUS", b"200"), (b"LONG", b"x" * 200)]

# Pieces that blocks are put together from, some of them well-formed, so that they have much in common.
pieces = st.sampled_from(
    [
        wire.block(CONFIGURED),
        wire.block(HOST),
        wire.block(CONFIGURED[:2]),
        wire.block([(b"A", b"1")]),
        wire.block([(b"A", b"2"), (b"", b"")]),
        # A value that holds a whole run.
        wire.block([(b"HTTP_EVIL", wire.block(CONFIGURED))]),
        wire.block([(b"HTTP_EVIL", b"x" + wire.block(HOST) * 2)]),
        b"\x80\x00\x00\x01\x01ab",
        b"\x05",
        b"\xff\xff\xff\xff",
    ]
) | st.binary(max_size=5)
blocks = st.lists(pieces, max_size=6).map(b"".join)


def outcome(decode: object, block: bytes, most: int) -> object:
    assert callable(decode)
    try:
        pairs, repeated, *_ = decode(block, most)
    except ProtocolError:
        # Which of several violations is told first does not matter.
        return ProtocolError
    return list(pairs.items()), repeated


@given(st.lists(blocks, min_size=1, max_size=30), st.sampled_from([MANY, 5, 8]))
def test_what_was_learned_changes_nothing(sent: list[bytes], most: int) -> None:
    decoder = PairDecoder()
    for block in sent:
        assert outcome(decoder.decode, block, most) == outcome(decode_pairs, block, most)


def learned(decoder: PairDecoder) -> list[list[str]]:
    return [list(pairs) for pairs in decoder._known.pairs] if decoder._known is not None else []


def of(url: bytes, agent: bytes) -> bytes:
    return wire.block(
        [(b"URL", url), *CONFIGURED, (b"PORT", url), *HOST, (b"AGENT", agent), (b"ACCEPT", agent), (b"COOKIE", agent)]
    )


def test_runs_are_learned() -> None:
    decoder = PairDecoder()
    decoder.decode(of(b"/a", b"firefox"), MANY)
    assert learned(decoder) == []
    decoder.decode(of(b"/b", b"firefox"), MANY)
    names = [[name.decode() for name, _ in part] for part in (CONFIGURED, HOST)]
    assert learned(decoder) == [names[0], [*names[1], "AGENT", "ACCEPT", "COOKIE"]]
    # Of what differs from client to client nothing is left in the end.
    for number in range(20):
        decoder.decode(of(b"/%d" % number, b"agent %d" % (number % 3)), MANY)
    assert learned(decoder) == names
    assert decoder._known is not None
    run = decoder._known.pairs[0]
    pairs, *_ = decoder.decode(of(b"/far/behind", b"chrome"), MANY)
    assert pairs["SERVER_SOFTWARE"] is run["SERVER_SOFTWARE"]
    assert list(pairs) == ["URL", *names[0], "PORT", *names[1], "AGENT", "ACCEPT", "COOKIE"]


def test_nothing_is_learned_of_traffic_without_anything_in_common() -> None:
    """And ever more rarely tried."""
    decoder = PairDecoder()
    for number in range(5000):
        decoder.decode(wire.block([(b"N%d" % number, b"")] * 3), MANY)
    assert learned(decoder) == []
    assert decoder._pause == 1024


def test_a_large_block_is_not_learned_from() -> None:
    decoder = PairDecoder()
    for _ in range(5):
        decoder.decode(wire.block([(b"N%d" % number, bytes(100)) for number in range(700)]), MANY)
    assert decoder._common is None


def test_a_block_that_comes_in_parts_is_decoded_as_one_that_does_not() -> None:
    decoder = PairDecoder()
    found = []
    for number in range(5):
        connection = ApplicationConnection(Terms(decode=decoder.decode))
        block = of(b"/%d" % number, bytes(4_000))
        params = b"".join(wire.record(wire.PARAMS, 1, part) for part in (block[:1000], block[1000:], b""))
        (event,) = connection.receive_data(wire.begin() + params)
        assert isinstance(event, RequestBegun)
        assert event.request.params == decode_pairs(block, MANY)[0]
        found.append(event.request.layout)
    assert found[-1] is found[-2] is not None


def test_connections_share_what_was_learned() -> None:
    decoder = PairDecoder()
    for number in range(5):
        connection = ApplicationConnection(Terms(decode=decoder.decode))
        params = wire.record(wire.PARAMS, 1, of(b"/%d" % number, b"x")) + wire.record(wire.PARAMS, 1)
        (event,) = connection.receive_data(wire.begin() + params)
        assert isinstance(event, RequestBegun)
        assert event.request.params["URL"] == f"/{number}"
    assert learned(decoder)


def test_a_block_that_is_cut_teaches_nothing() -> None:
    decoder = PairDecoder()
    with pytest.raises(ProtocolError):
        decoder.decode(b"\x05", MANY)
    assert decoder._common is None


@pytest.mark.parametrize("most", [2, 3])
def test_runs_count_against_the_limit(most: int) -> None:
    decoder = PairDecoder()
    for _ in range(3):
        decoder.decode(wire.block(CONFIGURED), MANY)
    assert learned(decoder)
    assert (outcome(decoder.decode, wire.block(CONFIGURED), most) is ProtocolError) is (most < 3)


def test_the_limit_is_told_as_it_was_set() -> None:
    decoder = PairDecoder()
    for _ in range(3):
        decoder.decode(wire.block(CONFIGURED), MANY)
    for block in (CONFIGURED + HOST, HOST + CONFIGURED, [(b"A%d" % number, b"") for number in range(9)]):
        with pytest.raises(ProtocolError, match=r"^more than 6 parameters \(max_params\)$"):
            decoder.decode(wire.block(block), 6)


def test_strangers_cannot_plant_runs_without_number() -> None:
    """Two blocks with very many stretches in common, between which something differs."""
    decoder = PairDecoder()
    for agent in (b"a", b"b"):
        planted = [pair for n in range(400) for pair in (*[(b"%d" % n, b"abc%d" % m) for m in range(3)], (b"U", agent))]
        decoder.decode(wire.block([*planted, *CONFIGURED, *HOST]), MANY)
    # The longest stay.
    assert len(learned(decoder)) == 16
    assert learned(decoder)[-1] == [name.decode() for name, _ in CONFIGURED + HOST]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(wire.block([(b"LONG", bytes(1000)), *CONFIGURED]), id="a long value before a run"),
        pytest.param(wire.block([*CONFIGURED, (b"LONG", bytes(1000))]), id="a long value behind a run"),
        pytest.param(
            wire.block([*CONFIGURED[:2], (b"GATEWAY_INTERFACE", b"CGI/1.2")]), id="a run that goes on otherwise"
        ),
        pytest.param(wire.block([(b"A", b"1"), *CONFIGURED]), id="a run in the middle"),
        pytest.param(wire.block([*CONFIGURED, (b"A", b"1")]), id="a run in front"),
        pytest.param(b"\x01\x01A", id="a pair that claims more"),
        pytest.param(b"\x01", id="a cut length"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_surrounds_a_run(block: bytes) -> None:
    decoder = PairDecoder()
    for number in range(3):
        decoder.decode(wire.block([(b"N", b"%d" % number), *CONFIGURED]), MANY)
    assert learned(decoder)
    assert outcome(decoder.decode, block, MANY) == outcome(decode_pairs, block, MANY)


def test_a_run_within_a_value_is_none() -> None:
    decoder = PairDecoder()
    for number in range(3):
        decoder.decode(of(b"/%d" % number, b"x"), MANY)
    assert learned(decoder)
    evil = wire.block([(b"EVIL", wire.block(CONFIGURED)), (b"URL", b"/")])
    assert decoder.decode(evil, MANY)[:2] == decode_pairs(evil, MANY)


def test_two_pairs_are_no_run() -> None:
    decoder = PairDecoder()
    for number in range(3):
        decoder.decode(wire.block([(b"URL", b"/%d" % number), *CONFIGURED[:2]]), MANY)
    assert learned(decoder) == []


def layouts(decoder: PairDecoder) -> list[dict[str, str]]:
    assert decoder._known is not None
    return [layout.pairs for layout in decoder._known.layouts.values()]


def test_nothing_that_clients_said_is_remembered() -> None:
    decoder = PairDecoder()
    for number in range(4):
        decoder.decode(wire.block([*CONFIGURED, (b"HTTP_AUTHORIZATION", b"secret%d" % number)]), MANY)
    (layout,) = layouts(decoder)
    assert layout.pop("HTTP_AUTHORIZATION") == ""
    assert layout == {name.decode(): value.decode() for name, value in CONFIGURED}


def test_a_large_block_with_little_that_is_known_is_taken_apart_without_it() -> None:
    decoder = PairDecoder()
    for number in range(4):
        decoder.decode(of(b"/%d" % number, b"x"), MANY)
    large = of(b"/", bytes(20_000))
    pairs, _, layout = decoder.decode(large, MANY)
    assert pairs == decode_pairs(large, MANY)[0]
    assert layout is None


def test_long_names_make_no_layout() -> None:
    decoder = PairDecoder()
    for number in range(4):
        pairs, _, layout = decoder.decode(wire.block([*CONFIGURED, (b"N" * 9000, b"%d" % number)]), MANY)
        assert pairs["N" * 9000] == str(number)
        assert layout is None
    assert layouts(decoder) == []


def test_blocks_with_the_same_names_have_the_same_layout() -> None:
    decoder = PairDecoder()
    found = [
        decoder.decode(wire.block([*CONFIGURED, (b"N", b"%d" % number), (b"M", b"")]), MANY)[2] for number in range(5)
    ]
    assert found[:2] == [None, None]
    layout = found[2]
    assert layout is not None
    assert layout is found[3] is found[4]
    assert list(layout.pairs.items()) == [*layout.fixed.items(), ("N", ""), ("M", "")]
    assert layout.fixed == {name.decode(): value.decode() for name, value in CONFIGURED}
    assert layout.plan(lambda layout: [len(layout.pairs)]) == [5]
    assert layout.plan(_a_plan) is layout.plan(_a_plan)


def _a_plan(layout: Layout) -> list[str]:
    return list(layout.pairs)


def test_names_in_the_same_order_at_other_places() -> None:
    decoder = PairDecoder()
    for number in range(4):
        decoder.decode(wire.block([(b"N", b"%d" % number), *CONFIGURED, (b"M", b"%d" % number)]), MANY)
    for pairs in ([(b"N", b"1"), (b"M", b"1"), *CONFIGURED], [*CONFIGURED, (b"N", b"1"), (b"M", b"1")]) * 2:
        decoded, *_ = decoder.decode(wire.block(pairs), MANY)
        assert list(decoded) == [name.decode() for name, _ in pairs]


def test_layouts_without_number_are_forgotten() -> None:
    """Clients make up names; memory stays as it is, and nothing is mixed up."""
    decoder = PairDecoder()
    for number in range(1000):
        block = wire.block([*CONFIGURED, (b"HTTP_N%d" % number, b"%d" % number)])
        assert decoder.decode(block, MANY)[:2] == decode_pairs(block, MANY)
        assert decoder._known is None or len(layouts(decoder)) <= 256
    block = wire.block([*CONFIGURED, *((b"HTTP_N%d" % number, b"") for number in range(200))])
    assert decoder.decode(block, MANY)[:2] == decode_pairs(block, MANY)
    assert all(len(layout) == 4 for layout in layouts(decoder))


@pytest.mark.parametrize("again", [(b"N", b"2"), CONFIGURED[0]], ids=["among others", "out of a run"])
def test_a_name_that_comes_twice_is_told(again: tuple[bytes, bytes]) -> None:
    decoder = PairDecoder()
    for number in range(4):
        decoder.decode(wire.block([(b"N", b"%d" % number), *CONFIGURED]), MANY)
    for _ in range(2):
        _, repeated, layout = decoder.decode(wire.block([(b"N", b"1"), *CONFIGURED, again]), MANY)
        assert layout is None
        assert [name.encode() for name, _ in repeated] == [again[0]] * 2
