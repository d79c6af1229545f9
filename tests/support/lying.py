"""FastCGI servers that do what they should not: each connection gets a script."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDERR, FCGI_STDIN, FCGI_STDOUT
from simple_fastcgi.protocol.records import END_REQUEST_BODY, HEADER, encode_record
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Script = Callable[["Peer"], object]


class Peer:
    """The application's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def request(self) -> bytes:
        """Wait for a whole request; its body."""
        body = b""
        while True:
            header = self._file.read(8)
            if len(header) < 8:
                raise EOFError
            _, kind, _, size, padding = HEADER.unpack(header)
            content = self._file.read(size + padding)[:size]
            if kind == FCGI_STDIN:
                body += content
                if not size:
                    return body

    def eof(self) -> None:
        """Wait until the client hangs up."""
        with suppress(OSError):
            while self._file.read(65536):
                pass

    def send(self, *records: bytes) -> None:
        self.sock.sendall(b"".join(records))

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def stdout(data: bytes) -> bytes:
    return encode_record(FCGI_STDOUT, 1, data)


def stderr(data: bytes) -> bytes:
    return encode_record(FCGI_STDERR, 1, data)


def end(app_status: int = 0, protocol_status: int = 0) -> bytes:
    return encode_record(FCGI_END_REQUEST, 1, END_REQUEST_BODY.pack(app_status, protocol_status))


@contextmanager
def application(*scripts: Script, backlog: int = 16) -> Iterator[str]:
    """The address of a server that plays one script for each connection, one after the other; then nobody listens."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/lying.sock")
        listening.listen(backlog)
        listening.settimeout(TIMEOUT)
        ended = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            for script in scripts:
                try:
                    sock, _ = listening.accept()
                except OSError as error:
                    failures.append(error)
                    return
                if ended.is_set():
                    sock.close()
                    return
                sock.settimeout(TIMEOUT)
                peer = Peer(sock)
                try:
                    script(peer)
                except (EOFError, OSError):
                    pass
                except BaseException as error:
                    failures.append(error)
                finally:
                    peer.close()
            listening.close()

        thread = threading.Thread(target=run, name="lying")
        thread.start()
        try:
            yield f"unix:{folder}/lying.sock"
        finally:
            ended.set()
            if thread.is_alive():
                with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                    last.settimeout(TIMEOUT)
                    last.connect(f"{folder}/lying.sock")
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        assert not failures, failures
