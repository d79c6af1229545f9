"""Many streams of server-sent events at once, through nginx."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING

from benchmarks.contestants.prepare import Missing

from .turn import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
_EVENT = b"data: "
_SECONDS_TO_OPEN = 20.0
# The listen queues of some servers are as short as 100.
_BATCH = 50


class Streams:
    """Open streams, each of which has had its first event."""

    def __init__(self, sockets: list[socket.socket], epoll: select.epoll) -> None:
        self._sockets = {one.fileno(): one for one in sockets}
        self._epoll = epoll

    def run(self, seconds: float) -> Turn:
        """Count the events that come in so long, and until there was one for each stream; an end is an error."""
        started = time.perf_counter()
        events = errors = 0
        while (left := started + seconds - time.perf_counter()) > 0 or events + errors < len(self._sockets):
            ready = self._epoll.poll(left if left > 0 else _SECONDS_TO_OPEN)
            if not ready and left <= 0:
                errors += len(self._sockets)
            for descriptor, _ in ready:
                data = self._sockets[descriptor].recv(65536)
                events += data.count(_EVENT)
                if not data:
                    self._epoll.unregister(descriptor)
                    errors += 1
        return Turn(events, time.perf_counter() - started, errors)


@contextlib.contextmanager
def opened(port: int, count: int) -> Iterator[Streams]:
    """`count` streams; Missing if one does not start."""
    with contextlib.ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        sockets: list[socket.socket] = []
        while len(sockets) < count:
            batch = []
            for _ in range(min(_BATCH, count - len(sockets))):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), _SECONDS_TO_OPEN))
                peer.sendall(_REQUEST)
                batch.append(peer)
            for peer in batch:
                _await_event(peer)
                epoll.register(peer, select.EPOLLIN)
            sockets += batch
        yield Streams(sockets, epoll)


def expect(port: int) -> None:
    """See whether it streams, as soon as it has started; Missing when it does not."""
    deadline = time.monotonic() + _SECONDS_TO_OPEN
    while True:
        try:
            with opened(port, 1):
                return
        except Missing:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _await_event(peer: socket.socket) -> None:
    data = b""
    while _EVENT not in data:
        try:
            more = peer.recv(65536)
        except TimeoutError:
            more = b""
        data += more
        if not more or (b"\r\n" in data and b" 200" not in data.partition(b"\r\n")[0]):
            raise Missing(f"streams no events: {data[:80]!r}")
