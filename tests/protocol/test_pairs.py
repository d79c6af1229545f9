"""Name-value pairs (3.4): encoded, decoded, and bounded while they arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.protocol.pairs import PairsReceiver, decode_pairs, encode_blocks, encode_pairs, pair_lengths
from tests.protocol.wire import block, pair

texts = st.text(st.characters(max_codepoint=255), max_size=200)
pairs_of_text = st.lists(st.tuples(texts | st.sampled_from(["", "A", "B"]), texts), max_size=12)


def expected(pairs: list[tuple[str, str]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    names = [name for name, _ in pairs]
    return dict(pairs), [(name, value) for name, value in pairs if names.count(name) > 1]


@given(pairs_of_text)
def test_round_trip(pairs: list[tuple[str, str]]) -> None:
    assert decode_pairs(encode_pairs(pairs), 10_000) == expected(pairs)


@given(st.lists(st.tuples(st.binary(max_size=150), st.binary(max_size=150), st.booleans()), max_size=8))
def test_any_bytes_and_either_form_of_a_length(pairs: list[tuple[bytes, bytes, bool]]) -> None:
    wire = b"".join(pair(name, value, long=long) for name, value, long in pairs)
    texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value, _ in pairs]
    assert decode_pairs(wire, 10_000) == expected(texts)
    assert decode_pairs(bytearray(wire), 10_000) == decode_pairs(memoryview(wire), 10_000) == expected(texts)
    assert encode_pairs(texts) == block((name, value) for name, value, _ in pairs)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000])
def test_sizes(size: int) -> None:
    name, value = "n" * size, "v" * size
    for pairs in ([(name, "")], [("", value)], [(name, value)], [("A", "b"), (name, value), ("C", "d")]):
        wire = encode_pairs(pairs)
        assert wire == block((n.encode(), v.encode()) for n, v in pairs)
        assert decode_pairs(wire, 10_000) == (dict(pairs), [])


def test_the_bytes() -> None:
    assert encode_pairs([]) == b""
    assert encode_pairs([("", "")]) == b"\0\0"
    assert encode_pairs([("SCRIPT_NAME", "/\xe9")]) == b"\x0b\x02SCRIPT_NAME/\xe9"
    assert encode_pairs([("a", "b" * 128)]) == b"\x01\x80\x00\x00\x80a" + b"b" * 128
    assert encode_pairs([("a" * 128, "b")]) == b"\x80\x00\x00\x80\x01" + b"a" * 128 + b"b"


def test_names_that_come_again() -> None:
    wire = block([(b"A", b"1"), (b"", b"2"), (b"B", b"3"), (b"A", b"4"), (b"", b""), (b"A", b"1")])
    assert decode_pairs(wire, 10_000) == (
        {"A": "1", "": "", "B": "3"},
        [("A", "1"), ("", "2"), ("A", "4"), ("", ""), ("A", "1")],
    )


@pytest.mark.parametrize("text", ["\u0100", "a\u20ac", "\ud800"])
def test_only_bytes_can_be_encoded(text: str) -> None:
    with pytest.raises(ValueError):
        encode_pairs([(text, "")])
    with pytest.raises(ValueError):
        encode_pairs([("", text)])


@pytest.mark.parametrize(
    "wire",
    [
        b"\x00",
        b"\x01\x00",
        b"\x01\x01a",
        b"\x00\x7f",
        b"\x80",
        b"\x80\x00\x00\x01",
        b"\x80\x00\x00\x01\x80\x00\x00",
        b"\x7f\xff\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\xff\xff\xff\xff" + b"v" * 100,
        b"\xff\xff\xff\xff\x00" + b"n" * 100,
        b"\x01\x01ab\x01",
    ],
    ids=bytes.hex,
)
def test_lengths_that_overrun(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_pairs(wire, 10_000)


@given(st.lists(st.tuples(st.binary(max_size=140), st.binary(max_size=140)), max_size=5), st.integers(0))
def test_a_cut_is_noticed(pairs: list[tuple[bytes, bytes]], cut: int) -> None:
    wire = block(pairs)
    borders = {len(block(pairs[:count])) for count in range(len(pairs) + 1)}
    cut %= len(wire) + 1
    if cut in borders:
        decode_pairs(wire[:cut], 10_000)
    else:
        with pytest.raises(ProtocolError):
            decode_pairs(wire[:cut], 10_000)


@given(st.binary(max_size=300))
def test_any_bytes_are_pairs_or_a_violation(wire: bytes) -> None:
    try:
        pairs, repeated = decode_pairs(wire, 10_000)
    except ProtocolError:
        return
    for name, value in [*pairs.items(), *repeated]:
        assert f"{name}{value}".encode("latin-1") in wire
    assert {name for name, _ in repeated} <= pairs.keys()


def test_lengths_at_a_position() -> None:
    wire = b"??" + pair(b"abc", b"d" * 200)
    assert pair_lengths(wire, 2) == (3, 200, 7)
    with pytest.raises(IndexError):
        pair_lengths(wire[:6], 2)


# --------------------------------------------------------------------- while they arrive


def arrive(limit: int, pieces: list[bytes]) -> PairsReceiver:
    receiver = PairsReceiver(limit, 10_000)
    for piece in pieces:
        receiver.feed(piece)
        receiver.check_claims()
    return receiver


@given(pairs_of_text, st.lists(st.integers(1, 40), max_size=20))
def test_any_slicing(pairs: list[tuple[str, str]], sizes: list[int]) -> None:
    wire = encode_pairs(pairs)
    pieces, rest = [], wire
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    receiver = arrive(len(wire), [piece for piece in (*pieces, rest) if piece])
    assert len(receiver) == len(wire)
    assert receiver.decode(decode_pairs) == expected(pairs)


def test_byte_by_byte() -> None:
    wire = encode_pairs([("a" * 200, "b" * 300), ("", ""), ("C", "d")])
    receiver = arrive(len(wire), [wire[i : i + 1] for i in range(len(wire))])
    assert receiver.decode(decode_pairs) == ({"a" * 200: "b" * 300, "": "", "C": "d"}, [])


def test_one_piece_is_not_copied() -> None:
    wire = encode_pairs([("A", "b" * 5000)])
    receiver = arrive(10_000, [wire])
    assert receiver._block is wire


def test_nothing_came() -> None:
    receiver = PairsReceiver(1, 10_000)
    receiver.check_claims()
    assert len(receiver) == 0
    assert receiver.decode(decode_pairs) == ({}, [])


@pytest.mark.parametrize("claim", [100, 101, 65_536, 0x7FFFFFFF])
@pytest.mark.parametrize("of_name", [True, False])
def test_a_claim_beyond_the_limit_is_refused_before_its_bytes_come(claim: int, *, of_name: bool) -> None:
    start = encode_pairs([("A", "b")])
    four = (claim | 1 << 31).to_bytes(4, "big")
    head = four + b"\0" if of_name else b"\0" + four
    limit = len(start) + len(head) + 100
    if claim <= 100:
        assert len(arrive(limit, [start, head])) == limit - 100
        return
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        arrive(limit, [start + head])
    # However it is sliced, the last byte of the lengths tells.
    receiver = arrive(limit, [(start + head)[i : i + 1] for i in range(len(start + head) - 1)])
    receiver.feed(head[-1:])
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        receiver.check_claims()


def test_the_sum_of_two_claims_counts() -> None:
    with pytest.raises(ProtocolError):
        arrive(105, [b"\x3c\x3c"])  # 60 and 60
    arrive(122, [b"\x3c\x3c"])


def test_each_pair_is_looked_at_once() -> None:
    receiver = PairsReceiver(1 << 20, 10_000)
    positions = []
    for _ in range(500):
        receiver.feed(pair(b"ab", b"cd"))
        receiver.check_claims()
        positions.append(receiver._next_pair)
    assert positions == [6 * count for count in range(1, 501)]


@given(pairs_of_text, st.integers(1, 400))
def test_pieces_end_where_a_pair_does(pairs: list[tuple[str, str]], size: int) -> None:
    pieces = encode_blocks(pairs, size)
    assert b"".join(pieces) == encode_pairs(pairs)
    assert all(0 < len(piece) <= size for piece in pieces)
    sizes = [len(encode_pairs([pair])) for pair in pairs]
    borders = {sum(sizes[:count]) for count in range(len(sizes) + 1)}
    # The only cuts are within pairs that fit into no piece.
    for count in range(len(pieces)):
        cut = sum(map(len, pieces[:count]))
        if cut not in borders:
            start = max(border for border in borders if border < cut)
            assert min(border for border in borders if border > cut) - start > size
    # No piece has room for the pair behind it.
    for piece, next_piece in pairwise(pieces):
        assert len(piece) + len(next_piece) > size or any(own > size for own in sizes)


def test_a_pair_that_is_longer_than_a_piece_is_cut() -> None:
    long = encode_pairs([("A", "x" * 29)])
    pieces = [long[:16], long[16:]]
    assert encode_blocks([("A", "x" * 29)], 16) == pieces
    assert encode_blocks([("B", "y"), ("A", "x" * 29), ("C", "z")], 16) == [
        encode_pairs([("B", "y")]),
        *pieces,
        encode_pairs([("C", "z")]),
    ]


def test_no_pairs_make_no_piece() -> None:
    assert encode_blocks([], 100) == []
