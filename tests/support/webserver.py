"""The web server's side of a connection, for tests: real sockets, hand-made records."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from simple_fastcgi.protocol.constants import (
    FCGI_ABORT_REQUEST,
    FCGI_END_REQUEST,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
)
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import END_REQUEST_BODY, HEADER, encode_begin_request, encode_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Address = str | tuple[str, int]
TIMEOUT = 60.0
"""Seconds until a test gives up waiting for what should happen at once: a busy machine may stand still for moments."""

BASE_PARAMS = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "REQUEST_URI": "/",
    "QUERY_STRING": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    # Not one that is told before a kept connection is closed.
    "SERVER_SOFTWARE": "tests/1.0",
    "SERVER_NAME": "example.org",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_PORT": "51234",
    "HTTP_HOST": "example.org",
}


@dataclass
class Record:
    type: int
    id: int
    content: bytes
    padding: int = 0


@dataclass
class Response:
    """All that came under one request id."""

    stdout: bytes = b""
    stderr: bytes = b""
    app_status: int | None = None
    protocol_status: int | None = None
    records: list[Record] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.protocol_status is not None

    @property
    def head(self) -> dict[str, str]:
        """The header fields, names in lower case; `status` is always there."""
        head, _, _ = self.stdout.partition(b"\r\n\r\n")
        fields = {"status": "200 OK"}
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return fields

    @property
    def status(self) -> int:
        return int(self.head["status"].split()[0])

    @property
    def body(self) -> bytes:
        return self.stdout.partition(b"\r\n\r\n")[2]


def params_for(url: str = "/", **more: str) -> dict[str, str]:
    """Parameters as nginx sends them for `url` with a split PATH_INFO."""
    path, _, query = url.partition("?")
    return {**BASE_PARAMS, "PATH_INFO": path, "REQUEST_URI": url, "QUERY_STRING": query, **more}


def encode_request(
    params: Mapping[str, str] | Iterable[tuple[str, str]],
    stdin: bytes = b"",
    *,
    request_id: int = 1,
    keep: bool = True,
    role: int = FCGI_RESPONDER,
    end_stdin: bool = True,
) -> bytes:
    """A whole request as its records."""
    pairs = params.items() if hasattr(params, "items") else params
    out = [
        encode_begin_request(request_id, role, FCGI_KEEP_CONN if keep else 0),
        *stream(FCGI_PARAMS, request_id, encode_pairs(pairs)),
        *stream(FCGI_STDIN, request_id, stdin, end=end_stdin),
    ]
    return b"".join(out)


def stream(type_: int, request_id: int, data: bytes, *, end: bool = True, size: int = 65528) -> list[bytes]:
    """`data` as records of at most `size` bytes, and the end of the stream."""
    records = [encode_record(type_, request_id, data[i : i + size]) for i in range(0, len(data), size)]
    return [*records, encode_record(type_, request_id)] if end else records


class WebServer:
    """One connection to a FastCGI application."""

    def __init__(self, address: Address) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def begin(self, params: Mapping[str, str], **options: bool | int) -> None:
        """Start a request whose body follows by :meth:`body`."""
        self.send(encode_request(params, end_stdin=False, **options))  # type: ignore[arg-type]

    def body(self, data: bytes, *, request_id: int = 1, end: bool = False) -> None:
        self.send(b"".join(stream(FCGI_STDIN, request_id, data, end=end)))

    def abort(self, request_id: int = 1) -> None:
        self.send(encode_record(FCGI_ABORT_REQUEST, request_id))

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the application closed the connection, {len(self._buffer)} of {size} bytes came")
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def record(self) -> Record:
        """The next record; EOFError when the connection was closed instead."""
        version, type_, request_id, size, padding = HEADER.unpack(self._read(8))
        assert version == 1
        content = self._read(size + padding)[:size]
        return Record(type_, request_id, content, padding)

    def response(self, request_id: int = 1) -> Response:
        """The whole response to one request; records of others are an error."""
        return self.responses([request_id])[request_id]

    def responses(self, ids: Iterable[int]) -> dict[int, Response]:
        """The whole responses to several requests, however they are interleaved."""
        responses = {request_id: Response() for request_id in ids}
        while not all(response.ended for response in responses.values()):
            record = self.record()
            collect(responses[record.id], record)
        return responses

    def request(self, params: Mapping[str, str], stdin: bytes = b"", **options: bool | int) -> Response:
        """Send a whole request and read its response."""
        self.send(encode_request(params, stdin, **options))  # type: ignore[arg-type]
        return self.response(int(options.get("request_id", 1)))

    def eof(self) -> None:
        """Wait for the application to close: whole, with nothing before it and no reset."""
        assert self._buffer == b""
        assert self.socket.recv(65536) == b""

    def at_eof(self) -> bool:
        """Wait for the application to close; False if data comes instead."""
        if self._buffer:
            return False
        try:
            self._buffer = self.socket.recv(65536)
        except ConnectionResetError:
            return True
        return not self._buffer


def collect(response: Response, record: Record) -> None:
    assert not response.ended, f"a record of type {record.type} behind the end of its request"
    response.records.append(record)
    if record.type == FCGI_STDOUT:
        response.stdout += record.content
    elif record.type == FCGI_STDERR:
        response.stderr += record.content
    else:
        assert record.type == FCGI_END_REQUEST, record
        response.app_status, response.protocol_status = END_REQUEST_BODY.unpack(record.content)
