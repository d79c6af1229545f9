"""Blocks of the layout that came again and again: decoded as all others, whatever comes instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.protocol import likely
from simple_fastcgi.protocol.pairs import decode_pairs, encode_pairs
from simple_fastcgi.protocol.runs import PairDecoder

MANY = 10_000
RUN = [("ROOT", "/srv"), ("SOFTWARE", "nginx/1.27"), ("GATEWAY", "CGI/1.1")]
END = [("ACCEPT", "*/*"), ("AGENT", "wrk"), ("LANGUAGE", "en")]

Pairs = list[tuple[str, str]]


def request(number: int, url: str = "/") -> Pairs:
    return [
        ("URL", url),
        ("URI", url * 2),
        *RUN,
        ("PORT", str(number)),
        ("ADDR", "::1"),
        *END,
        ("COOKIE", "c" * number),
    ]


def experienced() -> PairDecoder:
    """One that expects a block like the last ones."""
    decoder = PairDecoder()
    for number in range(10):
        decoder.decode(encode_pairs(request(number, f"/{number}")), MANY)
    assert decoder._expected is not None
    return decoder


def outcome(decode: object, block: bytes, most: int) -> object:
    try:
        pairs, repeated, *_ = decode(block, most)  # type: ignore[operator]
    except ProtocolError as error:
        return str(error)
    return list(pairs.items()), repeated


def assert_decoded(decoder: PairDecoder, block: bytes, most: int = MANY) -> None:
    assert outcome(decoder.decode, block, most) == outcome(decode_pairs, block, most)


def test_the_expected_layout_is_found_with_any_values() -> None:
    decoder = experienced()
    expected = decoder._expected
    assert expected is not None
    for number in (0, 1, 126, 127, 128, 129, 5000, 3, 127, 70_000):
        for url in ("/", "", "/" * 200, "\xff%s"):
            block = encode_pairs(request(number, url))
            assert_decoded(decoder, block)
            assert decoder.decode(block, MANY)[2] is expected.layout
    assert decoder._expected is expected


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([request(1)[1], request(1)[0], *request(1)[2:]], id="two of the same size change places"),
        pytest.param([request(1)[0], request(1)[0], *request(1)[2:]], id="one comes twice, in another's place"),
        pytest.param(request(1)[1:], id="the first one is not there"),
        pytest.param(request(1)[:-1], id="the last one is not there"),
        pytest.param([*request(1), ("MORE", "")], id="there is one more"),
        pytest.param([*request(1), ("COOKIE", "again")], id="the last one comes again"),
        pytest.param([("URL", "/"), ("URI", "/"), *RUN[1:], *RUN[:1], *request(1)[5:]], id="a run in another order"),
        pytest.param([*request(1)[:-1], ("COOKIES", "c")], id="another name, and longer"),
        pytest.param([*request(1)[:-1], ("COOLER", "c")], id="another name of the same size"),
        pytest.param([*request(1)[:-1], ("COOLER", "c" * 300)], id="another name before a long value"),
        pytest.param([], id="nothing"),
    ],
)
def test_another_layout_is_seen(pairs: Pairs) -> None:
    decoder = experienced()
    assert_decoded(decoder, encode_pairs(pairs))
    assert decoder._expected is None
    # And the usual one is expected again when it has come a few times.
    for number in range(5):
        assert_decoded(decoder, encode_pairs(request(number)))
    assert decoder._expected is not None


@pytest.mark.parametrize("number", [3, 300])
def test_what_is_cut_is_refused(number: int) -> None:
    block = encode_pairs(request(number))
    for stop in range(len(block)):
        decoder = experienced()
        assert_decoded(decoder, block[:stop])
    assert_decoded(experienced(), block + b"\0")
    assert_decoded(experienced(), block + b"\0\0")


def test_a_claim_beyond_the_end_is_refused() -> None:
    block = encode_pairs([*request(1)[:-1], ("COOKIE", "")])
    for length in (b"\1", b"\x7f", b"\xff\xff\xff\xff", b"\x80\0\0\1"):
        assert_decoded(experienced(), block[: -len("COOKIE") - 1] + length + b"COOKIE")


def test_the_limit_holds_for_the_expected_layout_too() -> None:
    decoder = experienced()
    count = len(request(1))
    assert_decoded(decoder, encode_pairs(request(1)), count)
    assert decoder._expected is not None
    assert_decoded(decoder, encode_pairs(request(1)), count - 1)


def test_blocks_that_have_nothing_that_differs() -> None:
    decoder = PairDecoder()
    for _ in range(10):
        assert_decoded(decoder, encode_pairs(RUN))
    assert decoder._expected is not None
    assert_decoded(decoder, encode_pairs(RUN + END))


def test_a_layout_with_much_that_is_fixed_is_not_expected() -> None:
    decoder = PairDecoder()
    for number in range(10):
        assert_decoded(decoder, encode_pairs([*RUN, ("LARGE", "x" * 5000), ("N", str(number))]))
    assert decoder._last is not None
    assert decoder._expected is None


def test_what_is_remembered_is_bounded() -> None:
    """Clients choose the lengths of values."""
    decoder = PairDecoder()
    names = [f"HTTP_{letter}" for letter in "ABCDEFGHIJ"]
    for number in range(300):
        values = [(name, "v" * ((number + at) % 128)) for at, name in enumerate(names)]
        assert_decoded(decoder, encode_pairs([*values, *RUN]))
        if decoder._expected is not None:
            assert sum(len(gaps) for _, _, gaps, _ in decoder._expected._steps) <= likely._MOST_GAPS
    assert decoder._expected is not None


values = st.text(st.characters(max_codepoint=0xFF), max_size=3) | st.sampled_from(["v" * 127, "v" * 128, "v" * 300])
names = st.sampled_from(["URL", "URI", "PORT", "ADDR", "COOKIE", "ROOT", "X", ""])


@given(st.lists(st.lists(st.tuples(names, values), max_size=8), max_size=6), st.data())
def test_any_blocks(parts: list[Pairs], data: st.DataObject) -> None:
    decoder = experienced()
    for pairs in parts:
        block = encode_pairs(data.draw(st.permutations(request(len(pairs)) + pairs)) if len(pairs) > 4 else request(7))
        at = data.draw(st.integers(0, len(block)))
        changed = block[:at] + data.draw(st.binary(max_size=2)) + block[at:]
        for one in (block, changed, encode_pairs(request(1)), encode_pairs(pairs)):
            assert_decoded(decoder, one)
