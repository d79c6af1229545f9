"""What is no FastCGI, or not in this order: the connection is closed, and nobody else notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import (
    FCGI_ABORT_REQUEST,
    FCGI_BEGIN_REQUEST,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_GET_VALUES_RESULT,
    FCGI_PARAMS,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_TYPE,
)
from simple_fastcgi.protocol.records import HEADER, encode_begin_request, encode_record
from tests.hostile.support import MEGABYTE, exchange, hello

if TYPE_CHECKING:
    from tests.hostile.support import Server
    from tests.support.webserver import WebServer

pytestmark = pytest.mark.slow

BEGIN = encode_begin_request(1, 1, 1)
PARAMS = encode_record(FCGI_PARAMS, 1, b"\1\1AB")
END_OF_PARAMS = encode_record(FCGI_PARAMS, 1)
LONG = (0x7FFFFFFF | 1 << 31).to_bytes(4, "big")

CLOSED = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "noise": bytes(range(256)) * 16,
    "text": b"hello?\n",
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "version-0": HEADER.pack(0, 1, 1, 8, 0),
    "version-2": HEADER.pack(2, 1, 1, 8, 0),
    "version-255": HEADER.pack(255, 1, 1, 8, 0),
    "version-2-behind-a-request": hello() + HEADER.pack(2, 1, 1, 8, 0),
    "short-begin": encode_record(FCGI_BEGIN_REQUEST, 1, b"\0\1\1"),
    "long-begin": encode_record(FCGI_BEGIN_REQUEST, 1, bytes(65535)),
    "begin-twice": BEGIN * 2,
    "begin-twice-behind-params": BEGIN + PARAMS + BEGIN,
    "params-behind-their-end": BEGIN + END_OF_PARAMS + PARAMS,
    "input-before-the-params": BEGIN + encode_record(FCGI_STDIN, 1, b"x"),
    "data-before-the-params": BEGIN + encode_record(FCGI_DATA, 1, b"x"),
    "params-cut-short": BEGIN + encode_record(FCGI_PARAMS, 1, b"\5\5A") + END_OF_PARAMS,
    "overrun-of-a-name": BEGIN + encode_record(FCGI_PARAMS, 1, LONG + b"\0"),
    "overrun-of-a-value": BEGIN + encode_record(FCGI_PARAMS, 1, b"\1\xff\xff\xff\xffA"),
    "overrun-of-both": BEGIN + encode_record(FCGI_PARAMS, 1, LONG * 2),
    "overrun-in-get-values": encode_record(9, 0, LONG + b"\0"),
    "stdout": BEGIN + encode_record(FCGI_STDOUT, 1, b"x"),
    "stderr": BEGIN + encode_record(FCGI_STDERR, 1, b"x"),
    "end-request": BEGIN + encode_record(FCGI_END_REQUEST, 1, bytes(8)),
    "get-values-result": encode_record(FCGI_GET_VALUES_RESULT, 0),
    "unknown-type": encode_record(FCGI_UNKNOWN_TYPE, 0, bytes(8)),
    "begin-with-id-0": encode_begin_request(0, 1, 1),
    "abort-with-id-0": encode_record(FCGI_ABORT_REQUEST, 0),
    "params-with-id-0": encode_record(FCGI_PARAMS, 0, b"\1\1AB"),
    "input-with-id-0": encode_record(FCGI_STDIN, 0, b"x"),
}


# What is odd, but no violation: the connection goes on.
TOLERATED = {
    "records-of-unknown-types": b"".join(encode_record(type_, 0, b"x") for type_ in range(12, 256)),
    "unknown-types-of-a-request": encode_record(99, 7, b"x"),
    "abort-of-nobody": encode_record(FCGI_ABORT_REQUEST, 77),
    "input-of-nobody": encode_record(FCGI_STDIN, 77, b"x" * 1000),
    "params-of-nobody": encode_record(FCGI_PARAMS, 77, b"x" * 1000),
    "reserved-bytes": b"\1\5\0\x4d\0\0\0\xff",
    "padding": HEADER.pack(1, FCGI_STDIN, 77, 0, 255) + b"\xff" * 255,
}


def close_of(web: WebServer) -> bool:
    """Read until the server closes."""
    try:
        while web.socket.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_garbage(server: Server) -> None:
    """Each of it many times: one line in the log for each, and memory holds nothing of it."""
    rounds = 5
    with server.ordeal(growth=4 * MEGABYTE, complaints=rounds * len(CLOSED)) as ordeal:
        for _ in range(rounds):
            for name, garbage in CLOSED.items():
                with server.connect() as web:
                    web.send(garbage)
                    try:
                        close_of(web)
                    except TimeoutError:
                        pytest.fail(f"{name}: the connection is still open")
            ordeal.goes_on()


def test_oddities(server: Server) -> None:
    rounds = 20
    with server.ordeal(growth=4 * MEGABYTE, complaints=0), server.connect() as web:
        for _ in range(rounds):
            for name, oddity in TOLERATED.items():
                assert exchange(web, oddity + hello(), answers=1).statuses[0] == 1, name


def test_connect_and_leave(server: Server) -> None:
    """At each point of a request's beginning, many times."""
    whole = BEGIN + PARAMS
    with server.ordeal(growth=4 * MEGABYTE, complaints=0) as ordeal:
        for number in range(400):
            with server.connect() as web:
                web.send(whole[: number % len(whole)])
            if number % 50 == 0:
                ordeal.goes_on()
