"""The block that is likely to come next, where one layout comes again and again.

What stands between two values that differ is then known but for one byte, the length of the second one: to look all of
it up at once takes two thirds of the time of taking the pairs apart.
"""

from __future__ import annotations

from .pairs import MAX_PAIR_LENGTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .runs import Layout, Parameters

    # The size of a gap before a short value, the name at its end, the gaps that were found there with the length of the
    # value, and how they all begin, up to that length.
    Step = tuple[int, str, dict[str, int], str]

NONE_REPEATED: list[tuple[str, str]] = []
"""Never written to."""
_LONG = 0x80
_LONGEST_FIXED = 4 * 1024
_MOST_GAPS = 1024


class LikelyBlock:
    """A block of `layout`, whose `names` differ in their values; `runs` are the raw ones that it has between these."""

    __slots__ = ("_gaps", "_size", "_steps", "_tail", "layout")

    layout: Layout

    def __init__(self, layout: Layout, names: tuple[str, ...], runs: Iterable[bytes]) -> None:
        self.layout = layout
        self._size = len(layout.pairs)
        self._steps: list[Step] = []
        self._gaps = 0
        done = 0
        fixed = ""
        for count, run in zip(layout.counts, runs, strict=True):
            fixed = self._add(fixed, names[done:count]) + run.decode("latin-1")
            done = count
        self._tail = self._add(fixed, names[done:])

    def _add(self, fixed: str, names: tuple[str, ...]) -> str:
        for name in names:
            before = fixed + chr(len(name))
            self._steps.append((len(before) + 1 + len(name), name, {}, before))
            fixed = ""
        return fixed

    @classmethod
    def suits(cls, names: tuple[str, ...], runs: Iterable[bytes]) -> bool:
        """Whether it can be made of these, and little enough is remembered then."""
        return sum(map(len, runs)) <= _LONGEST_FIXED and all(len(name) < _LONG for name in names)

    def decode(self, block: bytes, max_pairs: int) -> Parameters | None:
        """As :meth:`~simple_fastcgi.protocol.runs.PairDecoder.decode`.

        None if `block` has another layout, or more than `max_pairs`.
        """
        text = block.decode("latin-1")
        pairs = self.layout.pairs.copy()
        position = 0
        for size, name, gaps, before in self._steps:
            start = position + size
            length = gaps.get(text[position:start])
            if length is not None:
                position = start + length
            else:
                start, position = self._look(block, position, text, name, gaps, before)
                if not start:
                    return None
            pairs[name] = text[start:position]
        # The last value may claim more than there is.
        if text[position:] == self._tail and position <= len(text) and self._size <= max_pairs:
            return pairs, NONE_REPEATED, self.layout
        return None

    def _look(
        self, block: bytes, position: int, text: str, name: str, gaps: dict[str, int], before: str
    ) -> tuple[int, int]:
        """Where the value behind a gap that is not known begins and ends; (0, 0) if the gap is not the expected one."""
        middle = position + len(before)
        if not text.startswith(before, position) or middle >= len(block):
            return 0, 0
        length = block[middle]
        if length < _LONG:
            start = middle + 1 + len(name)
        else:
            length = int.from_bytes(block[middle : middle + 4], "big") & MAX_PAIR_LENGTH
            start = middle + 4 + len(name)
        if not text.startswith(name, start - len(name)):
            return 0, 0
        # There are too many long ones to remember them.
        if block[middle] < _LONG:
            if self._gaps >= _MOST_GAPS:
                # A new list: other threads may be within the old one.
                self._steps = [(size, name, {}, before) for size, name, _, before in self._steps]
                self._gaps = 0
            self._gaps += 1
            gaps[text[position:start]] = length
        return start, start + length
