"""Name-value pairs that come with every request, decoded once.

Much of what a web server sends is its configuration, the same bytes in every request: DOCUMENT_ROOT, SERVER_SOFTWARE
and their neighbours. To find a run of such pairs again is much faster than to take it apart.
"""

from __future__ import annotations

from .pairs import decode_into, decode_pairs, finish_decoding, pair_lengths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pairs import Decoded

_SHORTEST = 3
"""Fewer pairs are taken apart as fast as they are found."""
_MAX_SAMPLE = 16 * 1024
"""Bytes of a block that is learned from, and so of all runs."""
_MOST_RUNS = 16
"""Each run that a block does not have is searched for in vain: strangers must not be able to plant very many."""
_MAX_PAUSE = 1024
_PREFIX = 16
"""Bytes of a run that are searched for: the longer they are, the longer a search takes to begin."""


class _Run:
    """Pairs that come one behind the other."""

    __slots__ = ("pairs", "raw", "size", "start")

    def __init__(self, stretch: list[bytes]) -> None:
        self.raw = b"".join(stretch)
        self.size = len(stretch)
        self.pairs, _ = decode_pairs(self.raw, self.size)
        # Where it was in the last block.
        self.start = 0

    def find(self, block: bytes, position: int) -> int:
        """Where it is in `block`, from `position` on; -1 if it is not seen there."""
        start = self.start
        if start < position or not block.startswith(self.raw, start):
            # Not far: a large block of pairs is somebody's own, and would be searched for each run.
            start = block.find(self.raw[:_PREFIX], position, _MAX_SAMPLE)
            if start < 0 or not block.startswith(self.raw, start):
                return -1
            self.start = start
        return start


class PairDecoder:
    """Decodes blocks as :func:`~simple_fastcgi.protocol.pairs.decode_pairs` does, for many connections of a web server.

    The result never depends on what was learned. Threads may share an instance.
    """

    __slots__ = ("_common", "_pause", "_runs", "_wait")

    def __init__(self) -> None:
        # In the order in which they come.
        self._runs: tuple[_Run, ...] = ()
        # The stretches of pairs that all samples had in common.
        self._common: list[list[bytes]] | None = None
        # How many blocks in which not all runs were found pass before one is looked at, now and the next time.
        self._wait = self._pause = 1

    def decode(self, block: bytes, max_pairs: int) -> Decoded:
        """See :func:`~simple_fastcgi.protocol.pairs.decode_pairs`."""
        runs = self._runs
        if not runs:
            decoded = decode_pairs(block, max_pairs)
            self._missed(block)
            return decoded
        text = str(block, "latin-1")
        pairs: dict[str, str] = {}
        position = count = 0
        found = True
        for run in runs:
            start = run.find(block, position)
            if start < 0:
                found = False
                continue
            if position < start:
                position, count = decode_into(pairs, block, text, position, start, count, max_pairs)
            # Otherwise what was found is part of a value, which a client may have chosen.
            if position == start:
                pairs.update(run.pairs)
                position += len(run.raw)
                count += run.size
        if not found:
            self._missed(block)
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
        self._runs = tuple(_Run(stretch) for stretch in self._common)


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
