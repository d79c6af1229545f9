"""The web server's side of a connection: what it sends, what it makes of what comes, and what it refuses."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.constants import record_name
from simple_fastcgi.protocol.terms import Terms
from simple_fastcgi.protocol.webserver import ALL_VALUES, WebServerConnection
from simple_fastcgi.protocol.webserver_events import (
    RequestBroken,
    RequestEnded,
    StderrReceived,
    StdoutReceived,
    TypeUnknown,
    ValuesReceived,
)
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
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    UNKNOWN_TYPE,
    Answer,
    block,
    parse,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def sent(connection: WebServerConnection) -> list[Answer]:
    """The records that are to be sent now: all of them whole, aligned and padded with zeros."""
    buffers = connection.data_to_send()
    assert all(buffers)
    assert connection.data_to_send() == []
    return parse(b"".join(buffers))


def begun(max_requests: int = 1, **how: bool) -> WebServerConnection:
    """A connection with the request 1 under way, whose input has ended."""
    connection = WebServerConnection(max_requests)
    assert connection.begin({}, **how) == 1
    connection.end_stdin(1)
    connection.data_to_send()
    return connection


def end(id_: int = 1, app_status: int = 0, protocol_status: int = 0) -> bytes:
    return record(END, id_, struct.pack("!IB3x", app_status, protocol_status))


# ------------------------------------------------------------------------------- sending


def test_a_request() -> None:
    connection = WebServerConnection()
    assert connection.can_begin
    assert connection.idle
    assert connection.begin({"A": "1", "B": "\xe9"}) == 1
    assert connection.request_ids == [1]
    assert not connection.can_begin
    assert not connection.idle
    connection.send_stdin(1, b"body")
    connection.send_stdin(1, b"")
    connection.end_stdin(1)
    assert sent(connection) == [
        Answer(BEGIN, 1, bytes((0, RESPONDER, 1, 0, 0, 0, 0, 0))),
        Answer(PARAMS, 1, block([(b"A", b"1"), (b"B", b"\xe9")])),
        Answer(PARAMS, 1),
        Answer(STDIN, 1, b"body"),
        Answer(STDIN, 1),
    ]
    assert connection.receive_data(record(STDOUT, 1, b"answer", 2) + record(STDOUT, 1) + end(1, 7)) == [
        StdoutReceived(1, b"answer"),
        RequestEnded(1, 7, 0),
    ]
    assert connection.idle
    assert connection.begin([]) == 1
    assert sent(connection) == [Answer(BEGIN, 1, bytes((0, 1, 1, 0, 0, 0, 0, 0))), Answer(PARAMS, 1)]


def test_without_keep_conn_nothing_else_begins() -> None:
    connection = WebServerConnection(2)
    connection.begin({}, keep_conn=False)
    assert sent(connection)[0] == Answer(BEGIN, 1, bytes((0, 1, 0, 0, 0, 0, 0, 0)))
    assert not connection.can_begin
    with pytest.raises(RuntimeError, match="nothing can begin"):
        connection.begin({})


def test_streams_of_the_roles() -> None:
    connection = WebServerConnection(3)
    for role in (RESPONDER, AUTHORIZER, FILTER):
        connection.begin({}, role=role)
    connection.data_to_send()
    for act in (connection.send_data, connection.send_stdin):
        with pytest.raises(RuntimeError, match=r"\(type [58]\) of request 2 is not the stream whose turn it is"):
            act(2, b"x")
    with pytest.raises(RuntimeError, match=r"FCGI_DATA \(type 8\) of request 3"):
        connection.send_data(3, b"too early")
    connection.end_stdin(3)
    connection.send_data(3, b"file")
    connection.end_data(3)
    connection.end_stdin(1)
    for act in (connection.send_stdin, connection.send_data):
        with pytest.raises(RuntimeError, match="is not the stream"):
            act(1, b"behind the end")
    with pytest.raises(RuntimeError, match="request 4 is not under way"):
        connection.end_stdin(4)
    assert sent(connection) == [Answer(STDIN, 3), Answer(DATA, 3, b"file"), Answer(DATA, 3), Answer(STDIN, 1)]


def test_large_input_is_not_copied() -> None:
    connection = WebServerConnection()
    connection.begin({})
    connection.data_to_send()
    body = bytes(range(256)) * 1024
    connection.send_stdin(1, body)
    buffers = connection.data_to_send()
    assert all(view.obj is body for view in buffers if isinstance(view, memoryview))
    assert b"".join(answer.content for answer in parse(b"".join(buffers))) == body
    for other in (bytearray(body), memoryview(body), memoryview(body).cast("I")):
        connection.send_stdin(1, other)
        assert b"".join(answer.content for answer in sent(connection)) == body


def test_parameters_in_records_that_end_with_a_pair() -> None:
    connection = WebServerConnection()
    pairs = {f"NAME{number}": "v" * 900 for number in range(200)} | {"LONG": "x" * 65_525}
    connection.begin(pairs)
    records = [answer.content for answer in sent(connection) if answer.type == PARAMS]
    assert b"".join(records) == block((name.encode(), value.encode()) for name, value in pairs.items())
    assert len(records) == 5
    assert records[-1] == b""
    assert all(content[2:6] in {b"NAME", b"\x84\xcdNA"} or b"NAME" in content[:12] for content in records[:3])
    assert records[3].endswith(b"x" * 65_525)
    assert len(records[3]) == 65_534


def test_ids_are_the_smallest_that_are_free() -> None:
    connection = WebServerConnection(3)
    assert [connection.begin({}) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="max_requests"):
        connection.begin({})
    for id_ in (1, 2, 3):
        connection.end_stdin(id_)
    connection.receive_data(end(2))
    assert connection.begin({}) == 2


@pytest.mark.parametrize("most", [0, -1, 65_536])
def test_there_are_no_more_ids(most: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 65535"):
        WebServerConnection(most)


def test_what_cannot_begin_changes_nothing() -> None:
    connection = WebServerConnection()
    with pytest.raises(ValueError, match="role=4"):
        connection.begin({}, role=4)
    with pytest.raises(UnicodeEncodeError):
        connection.begin({"A": "\u20ac"})
    assert connection.idle
    assert not connection.out


# ------------------------------------------------------------------------------ receiving


def test_both_outputs_in_parts() -> None:
    connection = begun()
    head = record(STDOUT, 1, b"one, two", 3)
    assert connection.receive_data(head[:3]) == []
    assert not connection.idle
    assert connection.receive_data(head[3:11]) == [StdoutReceived(1, b"one")]
    assert connection.receive_data(head[11:] + record(STDERR, 1, b"err")[:9]) == [
        StdoutReceived(1, b", two"),
        StderrReceived(1, b"e"),
    ]
    assert connection.receive_data(b"rr" + record(STDERR, 1) + end()) == [
        StderrReceived(1, b"rr"),
        RequestEnded(1, 0, 0),
    ]


def test_large_output_is_not_copied() -> None:
    connection = begun()
    data = record(STDOUT, 1, b"x" * 60_000)
    (event,) = connection.receive_data(data)
    assert isinstance(event, StdoutReceived)
    assert isinstance(event.data, memoryview)
    assert event.data.obj is data


def test_what_real_servers_leave_out() -> None:
    connection = begun()
    assert connection.receive_data(record(STDOUT, 1, b"x", reserved=9) + end()) == [
        StdoutReceived(1, b"x"),
        RequestEnded(1, 0, 0),
    ]
    assert connection.can_begin


@pytest.mark.parametrize("status", [OVERLOADED, CANT_MPX, UNKNOWN_ROLE])
def test_refusals_are_told(status: int) -> None:
    assert begun().receive_data(end(1, 0, status)) == [RequestEnded(1, 0, status)]


def test_a_request_that_ends_before_its_input_is_the_last_one() -> None:
    connection = WebServerConnection(2)
    connection.begin({})
    connection.begin({})
    connection.end_stdin(2)
    assert connection.receive_data(end(1)) == [RequestEnded(1, 0, 0)]
    assert not connection.can_begin
    assert connection.receive_data(record(STDOUT, 2, b"x") + end(2)) == [StdoutReceived(2, b"x"), RequestEnded(2, 0, 0)]


def test_an_abort() -> None:
    connection = begun(2)
    connection.begin({})
    connection.end_stdin(2)
    connection.data_to_send()
    connection.abort(1)
    connection.abort(1)
    assert sent(connection) == [Answer(ABORT, 1)]
    with pytest.raises(RuntimeError, match="was aborted"):
        connection.send_stdin(1, b"x")
    late = record(STDOUT, 1, b"late") + record(STDERR, 1, b"late") + record(STDOUT, 1)
    assert connection.receive_data(late + record(STDOUT, 2, b"x")) == [StdoutReceived(2, b"x")]
    # Go's package ends an aborted request twice.
    twice = end(1) + record(STDOUT, 1, b"later") + record(STDOUT, 1) + end(1)
    assert connection.receive_data(twice) == [RequestEnded(1, 0, 0)]
    assert not connection.can_begin
    assert connection.receive_data(end(2)) == [RequestEnded(2, 0, 0)]
    with pytest.raises(RuntimeError, match="not under way"):
        connection.abort(2)


def test_the_end_of_the_connection() -> None:
    connection = begun(3)
    for _ in range(2):
        connection.begin({})
    connection.receive_data(record(STDOUT, 2) + end(1))
    assert connection.receive_eof() == [RequestBroken(2, True), RequestBroken(3, False)]
    assert connection.eof
    assert not connection.can_begin
    assert not connection.out
    assert connection.receive_eof() == []
    with pytest.raises(RuntimeError, match="closed"):
        connection.get_values()


def test_a_header_in_part_is_something() -> None:
    connection = begun()
    connection.receive_data(b"\x01")
    assert connection.receive_eof() == [RequestBroken(1, True)]


def test_a_record_in_part_is_something() -> None:
    connection = begun()
    connection.receive_data(record(STDOUT, 1, b"x" * 9)[:8])
    assert connection.receive_eof() == [RequestBroken(1, True)]


# ------------------------------------------------------------------------------ management


def test_values() -> None:
    connection = WebServerConnection()
    connection.get_values()
    assert not connection.idle
    assert sent(connection) == [Answer(GET_VALUES, 0, block((name.encode(), b"") for name in ALL_VALUES))]
    answer = record(GET_VALUES_RESULT, 0, block([(b"FCGI_MPXS_CONNS", b"1")]), 5)
    assert connection.receive_data(answer[:12]) == []
    assert connection.receive_data(answer[12:]) == [ValuesReceived({"FCGI_MPXS_CONNS": "1"})]
    assert connection.idle
    connection.get_values(["A", "A"])
    connection.get_values([])
    assert connection.receive_data(record(GET_VALUES_RESULT, 0) + record(GET_VALUES_RESULT, 0)) == [
        ValuesReceived({}),
        ValuesReceived({}),
    ]


def test_an_application_that_does_not_know_values() -> None:
    connection = WebServerConnection()
    connection.get_values()
    assert connection.receive_data(record(UNKNOWN_TYPE, 0, bytes((9,)) + bytes(7))) == [TypeUnknown(9)]
    assert connection.idle


def test_more_names_than_a_record_has_room_for() -> None:
    connection = WebServerConnection()
    with pytest.raises(ValueError, match="65,535"):
        connection.get_values(["x" * 65_535])
    assert connection.idle


# ------------------------------------------------------------------------------ violations


def aborted(connection: WebServerConnection) -> None:
    connection.abort(1)


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_a_response_that_our_own_applications_break_off(size: int) -> None:
    """It is no violation: what the mark stands for is the end of the connection."""
    application = ApplicationConnection(Terms())
    connection = WebServerConnection()
    id_ = connection.begin({})
    connection.end_stdin(id_)
    application.receive_data(b"".join(connection.data_to_send()))
    request = application.requests[id_]
    application.write(request, b"half")
    application.cut(request)
    answer = b"".join(application.data_to_send()) + b"behind it"
    events = [event for at in range(0, len(answer), size) for event in connection.receive_data(answer[at : at + size])]
    assert b"".join(bytes(event.data) for event in events if isinstance(event, StdoutReceived)) == b"half"
    assert events[-1] == RequestBroken(id_, True)
    assert connection.eof
    assert not connection.can_begin
    assert connection.receive_eof() == []


def test_what_only_looks_like_that_mark() -> None:
    for data in (record(STDOUT, 65534, b"x"), record(STDERR, 65534), record(STDOUT, 65533)):
        with pytest.raises(ProtocolError, match="which is not under way"):
            begun().receive_data(data)


def asked(connection: WebServerConnection) -> None:
    connection.get_values(["A"])


def nothing(_connection: WebServerConnection) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "data", "told"),
    [
        (nothing, record(STDOUT, 1, version=2), "FastCGI version 2 came"),
        (nothing, b"\0", "FastCGI version 0 came"),
        (nothing, b"SSH-2.0-x", "FastCGI version 83, b'SSH-2.0-' came"),
        (nothing, b"HTTP/1.1 400 Bad Request\r\n", "not FastCGI: b'HTTP/1.1' came; this is an HTTP server"),
        (nothing, b"<!DOCTYPE HTML>", "not FastCGI: b'<!DOCTYP' came; this is an HTTP server"),
        (nothing, b"HTTP/2", "FastCGI version 72, b'HTTP/2' came"),
        (nothing, record(BEGIN, 1), r"FCGI_BEGIN_REQUEST \(type 1\) with id 1 came, which no application sends"),
        (nothing, record(STDIN, 1), r"FCGI_STDIN \(type 5\) with id 1"),
        (nothing, record(DATA, 7), r"FCGI_DATA \(type 8\) with id 7"),
        (nothing, record(GET_VALUES, 0), r"FCGI_GET_VALUES \(type 9\) with id 0"),
        (nothing, record(STDOUT, 0), r"FCGI_STDOUT \(type 6\) with id 0"),
        (nothing, record(99, 1), "a record of type 99 with id 1"),
        (nothing, record(0, 0), "a record of type 0 with id 0"),
        (nothing, record(GET_VALUES_RESULT, 1), r"FCGI_GET_VALUES_RESULT \(type 10\) with id 1"),
        (nothing, record(STDOUT, 2, b"x"), r"FCGI_STDOUT \(type 6\) of request 2, which is not under way"),
        (nothing, end(65_535), r"FCGI_END_REQUEST \(type 3\) of request 65535, which is not under way"),
        (nothing, record(STDOUT, 1) * 2, r"FCGI_STDOUT \(type 6\) of request 1 behind the end of that stream"),
        (nothing, record(STDERR, 1) + record(STDERR, 1, b"x"), r"FCGI_STDERR \(type 7\) of request 1 behind the end"),
        (nothing, record(END, 1, b"1234567"), r"FCGI_END_REQUEST \(type 3\) of request 1 with 7 bytes instead of 8"),
        (nothing, record(END, 1), r"of request 1 with 0 bytes instead of 8"),
        (nothing, end(1, 0, 4), r"FCGI_END_REQUEST \(type 3\) of request 1 with protocol status 4"),
        (nothing, record(GET_VALUES_RESULT, 0), r"FCGI_GET_VALUES_RESULT \(type 10\) came, and nothing was asked"),
        (nothing, record(UNKNOWN_TYPE, 0, bytes(8)), r"FCGI_UNKNOWN_TYPE \(type 11\) came, and nothing was asked"),
        (asked, record(UNKNOWN_TYPE, 0, bytes(7)), "with 7 bytes instead of 8"),
        (asked, record(UNKNOWN_TYPE, 0, b"\x0c" + bytes(7)), "type 12, which was never sent"),
        (asked, record(GET_VALUES_RESULT, 0, b"\1\0B"), r"has \['B'\], which nobody asked for"),
        (asked, record(GET_VALUES_RESULT, 0, b"\1\0"), "claims 1 bytes more"),
        (aborted, record(STDIN, 1), "no application sends"),
        (aborted, record(STDOUT, 2), "not under way"),
    ],
)
def test_violations(prepare: Callable[[WebServerConnection], None], data: bytes, told: str) -> None:
    whole, slowly = begun(), begun()
    for connection in (whole, slowly):
        prepare(connection)
    with pytest.raises(ProtocolError, match=told) as first:
        whole.receive_data(data)
    assert whole.failed is first.value
    assert not whole.can_begin
    assert not whole.out
    for data_or_end in (b"x", b""):
        with pytest.raises(ProtocolError) as second:
            whole.receive_data(data_or_end) if data_or_end else whole.receive_eof()
        assert second.value is first.value
    with pytest.raises(RuntimeError, match="closed"):
        whole.get_values()
    with pytest.raises(ProtocolError):
        for position in range(len(data)):
            assert slowly.receive_data(data[position : position + 1]) == []


def test_what_came_before_a_violation_is_told() -> None:
    connection = begun()
    assert connection.receive_data(record(STDOUT, 1, b"x") + end() + b"\x02") == [
        StdoutReceived(1, b"x"),
        RequestEnded(1, 0, 0),
    ]
    assert connection.failed is not None
    assert not connection.can_begin
    with pytest.raises(ProtocolError):
        connection.receive_data(b"")


def test_http_that_is_cut_within_its_first_word() -> None:
    connection = begun()
    assert connection.receive_data(b"HTTP/1") == []
    assert connection.receive_eof() == [RequestBroken(1, True)]


def test_names_of_records() -> None:
    assert record_name(1) == "FCGI_BEGIN_REQUEST (type 1)"
    assert record_name(11) == "FCGI_UNKNOWN_TYPE (type 11)"
    assert record_name(0) == "a record of type 0"
    assert record_name(12) == "a record of type 12"


def test_events() -> None:
    assert StdoutReceived(1, b"x") == StdoutReceived(1, memoryview(b"x"))
    assert StdoutReceived(1, b"x") != StderrReceived(1, b"x")
    assert StdoutReceived(1, b"x") != StdoutReceived(2, b"x")
    assert repr(RequestEnded(1, 2, 3)) == "RequestEnded(1, 2, 3)"
    assert repr(StdoutReceived(1, memoryview(b"x"))) == "StdoutReceived(1, b'x')"
    with pytest.raises(TypeError, match="TypeUnknown is not hashable"):
        hash(TypeUnknown(9))
