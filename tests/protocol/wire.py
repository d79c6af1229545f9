"""A web server's side of the wire, written from the specification alone: nothing of the package's own encoding."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.protocol.events import InputReceived, RequestAborted, RequestBegun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simple_fastcgi.protocol.application import ApplicationConnection
    from simple_fastcgi.protocol.events import Event
    from simple_fastcgi.protocol.streams import Request

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = range(9, 12)
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
ROLES = (RESPONDER, AUTHORIZER, FILTER)
COMPLETE, CANT_MPX, OVERLOADED, UNKNOWN_ROLE = range(4)

Pairs = list[tuple[bytes, bytes]]


def record(
    type_: int, id_: int, content: bytes = b"", padding: int = 0, *, version: int = 1, reserved: int = 0
) -> bytes:
    header = struct.pack("!BBHHBB", version, type_, id_, len(content), padding, reserved)
    return header + content + b"\xee" * padding


def begin(id_: int = 1, role: int = RESPONDER, *, keep: bool = True) -> bytes:
    return record(BEGIN, id_, struct.pack("!HB5x", role, keep))


def length(size: int, *, long: bool = False) -> bytes:
    return struct.pack("!I", size | 1 << 31) if long or size > 127 else bytes((size,))


def pair(name: bytes, value: bytes = b"", *, long: bool = False) -> bytes:
    return length(len(name), long=long) + length(len(value), long=long) + name + value


def block(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(pair(name, value) for name, value in pairs)


def stream(type_: int, id_: int, content: bytes, size: int = 65535, *, end: bool = True) -> bytes:
    """`content` in records of `size` bytes."""
    records = [record(type_, id_, content[start : start + size]) for start in range(0, len(content), size)]
    return b"".join(records) + (record(type_, id_) if end else b"")


def request(id_: int = 1, pairs: Pairs | None = None, body: bytes = b"", *, keep: bool = True) -> bytes:
    """A whole request of a Responder."""
    return begin(id_, keep=keep) + stream(PARAMS, id_, block(pairs or [])) + stream(STDIN, id_, body)


class Answer(NamedTuple):
    """A record from the application."""

    type: int
    id: int
    content: bytes = b""


def end(id_: int = 1, app_status: int = 0, protocol_status: int = COMPLETE) -> Answer:
    return Answer(END, id_, struct.pack("!IB3x", app_status, protocol_status))


def parse(data: bytes) -> list[Answer]:
    """The records in `data`, all of them whole, of version 1 and of a length that is a multiple of 8."""
    answers = []
    while data:
        version, type_, id_, size, padding, reserved = struct.unpack_from("!BBHHBB", data)
        assert version == 1
        assert reserved == 0
        assert (size + padding) % 8 == 0
        assert len(data) >= 8 + size + padding
        assert not any(data[8 + size : 8 + size + padding])
        answers.append(Answer(type_, id_, data[8 : 8 + size]))
        data = data[8 + size + padding :]
    return answers


def sent(connection: ApplicationConnection) -> bytes:
    """What is to be sent now."""
    buffers = connection.data_to_send()
    assert all(buffers)
    assert not connection.out
    assert connection.data_to_send() == []
    return b"".join(buffers)


def answers(connection: ApplicationConnection) -> list[Answer]:
    return parse(sent(connection))


def told(events: list[Event]) -> list[tuple[type[Event], int]]:
    return [(type(event), event.request.id) for event in events]


def begun(connection: ApplicationConnection, data: bytes) -> Request:
    """The only request that begins with `data`."""
    (request,) = [event.request for event in connection.receive_data(data) if isinstance(event, RequestBegun)]
    return request


def check_state(connection: ApplicationConnection) -> None:
    """What the connection counts is what is there."""
    requests = connection.requests.values()
    incomplete = [request for request in requests if request.receiver is not None]
    receivers = [request.receiver for request in incomplete if request.receiver is not None]
    assert set(connection._incomplete) == set(incomplete)
    assert connection._params_bytes == sum(map(len, receivers))
    assert connection._params_bytes <= connection.limits.max_params_bytes
    assert connection._out_size == sum(map(len, connection.out))
    in_files = sum(request.spooled_input for request in requests)
    assert connection._unread.in_files == in_files
    assert connection._unread.in_memory == sum(request.buffered_input for request in requests) - in_files
    assert not connection._fed or connection._failed is not None
    assert len(connection.requests) + len(connection._leaving) <= connection.limits.max_requests_per_connection
    assert all(request.ended and request.aborted for request in connection._leaving)
    assert len(connection._part) <= 65535
    for id_, request in connection.requests.items():
        assert request.id == id_
        assert not request.ended
        written = sum(map(len, request.stdout)) + sum(map(len, request.stderr or ()))
        assert request.unsent == written


class Served:
    """What a handler sees of one request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.begun = (request.id, request.role, request.keep_conn, request.params, list(request.repeated))
        self.stdin = b""
        self.data: bytes | None = None if request.data is None else b""
        self.aborted = False

    def take(self) -> None:
        self.stdin += self.request.stdin.take()
        assert not self.request.stdin.buffered
        if self.request.data is not None:
            assert self.data is not None
            self.data += self.request.data.take()

    def summary(self) -> tuple[object, ...]:
        """All that must not depend on the slicing: the input of an aborted request may be lost."""
        if self.aborted:
            return (*self.begun, "aborted")
        return (*self.begun, self.stdin, self.data, self.request.stdin.ended, self.request.input_ended)


JUNK = b"\x01\x05\x00\x01" * 4
"""What is in a buffer behind the bytes that have come: the beginnings of records."""


class Shell:
    """Feeds a connection, in the midst of a body from a buffer, and drains all input as soon as it is told of it."""

    def __init__(self, connection: ApplicationConnection) -> None:
        self.connection = connection
        self.served: dict[Request, Served] = {}
        self.sent = b""
        self.error: ProtocolError | None = None

    def feed(self, data: bytes) -> None:
        buffer = bytearray(data) + JUNK
        in_body = self.connection.body_lead
        try:
            self.act(self.connection.receive_data(memoryview(buffer)[: len(data)] if in_body else data))
        except ProtocolError as error:
            assert self.error is None or error is self.error
            self.error = error
        # All that was in it has been taken.
        buffer[:] = bytes(len(buffer))
        if self.connection.out:
            self.sent += sent(self.connection)

    def feed_all(self, slices: Sequence[bytes]) -> None:
        for data in slices:
            self.feed(data)
            if len(data) > 1:
                check_state(self.connection)
        check_state(self.connection)

    def act(self, events: list[Event]) -> None:
        for event in events:
            request = event.request
            if isinstance(event, RequestBegun):
                assert request not in self.served
                self.served[request] = Served(request)
            elif isinstance(event, RequestAborted):
                assert not self.served[request].aborted
                self.served[request].aborted = True
            else:
                assert isinstance(event, InputReceived)
            self.served[request].take()

    def summary(self) -> list[tuple[object, ...]]:
        return [served.summary() for served in self.served.values()]
