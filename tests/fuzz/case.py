"""One case of the fuzzer: what is received and what a shell does meanwhile, as a value that prints itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS = (
    "take",
    "write",
    "write_err",
    "flush",
    "end",
    "fail",
    "cut",
    "discard",
    "stall",
    "resume",
    "half_eof",
    "eof",
)
"""What a shell does; see :class:`tests.fuzz.core.Driver`."""
_FEED = 0
_MAX_STEPS = 400
_MAX_SIZES = 8


class Act(NamedTuple):
    """The shell does `verb` with the request that was the `request`-th to begin, modulo those there are."""

    verb: str
    request: int = 0
    size: int = 0
    """Bytes written or taken, or the application status."""


class Case(NamedTuple):
    """Bytes are received, acts done, in turn. Then the bytes are cut into `sizes` (cycled), and nothing may change."""

    steps: tuple[bytes | Act, ...]
    sizes: tuple[int, ...] = (1,)
    limits: int = 0
    """An index into :data:`tests.fuzz.core.LIMITS`."""

    def __str__(self) -> str:
        """Source for a regression test."""
        steps = "".join(f"        {step!r},\n" for step in self.steps)
        return f"Case(\n    (\n{steps}    ),\n    sizes={self.sizes!r},\n    limits={self.limits},\n)"


def merged(steps: Sequence[bytes | Act]) -> tuple[bytes | Act, ...]:
    """The same with neighbouring bytes in one piece."""
    found: list[bytes | Act] = []
    for step in steps:
        if isinstance(step, bytes):
            if not step:
                continue
            if found and isinstance(found[-1], bytes):
                found[-1] += step
                continue
        found.append(step)
    return tuple(found)


# Files of a corpus: a coverage-guided fuzzer knows nothing but bytes.


def encode_case(case: Case) -> bytes:
    """`case` as the bytes of a file."""
    out = [bytes((case.limits, len(case.sizes), *case.sizes))]
    for step in case.steps:
        if isinstance(step, bytes):
            for start in range(0, len(step), 0xFFFF):
                piece = step[start : start + 0xFFFF]
                out.append(struct.pack("!BH", _FEED, len(piece)) + piece)
        else:
            out.append(struct.pack("!BBH", 1 + VERBS.index(step.verb), step.request, step.size))
    return b"".join(out)


def decode_case(data: bytes) -> Case:
    """The case in `data`, which may be any bytes."""
    if len(data) < 2:
        return Case(())
    count = data[1] % _MAX_SIZES
    sizes = tuple(max(1, size) for size in data[2 : 2 + count]) or (1,)
    steps: list[bytes | Act] = []
    position = 2 + count
    while position + 4 <= len(data) and len(steps) < _MAX_STEPS:
        verb = data[position] % (1 + len(VERBS))
        if verb == _FEED:
            size = int.from_bytes(data[position + 1 : position + 3], "big")
            steps.append(data[position + 3 : position + 3 + size])
            position += 3 + size
        else:
            steps.append(
                Act(VERBS[verb - 1], data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big"))
            )
            position += 4
    return Case(merged(steps), sizes, data[0])
