"""Valid streams of records, from which the fuzzer starts: synthetic ones, and what real web servers sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cgi.captures import CAPTURES
from tests.protocol import wire
from tests.protocol.wire import ABORT, DATA, FILTER, GET_VALUES, PARAMS, RESPONDER, ROLES, STDIN, record

if TYPE_CHECKING:
    from collections.abc import Callable

    Records = list[bytes]

_BODIES = (b"", b"x", b"name=value&other=" + b"v" * 40, bytes(range(200)))
_PAIRS: tuple[wire.Pairs, ...] = (
    [],
    [(b"SCRIPT_NAME", b""), (b"PATH_INFO", b"/"), (b"QUERY_STRING", b"a=b"), (b"REQUEST_METHOD", b"GET")],
    [(b"HTTP_COOKIE", b"a=1"), (b"HTTP_COOKIE", b"b=2"), (b"", b"\xff\x00"), (b"N" * 127, b"v" * 128)],
)
_VALUES = (b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS", b"OTHER")


def request(
    id_: int,
    role: int,
    pairs: wire.Pairs,
    body: bytes,
    *,
    keep: bool = True,
    size: int = 65535,
    padding: int = 0,
) -> Records:
    """The records of a whole request; its streams in records of `size` bytes."""
    records = [wire.begin(id_, role, keep=keep)]
    contents = {PARAMS: wire.block(pairs)}
    if role in {RESPONDER, FILTER}:
        contents[STDIN] = body
    if role == FILTER:
        contents[DATA] = body[::-1]
    for type_, content in contents.items():
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        records += [record(type_, id_, piece, padding) for piece in (*pieces, b"")]
    return records


def captured() -> list[Records]:
    """A request of each set-up that was captured, as that web server sends it."""
    rows = {capture.setup: capture.pairs for capture in CAPTURES}  # the last of each set-up, which has the most in it
    blocks = {
        tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs) for pairs in rows.values()
    }
    return [
        # Every other one keeps its connection; nginx never does so unasked, and Apache's bodies come in small records.
        request(1, RESPONDER, list(pairs), _BODIES[number % len(_BODIES)], keep=number % 2 == 0)
        for number, pairs in enumerate(sorted(blocks))
    ]


def synthetic() -> list[Records]:
    """All roles, kept or not, whole or aborted, with small records and padding, and what belongs to no request."""
    found = [
        request(id_, role, pairs, body, keep=keep, size=size, padding=padding)
        for role in ROLES
        for keep in (True, False)
        for id_, pairs, body, size, padding in (
            (1, _PAIRS[0], _BODIES[0], 65535, 0),
            (2, _PAIRS[1], _BODIES[1], 65535, 3),
            (256, _PAIRS[1], _BODIES[2], 9, 0),
            (65535, _PAIRS[2], _BODIES[3], 50, 255),
        )
    ]
    aborted = [
        [*records[:at], record(ABORT, 1), *records[at:]] for records in found[:16:3] for at in range(len(records))
    ]
    managed = [
        [record(GET_VALUES, 0, wire.block((name, b"") for name in _VALUES[:count]), padding)]
        for count, padding in ((0, 0), (1, 7), (4, 0))
    ]
    managed += [[record(type_, 0, content)] for type_ in (12, 99, 255) for content in (b"", b"?" * 9)]
    unknown_roles = [request(3, RESPONDER, _PAIRS[1], b"x", keep=keep) for keep in (True, False)]
    for records in unknown_roles:
        records[0] = wire.begin(3, 4, keep=records[0][10] == 1)
    return [*found, *aborted, *managed, *unknown_roles]


def with_id(one: bytes, id_: int) -> bytes:
    """The same record of another request; those of the connection stay as they are."""
    return one if one[2:4] == b"\0\0" else one[:2] + id_.to_bytes(2, "big") + one[4:]


def interleaved(queues: list[Records], choice: Callable[[list[Records]], Records]) -> Records:
    """The records of several requests, in any order that keeps each request's own."""
    queues = [queue[::-1] for queue in queues if queue]
    records = []
    while queues:
        queue = choice(queues)
        records.append(queue.pop())
        if not queue:
            queues.remove(queue)
    return records


SEEDS: list[Records] = [*synthetic(), *captured()]
