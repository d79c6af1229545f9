"""One request and its response: what is told, in which order, and what is wrong with what came."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.params import ParamsBuilder
from simple_fastcgi.cgi.reply import ResponseHead
from simple_fastcgi.client.exchange import Exchange
from simple_fastcgi.errors import BrokenResponseError, ProtocolError, RequestRefusedError, ResponseHeadError
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import RequestBegun
from simple_fastcgi.protocol.terms import Terms
from simple_fastcgi.protocol.webserver import WebServerConnection
from simple_fastcgi.protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from tests.protocol.wire import ABORT, AUTHORIZER, DATA, END, FILTER, ROLES, STDERR, STDIN, STDOUT, parse, record

if TYPE_CHECKING:
    from simple_fastcgi.client.exchange import ExchangeEvent

END_OF_REQUEST = record(END, 1, bytes(8))
HEAD = b"Content-Type: text/plain\r\n\r\n"


def new_exchange(method: str = "GET", *, role: int = 1, **bounds: int) -> Exchange:
    """An exchange whose request was sent, with its input ended."""
    exchange = Exchange(WebServerConnection(), {"REQUEST_METHOD": method}, role=role, limits=ClientLimits(**bounds))
    exchange.end_body()
    exchange.data_to_send()
    return exchange


def out(content: bytes) -> bytes:
    return record(STDOUT, 1, content)


def told(exchange: Exchange) -> list[ExchangeEvent]:
    """What there is, up to the end."""
    events = []
    while (event := exchange.next_event()) is not None:
        events.append(event)
        if isinstance(event, RequestEnded):
            assert exchange.next_event() is event
            break
    return events


def test_an_exchange() -> None:
    exchange = Exchange(WebServerConnection(), ParamsBuilder().build("POST", b"/x"))
    assert exchange.wants_input
    exchange.send_body(b"body")
    exchange.end_body()
    assert not exchange.wants_input
    exchange.send_body(b"behind the end")
    exchange.end_body()
    records = parse(b"".join(exchange.data_to_send()))
    assert [answer.content for answer in records if answer.type == STDIN] == [b"body", b""]
    assert exchange.next_event() is None
    exchange.receive_data(out(HEAD[:9]))
    assert exchange.received
    assert exchange.next_event() is None
    exchange.receive_data(out(HEAD[9:] + b"one") + record(STDERR, 1, b"error") + out(b"two"))
    head = ResponseHead(200, [(b"Content-Type", b"text/plain")])
    assert told(exchange) == [head, StdoutReceived(1, b"one"), StderrReceived(1, b"error"), StdoutReceived(1, b"two")]
    assert exchange.head == head
    assert exchange.end is None
    assert not exchange.reusable
    exchange.receive_data(record(STDOUT, 1) + record(END, 1, struct.pack("!IB3x", 3, 0)))
    assert told(exchange) == [RequestEnded(1, 3, 0)]
    assert exchange.end == RequestEnded(1, 3, 0)
    assert exchange.reusable
    assert exchange.stderr == b"error"
    exchange.receive_data(b"")
    assert told(exchange) == [RequestEnded(1, 3, 0)]
    assert not exchange.reusable


def test_roles() -> None:
    exchange = Exchange(WebServerConnection(), {}, role=FILTER)
    exchange.send_body(b"x")
    exchange.end_body()
    assert exchange.wants_input
    exchange.send_data(b"file")
    exchange.end_data()
    assert not exchange.wants_input
    records = parse(b"".join(exchange.data_to_send()))
    assert [(answer.type, answer.content) for answer in records[2:]] == [
        (STDIN, b"x"),
        (STDIN, b""),
        (DATA, b"file"),
        (DATA, b""),
    ]
    authorizer = Exchange(WebServerConnection(), {}, role=AUTHORIZER, keep_conn=False)
    assert not authorizer.wants_input
    authorizer.end_body()
    assert len(parse(b"".join(authorizer.data_to_send()))) == 2
    authorizer.receive_data(out(b"Status: 200\n\n") + END_OF_REQUEST)
    assert told(authorizer) == [ResponseHead(200, []), RequestEnded(1, 0, 0)]
    # The application closes the connection.
    assert not authorizer.reusable


def test_an_answer_before_the_input_has_ended() -> None:
    exchange = Exchange(WebServerConnection(), {})
    exchange.receive_data(out(HEAD) + END_OF_REQUEST)
    assert not exchange.wants_input
    exchange.data_to_send()
    exchange.send_body(b"for nobody")
    exchange.end_body()
    assert exchange.data_to_send() == []
    assert not exchange.reusable


@pytest.mark.parametrize(
    ("came", "received", "where"),
    [
        (b"", False, "before any response"),
        (record(STDERR, 1, b"x"), True, "before any response"),
        (out(b"A"), True, "within the response's head"),
        (out(HEAD), True, "within the response's body"),
        (out(b"Content-Length: 1\n\nx"), True, "before the response's end"),
        (b"\x01", True, "before any response"),
    ],
)
def test_a_broken_connection(came: bytes, received: bool, where: str) -> None:
    exchange = new_exchange()
    if came:
        exchange.receive_data(came)
    exchange.receive_data(b"")
    with pytest.raises(BrokenResponseError, match=f"closed the connection {where}") as error:
        told(exchange)
    assert error.value.received == exchange.received == received
    with pytest.raises(BrokenResponseError):
        exchange.next_event()
    assert not exchange.reusable
    assert not exchange.wants_input


@pytest.mark.parametrize(
    ("status", "name"), [(1, "FCGI_CANT_MPX_CONN"), (2, "FCGI_OVERLOADED"), (3, "FCGI_UNKNOWN_ROLE")]
)
@pytest.mark.parametrize("before", [b"", out(HEAD)], ids=["alone", "late"])
def test_refusals(status: int, name: str, before: bytes) -> None:
    exchange = new_exchange()
    exchange.receive_data(before + record(END, 1, struct.pack("!IB3x", 0, status)))
    with pytest.raises(RequestRefusedError, match=f"refused the request: {name}") as error:
        told(exchange)
    assert error.value.protocol_status == status
    # It is the request that was refused, not the connection.
    assert exchange.reusable


def test_a_refusal_that_has_an_answer() -> None:
    exchange = new_exchange()
    body = b"Service Unavailable\n"
    exchange.receive_data(out(b"Status: 503\n\n" + body) + record(END, 1, struct.pack("!IB3x", 0, 2)))
    head, *rest = told(exchange)
    assert isinstance(head, ResponseHead)
    assert head.status == 503
    assert [event.data for event in rest if isinstance(event, StdoutReceived)] == [body]
    assert exchange.reusable
    # One that is not all there is no answer.
    exchange = new_exchange()
    exchange.receive_data(
        out(b"Status: 503\nContent-Length: 9\n\n8 bytes.") + record(END, 1, struct.pack("!IB3x", 0, 2))
    )
    with pytest.raises(RequestRefusedError, match="FCGI_OVERLOADED"):
        told(exchange)


@pytest.mark.parametrize(
    ("came", "error"),
    [
        (END_OF_REQUEST, "the request ended without a response, application status 0"),
        (out(b"A: b\n") + END_OF_REQUEST, "the request ended within its head"),
        (out(b"<html>\n"), "no header field"),
        (out(b"<html>\n") + out(b"more") + record(STDERR, 1, b"x") + END_OF_REQUEST, "no header field"),
        (out(b"A" * 101), "max_head_bytes"),
        (out(b"A:\n" * 3 + b"\n"), "max_head_fields"),
    ],
)
def test_no_proper_head(came: bytes, error: str) -> None:
    exchange = new_exchange(max_head_bytes=100, max_head_fields=2)
    exchange.receive_data(came)
    for _ in range(2):
        with pytest.raises(ResponseHeadError, match=error):
            exchange.next_event()


def test_a_violation_comes_in_its_turn() -> None:
    exchange = new_exchange()
    exchange.receive_data(out(HEAD + b"x") + b"\x02")
    assert isinstance(exchange.next_event(), ResponseHead)
    assert exchange.next_event() == StdoutReceived(1, b"x")
    for _ in range(2):
        with pytest.raises(ProtocolError, match="FastCGI version 2"):
            exchange.next_event()
    exchange.receive_data(b"more")
    again = new_exchange()
    again.receive_data(b"HTTP/1.1 ")
    with pytest.raises(ProtocolError, match="HTTP server"):
        again.next_event()
    # A whole response is one, whatever follows it.
    whole = new_exchange()
    whole.receive_data(out(HEAD) + END_OF_REQUEST + b"\x02")
    assert len(told(whole)) == 2
    assert not whole.reusable


def test_an_error_of_the_shell_s_own() -> None:
    exchange = new_exchange()
    exchange.receive_data(out(HEAD))
    exchange.fail(TimeoutError("too late"))
    exchange.fail(OSError("later still"))
    assert isinstance(exchange.next_event(), ResponseHead)
    with pytest.raises(TimeoutError):
        exchange.next_event()
    exchange.abort()
    assert exchange.data_to_send() == []


@pytest.mark.parametrize("slices", [(b"12345",), (b"12", b"345"), (b"1", b"23", b"45"), (b"1234", b"5")])
def test_the_announced_length(slices: tuple[bytes, ...]) -> None:
    for length, error in ((5, None), (4, "longer than its Content-Length"), (7, "2 bytes shorter")):
        exchange = new_exchange()
        exchange.receive_data(out(f"Content-Length: {length}\n\n".encode()))
        for content in slices:
            exchange.receive_data(out(content))
        exchange.receive_data(END_OF_REQUEST)
        assert isinstance(exchange.next_event(), ResponseHead)
        body = b""
        try:
            while isinstance(event := exchange.next_event(), StdoutReceived):
                body += event.data
            assert error is None
        except BrokenResponseError as broken:
            assert error is not None
            assert error in str(broken)
        assert body == b"12345"[:length]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_responses_without_a_body(method: str, status: int) -> None:
    exchange = new_exchange(method)
    exchange.receive_data(out(b"Status: %d\nContent-Length: 99\n\nbody" % status) + out(b"more") + END_OF_REQUEST)
    head, end = told(exchange)
    assert isinstance(head, ResponseHead)
    assert head.status == status
    assert end == RequestEnded(1, 0, 0)


def test_an_abort() -> None:
    exchange = Exchange(WebServerConnection(), {})
    exchange.data_to_send()
    exchange.receive_data(out(HEAD + b"x"))
    exchange.abort()
    exchange.abort()
    assert [answer.type for answer in parse(b"".join(exchange.data_to_send()))] == [ABORT]
    assert not exchange.wants_input
    exchange.send_body(b"x")
    assert exchange.next_event() is None
    exchange.receive_data(out(b"late") + record(END, 1, struct.pack("!IB3x", 9, 0)))
    assert told(exchange) == [RequestEnded(1, 9, 0)]
    assert not exchange.reusable
    exchange.abort()
    assert exchange.data_to_send() == []


def test_errors_are_kept_up_to_their_bound() -> None:
    exchange = new_exchange(max_stderr_bytes=10)
    for _ in range(3):
        exchange.receive_data(record(STDERR, 1, b"1234567"))
    assert exchange.stderr == b"1234567123"
    assert exchange.stderr_dropped == 11
    assert told(exchange) == [StderrReceived(1, b"1234567")] * 3


@pytest.mark.parametrize("size", range(1, 8))
def test_the_beginning_of_what_nobody_asked_for(size: int) -> None:
    """Its rest would be taken for the next answer."""
    exchange = new_exchange()
    exchange.receive_data(out(HEAD) + END_OF_REQUEST + out(HEAD + b"another")[:size])
    assert exchange.end is not None
    assert not exchange.reusable


def test_padding_that_comes_late() -> None:
    exchange = new_exchange()
    end = record(END, 1, bytes(8), padding=9)
    exchange.receive_data(out(HEAD) + end[:-9])
    assert exchange.reusable
    exchange.receive_data(end[-9:])
    assert exchange.reusable


def test_several_on_one_connection() -> None:
    connection = WebServerConnection(2)
    exchanges = {exchange.request_id: exchange for exchange in (Exchange(connection, {}), Exchange(connection, {}))}
    for event in connection.receive_data(record(STDOUT, 2, HEAD + b"2") + record(STDOUT, 1, HEAD + b"1")):
        exchanges[event.request_id].handle(event)  # type: ignore[attr-defined]
    assert told(exchanges[1])[1:] == [StdoutReceived(1, b"1")]
    assert told(exchanges[2])[1:] == [StdoutReceived(2, b"2")]


def test_others_events_are_passed_over() -> None:
    connection = WebServerConnection()
    exchange = Exchange(connection, {})
    connection.get_values()
    exchange.receive_data(record(10, 0))
    assert exchange.next_event() is None


@given(
    st.binary(max_size=200),
    st.binary(max_size=200),
    st.binary(max_size=30),
    st.lists(st.integers(1, 60), max_size=20),
    st.booleans(),
)
def test_what_an_application_answers(body: bytes, answer: bytes, error: bytes, sizes: list[int], length: bool) -> None:
    params = ParamsBuilder().build("POST", b"/x?y", [(b"A", b"b")], content_length=len(body))
    exchange = Exchange(WebServerConnection(), params)
    application = ApplicationConnection(Terms(None, ROLES))
    exchange.send_body(body)
    exchange.end_body()
    (event, *_) = application.receive_data(b"".join(exchange.data_to_send()))
    assert isinstance(event, RequestBegun)
    request = event.request
    assert request.params == params
    assert request.stdin.take() == body
    head = b"Status: 201\n" + (b"Content-Length: %d\n\n" % len(answer) if length else b"\n")
    application.write(request, head + answer)
    application.write_err(request, error)
    application.end(request, 5)
    data = b"".join(application.data_to_send())
    events: list[ExchangeEvent] = []
    for size in [*sizes, len(data) + 1]:
        if data:
            exchange.receive_data(data[:size])
            events += told(exchange)
            data = data[size:]
    # Errors come before the last byte, which without a body is one of the head's.
    (head_event,) = [event for event in events if isinstance(event, ResponseHead)]
    assert head_event == exchange.head
    assert events.index(head_event) == 0 or not answer
    assert head_event.status == 201
    assert b"".join(event.data for event in events if isinstance(event, StdoutReceived)) == answer
    assert exchange.stderr == error
    assert events[-1] == RequestEnded(1, 5, 0)
    assert exchange.reusable
