"""The ways to load a contestant that a scenario chooses from.

Each is opened once for all servers of a scenario, and then runs turns against one of them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from . import once, wrk
from .nginx import in_front
from .requests import HELLO, Traffic
from .straight import Generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.contestants.launch import Server
    from benchmarks.machine import Cores

    from .turn import Turn


class Session(Protocol):
    """A load that is ready to run."""

    def check(self, server: Server) -> None:
        """Missing if the server does not answer as it should."""

    def turn(self, server: Server, seconds: float) -> Turn:
        """Load it for so long."""


class Load(Protocol):
    """A way to load."""

    @property
    def unit(self) -> str:
        """What is counted."""

    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> AbstractContextManager[Session]:
        """Make ready; `folder` takes files. Missing when something is not installed."""


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

    @contextlib.contextmanager
    def open(self, servers: Sequence[Server], folder: Path, cores: Cores) -> Iterator[Session]:
        def check(server: Server) -> None:
            once.expect(server, self.traffic, None)

        def turn(server: Server, seconds: float) -> Turn:
            return Generator(server, self.traffic, self.connections, kept=self.kept, depth=self.depth).run(seconds)

        yield _Session(check, turn)


@dataclass(frozen=True)
class _Session:
    check: Callable[[Server], None]
    turn: Callable[[Server, float], Turn]
