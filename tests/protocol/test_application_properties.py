"""Whatever comes, in whatever slices: the same events and answers, or a violation, and no other exception."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import event, given
from hypothesis import strategies as st

from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import RequestBegun
from simple_fastcgi.protocol.records import LARGE
from simple_fastcgi.protocol.terms import Terms
from tests.protocol import wire
from tests.protocol.wire import (
    ABORT,
    BEGIN,
    DATA,
    END,
    FILTER,
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    RESPONDER,
    ROLES,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_TYPE,
    Shell,
    begin,
    block,
    check_state,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

LIMITS = Limits(
    max_params_bytes=400,
    max_requests_per_connection=4,
    max_buffered_input=100,
    max_buffered_output=200,
    max_connections=9,
)
IDS = (1, 2, 3, 256, 65535)

ids = st.sampled_from(IDS)
paddings = st.sampled_from([0, 0, 0, 1, 7, 8, 255]) | st.integers(0, 255)
names = st.binary(max_size=5) | st.sampled_from([b"SCRIPT_NAME", b"HTTP_COOKIE", b"n" * 127, b"n" * 128])
pairs = st.lists(st.tuples(names, st.binary(max_size=20) | st.just(b"v" * 130)), max_size=4)
bodies = st.binary(max_size=40)


def new_connection() -> ApplicationConnection:
    return ApplicationConnection(Terms(LIMITS, ROLES))


@st.composite
def pieces(draw: DrawFn, data: bytes) -> list[bytes]:
    """`data` in slices of any size."""
    sizes = draw(st.lists(st.integers(0, max(1, len(data) // 2)) | st.integers(0, 9), max_size=25))
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(content[:size])
        content = content[size:]
    return [piece for piece in (*found, content) if piece]


@st.composite
def one_request(draw: DrawFn, id_: int) -> list[bytes]:
    """The records of a request of any role."""
    role = draw(st.sampled_from(ROLES))
    sizes = st.lists(st.integers(1, 12), max_size=4)
    records = [record(BEGIN, id_, begin(id_, role, keep=draw(st.booleans()))[8:], draw(paddings))]
    streams = [(PARAMS, block(draw(pairs)))]
    if role in {RESPONDER, FILTER}:
        streams.append((STDIN, draw(bodies)))
    if role == FILTER:
        streams.append((DATA, draw(bodies)))
    for type_, content in streams:
        records += [
            record(type_, id_, piece, draw(paddings), reserved=draw(st.integers(0, 255)))
            for piece in (*cut(content, draw(sizes)), b"")
        ]
    return records


extra_records = st.one_of(
    st.builds(record, st.integers(9, 255), ids, bodies, paddings),
    st.builds(record, st.just(0) | st.integers(12, 255), st.just(0), bodies, paddings),
    st.builds(record, st.sampled_from([STDIN, DATA, PARAMS, ABORT]), st.integers(300, 400), bodies, paddings),
    st.builds(
        lambda names, padding: record(GET_VALUES, 0, block((name, b"") for name in names), padding),
        st.lists(st.sampled_from([b"FCGI_MAX_CONNS", b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS", b"", b"OTHER"]), max_size=4),
        paddings,
    ),
)
aborts = st.builds(record, st.just(ABORT), ids, st.just(b"") | bodies, paddings)


@st.composite
def conversations(draw: DrawFn, extra: st.SearchStrategy[bytes] = extra_records | aborts) -> list[bytes]:
    """The records of some requests, interleaved in any way, and others between them."""
    queues = [draw(one_request(id_)) for id_ in draw(st.lists(ids, max_size=len(IDS), unique=True))]
    queues += [[one] for one in draw(st.lists(extra, max_size=5))]
    records = []
    order = draw(st.randoms(use_true_random=False))
    while queues:
        queue = order.choice(queues)
        records.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return records


def run(slices: list[bytes]) -> Shell:
    shell = Shell(new_connection())
    shell.feed_all(slices)
    return shell


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def assert_same(one: Shell, other: Shell) -> None:
    assert (one.error is None) == (other.error is None)
    wire.parse(one.sent)
    if one.error is not None:
        # Of a length beyond the limit the core may hear before the rest of the feed, or behind it.
        assert one.sent.startswith(other.sent) or other.sent.startswith(one.sent)
    else:
        assert one.sent == other.sent
        assert one.summary() == other.summary()
        assert (one.connection.awaited is None) is (other.connection.awaited is None)
        for ask in ("idle", "finished", "lingering", "wants_input"):
            assert getattr(one.connection, ask) == getattr(other.connection, ask)


@given(st.data(), conversations())
def test_any_slicing_is_the_same(data: st.DataObject, records: list[bytes]) -> None:
    sent = b"".join(records)
    whole = run([sent])
    event(f"{len(whole.served)} requests, {'a violation' if whole.error else 'valid'}")
    assert_same(whole, run(records))
    assert_same(whole, run(data.draw(pieces(sent))))
    assert_same(whole, run(one_by_one(sent)))


@given(st.data(), conversations(extra_records))
def test_valid_conversations_are_understood(data: st.DataObject, records: list[bytes]) -> None:
    """By a second reading, with nothing in common with the first one."""
    sent = b"".join(records)
    shell = run(data.draw(pieces(sent)))
    expected: dict[int, dict[int, bytes]] = {}
    begun_as: dict[int, bytes] = {}
    ended = set()
    for one in records:
        type_, id_, size = one[1], int.from_bytes(one[2:4], "big"), int.from_bytes(one[4:6], "big")
        content = one[8 : 8 + size]
        if type_ == BEGIN:
            begun_as[id_], expected[id_] = content, {PARAMS: b"", STDIN: b"", DATA: b""}
        elif id_ in expected and type_ in expected[id_]:
            expected[id_][type_] += content
            if not content:
                ended.add((id_, type_))
    refused = {answer.id for answer in wire.parse(shell.sent) if answer.type == END}
    if shell.error is not None:
        # Too many bytes of parameters at once.
        assert "max_params_bytes" in str(shell.error)
        return
    for served in shell.served.values():
        id_, role, keep, params, _ = served.begun
        assert id_ not in refused
        assert begun_as[id_][:3] == bytes((0, role, keep))
        assert block_of(params) == block_of(dict(decode(expected[id_][PARAMS])))
        assert served.stdin == expected[id_][STDIN]
        assert served.data == (expected[id_][DATA] if role == FILTER else None)
        assert served.request.input_ended
    assert len(shell.served) + len(refused) == len(expected)


def block_of(params: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(params.items())


def decode(content: bytes) -> list[tuple[str, str]]:
    found = []
    while content:
        sizes = []
        for _ in range(2):
            count = 4 if content[0] > 127 else 1
            sizes.append(int.from_bytes(content[:count], "big") & 0x7FFFFFFF)
            content = content[count:]
        name, value = sizes
        found.append((content[:name].decode("latin-1"), content[name : name + value].decode("latin-1")))
        content = content[name + value :]
    return found


# --------------------------------------------------------------------- hostile

headers = st.builds(
    lambda version, type_, id_, size, padding: bytes((version, type_, *id_.to_bytes(2), *size.to_bytes(2), padding, 0)),
    st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2]),
    st.integers(0, 12),
    st.sampled_from([0, *IDS]),
    st.integers(0, 20) | st.integers(0, 65535),
    st.integers(0, 10),
)
almost_records = st.builds(
    record,
    st.integers(0, 12),
    st.sampled_from([0, *IDS]),
    bodies
    | st.binary(min_size=8, max_size=8)
    | st.builds(lambda role: bytes((0, role, 0, 0, 0, 0, 0, 0)), st.integers(0, 4)),
    st.integers(0, 10),
)
garbage = st.lists(st.binary(max_size=30) | headers | almost_records, max_size=12)


@st.composite
def mutated(draw: DrawFn) -> list[bytes]:
    """A valid conversation with some of its records lost, doubled, moved, cut or changed."""
    records = draw(conversations(extra_records | aborts))
    for _ in range(draw(st.integers(1, 4))):
        if not records:
            break
        at = draw(st.integers(0, len(records) - 1))
        one = records.pop(at)
        change = draw(st.sampled_from(["lose", "double", "move", "cut", "change", "insert"]))
        if change == "double":
            records[at:at] = [one, one]
        elif change == "move":
            records.insert(draw(st.integers(0, len(records))), one)
        elif change == "cut":
            records.insert(at, one[: draw(st.integers(0, len(one)))])
        elif change == "change" and one:
            position = draw(st.integers(0, min(20, len(one) - 1)))
            records.insert(at, one[:position] + bytes((draw(st.integers(0, 255)),)) + one[position + 1 :])
        elif change == "insert":
            records[at:at] = [one, draw(almost_records | headers)]
    return records


@given(st.data(), garbage | mutated())
def test_any_bytes_are_events_or_a_violation(data: st.DataObject, records: list[bytes]) -> None:
    sent = b"".join(records)
    whole = run([sent])
    event("a violation" if whole.error else "understood")
    for other in (run(data.draw(pieces(sent))), run(one_by_one(sent))):
        assert_same(whole, other)
        close(other.connection)
    close(whole.connection)


def close(connection: ApplicationConnection) -> None:
    """The peer is gone: all that a shell may still do is harmless."""
    running = list(connection.requests.values())
    connection.receive_eof()
    check_state(connection)
    for request in running:
        if request.id in connection.requests:
            assert request.aborted
            connection.write(request, b"late")
            connection.end(request)
    assert not connection.requests
    assert not connection.out
    assert connection.finished
    assert not connection.lingering
    assert connection.buffered_input == 0
    check_state(connection)


Action = tuple[str, int, bytes]
actions: st.SearchStrategy[Action] = st.tuples(
    st.sampled_from(
        ["write", "write_err", "flush", "end", "end", "fail", "cut", "take", "discard", "send", "half", "eof"]
    ),
    st.integers(0, 5),
    st.sampled_from([b"", b"x", b"two\nlines\n", b"y" * 300, b"z" * 20_000]),
)


def apply(shell: Shell, action: Action) -> None:
    name, index, content = action
    connection = shell.connection
    if name == "send":
        shell.sent += wire.sent(connection)
    elif name == "half":
        shell.act(connection.receive_eof(half_closed=True))
    elif name == "eof":
        shell.act(connection.receive_eof())
    elif shell.served:
        # Ended ones too: handlers may be late.
        request = list(shell.served)[index % len(shell.served)]
        verbs: dict[str, Callable[[], object]] = {
            "write": lambda: connection.write(request, content),
            "write_err": lambda: connection.write_err(request, content),
            "flush": lambda: connection.flush(request),
            "end": lambda: connection.end(request, index - 2),
            "fail": lambda: connection.fail(request, b"Status: 500\r\n\r\n", content),
            "cut": lambda: connection.cut(request),
            "take": lambda: request.stdin.take(index),
            "discard": lambda: connection.discard_output(request),
        }
        verbs[name]()


@given(
    st.lists(mutated() | conversations() | garbage, max_size=3),
    st.lists(st.lists(actions, max_size=6), max_size=12),
    st.data(),
)
def test_whatever_handlers_do_meanwhile(
    parts: list[list[bytes]], steps: list[list[Action]], data: st.DataObject
) -> None:
    shell = Shell(new_connection())
    slices = data.draw(pieces(b"".join(one for part in parts for one in part)))
    for position, piece in enumerate(slices):
        shell.feed_all([piece])
        for action in steps[position] if position < len(steps) else ():
            apply(shell, action)
            check_state(shell.connection)
    for request in shell.served:
        shell.connection.end(request)
    shell.sent += wire.sent(shell.connection)
    assert {answer.type for answer in wire.parse(shell.sent)} <= {STDOUT, STDERR, END, GET_VALUES_RESULT, UNKNOWN_TYPE}
    close(shell.connection)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 1, 1, 258, 300]), st.sampled_from([1, LARGE - 1, LARGE, LARGE, 65535]), paddings),
        max_size=9,
    ),
    st.data(),
)
def test_long_bodies_are_the_same_in_any_slices(records: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Of two requests, and of one that never began; large records are looked at together."""
    contents = {1: b"", 258: b""}
    sent = [begin(id_) + record(PARAMS, id_) for id_ in contents]
    for id_, size, padding in records:
        content = os.urandom(size)
        if id_ in contents:
            contents[id_] += content
        sent.append(record(STDIN, id_, content, padding))
    sent += [record(STDIN, id_, padding=9) for id_ in contents]
    connection = ApplicationConnection(Terms())
    begun = [
        event.request
        for piece in data.draw(pieces(b"".join(sent)))
        for event in connection.receive_data(piece)
        if isinstance(event, RequestBegun)
    ]
    assert [request.id for request in begun] == list(contents)
    assert all(request.input_ended for request in begun)
    assert [request.stdin.take() for request in begun] == list(contents.values())
    assert connection.buffered_input == 0
    for request in begun:
        connection.end(request)
    assert connection.idle
