"""Name-value pairs that come with every request, decoded once.

Much of what a web server sends is its configuration, the same bytes in every request: DOCUMENT_ROOT, SERVER_SOFTWARE
and their neighbours. To know a run of such pairs again is much faster than to take it apart. And what stands between
the runs mostly has the same names as in some request before, so that a dict of all of them need not be built anew.
"""

from __future__ import annotations

from itertools import islice

# Not where it is first used: there may be no descriptor left by then to read it.
from .likely import NONE_REPEATED, LikelyBlock
from .pairs import decode_pairs, pair_lengths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from .pairs import Decoded

    Plan = TypeVar("Plan")
    Parameters = tuple[dict[str, str], list[tuple[str, str]], "Layout | None"]
    Decode = Callable[[bytes, int], Parameters]

_SHORTEST = 3
"""Fewer pairs are taken apart as fast as they are found."""
_MAX_SAMPLE = 64 * 1024
"""Bytes of a block that is learned from, and so of all runs: no record, in which nearly all come, holds more."""
_LARGE = 16 * 1024
_LARGE_SHARE = 4
"""Of a larger block the runs must be such a part, or it is taken apart faster without a look for them at each pair."""
_MOST_RUNS = 16
_MOST_LAYOUTS = 256
_LARGEST_LAYOUT = 128
_LONGEST_NAMES = 8 * 1024
_MAX_PAUSE = 1024
_OFTEN = 4
"""So many blocks of one layout in a row have the next one expected to be such a one, too."""
_LONG = 0x80
# A dict finds what is looked for faster by the very object that it has for a key: these are those of all constants.
_INTERNED = {
    name: name
    for name in (
        *("CONTENT_LENGTH", "CONTENT_TYPE", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD"),
        *("REQUEST_SCHEME", "REQUEST_URI", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL"),
        *("SERVER_SOFTWARE", "HTTP_ACCEPT", "HTTP_COOKIE", "HTTP_HOST", "HTTP_USER_AGENT"),
    )
}


class Layout:
    """Which names a block has, in which order, and some values: one object for all blocks that are alike in these.

    Nearly all requests of a web server have one of few layouts. Who makes something of parameters looks at one once.
    """

    __slots__ = ("counts", "fixed", "pairs", "plans")

    pairs: dict[str, str]
    """All pairs in their order, without the values that may differ."""
    fixed: dict[str, str]
    """Those with the same value in all of these blocks: what the web server is configured to send."""
    counts: list[int]
    """How many of the others come before each run."""
    plans: dict[object, Any]
    """What was made of this layout, as by :meth:`plan`, by what it was made with."""

    def __init__(self, pairs: dict[str, str], fixed: dict[str, str], counts: list[int]) -> None:
        self.pairs = pairs
        self.fixed = fixed
        self.counts = counts
        self.plans = {}

    def plan(self, make: Callable[[Layout], Plan]) -> Plan:
        """What `make` makes of this layout; it is asked once."""
        plan: Plan | None = self.plans.get(make)
        if plan is None:
            plan = self.plans[make] = make(self)
        return plan


class _Runs:
    """Runs that stand in every block, in this order, and how whole blocks around them looked."""

    __slots__ = ("count", "layouts", "pairs", "raw", "size")

    def __init__(self, stretches: Sequence[list[bytes]]) -> None:
        raws = [b"".join(stretch) for stretch in stretches]
        # With the first byte, which is looked at more often than all of them, and the size.
        self.raw = [(raw[0], raw, len(raw)) for raw in raws]
        self.pairs = [decode_pairs(raw, len(stretch))[0] for raw, stretch in zip(raws, stretches, strict=True)]
        self.count = sum(map(len, stretches))
        self.size = sum(map(len, raws))
        # By the names that are in no run.
        self.layouts: dict[tuple[str, ...], Layout] = {}

    def assemble(self, others: dict[str, str], counts: list[int]) -> dict[str, str]:
        """The pairs of a block in the order in which they came: `others`, and each run behind so many of them."""
        pairs: dict[str, str] = {}
        rest = iter(others.items())
        before = 0
        for count, run in zip(counts, self.pairs, strict=True):
            pairs.update(islice(rest, count - before))
            pairs.update(run)
            before = count
        pairs.update(rest)
        return pairs

    def remember(self, names: tuple[str, ...], counts: list[int], pairs: dict[str, str]) -> Layout | None:
        """Note how a block looks, unless that would take much room."""
        if len(pairs) > _LARGEST_LAYOUT or sum(map(len, names)) > _LONGEST_NAMES:
            return None
        if len(self.layouts) >= _MOST_LAYOUTS:
            # Clients choose names, as many as they like; those that are in use come again.
            self.layouts.clear()
        # Not what the client said, which is nobody else's business.
        fixed = {name: value for run in self.pairs for name, value in run.items()}
        alike = {_INTERNED.get(name, name): fixed.get(name, "") for name in pairs}
        layout = self.layouts[names] = Layout(alike, fixed, counts)
        return layout


def decode_alone(block: bytes, max_pairs: int) -> Parameters:
    """As :meth:`PairDecoder.decode`, without anything to learn from."""
    return *decode_pairs(block, max_pairs), None


class PairDecoder:
    """Decodes blocks as :func:`~simple_fastcgi.protocol.pairs.decode_pairs` does, for many connections of a web server.

    The pairs never depend on what was learned. Threads may share an instance.
    """

    __slots__ = ("_common", "_expected", "_known", "_last", "_likely", "_pause", "_times", "_wait")

    def __init__(self) -> None:
        self._known: _Runs | None = None
        # The stretches of pairs that all samples had in common.
        self._common: list[list[bytes]] | None = None
        # How many blocks in which not all runs were found pass before one is looked at, now and the next time.
        self._wait = self._pause = 1
        # The layout of the block before, and how many in a row had it.
        self._last: Layout | None = None
        self._times = 0
        # The latest of those that came often; and the same while the next block is expected to be like it.
        self._likely: LikelyBlock | None = None
        self._expected: LikelyBlock | None = None

    def decode(self, block: bytes, max_pairs: int) -> Parameters:
        """What :func:`~simple_fastcgi.protocol.pairs.decode_pairs` gives, and the layout, None if it is not known."""
        if (expected := self._expected) is not None:
            found = expected.decode(block, max_pairs)
            if found is not None:
                return found
            self._expected = None
            self._times = 0
        known = self._known
        end = len(block)
        if known is None or (end > _LARGE and known.size < end // _LARGE_SHARE):
            return *self._decode_unknown(block, max_pairs), None
        text = block.decode("latin-1")
        others: dict[str, str] = {}
        counts = []
        position = count = 0
        try:
            # These loops are decode_pairs', which has no room for the look at each pair.
            for first, raw, size in known.raw:
                while (name_size := block[position]) != first or not block.startswith(raw, position):
                    value_size = block[position + 1]
                    if name_size < _LONG and value_size < _LONG:
                        position += 2
                    else:
                        name_size, value_size, position = pair_lengths(block, position)
                    value_start = position + name_size
                    name = text[position:value_start]
                    position = value_start + value_size
                    others[name] = text[value_start:position]
                    count += 1
                position += size
                counts.append(count)
            while position < end:
                name_size = block[position]
                value_size = block[position + 1]
                if name_size < _LONG and value_size < _LONG:
                    position += 2
                else:
                    name_size, value_size, position = pair_lengths(block, position)
                value_start = position + name_size
                name = text[position:value_start]
                position = value_start + value_size
                others[name] = text[value_start:position]
                count += 1
        except IndexError:
            # Not all runs are in it, or its last length is cut.
            return *self._decode_unknown(block, max_pairs), None
        if position == end and len(others) == count:
            names = tuple(others)
            layout = known.layouts.get(names)
            if layout is not None and layout.counts == counts and len(layout.pairs) <= max_pairs:
                self._notice(layout, names, known)
                return layout.pairs | others, NONE_REPEATED, layout
            pairs = known.assemble(others, counts)
            if len(pairs) == count + known.count <= max_pairs:
                return pairs, NONE_REPEATED, known.remember(names, counts, pairs)
        # A claim beyond the end, a name that came twice, or too many.
        return *decode_pairs(block, max_pairs), None

    def _notice(self, layout: Layout, names: tuple[str, ...], known: _Runs) -> None:
        """A block had `layout`: if so had those before it, the next one is expected to."""
        if layout is not self._last:
            self._last = layout
            self._times = 0
        self._times += 1
        if self._times < _OFTEN:
            return
        self._times = 0
        likely = self._likely
        if likely is None or likely.layout is not layout:
            runs = [raw for _, raw, _ in known.raw]
            if not LikelyBlock.suits(names, runs):
                return
            likely = self._likely = LikelyBlock(layout, names, runs)
        self._expected = likely

    def _decode_unknown(self, block: bytes, max_pairs: int) -> Decoded:
        """Learn from `block`, but ever more rarely: where no two requests are alike it would be in vain."""
        decoded = decode_pairs(block, max_pairs)
        self._wait -= 1
        if self._wait <= 0 and len(block) <= _MAX_SAMPLE:
            self._wait = self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE)
            self._learn(_split(block))
        return decoded

    def _learn(self, sample: list[bytes]) -> None:
        before = self._common
        if not before:
            self._common = [sample]
            return
        common = _in_common(before, sample)
        self._known = _Runs(common) if common else None
        self._common = common


def _split(block: bytes) -> list[bytes]:
    """The raw pairs of `block`, which is well-formed."""
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
