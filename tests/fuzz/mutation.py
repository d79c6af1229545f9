"""Cases made from valid streams by a seeded chance: what a faulty or hostile web server may send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.case import VERBS, Act, Case, merged
from tests.fuzz.streams import SEEDS, interleaved, with_id
from tests.protocol import wire
from tests.protocol.wire import ABORT, BEGIN, DATA, GET_VALUES, PARAMS, STDIN, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Records = list[bytes]

_IDS = (1, 1, 2, 3, 256, 65534, 65535)
_LENGTHS = (0, 1, 7, 8, 9, 127, 128, 255, 256, 65535)
_PAIR_LENGTHS = (b"\x80\0\0\0", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x80\0\x10\0", b"\x80\0\x10\x01")
_SLICES = ((1,), (7, 1, 50), (9, 200), (3, 50), (8, 16, 1, 200), (20,), (100,))
_OUTPUTS = (0, 1, 20, 49, 50, 199, 200, 300, 20_000, 65_535)
# Mostly what ordinary handlers do: requests that end early leave little to be wrong with them.
_VERBS = (*VERBS, *("take", "write", "end", "flush") * 4)

_FOREIGN: tuple[Callable[[Random, int], bytes], ...] = (
    lambda random, id_: record(ABORT, id_),
    lambda random, id_: wire.begin(id_, random.choice((1, 1, 2, 3, 4)), keep=random.random() < 0.7),
    lambda random, id_: record(BEGIN, id_, random.randbytes(8)),
    lambda random, id_: record(random.choice((PARAMS, STDIN, DATA)), id_),
    lambda random, id_: record(random.choice((PARAMS, STDIN, DATA)), id_, random.randbytes(random.randrange(60))),
    lambda random, id_: record(random.randrange(256), random.choice((0, id_)), random.randbytes(random.randrange(20))),
    lambda random, id_: record(GET_VALUES, 0, wire.block([(b"FCGI_MAX_REQS", b"")])),
    lambda random, id_: record(GET_VALUES, 0, random.randbytes(random.randrange(20))),
    lambda random, id_: record(ABORT, id_, b"x" * 9, 3, version=random.choice((0, 1, 2)), reserved=255),
    lambda random, id_: b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    lambda random, id_: random.randbytes(random.randrange(30)),
)


def _flip(random: Random, records: Records, at: int) -> None:
    one = records[at]
    if one:
        position = random.randrange(min(len(one), random.choice((8, 16, len(one)))))
        records[at] = one[:position] + bytes((random.choice((0, 1, 255, random.randrange(256))),)) + one[position + 1 :]


def _relength(random: Random, records: Records, at: int) -> None:
    one = records[at]
    records[at] = one[:4] + random.choice(_LENGTHS).to_bytes(2, "big") + one[6:]


def _repair(random: Random, records: Records, at: int) -> None:
    """Another length of a name or value."""
    one = records[at]
    position = 8 + random.randrange(max(1, len(one) - 8))
    records[at] = one[:position] + random.choice(_PAIR_LENGTHS) + one[position + 1 :]


def _truncate(random: Random, records: Records, at: int) -> None:
    records[at] = records[at][: random.randrange(1 + len(records[at]))]


def _drop(random: Random, records: Records, at: int) -> None:
    del records[at]


def _double(random: Random, records: Records, at: int) -> None:
    records.insert(random.randrange(1 + len(records)), records[at])


def _move(random: Random, records: Records, at: int) -> None:
    one = records.pop(at)
    records.insert(random.randrange(1 + len(records)), one)


def _insert(random: Random, records: Records, at: int) -> None:
    records.insert(at, random.choice(_FOREIGN)(random, random.choice(_IDS)))


def _split(random: Random, records: Records, at: int) -> None:
    """The content of a record in two."""
    one = records[at]
    size = random.randrange(1 + max(0, len(one) - 8))
    content = one[8 : 8 + size], one[8 + size :]
    records[at : at + 1] = [one[:4] + len(piece).to_bytes(2, "big") + b"\0\0" + piece for piece in content]


def _rename(random: Random, records: Records, at: int) -> None:
    if len(records[at]) >= 8:
        records[at] = with_id(records[at], random.choice(_IDS))


_MUTATIONS = (_flip, _flip, _relength, _repair, _truncate, _drop, _double, _move, _insert, _insert, _split, _rename)


def mutate(random: Random, records: Records) -> None:
    """Change something, in place."""
    if records:
        random.choice(_MUTATIONS)(random, records, random.randrange(len(records)))


def conversation(random: Random) -> Records:
    """The records of one to three requests on a connection, one after the other or at once."""
    queues = [
        [with_id(one, id_) for one in random.choice(SEEDS)] for id_ in random.sample(_IDS, random.choice((1, 1, 2, 3)))
    ]
    if random.random() < 0.3:
        return [one for queue in queues for one in queue]
    return interleaved(queues, random.choice)


def mutated_stream(random: Random) -> Records:
    """A conversation with some changes; sometimes with none."""
    records = conversation(random)
    for _ in range(random.choice((0, 1, 1, 2, 3, 5))):
        mutate(random, records)
    return records


def _act(random: Random) -> Act:
    return Act(random.choice(_VERBS), random.randrange(4), random.choice(_OUTPUTS))


def make_case(random: Random) -> Case:
    """A mutated stream, cut into pieces with acts between them."""
    steps: list[bytes | Act] = []
    for one in mutated_stream(random):
        chance = random.random()
        if chance < 0.1:
            at = random.randrange(1 + len(one))
            steps += [one[:at], _act(random), one[at:]]
        elif chance < 0.45:
            steps += [one, _act(random)]
        else:
            steps.append(one)
    return Case(merged(steps), random.choice(_SLICES), random.choice((0, 0, 0, 1, 2)))


def mutate_case(random: Random, case: Case) -> Case:
    """A neighbour of `case`, for a coverage-guided fuzzer."""
    steps = list(case.steps)
    at = random.randrange(1 + len(steps))
    chance = random.random()
    if chance < 0.3 or not steps:
        steps.insert(at, _act(random))
    elif chance < 0.4:
        steps.insert(at, random.choice(random.choice(SEEDS)))
    elif chance < 0.5:
        return case._replace(limits=random.randrange(3), sizes=random.choice(_SLICES))
    else:
        at = random.randrange(len(steps))
        step = steps[at]
        if isinstance(step, bytes):
            records = split_records(step)
            mutate(random, records)
            steps[at] = b"".join(records)
        elif chance < 0.7:
            del steps[at]
        else:
            steps[at] = _act(random)
    return case._replace(steps=merged(steps))


def split_records(data: bytes) -> Records:
    """`data` as the records that their headers claim; the last may be cut."""
    records = []
    while data:
        size = 8 + int.from_bytes(data[4:6], "big") + data[6] if len(data) >= 8 else len(data)
        records.append(data[:size])
        data = data[size:]
    return records
