"""The ways to load a contestant that a scenario chooses from.

Each is opened once for all servers of a scenario, and then runs turns against one of them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from benchmarks.contestants.prepare import Missing

from . import events, once, transfer, wrk
from .nginx import in_front
from .requests import HELLO, Request, Traffic
from .straight import Generator
from .wires import WIRES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.contestants.launch import Server
    from benchmarks.machine import Cores

    from .turn import Turn

    Runner = Callable[[float], Turn]


class Session(Protocol):
    """A load that is ready to run."""

    def check(self, server: Server) -> None:
        """Missing if the server does not answer as it should."""

    def visit(self, server: Server) -> AbstractContextManager[Runner]:
        """Come to it: what to call with a number of seconds, for a turn of about that length."""


class Load(Protocol):
    """A way to load."""

    @property
    def unit(self) -> str:
        """What is counted."""

    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> AbstractContextManager[Session]:
        """Make ready; `folder` takes files. Missing when something is not installed."""


@dataclass(frozen=True)
class _Session:
    check: Callable[[Server], None]
    turn: Callable[[Server, float], Turn]

    @contextlib.contextmanager
    def visit(self, server: Server) -> Iterator[Runner]:
        yield lambda seconds: self.turn(server, seconds)


@dataclass(frozen=True)
class ThroughNginx:
    """wrk, through nginx: `connections` at once; `kept`: nginx keeps its connections to the server."""

    traffic: Traffic = HELLO
    connections: int = 16
    kept: bool = True
    unit: str = "request"

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        requests = folder / "requests"
        wrk.write_requests(self.traffic, requests)
        with in_front(servers, folder, cores.load, kept=self.kept) as nginx:
            ports = nginx.ports

            def check(server: Server) -> None:
                once.expect(server, self.traffic, ports[server.contestant.title])

            def turn(server: Server, seconds: float) -> Turn:
                return wrk.run(ports[server.contestant.title], requests, self.connections, seconds, cores.load)

            yield _Session(check, turn)


@dataclass(frozen=True)
class Straight:
    """Our own generator, straight at the socket; `depth` requests at once on each of the connections."""

    traffic: Traffic = HELLO
    connections: int = 16
    kept: bool = True
    depth: int = 1
    unit: str = "request"

    def check(self, server: Server) -> None:
        """As :class:`Session` has it."""
        if server.contestant.protocol not in WIRES:
            raise Missing(f"the load generator does not speak {server.contestant.protocol}")
        once.expect(server, self.traffic, None)

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        def turn(server: Server, seconds: float) -> Turn:
            return Generator(server, self.traffic, self.connections, kept=self.kept, depth=self.depth).run(seconds)

        yield _Session(self.check, turn)


@dataclass(frozen=True)
class StraightTransfer:
    """Bodies of `megabytes`, one after the other, straight at the socket; `what`: "upload" or "download"."""

    what: Literal["upload", "download"]
    megabytes: int = 100
    unit: str = "MB"

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        body = bytes(self.megabytes * transfer.MEGABYTE)
        if self.what == "upload":
            small, large = Traffic(Request(), b"0"), Traffic(Request(body=body), b"%d" % len(body))
        else:
            chunks = len(body) // transfer.CHUNK
            small, large = (Traffic(Request(query=str(count)), bytes(count * transfer.CHUNK)) for count in (1, chunks))

        def turn(server: Server, seconds: float) -> Turn:
            told = Generator(server, large, connections=1).run(seconds)
            return replace(told, units=told.units * self.megabytes)

        yield _Session(Straight(small).check, turn)


@dataclass(frozen=True)
class Transfer:
    """Bodies of `megabytes`, one after the other, through nginx, which does not put them on its disk.

    `what`: "upload", "download" (the application sends chunks) or "file" (it sends a file).
    """

    what: Literal["upload", "download", "file"]
    megabytes: int = 100
    unit: str = "MB"

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        file = folder / "big"
        if self.what == "file":
            file.write_bytes(bytes(self.megabytes * transfer.MEGABYTE))
        small = folder / "small"
        small.write_bytes(b"small")
        with in_front(servers, folder, cores.load, stored=False) as nginx:
            ports = nginx.ports

            def check(server: Server) -> None:
                """With a small body: the memory that the large one takes is still to be seen."""
                app = server.contestant.application or self.what
                traffic = {
                    "upload": Traffic(Request(), b"0"),
                    "download": Traffic(Request(query="1"), bytes(transfer.CHUNK)),
                    "file": Traffic(Request(query=str(small)), b"small"),
                }[app]
                once.expect(server, traffic, ports[server.contestant.title])

            def turn(server: Server, seconds: float) -> Turn:
                port = ports[server.contestant.title]
                app = server.contestant.application or self.what
                if app == "upload":
                    return transfer.upload(port, self.megabytes, seconds)
                query = str(file) if app == "file" else str(self.megabytes * transfer.MEGABYTE // transfer.CHUNK)
                return transfer.download(port, query, self.megabytes, seconds)

            yield _Session(check, turn)


@dataclass(frozen=True)
class EventStreams:
    """`streams` of server-sent events at once, through an nginx that does not buffer."""

    streams: int = 500
    unit: str = "event"

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        with in_front(servers, folder, cores.load, buffered=False) as nginx:
            yield _EventSession(nginx.ports, self.streams)


@dataclass(frozen=True)
class _EventSession:
    ports: dict[str, int]
    streams: int

    def check(self, server: Server) -> None:
        events.expect(self.ports[server.contestant.title])

    @contextlib.contextmanager
    def visit(self, server: Server) -> Iterator[Runner]:
        with events.opened(self.ports[server.contestant.title], self.streams) as streams:
            yield streams.run
