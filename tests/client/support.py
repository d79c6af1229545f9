"""Applications played by hand: for each connection in turn, a function with its socket."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simple_fastcgi.protocol.constants import FCGI_HEADER_LEN, FCGI_STDERR, FCGI_STDIN, FCGI_STDOUT
from simple_fastcgi.protocol.records import HEADER, encode_end_request, encode_record
from tests.gateways.support import listening
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    Play = Callable[[socket.socket], object]

HEAD = b"Content-Type: text/plain\r\n\r\n"


@contextmanager
def played(*plays: Play) -> Iterator[str]:
    """The address of an application whose connections are played, one behind the other."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for play in plays:
                connection, _ = sock.accept()
                with connection:
                    connection.settimeout(TIMEOUT)
                    play(connection)
        except BaseException as error:
            failures.append(error)

    with listening() as (sock, path):
        sock.settimeout(TIMEOUT)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        if failures:
            raise failures[0]


def read_request(sock: socket.socket) -> bytes:
    """A whole request; the content of its FCGI_STDIN. EOFError when the connection ends instead."""
    body = b""
    while True:
        _, type_, _, size, padding = HEADER.unpack(_exactly(sock, FCGI_HEADER_LEN))
        content = _exactly(sock, size + padding)[:size]
        if type_ == FCGI_STDIN:
            if not content:
                return body
            body += content


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def response(body: bytes = b"", *, head: bytes = HEAD, stderr: bytes = b"", app_status: int = 0) -> bytes:
    """The records of a whole response to request 1."""
    records = [encode_record(FCGI_STDERR, 1, stderr)] if stderr else []
    records += [encode_record(FCGI_STDOUT, 1, head + body), encode_record(FCGI_STDOUT, 1)]
    return b"".join([*records, encode_end_request(1, app_status, 0)])


def answers(*bodies: bytes) -> Play:
    """Answer so many requests, then close."""

    def play(sock: socket.socket) -> None:
        for body in bodies:
            read_request(sock)
            sock.sendall(response(body))

    return play


def sends(data: bytes) -> Play:
    """Read a request, send this, and close."""

    def play(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(data)

    return play


def waits(sock: socket.socket) -> None:
    """Read whatever comes, until the client has gone; answer nothing."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
