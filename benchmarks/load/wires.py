"""Requests and answers as bytes of FastCGI and of HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from simple_fastcgi.protocol.constants import (
    FCGI_END_REQUEST,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDIN,
    FCGI_STDOUT,
)
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import HEADER, encode_begin_request, encode_record

from .requests import HOST

if TYPE_CHECKING:
    from .requests import Request

_RECORD = 65528  # the longest content of a record that needs no padding


class BrokenAnswer(Exception):
    """An answer that breaks its protocol, or is not 200."""


class Reader(Protocol):
    """What comes on one connection."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(request id, body) of each answer that is complete now; BrokenAnswer."""


class Wire(Protocol):
    """One protocol."""

    def encode(self, request: Request, *, kept: bool, request_id: int = 1) -> bytes:
        """A request; `kept`: the connection is to stay open."""

    def reader(self) -> Reader:
        """For a new connection."""


class FastcgiWire:
    """The web server's side of FastCGI 1.0, as nginx speaks it."""

    def encode(self, request: Request, *, kept: bool, request_id: int = 1) -> bytes:
        parts = [encode_begin_request(request_id, FCGI_RESPONDER, FCGI_KEEP_CONN if kept else 0)]
        for type_, data in ((FCGI_PARAMS, encode_pairs(cgi_variables(request))), (FCGI_STDIN, request.body)):
            pieces = [data[at : at + _RECORD] for at in range(0, len(data), _RECORD)]
            parts += [encode_record(type_, request_id, piece) for piece in [*pieces, b""]]
        return b"".join(parts)

    def reader(self) -> Reader:
        return FastcgiReader()


class FastcgiReader:
    """Records of many requests, in any order."""

    def __init__(self) -> None:
        self._rest = b""
        self._output: dict[int, list[bytes]] = {}

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        if self._rest:
            data = self._rest + data
        at = 0
        size = len(data)
        ended: list[tuple[int, bytes]] = []
        while size - at >= 8:
            _, type_, request_id, length, padding = HEADER.unpack_from(data, at)
            end = at + 8 + length
            if end + padding > size:
                break
            if type_ == FCGI_STDOUT:
                self._output.setdefault(request_id, []).append(data[at + 8 : end])
            elif type_ == FCGI_END_REQUEST:
                if data[at + 8 : at + 13] != bytes(5):
                    raise BrokenAnswer("END_REQUEST tells of a failure")
                ended.append((request_id, _cgi_body(b"".join(self._output.pop(request_id, [])))))
            at = end + padding
        self._rest = data[at:]
        return ended


class HttpWire:
    """HTTP/1.1 as nginx speaks it to a backend."""

    def encode(self, request: Request, *, kept: bool, request_id: int = 1) -> bytes:
        fields = {"Host": HOST, **({} if kept else {"Connection": "close"}), **request.headers}
        if request.body:
            fields["Content-Length"] = str(len(request.body))
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body

    def reader(self) -> Reader:
        return HttpReader()


class HttpReader:
    """One answer after the other; all bear the request id 1."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        """The size from which on a look is worth while: a large body is not joined over and over."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        data = b"".join(self._parts)
        self._keep(data)
        head, mark, rest = data.partition(b"\r\n\r\n")
        if not mark:
            return []
        check_status(head)
        fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            whole = _dechunk(rest)
            if whole is None:
                return []
            body, length = whole
        elif b"content-length" in fields:
            length = int(fields[b"content-length"])
            if len(rest) < length:
                self._needed = len(head) + len(mark) + length
                return []
            body = rest[:length]
        else:
            raise BrokenAnswer("an answer without a length")
        self._keep(rest[length:])
        return [(1, body)]

    def _keep(self, data: bytes) -> None:
        self._parts = [data]
        self._size = len(data)
        self._needed = 0


def cgi_variables(request: Request) -> list[tuple[str, str]]:
    """The request's CGI variables: those that nginx sends, or the bare ones."""
    variables = [
        ("REQUEST_METHOD", request.method),
        ("QUERY_STRING", request.query),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", request.path),
        ("REQUEST_URI", request.target),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", HOST),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "localhost"),
        ("HTTP_HOST", HOST),
    ]
    if not request.bare:
        variables += [
            ("CONTENT_TYPE", request.headers.get("Content-Type", "")),
            ("CONTENT_LENGTH", str(len(request.body)) if request.body else ""),
            ("DOCUMENT_URI", request.path),
            ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
            ("REQUEST_SCHEME", "http"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", "nginx/1.22.1"),
            ("REMOTE_PORT", "51234"),
            ("REMOTE_USER", ""),
            ("SERVER_ADDR", HOST),
            ("REDIRECT_STATUS", "200"),
        ]
    return variables + [(f"HTTP_{name.upper().replace('-', '_')}", value) for name, value in request.headers.items()]


def check_status(head: bytes) -> None:
    """BrokenAnswer unless a head of HTTP tells of a 200."""
    line = head.partition(b"\r\n")[0]
    if line.split()[1:2] != [b"200"]:
        raise BrokenAnswer(line.decode("latin-1"))


def _cgi_body(output: bytes) -> bytes:
    head, mark, body = output.partition(b"\r\n\r\n")
    if not mark:
        raise BrokenAnswer("an answer without a head")
    for line in head.split(b"\r\n"):
        if line[:7].lower() == b"status:" and line[7:].split()[:1] != [b"200"]:
            raise BrokenAnswer(line.decode("latin-1"))
    return body


def _dechunk(data: bytes) -> tuple[bytes, int] | None:
    """(the body, the length of its chunked form), or None if there is more to come."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].partition(b";")[0], 16)
        at = end + 2
        if len(data) < at + size + 2:
            return None
        if size == 0:
            return b"".join(parts), at + 2
        parts.append(data[at : at + size])
        at += size + 2


WIRES: dict[str, Wire] = {"fastcgi": FastcgiWire(), "http": HttpWire()}
