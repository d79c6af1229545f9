"""Name-value pairs that come with every request, decoded once.

Much of what a web server sends is its configuration, the same bytes in every request: DOCUMENT_ROOT, SERVER_SOFTWARE
and their neighbours. To know a run of such pairs again is much faster than to take it apart.
"""

from __future__ import annotations

from ..errors import ProtocolError
from .pairs import decode_pairs, finish_decoding, pair_lengths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pairs import Decoded

_SHORTEST = 3
"""Fewer pairs are taken apart as fast as they are found."""
_MAX_SAMPLE = 16 * 1024
"""Bytes of a block that is learned from, and so of all runs."""
_MOST_RUNS = 16
_MAX_PAUSE = 1024
_KEY = 16
"""Bytes of a run by which it is looked up: two lengths and most of a name."""
_LONG = 0x80


class _Run:
    """Pairs that come one behind the other."""

    __slots__ = ("count", "pairs", "raw", "size")

    def __init__(self, stretch: list[bytes]) -> None:
        self.raw = b"".join(stretch)
        self.size = len(self.raw)
        self.count = len(stretch)
        self.pairs, _ = decode_pairs(self.raw, self.count)


class PairDecoder:
    """Decodes blocks as :func:`~simple_fastcgi.protocol.pairs.decode_pairs` does, for many connections of a web server.

    The result never depends on what was learned. Threads may share an instance.
    """

    __slots__ = ("_common", "_pause", "_runs", "_wait")

    def __init__(self) -> None:
        # By the bytes with which they begin.
        self._runs: dict[bytes, _Run] = {}
        # The stretches of pairs that all samples had in common.
        self._common: list[list[bytes]] | None = None
        # How many blocks in which not all runs were found pass before one is looked at, now and the next time.
        self._wait = self._pause = 1

    def decode(self, block: bytes, max_pairs: int) -> Decoded:
        """See :func:`~simple_fastcgi.protocol.pairs.decode_pairs`."""
        runs = self._runs
        awaited = len(runs)
        text = str(block, "latin-1")
        pairs: dict[str, str] = {}
        position = count = 0
        end = len(block)
        try:
            while awaited and position < end:
                run = runs.get(block[position : position + _KEY])
                if run is not None and block.startswith(run.raw, position):
                    if count:
                        pairs.update(run.pairs)
                    else:
                        pairs = run.pairs.copy()
                    position += run.size
                    count += run.count
                    awaited -= 1
                    continue
                # As in finish_decoding, whose loop has no room for this look at each pair.
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
                count += 1
                if count > max_pairs:
                    break
        except IndexError:
            raise ProtocolError("name-value pairs end within a length") from None
        if awaited or not runs:
            self._missed(block)
        if position == end and len(pairs) == count <= max_pairs:
            return pairs, []
        return finish_decoding(pairs, block, text, position, count, max_pairs)

    def _missed(self, block: bytes) -> None:
        """Learn from `block`, but ever more rarely: where no two requests are alike it would be in vain."""
        self._wait -= 1
        if self._wait > 0 or len(block) > _MAX_SAMPLE:
            return
        self._wait = self._pause
        self._pause = min(2 * self._pause, _MAX_PAUSE)
        try:
            sample = _split(block)
        except IndexError:
            # Not well-formed, which is told elsewhere.
            return
        if not self._common:
            self._common = [sample]
            return
        self._common = _in_common(self._common, sample)
        runs = map(_Run, self._common)
        self._runs = {run.raw[:_KEY]: run for run in runs if run.size >= _KEY}


def _split(block: bytes) -> list[bytes]:
    """The raw pairs of `block`; IndexError for one that is cut within its lengths."""
    pairs = []
    position = 0
    while position < len(block):
        name_size, value_size, start = pair_lengths(block, position)
        stop = start + name_size + value_size
        pairs.append(block[position:stop])
        position = stop
    return pairs


def _in_common(stretches: Sequence[list[bytes]], sample: list[bytes]) -> list[list[bytes]]:
    """The longest parts of `stretches` that `sample` has, too, in its order."""
    where = {pair: index for index, pair in enumerate(sample)}
    found: list[tuple[int, list[bytes]]] = []
    for stretch in stretches:
        index = 0
        while index < len(stretch):
            first = where.get(stretch[index])
            if first is None:
                index += 1
                continue
            size = 1
            while stretch[index + size : index + size + 1] == sample[first + size : first + size + 1] != []:
                size += 1
            if size >= _SHORTEST:
                found.append((first, stretch[index : index + size]))
            index += size
    found.sort(key=_pairs, reverse=True)
    return [stretch for _, stretch in sorted(found[:_MOST_RUNS])]


def _pairs(found: tuple[int, list[bytes]]) -> int:
    return len(found[1])
