"""The application's side of one connection: what records mean, and what answers them (3.3 to 6)."""

from __future__ import annotations

import pytest

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import Event, InputReceived, RequestAborted, RequestBegun
from simple_fastcgi.protocol.records import LARGE
from simple_fastcgi.protocol.terms import LEFTOVER, OTHERS, Terms
from tests.protocol import wire
from tests.protocol.wire import (
    ABORT,
    AUTHORIZER,
    BEGIN,
    CANT_MPX,
    DATA,
    END,
    FILTER,
    GET_VALUES,
    GET_VALUES_RESULT,
    OVERLOADED,
    PARAMS,
    RESPONDER,
    ROLES,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    UNKNOWN_TYPE,
    Answer,
    answers,
    begin,
    begun,
    block,
    check_state,
    end,
    record,
    stream,
    told,
)


@pytest.fixture
def connection() -> ApplicationConnection:
    """It serves every role."""
    return ApplicationConnection(Terms(roles=ROLES))


def with_limits(**bounds: float) -> ApplicationConnection:
    return ApplicationConnection(Terms(Limits(**bounds)))


NO_PARAMS = record(PARAMS, 1)
NO_BODY = record(STDIN, 1)


# --------------------------------------------------------------------- a request


def test_a_request(connection: ApplicationConnection) -> None:
    (event,) = connection.receive_data(wire.request(1, [(b"A", b"b"), (b"C\xff", b"")], b"body"))
    assert isinstance(event, RequestBegun)
    request = event.request
    assert (request.id, request.role, request.keep_conn) == (1, RESPONDER, True)
    assert request.params == {"A": "b", "C\xff": ""}
    assert request.repeated == []
    assert request.stdin.take() == b"body"
    assert request.stdin.at_eof
    assert connection.requests == {1: request}
    assert not connection.out
    connection.write(request, b"Status: 200 OK\r\n\r\n")
    connection.end(request)
    assert connection.requests == {}
    assert answers(connection) == [Answer(STDOUT, 1, b"Status: 200 OK\r\n\r\n"), Answer(STDOUT, 1), end(1)]
    assert connection.idle
    assert not connection.finished


@pytest.mark.parametrize("cut", (False, True))
@pytest.mark.parametrize(("flags", "keep"), [(0, False), (1, True), (0xFE, False), (0xFF, True)])
def test_only_one_flag_means_something(connection: ApplicationConnection, flags: int, *, keep: bool, cut: bool) -> None:
    data = (
        record(BEGIN, 1, bytes((0, RESPONDER, flags)) + bytes(5)) + stream(PARAMS, 1, block([(b"A", b"b")])) + NO_BODY
    )
    events = connection.receive_data(data[:20]) if cut else []
    events += connection.receive_data(data[20:] if cut else data)
    assert [event.request.keep_conn for event in events if isinstance(event, RequestBegun)] == [keep]


def test_content_that_the_shell_sends_itself(connection: ApplicationConnection) -> None:
    """Its header comes behind all that is due, of other requests, too; what is written next comes behind it."""
    request = begun(connection, wire.request(1))
    other = begun(connection, wire.request(2))
    connection.write(other, b"other")
    connection.end(other)
    connection.write(request, b"head")
    lead = b"".join(connection.announce(request, 61440))
    assert wire.parse(lead[:-8]) == [Answer(STDOUT, 2, b"other"), Answer(STDOUT, 2), end(2), Answer(STDOUT, 1, b"head")]
    assert lead[-8:] == record(STDOUT, 1, b"x" * 61440)[:8]
    assert not connection.out
    assert len(b"".join(connection.announce(request, 65535))) == 8
    assert not connection.discard_output(request)
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, 1), end(1)]


@pytest.mark.parametrize("size", [20_001, 65_536])
def test_chunks_that_the_shell_sends_itself(connection: ApplicationConnection, size: int) -> None:
    """They have the records that the core would make of them, and count as sent."""
    request = begun(connection, wire.request(1))
    frame = connection.announce_chunks(request, size)
    assert not connection.out
    chunk = bytes(size)
    buffers = frame.around(chunk)
    assert buffers == connection.write_through(request, chunk)
    assert frame.total == len(b"".join(buffers))
    assert not connection.discard_output(request)
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, 1), end(1)]


def test_what_is_written_through_comes_behind_what_is_due(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request(1))
    connection.write(request, b"head")
    due = connection.write_through(request, b"body")
    assert wire.parse(b"".join(due)) == [Answer(STDOUT, 1, b"headbody")]
    connection.write_err(request, b"error")
    due = connection.write_through(request, b"more")
    assert [answer.content for answer in wire.parse(b"".join(due))] == [b"mor", b"error", b"e"]
    assert connection.write_through(request, b"") == []
    assert wire.parse(b"".join(connection.write_through(request, b"last"))) == [Answer(STDOUT, 1, b"last")]


@pytest.mark.parametrize("size", [1, 7, 8, 16_384])
def test_what_is_written_at_once_is_one_record(connection: ApplicationConnection, size: int) -> None:
    request = begun(connection, wire.request(1))
    whole = connection.write_at_once(request, b"x" * size)
    assert whole is not None
    assert len(whole) % 8 == 0
    assert wire.parse(whole) == [Answer(STDOUT, 1, b"x" * size)]
    assert not connection.discard_output(request)
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, 1), end(1)]


def test_what_cannot_be_written_at_once_changes_nothing(connection: ApplicationConnection) -> None:
    """It is too long, or nothing, or something comes before it, or nobody is to have it."""
    request = begun(connection, wire.request(1))
    for data in (b"", bytes(16_385)):
        assert connection.write_at_once(request, data) is None
    connection.write(request, b"first")
    assert connection.write_at_once(request, b"x") is None
    connection.flush(request)
    assert connection.write_at_once(request, b"x") is None
    assert answers(connection) == [Answer(STDOUT, 1, b"first")]
    connection.write_err(request, b"error")
    assert connection.write_at_once(request, b"x") is None
    connection.receive_data(record(ABORT, 1))
    assert connection.write_at_once(request, b"x") is None
    other = begun(connection, wire.request(2))
    connection.end(other)
    connection.data_to_send()
    assert connection.write_at_once(other, b"x") is None
    assert not connection.out


def test_nothing_can_replace_a_response_of_which_a_chunk_was_announced(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request(1))
    connection.announce_chunks(request, 65_536)
    assert not connection.discard_output(request)


def test_events() -> None:
    request = wire.begun(ApplicationConnection(Terms()), begin(7) + record(PARAMS, 7))
    for kind in (RequestBegun, InputReceived, RequestAborted):
        event: Event = kind()
        event.request = request
        assert repr(event) == f"{kind.__name__}(7)"
        match event:
            case Event(found):
                assert found is request


@pytest.mark.parametrize("body", [b"", b"body", 5000 * b"x"], ids=len)
def test_a_request_cut_anywhere(body: bytes) -> None:
    data = wire.request(1, [(b"NAME", b"value")], body)
    for cut in range(len(data)):
        connection = ApplicationConnection(Terms())
        begun = [
            event.request
            for part in (data[:cut], data[cut:])
            for event in connection.receive_data(part)
            if isinstance(event, RequestBegun)
        ]
        assert [one.params for one in begun] == [{"NAME": "value"}]
        assert begun[0].stdin.take() == body
        assert begun[0].stdin.at_eof


@pytest.mark.parametrize("behind", [b"", NO_BODY, NO_BODY + record(GET_VALUES, 0)], ids=len)
def test_a_body_in_a_buffer_that_is_used_again(behind: bytes) -> None:
    """The last of it with its end, in one piece; its end alone; or cut anywhere."""
    content = 2 * LARGE * b"x"
    head = wire.request(1, [], content)[: -len(NO_BODY) - LARGE]
    data = LARGE * b"x" + behind
    for cut in (0, 1, LARGE - 1, LARGE, *range(LARGE + 1, len(data) + 1)):
        shell = wire.Shell(ApplicationConnection(Terms()))
        shell.feed(head)
        assert shell.connection.body_lead
        shell.feed_all([data[:cut], data[cut:]])
        (served,) = shell.served.values()
        assert served.stdin == content
        assert served.request.stdin.ended == bool(behind)
        assert bool(shell.connection.body_lead) == (not behind)
        assert bool(shell.sent) == (len(behind) > len(NO_BODY))


def test_a_body_in_a_buffer_that_is_not_waited_for(connection: ApplicationConnection) -> None:
    """Its request has ended, exactly where a record does."""
    data = wire.request(1, [], LARGE * b"x")[: -len(NO_BODY)]
    (event,) = connection.receive_data(data)
    connection.end(event.request)
    assert connection.body_lead
    assert connection.receive_data(memoryview(bytearray(NO_BODY))) == []
    assert not connection.body_lead
    assert told(connection.receive_data(wire.request(1))) == [(RequestBegun, 1)]


def test_other_requests_behind_a_body_in_a_buffer(connection: ApplicationConnection) -> None:
    begun(connection, wire.request(2, [], b"body")[: -len(NO_BODY)])
    connection.receive_data(wire.request(1, [], LARGE * b"x")[: -len(NO_BODY)])
    view = memoryview(bytearray(record(STDIN, 1, LARGE * b"y") + wire.request(3, [(b"A", b"b")])))
    assert told(connection.receive_data(view)) == [(InputReceived, 1), (RequestBegun, 3)]
    assert connection.requests[1].stdin.take() == LARGE * b"x" + LARGE * b"y"
    assert connection.requests[3].params == {"A": "b"}


def test_it_begins_when_its_parameters_are_complete_not_its_body(connection: ApplicationConnection) -> None:
    assert connection.receive_data(begin() + record(PARAMS, 1, block([(b"A", b"b")]))) == []
    assert told(connection.receive_data(NO_PARAMS)) == [(RequestBegun, 1)]
    assert told(connection.receive_data(record(STDIN, 1, b"body"))) == [(InputReceived, 1)]
    assert told(connection.receive_data(NO_BODY)) == [(InputReceived, 1)]


def test_there_is_no_event_per_record(connection: ApplicationConnection) -> None:
    data = wire.request(1) + wire.request(2)
    assert told(connection.receive_data(data)) == [(RequestBegun, 1), (RequestBegun, 2)]
    other = ApplicationConnection(Terms())
    other.receive_data(begin(1) + NO_PARAMS + begin(2) + record(PARAMS, 2))
    body = record(STDIN, 1, b"a") * 3 + record(STDIN, 2, b"b") * 3 + record(STDIN, 1, b"c")
    assert told(other.receive_data(body)) == [(InputReceived, 1), (InputReceived, 2), (InputReceived, 1)]


def test_a_pair_cut_between_records(connection: ApplicationConnection) -> None:
    pairs = block([(b"NAME" * 50, b"value" * 100), (b"B", b"c")])
    request = begun(connection, begin() + stream(PARAMS, 1, pairs, 3) + NO_BODY)
    assert request.params == {"NAME" * 50: "value" * 100, "B": "c"}


def test_repeated_parameters(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request(1, [(b"A", b"1"), (b"B", b"2"), (b"A", b"3")]))
    assert request.params == {"A": "3", "B": "2"}
    assert request.repeated == [("A", "1"), ("A", "3")]


def test_thousands_of_parameters(connection: ApplicationConnection) -> None:
    pairs = [(b"NAME_%d" % number, b"v" * (number % 300)) for number in range(5000)]
    request = begun(connection, begin() + stream(PARAMS, 1, block(pairs)))
    assert request.params == {name.decode(): value.decode() for name, value in pairs}


@pytest.mark.parametrize("padding", [0, 1, 7, 8, 255])
def test_padding_and_reserved_bytes_mean_nothing(connection: ApplicationConnection, padding: int) -> None:
    def padded(type_: int, content: bytes = b"", id_: int = 1) -> bytes:
        return record(type_, id_, content, padding, reserved=0xFF)

    data = padded(BEGIN, b"\0\x01\xff\xee\xee\xee\xee\xee") + padded(PARAMS, block([(b"A", b"b")])) + padded(PARAMS)
    data += padded(GET_VALUES, id_=0) + padded(99, b"?", 0) + padded(99, b"?") + padded(STDIN, b"in") + padded(STDIN)
    for size in (1, 5, 8, len(data)):
        shell = wire.Shell(ApplicationConnection(Terms()))
        shell.feed_all([data[start : start + size] for start in range(0, len(data), size)])
        assert shell.summary() == [(1, RESPONDER, True, {"A": "b"}, [], b"in", None, True, True)]
        assert wire.parse(shell.sent) == [Answer(GET_VALUES_RESULT, 0), Answer(UNKNOWN_TYPE, 0, b"\x63" + bytes(7))]


def test_nothing_means_nothing(connection: ApplicationConnection) -> None:
    assert connection.receive_data(b"") == []
    data = wire.request(1, [(b"A", b"b")], b"body")
    for position in range(len(data)):
        connection.receive_data(data[position : position + 1])
        assert connection.receive_data(b"") == []
    assert connection.requests[1].stdin.take() == b"body"


# --------------------------------------------------------------------- roles


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("roles", "role"), [(ROLES, 0), (ROLES, 4), (ROLES, 65535), ((RESPONDER,), 2), ((), 1)])
def test_unknown_role(roles: tuple[int, ...], role: int, *, keep: bool) -> None:
    connection = ApplicationConnection(Terms(roles=roles))
    assert connection.receive_data(begin(5, role, keep=keep)) == []
    assert answers(connection) == [end(5, 0, UNKNOWN_ROLE)]
    assert connection.requests == {}
    assert connection.finished is not keep
    assert connection.lingering is not keep
    # What belongs to it is passed over.
    assert connection.receive_data(stream(PARAMS, 5, b"\x01\x01ab") + stream(STDIN, 5, b"body")) == []
    assert not connection.lingering or role == FILTER
    assert not connection.out
    assert told(connection.receive_data(begin(5) + record(PARAMS, 5))) == (
        [(RequestBegun, 5)] if keep and RESPONDER in roles else []
    )


def test_responder_has_no_data(connection: ApplicationConnection) -> None:
    request = begun(connection, begin() + NO_PARAMS + stream(DATA, 1, b"data"))
    assert request.data is None
    assert not request.input_ended
    assert connection.receive_data(record(DATA, 1, b"more")) == []


def test_authorizer_has_no_stdin(connection: ApplicationConnection) -> None:
    request = begun(connection, begin(role=AUTHORIZER, keep=False) + NO_PARAMS)
    assert request.input_ended
    assert request.stdin.at_eof
    assert connection.receive_data(stream(STDIN, 1, b"body") + stream(DATA, 1, b"data")) == []
    assert request.stdin.take() == b""
    connection.end(request)
    assert connection.finished
    assert not connection.lingering


def test_filter_has_two_streams(connection: ApplicationConnection) -> None:
    request = begun(connection, begin(role=FILTER) + NO_PARAMS + stream(STDIN, 1, b"in"))
    assert request.data is not None
    assert request.stdin.ended
    assert not request.input_ended
    assert told(connection.receive_data(record(DATA, 1, b"da"))) == [(InputReceived, 1)]
    assert connection.buffered_input == 4
    assert told(connection.receive_data(record(DATA, 1, b"ta"))) == [(InputReceived, 1)]
    assert request.data.take() == b"data"
    assert told(connection.receive_data(record(DATA, 1))) == [(InputReceived, 1)]
    assert request.input_ended


def test_input_behind_its_end_is_passed_over(connection: ApplicationConnection) -> None:
    request = begun(connection, begin(role=FILTER) + NO_PARAMS + stream(STDIN, 1, b"in") + stream(DATA, 1, b"data"))
    assert connection.receive_data(stream(STDIN, 1, b"more") + stream(DATA, 1, b"more")) == []
    assert request.stdin.take() == b"in"


# --------------------------------------------------------------------- ids


@pytest.mark.parametrize("id_", [1, 2, 255, 256, 65535])
def test_ids_are_labels(connection: ApplicationConnection, id_: int) -> None:
    request = begun(connection, wire.request(id_))
    connection.write(request, b"x")
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, id_, b"x"), Answer(STDOUT, id_), end(id_)]


def test_an_id_is_used_again_behind_its_end(connection: ApplicationConnection) -> None:
    seen = []
    for turn in range(3):
        request = begun(connection, wire.request(65535, [(b"TURN", b"%d" % turn)]))
        seen.append(request)
        connection.end(request)
        assert answers(connection) == [Answer(STDOUT, 65535), end(65535)]
    assert len(set(seen)) == 3
    # What handlers do late with a request that has ended touches no other one.
    current = begun(connection, wire.request(65535))
    for old in seen:
        assert not connection.write(old, b"late")
        assert not connection.write_err(old, b"late")
        connection.flush(old)
        connection.end(old)
        connection.cut(old)
        connection.fail(old, b"late", b"late")
        assert not connection.discard_output(old)
    assert connection.requests == {65535: current}
    assert not connection.out


def test_interleaved_requests(connection: ApplicationConnection) -> None:
    data = begin(1) + begin(2) + begin(300)
    data += record(PARAMS, 2, b"\x01\x01A") + record(PARAMS, 1, b"\x01\x01") + record(PARAMS, 2, b"2")
    data += record(PARAMS, 1, b"A1") + record(PARAMS, 300) + record(PARAMS, 1) + record(PARAMS, 2)
    events = connection.receive_data(data)
    assert told(events) == [(RequestBegun, 300), (RequestBegun, 1), (RequestBegun, 2)]
    assert [event.request.params for event in events] == [{}, {"A": "1"}, {"A": "2"}]
    connection.receive_data(record(STDIN, 2, b"two") + record(STDIN, 1, b"one"))
    assert connection.requests[1].stdin.take() == b"one"
    assert connection.requests[2].stdin.take() == b"two"
    for id_ in (2, 300, 1):
        connection.end(connection.requests[id_])
    assert [answer.id for answer in answers(connection) if answer.type == END] == [2, 300, 1]


def test_late_input_is_passed_over(connection: ApplicationConnection) -> None:
    request = begun(connection, begin() + NO_PARAMS)
    connection.end(request)
    answers(connection)
    late = record(STDIN, 1, b"late") + record(DATA, 1, b"late") + NO_PARAMS + NO_BODY + record(ABORT, 1)
    for data in (late, *(late[i : i + 1] for i in range(len(late)))):
        assert connection.receive_data(data) == []
    assert not connection.out
    assert connection.idle


@pytest.mark.parametrize("content", [b"", b"x" * 20])
@pytest.mark.parametrize("type_", [0, 9, 10, 11, 12, 255])
def test_types_without_meaning_under_an_id(connection: ApplicationConnection, type_: int, content: bytes) -> None:
    begun(connection, begin() + NO_PARAMS)
    for id_ in (1, 2):
        data = record(type_, id_, content, 3)
        assert connection.receive_data(data) == []
        assert [connection.receive_data(data[i : i + 1]) for i in range(len(data))] == [[]] * len(data)
    assert not connection.out


# --------------------------------------------------------------------- aborts


def test_abort_of_a_running_request(connection: ApplicationConnection) -> None:
    request = begun(connection, begin() + NO_PARAMS + record(STDIN, 1, b"part"))
    connection.write(request, b"out")
    connection.write_err(request, b"err")
    assert told(connection.receive_data(record(ABORT, 1))) == [(RequestAborted, 1)]
    assert request.aborted
    assert request.ended
    assert request.buffered_input == 0
    assert request.unsent == 0
    # At once, whatever the handler does.
    assert answers(connection) == [end()]
    check_state(connection)
    # Once is enough, and nothing more is taken in either direction.
    assert connection.receive_data(record(ABORT, 1)) == []
    connection.receive_data(record(STDIN, 1, b"more") + NO_BODY)
    assert request.stdin.take() == b""
    assert not connection.write(request, b"x" * 100_000)
    assert not connection.write_err(request, b"x" * 100_000)
    connection.flush(request)
    assert not connection.out
    connection.end(request, 9)
    assert not connection.out
    assert not connection.finished
    check_state(connection)


def test_input_behind_the_end_of_the_peers_sending(connection: ApplicationConnection) -> None:
    """No shell reads on, but whoever does has nothing of it."""
    request = begun(connection, begin() + NO_PARAMS)
    connection.receive_eof(half_closed=True)
    connection.receive_data(record(STDIN, 1, b"late"))
    assert request.stdin.buffered == 0


def test_the_id_of_an_aborted_request_is_free(connection: ApplicationConnection) -> None:
    aborted = begun(connection, wire.request())
    connection.receive_data(record(ABORT, 1))
    request = begun(connection, wire.request())
    # A late handler's end is not the new one's.
    connection.end(aborted, 9)
    connection.write(request, b"new")
    connection.end(request)
    assert answers(connection) == [end(), Answer(STDOUT, 1, b"new"), Answer(STDOUT, 1), end()]


def test_aborted_requests_count_until_their_handlers_end() -> None:
    connection = ApplicationConnection(Terms(Limits(max_requests_per_connection=2)))
    aborted = []
    for _ in range(2):
        aborted.append(begun(connection, wire.request()))
        connection.receive_data(record(ABORT, 1))
    check_state(connection)
    answers(connection)
    assert connection.receive_data(wire.request()) == []
    assert answers(connection) == [end(1, 0, OVERLOADED)]
    for end_of_handler in (connection.end, connection.cut):
        end_of_handler(aborted.pop())
        begun(connection, wire.request())
        assert not connection.out
        connection.receive_data(record(ABORT, 1))
        answers(connection)


def test_abort_behind_some_output(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"out")
    connection.flush(request)
    connection.write(request, b"more")
    connection.receive_data(record(ABORT, 1))
    connection.fail(request, b"replacement", b"error")
    assert answers(connection) == [Answer(STDOUT, 1, b"out"), Answer(STDOUT, 1), end()]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("pairs", [b"", b"\x01\x01ab", b"\x05"])
def test_abort_before_the_parameters_end(connection: ApplicationConnection, pairs: bytes, *, keep: bool) -> None:
    data = begin(keep=keep) + (record(PARAMS, 1, pairs) if pairs else b"") + record(ABORT, 1)
    assert connection.receive_data(data) == []
    assert answers(connection) == [end()]
    check_state(connection)
    assert connection.idle
    assert connection.awaited is None
    assert connection.finished is not keep
    assert not connection.lingering
    assert connection.receive_data(record(PARAMS, 1, b"\x01\x01ab") + NO_PARAMS + NO_BODY) == []
    assert not connection.out


def test_abort_in_the_feed_that_begins_it(connection: ApplicationConnection) -> None:
    events = connection.receive_data(wire.request(1, [], b"body") + record(ABORT, 1))
    assert told(events) == [(RequestBegun, 1), (RequestAborted, 1)]


@pytest.mark.parametrize("content", [b"", b"something"])
def test_abort_of_what_is_not_there(connection: ApplicationConnection, content: bytes) -> None:
    assert connection.receive_data(record(ABORT, 3, content)) == []
    connection.end(begun(connection, wire.request(3)))
    answers(connection)
    assert connection.receive_data(record(ABORT, 3, content)) == []
    assert not connection.out


@pytest.mark.parametrize("keep", [True, False])
def test_whoever_aborts_sends_no_more_input(connection: ApplicationConnection, *, keep: bool) -> None:
    request = begun(connection, begin(keep=keep) + NO_PARAMS)
    connection.receive_data(record(ABORT, 1))
    connection.end(request)
    assert answers(connection) == [end()]
    assert connection.finished is not keep
    assert not connection.lingering


# --------------------------------------------------------------------- management records


VALUES = {"FCGI_MAX_CONNS": "1024", "FCGI_MAX_REQS": "128", "FCGI_MPXS_CONNS": "1"}


def decoded(answer: Answer) -> dict[str, str]:
    from simple_fastcgi.protocol.pairs import decode_pairs

    assert answer[:2] == (GET_VALUES_RESULT, 0)
    pairs, repeated = decode_pairs(answer.content, 10_000)
    assert not repeated
    return pairs


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ([], []),
        (["FCGI_MAX_CONNS"], ["FCGI_MAX_CONNS"]),
        (["FCGI_MPXS_CONNS", "FCGI_MAX_REQS"], ["FCGI_MAX_REQS", "FCGI_MPXS_CONNS"]),
        (list(VALUES), list(VALUES)),
        (["FCGI_MAX_CONNS", "FCGI_MAX_CONNS"], ["FCGI_MAX_CONNS"]),
        (["FCGI_max_conns", "", "OTHER"], []),
        (["OTHER", "FCGI_MAX_REQS"], ["FCGI_MAX_REQS"]),
    ],
)
def test_get_values(connection: ApplicationConnection, asked: list[str], known: list[str]) -> None:
    data = record(GET_VALUES, 0, block((name.encode(), b"ignored") for name in asked), 5)
    for slices in ([data], [data[i : i + 1] for i in range(len(data))]):
        for piece in slices:
            assert connection.receive_data(piece) == []
        (answer,) = answers(connection)
        assert decoded(answer) == {name: VALUES[name] for name in known}


@pytest.mark.parametrize(("requests", "mpxs"), [(1, "0"), (2, "1"), (65535, "1")])
def test_get_values_tells_the_limits(requests: int, mpxs: str) -> None:
    connection = with_limits(max_connections=7, max_requests_per_connection=requests)
    connection.receive_data(record(GET_VALUES, 0, block((name.encode(), b"") for name in VALUES)))
    (answer,) = answers(connection)
    assert decoded(answer) == {"FCGI_MAX_CONNS": "7", "FCGI_MAX_REQS": str(requests), "FCGI_MPXS_CONNS": mpxs}


def test_get_values_at_any_time(connection: ApplicationConnection) -> None:
    ask = record(GET_VALUES, 0)
    request = begun(connection, begin() + ask + record(PARAMS, 1, b"\0\0") + ask + NO_PARAMS + ask)
    connection.receive_data(ask)
    assert answers(connection) == [Answer(GET_VALUES_RESULT, 0)] * 4
    connection.end(request)
    connection.receive_data(ask)
    assert answers(connection) == [Answer(STDOUT, 1), end(), Answer(GET_VALUES_RESULT, 0)]


def test_get_values_that_are_no_pairs(connection: ApplicationConnection) -> None:
    with pytest.raises(ProtocolError):
        connection.receive_data(record(GET_VALUES, 0, b"\x05a"))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 65535])
@pytest.mark.parametrize("type_", [0, 12, 13, 255])
def test_unknown_management_types(connection: ApplicationConnection, type_: int, content: bytes) -> None:
    data = record(type_, 0, content)
    assert connection.receive_data(data) == []
    assert connection.receive_data(data[:9]) == []
    assert connection.receive_data(data[9:]) == []
    assert answers(connection) == [Answer(UNKNOWN_TYPE, 0, bytes((type_,)) + bytes(7))] * 2


# --------------------------------------------------------------------- violations

GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\x00",
    b"\x02\x01\x00\x01\x00\x08\x00\x00",
    b"\xff" * 100,
    b"PROXY TCP4",
]
VIOLATIONS = {
    "BEGIN with 7 bytes": record(BEGIN, 1, bytes(7)),
    "BEGIN with 9 bytes": record(BEGIN, 1, bytes(9)),
    "BEGIN with 65,535 bytes": record(BEGIN, 1, bytes(65535)),
    "empty BEGIN": record(BEGIN, 1),
    "BEGIN twice": begin() + begin(),
    "BEGIN of a running one": begin() + NO_PARAMS + begin(),
    "BEGIN of another role": begin() + begin(role=9),
    "PARAMS behind their end": begin() + NO_PARAMS + record(PARAMS, 1, b"\0\0"),
    "a second end of PARAMS": begin() + NO_PARAMS + NO_PARAMS,
    "STDIN before PARAMS end": begin() + record(STDIN, 1, b"x"),
    "end of STDIN before PARAMS end": begin() + NO_BODY,
    "DATA before PARAMS end": begin() + record(DATA, 1, b"x"),
    "a cut pair": begin() + stream(PARAMS, 1, b"\x01\x05ab"),
    "a cut length": begin() + stream(PARAMS, 1, b"\x80\0\0"),
    "END from the web server": record(END, 1, bytes(8)),
    "STDOUT from the web server": record(STDOUT, 1, b"x"),
    "STDERR from the web server": record(STDERR, 1),
    "GET_VALUES_RESULT from the web server": record(GET_VALUES_RESULT, 0),
    "UNKNOWN_TYPE from the web server": record(UNKNOWN_TYPE, 0, bytes(8)),
    **{f"id 0 for type {type_}": record(type_, 0, bytes(8)) for type_ in range(BEGIN, DATA + 1)},
    "another version": begin() + record(PARAMS, 1, version=2),
    **{f"garbage {data[:3].hex()}": data for data in GARBAGE},
    **{f"garbage {data[:3].hex()} behind a request": wire.request() + data for data in GARBAGE},
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations(name: str) -> None:
    data = VIOLATIONS[name]
    for slices in ([data], [data[i : i + 1] for i in range(len(data))]):
        connection = ApplicationConnection(Terms(roles=ROLES))
        error = None
        for piece in slices:
            try:
                connection.receive_data(piece)
            except ProtocolError as raised:
                assert error in (None, raised)
                error = raised
                check_state(connection)
        assert str(error)
        for again in (b"", b"x", wire.request(9)):
            with pytest.raises(ProtocolError) as caught:
                connection.receive_data(again)
            assert caught.value is error
        running = list(connection.requests.values())
        assert told(connection.receive_eof()) == [
            (RequestAborted, request.id) for request in running if request.aborted
        ]
        for request in running:
            connection.end(request)
        assert not connection.out
        assert connection.finished
        assert not connection.lingering


@pytest.mark.parametrize("data", GARBAGE)
def test_garbage_is_refused_at_its_first_byte(connection: ApplicationConnection, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="HTTP" if data[:1].isalpha() else f"version {data[0]}"):
        connection.receive_data(data[:1])


def test_a_request_in_the_feed_of_a_violation_never_begins(connection: ApplicationConnection) -> None:
    with pytest.raises(ProtocolError):
        connection.receive_data(wire.request(1) + begin(2) + record(PARAMS, 2, b"\0\0") + b"GET")
    check_state(connection)
    assert connection.receive_eof() == []
    assert connection.requests == {}


def test_an_aborted_request_in_the_feed_of_a_violation_never_begins(connection: ApplicationConnection) -> None:
    with pytest.raises(ProtocolError):
        connection.receive_data(wire.request(1) + record(ABORT, 1) + begin(1) + begin(1))
    assert connection.receive_eof() == []
    assert not connection.requests
    check_state(connection)


def test_an_abort_in_the_feed_of_a_violation_is_still_told(connection: ApplicationConnection) -> None:
    request = begun(connection, begin() + NO_PARAMS)
    with pytest.raises(ProtocolError):
        connection.receive_data(record(ABORT, 1) + b"GET")
    assert told(connection.receive_eof()) == [(RequestAborted, 1)]
    assert request.aborted


def test_input_in_the_feed_of_a_violation_ends_in_an_abort(connection: ApplicationConnection) -> None:
    request = begun(connection, begin() + NO_PARAMS)
    with pytest.raises(ProtocolError):
        connection.receive_data(record(STDIN, 1, b"x") + NO_BODY + b"GET")
    assert told(connection.receive_eof()) == [(RequestAborted, 1)]
    assert request.stdin.take() == b""


# --------------------------------------------------------------------- limits


def test_too_many_requests() -> None:
    connection = with_limits(max_requests_per_connection=2)
    connection.receive_data(begin(1) + begin(2) + record(PARAMS, 2))
    assert connection.receive_data(wire.request(3, [(b"A", b"b")], b"body")) == []
    assert answers(connection) == [end(3, 0, OVERLOADED)]
    connection.end(connection.requests[2])
    assert told(connection.receive_data(wire.request(3))) == [(RequestBegun, 3)]


@pytest.mark.parametrize(("most", "status"), [(1, CANT_MPX), (2, OVERLOADED)])
def test_what_is_refused_for_want_of_room_has_an_answer(most: int, status: int) -> None:
    limits = Limits(max_requests_per_connection=most, max_buffered_output=40)
    connection = ApplicationConnection(Terms(limits, refusal=b"Status: 503\n\n"))
    connection.receive_data(b"".join(map(begin, range(1, most + 1))))
    answer = [Answer(STDOUT, 3, b"Status: 503\n\n"), Answer(STDOUT, 3), end(3, 0, status)]
    # Not to one that begins thousands, and reads nothing: it shall not make us grow.
    connection.receive_data(begin(3) + begin(4))
    assert answers(connection) == [*answer, end(4, 0, status)]
    connection.receive_data(begin(3))
    assert answers(connection) == answer


def test_a_role_that_is_not_served_has_an_answer() -> None:
    asked: list[int] = []

    def unserved(role: int) -> bytes:
        asked.append(role)
        return b"Status: 500\n\n"

    terms = Terms(Limits(max_buffered_output=40), refusal=b"Status: 503\n\n", unserved=unserved)
    connection = ApplicationConnection(terms)
    for role in (FILTER, 9):
        answer = [Answer(STDOUT, 3, b"Status: 500\n\n"), Answer(STDOUT, 3), end(3, 0, UNKNOWN_ROLE)]
        connection.receive_data(begin(3, role=role) + begin(4, role=role))
        # As to one for which there is no room.
        assert answers(connection) == [*answer, end(4, 0, UNKNOWN_ROLE)]
    assert asked == [FILTER, FILTER, 9, 9]


def test_one_request_at_a_time() -> None:
    connection = with_limits(max_requests_per_connection=1)
    request = begun(connection, begin() + NO_PARAMS)
    connection.receive_data(wire.request(2))
    assert answers(connection) == [end(2, 0, CANT_MPX)]
    connection.end(request)
    assert told(connection.receive_data(wire.request(2))) == [(RequestBegun, 2)]


def test_a_refusal_without_keep_closes_behind_the_others() -> None:
    connection = with_limits(max_requests_per_connection=1)
    request = begun(connection, wire.request(1))
    connection.receive_data(begin(2, keep=False))
    assert answers(connection) == [end(2, 0, CANT_MPX)]
    assert not connection.finished
    connection.end(request)
    assert connection.finished
    assert connection.lingering
    connection.receive_data(record(PARAMS, 2) + record(STDIN, 2))
    assert not connection.lingering


def test_as_many_parameters_as_the_limit_allows() -> None:
    pairs = block([(b"A", b"b" * 96)])
    connection = with_limits(max_params_bytes=len(pairs))
    assert begun(connection, begin() + stream(PARAMS, 1, pairs, 10)).params == {"A": "b" * 96}
    other = with_limits(max_params_bytes=len(pairs) - 1)
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        other.receive_data(begin() + stream(PARAMS, 1, pairs))


@pytest.mark.parametrize("claim", [1025, 65535])
def test_a_record_beyond_the_limit_is_refused_at_its_header(claim: int) -> None:
    connection = with_limits(max_params_bytes=1024)
    header = record(PARAMS, 1, bytes(claim))[:8]
    connection.receive_data(begin() + header[:7])
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        connection.receive_data(header[7:])
    # Of a request that was refused, or is unknown, nothing is kept: no reason to care.
    assert with_limits(max_params_bytes=1024).receive_data(record(PARAMS, 1, bytes(claim))) == []


@pytest.mark.parametrize("size", [0, 7, 9, 65535])
def test_a_begin_of_a_wrong_size_is_refused_at_its_header(connection: ApplicationConnection, size: int) -> None:
    with pytest.raises(ProtocolError, match="BEGIN_REQUEST"):
        connection.receive_data(record(BEGIN, 1, bytes(size))[:8])


@pytest.mark.parametrize("claim", [1 << 20, 0x7FFFFFFF])
@pytest.mark.parametrize("start", [b"", block([(b"A", b"b")] * 10)])
def test_a_pair_beyond_the_limit_is_refused_at_its_lengths(
    connection: ApplicationConnection, start: bytes, claim: int
) -> None:
    four = (claim | 1 << 31).to_bytes(4, "big")
    for lengths in (b"\x01" + four, four + b"\0", four + four):
        other = ApplicationConnection(Terms())
        with pytest.raises(ProtocolError, match="max_params_bytes"):
            other.receive_data(begin() + record(PARAMS, 1, start + lengths))
        sliced = begin() + record(PARAMS, 1, start + lengths + b"x")
        other = ApplicationConnection(Terms())
        for position in range(len(sliced) - 2):
            other.receive_data(sliced[position : position + 1])
        with pytest.raises(ProtocolError, match="max_params_bytes"):
            other.receive_data(sliced[-2:-1])


def test_a_claim_is_checked_before_an_abort_lets_it_go(connection: ApplicationConnection) -> None:
    # Else it would depend on the slicing.
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        connection.receive_data(begin() + record(PARAMS, 1, b"\xff" * 8) + record(ABORT, 1))


def test_many_small_pairs_are_refused_too() -> None:
    connection = with_limits(max_params_bytes=10_000)
    connection.receive_data(begin())
    small = record(PARAMS, 1, block([(b"A", b"b")] * 100))
    for _ in range(25):
        connection.receive_data(small)
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        connection.receive_data(small)


def test_all_unfinished_parameters_of_a_connection_count() -> None:
    connection = with_limits(max_params_bytes=1000)
    for id_ in range(1, 11):
        connection.receive_data(begin(id_) + record(PARAMS, id_, block([(b"A", b"b" * 97)])))
    check_state(connection)
    assert connection._params_bytes == 1000
    # Complete, aborted: room for others.
    connection.receive_data(record(PARAMS, 1) + record(ABORT, 2))
    connection.receive_data(begin(2) + record(PARAMS, 2, block([(b"A", b"b" * 100)])))
    connection.receive_data(record(PARAMS, 3, block([(b"A", b"b" * 94)])))
    check_state(connection)
    with pytest.raises(ProtocolError, match="max_params_bytes"):
        connection.receive_data(record(PARAMS, 4, b"\0"))


def test_backpressure_of_input() -> None:
    connection = with_limits(max_buffered_input=10)
    request = begun(connection, begin() + NO_PARAMS)
    connection.receive_data(record(STDIN, 1, b"x" * 9))
    assert connection.wants_input
    connection.receive_data(record(STDIN, 1, b"x"))
    assert not connection.wants_input
    # What was sent already is taken all the same.
    connection.receive_data(record(STDIN, 1, b"x" * 1000))
    assert not connection.wants_input
    request.stdin.take_into(memoryview(bytearray(1000)))
    assert not connection.wants_input
    assert connection.buffered_input == 10
    request.stdin.take(1)
    assert connection.wants_input
    connection.receive_data(record(STDIN, 1, b"x" * 10))
    assert not connection.wants_input
    connection.end(request)
    assert connection.wants_input
    assert connection.buffered_input == 0


def test_backpressure_of_input_counts_all_requests() -> None:
    connection = ApplicationConnection(Terms(Limits(max_buffered_input=10), ROLES))
    data = begin(1) + record(PARAMS, 1) + begin(2, FILTER) + record(PARAMS, 2)
    connection.receive_data(data + record(STDIN, 1, b"xxx") + record(STDIN, 2, b"xxx"))
    assert connection.wants_input
    connection.receive_data(record(DATA, 2, b"xxxx"))
    assert connection.buffered_input == 10
    assert not connection.wants_input
    connection.receive_data(record(ABORT, 1))
    assert connection.wants_input


def test_backpressure_of_answers() -> None:
    connection = with_limits(max_buffered_output=160)
    for _ in range(10):
        connection.receive_data(record(99, 0))
        assert connection.wants_input
    connection.receive_data(record(99, 0))
    assert not connection.wants_input
    answers(connection)
    assert connection.wants_input


def test_full() -> None:
    connection = with_limits(max_buffered_output=10)
    request = begun(connection, wire.request())
    assert not connection.write(request, b"x" * 9)
    assert connection.write_err(request, b"x")
    connection.flush(request)
    assert not connection.write_err(request, b"x" * 9)
    assert connection.write(request, b"x")
    assert connection.discard_output(request) is False
    assert request.unsent == 9


# --------------------------------------------------------------------- output


def test_output_is_framed_when_it_is_flushed(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request(3))
    connection.write(request, b"one ")
    connection.write(request, b"two")
    assert not connection.out
    connection.flush(request)
    assert connection.out
    assert answers(connection) == [Answer(STDOUT, 3, b"one two")]
    connection.flush(request)
    assert not connection.out
    connection.write(request, b"three")
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, 3, b"three"), Answer(STDOUT, 3), end(3)]


def test_a_small_answer_leaves_in_one_buffer(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"head")
    connection.write(request, b"body")
    connection.end(request)
    assert len(connection.data_to_send()) == 1


def test_an_empty_answer(connection: ApplicationConnection) -> None:
    connection.end(begun(connection, wire.request()))
    assert answers(connection) == [Answer(STDOUT, 1), end()]


def test_a_flush_behind_the_end(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"once")
    connection.end(request)
    answers(connection)
    connection.flush(request)
    assert not connection.out


def test_nothing_written_is_nothing_kept(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    for _ in range(100):
        assert not connection.write(request, b"")
        assert not connection.write_err(request, b"")
    assert request.stdout == []
    assert request.stderr is None
    connection.flush(request)
    assert not request.stdout_begun
    assert not connection.out


def test_errors_leave_behind_the_output_but_its_last_byte_and_are_ended_too(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write_err(request, b"careful\n")
    connection.write(request, b"head")
    connection.flush(request)
    connection.write(request, b"body")
    connection.end(request, 3)
    assert answers(connection) == [
        Answer(STDOUT, 1, b"hea"),
        Answer(STDERR, 1, b"careful\n"),
        Answer(STDOUT, 1, b"d"),
        Answer(STDOUT, 1, b"body"),
        Answer(STDERR, 1),
        Answer(STDOUT, 1),
        end(1, 3),
    ]


def test_errors_leave_before_the_output_is_complete(connection: ApplicationConnection) -> None:
    """Who has read as many bytes of a body as its head has promised need not read on."""
    request = begun(connection, wire.request())
    connection.write_err(request, b"careful\n")
    connection.write(request, b"body")
    connection.write(request, b"!")
    connection.end(request)
    assert answers(connection) == [
        Answer(STDOUT, 1, b"body"),
        Answer(STDERR, 1, b"careful\n"),
        Answer(STDOUT, 1, b"!"),
        Answer(STDERR, 1),
        Answer(STDOUT, 1),
        end(1),
    ]
    request = begun(connection, wire.request())
    connection.write_err(request, b"careful\n")
    connection.write(request, b"!")
    connection.end(request)
    assert answers(connection)[:2] == [Answer(STDERR, 1, b"careful\n"), Answer(STDOUT, 1, b"!")]


def test_only_errors(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write_err(request, b"no ")
    connection.write_err(request, b"output\n")
    connection.end(request)
    assert answers(connection) == [
        Answer(STDERR, 1, b"no output\n"),
        Answer(STDERR, 1),
        Answer(STDOUT, 1),
        end(),
    ]


def test_a_large_write_is_not_copied(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    data = bytes(1_000_000)
    assert connection.write(request, data)
    connection.end(request)
    buffers = connection.data_to_send()
    assert sum(len(buffer) for buffer in buffers if isinstance(buffer, memoryview) and buffer.obj is data) == 1_000_000
    found = wire.parse(b"".join(buffers))
    assert b"".join(answer.content for answer in found[:-2]) == data
    assert found[-2:] == [Answer(STDOUT, 1), end()]


@pytest.mark.parametrize("size", [1, 1000, 100_000, 300_000, 10_000_000])
def test_what_is_to_be_sent_is_handed_out_in_parts(connection: ApplicationConnection, size: int) -> None:
    request = begun(connection, wire.request())
    connection.write(request, bytes(1_000_000))
    connection.end(request)
    parts: list[bytes] = []
    whole = buffered = 1_000_000 + 8 * 16 + 24
    while connection.out:
        buffers = connection.data_to_send(size)
        part = b"".join(buffers)
        assert len(part) >= min(size, buffered)
        assert len(part) - len(buffers[-1]) < size
        buffered -= len(part)
        parts.append(part)
    assert (sum(map(len, parts)), buffered) == (whole, 0)
    assert connection.wants_input
    assert wire.parse(b"".join(parts))[-2:] == [Answer(STDOUT, 1), end()]
    assert connection.data_to_send(size) == []


@pytest.mark.parametrize(
    ("status", "on_wire"), [(0, 0), (1, 1), (0xFFFFFFFF, 0xFFFFFFFF), (-1, 0xFFFFFFFF), (1 << 32, 0), (True, 1)]
)
def test_application_status(connection: ApplicationConnection, status: int, on_wire: int) -> None:
    connection.end(begun(connection, wire.request()), status)
    assert answers(connection)[-1] == end(1, on_wire)


def test_a_request_ends_once(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.end(request)
    for again in (connection.end, connection.cut):
        again(request)
    connection.fail(request, b"", b"")
    assert answers(connection) == [Answer(STDOUT, 1), end()]


# --------------------------------------------------------------------- failures


def test_a_failure_before_anything_left_is_replaced(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"half a head")
    connection.write_err(request, b"careful\n")
    connection.fail(request, b"Status: 500\r\n\r\n", b"why\n")
    assert answers(connection) == [
        Answer(STDOUT, 1, b"Status: 500\r\n\r"),
        Answer(STDERR, 1, b"careful\nwhy\n"),
        Answer(STDOUT, 1, b"\n"),
        Answer(STDERR, 1),
        Answer(STDOUT, 1),
        end(),
    ]
    assert not connection.finished


@pytest.mark.parametrize("id_", [1, 2, 0xFFFE, 0xFFFF])
def test_a_failure_behind_some_output_is_cut(connection: ApplicationConnection, id_: int) -> None:
    request = begun(connection, wire.request(id_))
    connection.write(request, b"head")
    connection.flush(request)
    connection.write(request, b"lost")
    connection.fail(request, b"Status: 500\r\n\r\n", b"why\n")
    *found, cut = answers(connection)
    assert found == [Answer(STDOUT, id_, b"head"), Answer(STDERR, id_, b"why\n")]
    # A record that belongs to no request: no web server takes that for a good end.
    assert (cut.type, cut.content) == (STDOUT, b"")
    assert cut.id not in (0, id_)
    assert connection.finished


def test_cut_sends_what_was_written(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"half")
    connection.cut(request)
    assert answers(connection) == [Answer(STDOUT, 1, b"half"), Answer(STDOUT, 0xFFFE)]
    assert connection.finished
    assert not connection.lingering
    assert request.ended


def test_cut_while_the_input_is_still_coming(connection: ApplicationConnection) -> None:
    connection.cut(begun(connection, begin() + NO_PARAMS))
    assert connection.finished
    assert connection.lingering
    connection.receive_data(NO_BODY)
    assert not connection.lingering


def test_others_end_before_a_cut(connection: ApplicationConnection) -> None:
    first, second = (begun(connection, wire.request(id_)) for id_ in (1, 2))
    connection.cut(first)
    assert not connection.out
    assert not connection.finished
    connection.write(second, b"whole")
    connection.end(second)
    assert answers(connection) == [
        Answer(STDOUT, 2, b"whole"),
        Answer(STDOUT, 2),
        end(2),
        Answer(STDOUT, 0xFFFE),
    ]
    assert connection.finished


def test_what_a_cut_waits_for_can_be_cut_off() -> None:
    """Whoever has a clock is told that it waits."""
    connection = with_limits(max_buffered_input=1)
    first, second, third = (begun(connection, wire.request(id_)) for id_ in (1, 2, 3))
    gone = begun(connection, begin(4) + record(PARAMS, 4) + record(STDIN, 4, b"unread"))
    connection.receive_data(begin(5))
    assert not connection.wants_input
    assert connection.awaited is None
    connection.write(second, b"part")
    connection.flush(second)
    answers(connection)
    connection.cut(first)
    assert connection.awaited is OTHERS
    gone.aborted = True
    seen: list[tuple[int, bool, bool]] = []
    events = connection.cut_off(
        b"replacement", lambda request: seen.append((request.id, request.stdout_begun, request.aborted))
    )
    assert told(events) == [(RequestAborted, 2), (RequestAborted, 3)]
    # As they were before.
    assert seen == [(2, True, False), (3, False, False), (4, False, True)]
    assert third.aborted
    assert answers(connection) == [
        Answer(STDOUT, 3, b"replacement"),
        Answer(STDOUT, 3),
        end(3),
        end(4, 1),
        # That of the second is as good.
        Answer(STDOUT, 0xFFFD),
    ]
    assert connection.finished
    assert connection.awaited is None
    assert connection.cut_off(b"replacement", None) == []


def test_two_cuts(connection: ApplicationConnection) -> None:
    first, second = (begun(connection, wire.request(id_)) for id_ in (1, 2))
    connection.cut(first)
    connection.cut(second)
    (answer,) = answers(connection)
    assert answer.id not in (1, 2)


@pytest.mark.parametrize("way", ["abort", "half closed"])
def test_a_cut_behind_one_that_never_began(connection: ApplicationConnection, way: str) -> None:
    first = begun(connection, wire.request(1))
    connection.receive_data(begin(2))
    connection.cut(first)
    assert not connection.out
    if way == "abort":
        connection.receive_data(record(ABORT, 2))
        assert answers(connection) == [end(2), Answer(STDOUT, 0xFFFE)]
    else:
        connection.receive_eof(half_closed=True)
        assert answers(connection) == [Answer(STDOUT, 0xFFFE)]
    assert connection.finished


def test_an_aborted_request_is_not_cut(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.receive_data(record(ABORT, 1))
    connection.cut(request)
    assert answers(connection) == [end()]
    assert not connection.finished


def test_discard_output(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    connection.write(request, b"lost")
    connection.write_err(request, b"kept")
    assert connection.discard_output(request)
    assert request.unsent == 4
    connection.flush(request)
    # Errors are no part of the response.
    assert connection.discard_output(request)
    connection.write(request, b"head")
    connection.flush(request)
    assert not connection.discard_output(request)


# --------------------------------------------------------------------- closing


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("complete", [True, False])
def test_keep_conn(connection: ApplicationConnection, *, keep: bool, complete: bool) -> None:
    request = begun(connection, begin(keep=keep) + NO_PARAMS + (NO_BODY if complete else b""))
    assert not connection.finished
    connection.end(request)
    assert answers(connection) == [Answer(STDOUT, 1), end()]
    assert connection.finished is not keep
    assert connection.lingering is (not keep and not complete)
    connection.receive_data(record(STDIN, 1, b"late"))
    assert connection.lingering is (not keep and not complete)
    connection.receive_data(NO_BODY)
    assert not connection.lingering


def test_others_end_before_a_close(connection: ApplicationConnection) -> None:
    first = begun(connection, begin(1, keep=False) + NO_PARAMS + NO_BODY)
    second = begun(connection, wire.request(2))
    connection.end(first)
    assert not connection.finished
    connection.end(second)
    assert connection.finished


def test_lingering_ends_with_the_last_stream_of_its_role(connection: ApplicationConnection) -> None:
    request = begun(connection, begin(role=FILTER, keep=False) + NO_PARAMS)
    connection.end(request)
    for late in (record(STDIN, 1, b"x"), NO_BODY, record(DATA, 1, b"x"), record(DATA, 2), NO_PARAMS):
        connection.receive_data(late)
        assert connection.lingering
    connection.receive_data(record(DATA, 1))
    assert not connection.lingering


def test_lingering_for_a_filter_whose_data_came_first(connection: ApplicationConnection) -> None:
    connection.end(begun(connection, begin(role=FILTER, keep=False) + NO_PARAMS + record(DATA, 1)))
    assert connection.lingering
    connection.receive_data(NO_BODY)
    assert not connection.lingering


@pytest.mark.parametrize("role", ROLES)
def test_lingering_behind_a_refusal(role: int) -> None:
    connection = ApplicationConnection(Terms(Limits(max_requests_per_connection=1), ROLES))
    request = begun(connection, wire.request(9))
    connection.receive_data(begin(1, role, keep=False))
    connection.end(request)
    for late in [NO_PARAMS, NO_BODY, record(DATA, 1)][: role if role != AUTHORIZER else 1]:
        assert connection.lingering or role == RESPONDER
        connection.receive_data(late)
    connection.receive_data(NO_BODY)
    assert not connection.lingering


def test_lingering_ends_with_an_abort(connection: ApplicationConnection) -> None:
    connection.end(begun(connection, begin(keep=False) + NO_PARAMS))
    assert connection.lingering
    connection.receive_data(record(ABORT, 2))
    assert connection.lingering
    connection.receive_data(record(ABORT, 1))
    assert not connection.lingering


def test_lingering_ends_where_the_id_begins_again(connection: ApplicationConnection) -> None:
    other = begun(connection, wire.request(2))
    connection.end(begun(connection, begin(1, keep=False) + NO_PARAMS))
    again = begun(connection, wire.request(1, keep=False))
    connection.end(again)
    connection.end(other)
    assert connection.finished
    assert not connection.lingering


def test_lingering_for_several(connection: ApplicationConnection) -> None:
    """Each sends its input to the end, whichever of them was answered last, or ended the connection."""
    for id_, keep in ((1, True), (2, False), (3, False)):
        connection.receive_data(wire.request(9)[:-8] if id_ == 1 else b"")
        ended = begun(connection, begin(id_, keep=keep) + record(PARAMS, id_))
        connection.end(ended)
    assert not connection.finished
    connection.end(connection.requests[9])
    for id_ in (2, 9, 3):
        connection.receive_data(record(STDIN, id_, b"late") + record(STDIN, id_))
        assert connection.lingering
    connection.receive_data(record(STDIN, 1))
    assert not connection.lingering


def test_a_kept_connection_on_which_input_is_owed(connection: ApplicationConnection) -> None:
    """It is used again like any other one, and closes when all of it has come."""
    connection.end(begun(connection, begin() + NO_PARAMS))
    assert not connection.lingering
    for id_ in (1, 2):
        connection.end(begun(connection, wire.request(id_)))
    assert connection.owed == {}
    connection.end(begun(connection, begin() + NO_PARAMS))
    connection.end(begun(connection, wire.request(2, keep=False)))
    assert connection.finished
    assert connection.lingering
    connection.receive_data(NO_BODY)
    assert not connection.lingering


def test_so_much_owed_input_is_remembered() -> None:
    """No more than of as many requests as may be under way at once."""
    connection = with_limits(max_requests_per_connection=2)
    for id_ in range(1, 100):
        connection.end(begun(connection, begin(id_) + record(PARAMS, id_)))
    assert list(connection.owed) == [98, 99]


def test_nothing_begins_and_nothing_is_answered_behind_the_last_answer(connection: ApplicationConnection) -> None:
    connection.end(begun(connection, begin(keep=False) + NO_PARAMS))
    answers(connection)
    late = wire.request(2) + begin(3, 9) + record(PARAMS, 3) + record(GET_VALUES, 0) + record(99, 0) + record(ABORT, 2)
    assert connection.receive_data(late) == []
    assert connection.requests == {}
    assert not connection.out
    assert connection.finished
    assert connection.lingering
    # A violation still is one.
    with pytest.raises(ProtocolError):
        connection.receive_data(record(STDOUT, 1))


# --------------------------------------------------------------------- the web server hangs up


def test_eof_aborts_all_requests(connection: ApplicationConnection) -> None:
    first = begun(connection, wire.request(1, keep=False))
    second = begun(connection, begin(2) + record(PARAMS, 2) + record(STDIN, 2, b"x"))
    connection.receive_data(begin(3) + record(PARAMS, 3, b"\x01"))
    connection.receive_data(record(99, 0))
    connection.write(first, b"x")
    assert told(connection.receive_eof()) == [(RequestAborted, 1), (RequestAborted, 2)]
    assert not connection.out
    assert connection.requests == {1: first, 2: second}
    check_state(connection)
    assert connection.awaited is None
    assert not connection.finished
    assert connection.receive_eof() == []
    assert connection.receive_eof(half_closed=True) == []
    # Nothing more comes in or goes out.
    assert connection.receive_data(wire.request(4)) == []
    connection.end(first)
    connection.cut(second)
    assert not connection.out
    assert connection.finished
    assert not connection.lingering


def test_eof_of_an_idle_connection(connection: ApplicationConnection) -> None:
    assert connection.receive_eof() == []
    assert connection.finished
    assert connection.idle


def test_eof_while_lingering(connection: ApplicationConnection) -> None:
    connection.end(begun(connection, begin(keep=False) + NO_PARAMS))
    assert connection.lingering
    assert connection.receive_eof() == []
    assert not connection.lingering
    assert connection.finished


def test_eof_forgets_a_cut(connection: ApplicationConnection) -> None:
    first, second = (begun(connection, wire.request(id_)) for id_ in (1, 2))
    connection.cut(first)
    connection.receive_eof()
    connection.end(second)
    assert not connection.out


def test_half_closed(connection: ApplicationConnection) -> None:
    whole = begun(connection, wire.request(1, [], b"body"))
    part = begun(connection, begin(2) + record(PARAMS, 2) + record(STDIN, 2, b"x"))
    connection.receive_data(begin(3))
    assert told(connection.receive_eof(half_closed=True)) == [(RequestAborted, 2)]
    check_state(connection)
    assert not whole.aborted
    assert whole.stdin.take() == b"body"
    connection.end(part)
    assert not connection.lingering
    connection.write(whole, b"x")
    connection.end(whole)
    assert answers(connection) == [end(2), Answer(STDOUT, 1, b"x"), Answer(STDOUT, 1), end(1)]
    assert connection.finished
    assert not connection.lingering


def test_half_closed_then_gone(connection: ApplicationConnection) -> None:
    request = begun(connection, wire.request())
    assert connection.receive_eof(half_closed=True) == []
    connection.write(request, b"x")
    connection.flush(request)
    assert told(connection.receive_eof()) == [(RequestAborted, 1)]
    assert not connection.out


def test_half_closed_filter_whose_data_is_missing(connection: ApplicationConnection) -> None:
    begun(connection, begin(role=FILTER) + NO_PARAMS + NO_BODY)
    assert told(connection.receive_eof(half_closed=True)) == [(RequestAborted, 1)]


# --------------------------------------------------------------------- what a shell asks

STATES = [
    # what came, and: idle, awaited, finished
    (b"", (True, False, False)),
    (b"\x01", (False, True, False)),
    (begin()[:8], (False, True, False)),
    (begin()[:15], (False, True, False)),
    (begin(), (False, True, False)),
    (begin() + record(PARAMS, 1, b"\0\0"), (False, True, False)),
    (begin() + NO_PARAMS, (False, False, False)),
    (begin() + NO_PARAMS + b"\x01", (False, False, False)),
    (begin() + NO_PARAMS + record(STDIN, 1, b"xx")[:9], (False, False, False)),
    (begin() + NO_PARAMS + begin(2)[:9], (False, False, False)),
    (begin() + NO_PARAMS + begin(2), (False, True, False)),
    (wire.request(), (False, False, False)),
    (begin() + record(ABORT, 1), (True, False, False)),
    (begin(keep=False) + record(ABORT, 1), (True, False, True)),
    (begin(role=9), (True, False, False)),
    (begin(role=9, keep=False), (True, False, True)),
    (begin(role=9, keep=False) + b"\x01", (False, True, True)),
    (record(STDIN, 7, b"late")[:10], (False, True, False)),
    (record(99, 0, b"", 9)[:-1], (True, False, False)),
    (record(99, 0, b"xx"), (True, False, False)),
    (record(GET_VALUES, 0, b"\0\0")[:9], (False, True, False)),
]


@pytest.mark.parametrize(("data", "state"), STATES)
def test_states(data: bytes, state: tuple[bool, bool, bool]) -> None:
    for slices in ([data], [data[i : i + 1] for i in range(len(data))]):
        connection = ApplicationConnection(Terms())
        for piece in slices:
            connection.receive_data(piece)
        assert (connection.idle, connection.awaited is not None, connection.finished) == state


@pytest.mark.parametrize("type_", [STDIN, DATA])
@pytest.mark.parametrize("size", [2, 2 * LARGE])
def test_late_input_begins_nothing(connection: ApplicationConnection, type_: int, size: int) -> None:
    """What comes behind an early answer, of which a part is missing at any time."""
    connection.end(begun(connection, begin(role=FILTER) + NO_PARAMS))
    data = record(type_, 1, bytes(size))
    connection.receive_data(data[:9])
    assert connection.awaited is LEFTOVER
    connection.receive_data(data[9:])
    assert connection.awaited is None
    connection.receive_data(data + begin(2)[:9])
    assert connection.awaited is connection


def test_input_that_others_are_in_the_way_of() -> None:
    served: list[object] = []
    terms = Terms(Limits(max_buffered_input=4), is_served=lambda request: request in served)
    connection = ApplicationConnection(terms)
    first = begun(connection, begin() + NO_PARAMS)
    second = begun(connection, begin(2) + record(PARAMS, 2))
    third = begun(connection, begin(3) + record(PARAMS, 3))
    connection.receive_data(record(STDIN, 2, b"one"))
    assert not connection.is_clogged_for(first)
    connection.receive_data(record(STDIN, 2, b"more"))
    assert connection.is_clogged_for(first)
    # Its own is in its own way.
    assert not connection.is_clogged_for(second)
    served.append(third)
    assert connection.is_clogged_for(first)
    served.append(second)
    assert not connection.is_clogged_for(first)


def test_nothing_is_awaited_while_nothing_is_received() -> None:
    """Parameters that we do not read cannot become complete."""
    connection = with_limits(max_buffered_input=4)
    first = begun(connection, begin() + NO_PARAMS)
    connection.receive_data(begin(2))
    second = connection.requests[2]
    assert connection.awaited is second
    connection.receive_data(record(STDIN, 1, b"body"))
    assert connection.awaited is None
    first.stdin.take()
    assert connection.awaited is second


def test_default_limits() -> None:
    assert ApplicationConnection(Terms()).limits == Limits()
