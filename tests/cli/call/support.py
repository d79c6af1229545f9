"""What `call` is called with: servers that echo, applications that break off, and a command line that is captured."""

from __future__ import annotations

import io
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from simple_fastcgi.protocol.constants import FCGI_GET_VALUES, FCGI_STDIN, FCGI_UNKNOWN_TYPE
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import listening_socket
from tests.support.lying import end, stdout
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.servers.support import Handler
    from tests.support.webserver import Address

    Call = Callable[..., "Said"]


@dataclass
class Said:
    """How a call ended, and what it said."""

    status: int
    out: bytes
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer

    @property
    def head(self) -> list[str]:
        """The lines of the head, with -i."""
        return self.out.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def complaint(self) -> str:
        """The one line that there is on standard error, without its beginning."""
        assert self.err.count("\n") == 1, self.err
        start = f"simple-fastcgi: ({self.status}) "
        assert self.err.startswith(start), self.err
        return self.err.removeprefix(start).rstrip("\n")


async def echo(handler: Handler) -> None:
    """Answers with the parameters and the body; some paths have answers of their own."""
    path = handler.environ["PATH_INFO"]
    if path == "/early":
        return await handler.send_response(413, "text/plain", b"too much\n")
    body = await handler.read()
    if path.startswith("/status/"):
        await handler.send_response(int(path.removeprefix("/status/")), "text/plain", b"so it is\n")
    elif path == "/stderr":
        await handler.write_err(b"an error\nand more")
        await handler.send_response(200, "text/plain", b"done\n")
    elif path == "/bytes":
        await handler.send_response(200, "application/octet-stream", body)
    else:
        answer = {"environ": handler.environ, "body": body.decode("latin-1")}
        await handler.send_response(200, "application/json", answer)
    return None


def stdin_of(file: BinaryIO) -> io.TextIOWrapper:
    """`file` as sys.stdin."""
    return io.TextIOWrapper(io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file)


def target_of(address: Address) -> str:
    return f"unix:{address}" if isinstance(address, str) else "{}:{}".format(*address)


# ------------------------------------------------------------------------------- applications made by hand

HEAD = b"Content-Type: text/plain\r\n\r\n"


def unknown_type() -> bytes:
    return encode_record(FCGI_UNKNOWN_TYPE, 0, bytes([FCGI_GET_VALUES, *bytes(7)]))


ANSWER = stdout(HEAD + b"hello\n") + end()
# What a request without a body ends with.
_LAST = encode_record(FCGI_STDIN, 1)


class Fake:
    """An application that has an answer for each request, whatever it is.

    Behind the last answer to a connection it closes it; ``...`` instead: it waits until the other side does. With
    `first_bytes` it answers to them, and reads no further.
    """

    def __init__(
        self, listening: socket.socket, connections: Sequence[Sequence[bytes | object]], *, first_bytes: bool
    ) -> None:
        self._first_bytes = first_bytes
        self.received: list[bytes] = []
        self._listening = listening
        self._connections = connections

    def run(self) -> None:
        for answers in self._connections:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(TIMEOUT)
                try:
                    self._answer(connection, answers)
                except ConnectionError:
                    pass

    def _answer(self, connection: socket.socket, answers: Sequence[bytes | object]) -> None:
        for answer in answers:
            if not isinstance(answer, bytes):
                while connection.recv(65536):
                    pass
                return
            data = b""
            while not data.endswith(_LAST) and not data.startswith(bytes([1, FCGI_GET_VALUES])):
                more = connection.recv(65536)
                if not more:
                    return
                data += more
                if self._first_bytes:
                    break
            self.received.append(data)
            connection.sendall(answer)


@contextmanager
def fake(
    *connections: Sequence[bytes | object], family: socket.AddressFamily = socket.AF_UNIX, first_bytes: bool = False
) -> Iterator[tuple[str, Fake]]:
    """Such an application, as a target."""
    with listening_socket(family) as (listening, address):
        application = Fake(listening, connections, first_bytes=first_bytes)
        thread = threading.Thread(target=application.run, name="fake", daemon=True)
        thread.start()
        try:
            yield target_of(address), application
        finally:
            try:
                listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            thread.join(TIMEOUT)
            assert not thread.is_alive()
