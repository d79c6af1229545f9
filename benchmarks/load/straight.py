"""A load generator that speaks straight to the socket, and checks every answer."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from benchmarks.figures import percentile

from .turn import Turn
from .wires import WIRES, BrokenAnswer, FastcgiWire

if TYPE_CHECKING:
    import socket

    from benchmarks.contestants.launch import Server

    from .requests import Traffic
    from .wires import Reader

SECONDS_TO_ANSWER = 10.0
# A server that only fails is not worth the time.
_MOST_ERRORS = 100
_READ = 262144


class _Connection:
    """One connection, and what is on its way on it."""

    def __init__(self, peer: socket.socket, reader: Reader) -> None:
        self.socket = peer
        self.feed = reader.feed
        self.waiting: dict[int, tuple[int, float]] = {}
        """Request id -> (number of the request, when it was sent)."""


class Generator:
    """Keeps `connections` busy, each with `depth` requests at once, for one turn.

    `kept`: a connection serves many requests, if the server keeps it; otherwise each request has its own. More than
    one at once are multiplexed, which FastCGI alone can.
    """

    def __init__(
        self, server: Server, traffic: Traffic, connections: int, *, kept: bool = True, depth: int = 1
    ) -> None:
        self._server = server
        self._traffic = traffic
        self._count = connections
        self._kept = kept and server.contestant.keeps
        self._depth = depth
        self._wire = WIRES[server.contestant.protocol]
        if depth > 1 and not isinstance(self._wire, FastcgiWire):
            raise ValueError("only FastCGI has several requests on one connection")
        self._number = 0
        self._known: dict[int, bytes] = {}
        self._latencies: list[float] = []
        self._errors = 0
        self._first_error = ""
        self._epoll = select.epoll()
        self._open: dict[int, _Connection] = {}

    def run(self, seconds: float) -> Turn:
        """Ask for so long, then wait for what is on its way."""
        started = time.perf_counter()
        end = started + seconds
        try:
            for _ in range(self._count):
                self._connect()
            while self._open and self._errors < _MOST_ERRORS:
                events = self._epoll.poll(SECONDS_TO_ANSWER)
                if not events:
                    self._errors += len(self._open)
                    self._first_error = self._first_error or f"no answer within {SECONDS_TO_ANSWER:.0f} s"
                    break
                for descriptor, _ in events:
                    self._read(self._open[descriptor], end)
        finally:
            for connection in self._open.values():
                connection.socket.close()
            self._epoll.close()
        elapsed = time.perf_counter() - started
        answered = self._latencies
        return Turn(
            units=len(answered),
            seconds=elapsed,
            errors=self._errors,
            p50_ms=percentile(answered, 50) * 1000 if answered else None,
            p99_ms=percentile(answered, 99) * 1000 if answered else None,
            note=self._first_error,
        )

    def _connect(self) -> None:
        peer = self._server.connect()
        connection = _Connection(peer, self._wire.reader())
        self._open[peer.fileno()] = connection
        self._epoll.register(peer, select.EPOLLIN)
        for request_id in range(1, self._depth + 1):
            self._send(connection, request_id)

    def _send(self, connection: _Connection, request_id: int) -> None:
        number = self._number
        self._number += 1
        data = self._known.get(request_id)
        if data is None:
            request = self._traffic.request(number)
            data = self._wire.encode(request, kept=self._kept, request_id=request_id)
            if not self._traffic.varied:
                self._known[request_id] = data
        connection.waiting[request_id] = number, time.perf_counter()
        connection.socket.sendall(data)

    def _read(self, connection: _Connection, end: float) -> None:
        try:
            data = connection.socket.recv(_READ)
            if not data:
                raise BrokenAnswer("closed before the answer was complete")
            ended = connection.feed(data)
            now = time.perf_counter()
            for request_id, body in ended:
                number, sent = connection.waiting.pop(request_id)
                if body != self._traffic.answer(number):
                    raise BrokenAnswer(f"a wrong answer: {body[:80]!r}")
                self._latencies.append(now - sent)
            if now < end and self._kept:
                for request_id, _ in ended:
                    self._send(connection, request_id)
        except (OSError, BrokenAnswer, KeyError) as problem:
            self._errors += 1
            self._first_error = self._first_error or str(problem)
            self._replace(connection, end)
        else:
            if not connection.waiting:
                self._replace(connection, end)

    def _replace(self, connection: _Connection, end: float) -> None:
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        if time.perf_counter() < end:
            self._connect()
