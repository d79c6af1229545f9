"""Name-value pairs (section 3.4).

Names and values are bytes on the wire. Here they are text in which every character stands for
one byte (latin-1): nothing can fail or get lost, slices of one decoded block are the fastest that
Python has, and it is the form that PEP 3333 wants.
"""

from __future__ import annotations

from ..errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from .records import Buffer

    Result = TypeVar("Result")

    Decoded = tuple[dict[str, str], list[tuple[str, str]]]

_LONG = 0x80
MAX_PAIR_LENGTH = 0x7FFFFFFF
"""The longest name or value that the format can tell."""


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The block of `pairs`; ValueError for a character above U+00FF."""
    block = bytearray()
    for name, value in pairs:
        for text in (name, value):
            size = len(text)
            block += bytes((size,)) if size < _LONG else (size | _LONG << 24).to_bytes(4, "big")
        block += name.encode("latin-1") + value.encode("latin-1")
    return bytes(block)


def encode_blocks(pairs: Iterable[tuple[str, str]], size: int) -> list[bytes]:
    """The block of `pairs` in pieces of at most `size` bytes, for a record each, and none if there are no pairs.

    A piece ends where a pair does, unless that pair alone is longer: flup, uWSGI and PHP-FPM read each record by
    itself. ValueError as :func:`encode_pairs`.
    """
    pieces: list[bytes] = []
    piece: list[bytes] = []
    room = size
    for pair in pairs:
        encoded = encode_pairs((pair,))
        if len(encoded) > room:
            if piece:
                pieces.append(b"".join(piece))
            rest = (len(encoded) - 1) // size * size
            pieces += [encoded[start : start + size] for start in range(0, rest, size)]
            encoded = encoded[rest:]
            piece, room = [], size
        piece.append(encoded)
        room -= len(encoded)
    if piece:
        pieces.append(b"".join(piece))
    return pieces


def decode_pairs(block: Buffer | bytearray, max_pairs: int) -> Decoded:
    """A complete block as (pairs by name, repeated pairs).

    Of a name that comes more than once, the last value stands in the dict and all of its pairs,
    in order, in the list, which is empty otherwise. ProtocolError when a length overruns the block,
    and for more than `max_pairs`.
    """
    pairs: dict[str, str] = {}
    text = str(block, "latin-1")
    position = count = 0
    end = len(block)
    try:
        # One more, so that it is known when there are more.
        for count in range(max_pairs + 1):  # noqa: B007
            if position >= end:
                break
            name_size = block[position]
            value_size = block[position + 1]
            if name_size < _LONG and value_size < _LONG:
                position += 2
            else:
                name_size, value_size, position = pair_lengths(block, position)
            value_start = position + name_size
            name = text[position:value_start]
            position = value_start + value_size
            pairs[name] = text[value_start:position]
        else:
            count = max_pairs + 1
    except IndexError:
        raise ProtocolError("name-value pairs end within a length") from None
    if count > max_pairs:
        raise ProtocolError(f"more than {max_pairs} parameters (max_params)")
    if position > end:
        raise ProtocolError(f"a name-value pair claims {position - end} bytes more than its stream has")
    return pairs, _repeated(block) if len(pairs) != count else []


def pair_lengths(block: Buffer | bytearray, position: int) -> tuple[int, int, int]:
    """(name length, value length, where the name begins) of the pair at `position`; IndexError when cut."""
    sizes = []
    for _ in range(2):
        size = block[position]
        if size >= _LONG:
            size = (size ^ _LONG) << 24 | block[position + 1] << 16 | block[position + 2] << 8 | block[position + 3]
            position += 3
        position += 1
        sizes.append(size)
    return sizes[0], sizes[1], position


def _repeated(block: Buffer | bytearray) -> list[tuple[str, str]]:
    text = str(block, "latin-1")
    pairs = []
    times: dict[str, int] = {}
    position = 0
    while position < len(block):
        name_size, value_size, position = pair_lengths(block, position)
        value_start = position + name_size
        name = text[position:value_start]
        position = value_start + value_size
        pairs.append((name, text[value_start:position]))
        times[name] = times.get(name, 0) + 1
    return [pair for pair in pairs if times[pair[0]] > 1]


class PairsReceiver:
    """A block that is still arriving, bounded by `limit` bytes and `max_pairs`."""

    __slots__ = ("_block", "_next_pair", "limit", "max_pairs")

    def __init__(self, limit: int, max_pairs: int) -> None:
        self.limit = limit
        self.max_pairs = max_pairs
        self._block: bytes | bytearray = b""
        self._next_pair = 0

    def __len__(self) -> int:
        return len(self._block)

    def feed(self, content: bytes) -> None:
        """Take what one record, or part of it, brought."""
        if not self._block:
            # Mostly the one record is the whole block: no copy.
            self._block = content
            return
        if isinstance(self._block, bytes):
            self._block = bytearray(self._block)
        self._block += content

    def check_claims(self) -> None:
        """ProtocolError as soon as a length claims more than may come, before its bytes are waited for."""
        block, position = self._block, self._next_pair
        start, end = position, len(block)
        name_size = value_size = 0
        try:
            while position < end:
                start = position
                name_size = block[position]
                value_size = block[position + 1]
                if name_size < _LONG and value_size < _LONG:
                    position += 2
                else:
                    name_size, value_size, position = pair_lengths(block, position)
                position += name_size + value_size
        except IndexError:
            # A length is cut by the end of what has come; it is looked at again when more has.
            self._next_pair = start
            return
        # Only of the last pair not all has come.
        if position > self.limit:
            raise ProtocolError(
                f"a name-value pair of {name_size + value_size} bytes passes the limit of "
                f"{self.limit} bytes of parameters (max_params_bytes)"
            )
        self._next_pair = position

    def decode(self, decode: Callable[[bytes, int], Result]) -> Result:
        """What `decode` makes of the complete block, given it and `max_pairs`."""
        return decode(bytes(self._block), self.max_pairs)
