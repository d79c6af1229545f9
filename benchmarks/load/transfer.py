"""Large bodies in both directions, through nginx, from one client."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from .turn import Turn
from .wires import BrokenAnswer, check_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEGABYTE = 2**20
CHUNK = 65536
"""What the applications send at once."""
_PIECE = bytes(CHUNK)
_SECONDS = 60.0


def download(port: int, query: str, megabytes: int, seconds: float) -> Turn:
    """Fetch `/?query` over and over for so long, at least once; each body is checked to be zeros of that size."""
    return _repeat(seconds, megabytes, lambda: _fetch(port, query, megabytes * MEGABYTE))


def upload(port: int, megabytes: int, seconds: float) -> Turn:
    """Send a body over and over for so long, at least once; each answer is checked to tell its size."""
    return _repeat(seconds, megabytes, lambda: _send(port, megabytes * MEGABYTE))


def _repeat(seconds: float, megabytes: int, act: Callable[[], None]) -> Turn:
    started = time.perf_counter()
    units = errors = 0
    note = ""
    while True:
        try:
            act()
            units += megabytes
        except (OSError, BrokenAnswer) as problem:
            errors += 1
            note = note or str(problem)
        elapsed = time.perf_counter() - started
        if elapsed >= seconds or errors:
            return Turn(units, elapsed, errors, note=note)


def _fetch(port: int, query: str, size: int) -> None:
    buffer = bytearray(262144)
    view = memoryview(buffer)
    zeros = bytes(len(buffer))
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as peer:
        peer.sendall(f"GET /?{query} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        left = size - len(_head(peer))
        while got := peer.recv_into(view):
            if view[:got] != zeros[:got]:
                raise BrokenAnswer("a wrong body")
            left -= got
    if left:
        raise BrokenAnswer(f"{left} bytes are missing")


def _send(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as peer:
        peer.sendall(f"POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // len(_PIECE)):
            peer.sendall(_PIECE)
        body = _head(peer) + b"".join(_rest(peer))
    if body != b"%d" % size:
        raise BrokenAnswer(f"a wrong answer: {body[:80]!r}")


def _head(peer: socket.socket) -> bytes:
    """Read the head of a good answer; gives what has come behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.recv(65536)
        if not more:
            raise BrokenAnswer("an answer without a head")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    check_status(head)
    return body


def _rest(peer: socket.socket) -> Iterator[bytes]:
    while data := peer.recv(65536):
        yield data
