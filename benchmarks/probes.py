"""Figures that a server gives once in its life: what an import costs, how long a start takes, what rests in memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contestants.launch import command_of, environment_of, start, started
from .contestants.model import APPS
from .contestants.prepare import Missing
from .load import once
from .load.requests import HELLO
from .load.wires import WIRES, BrokenAnswer
from .machine import pinned
from .results import Sample

if TYPE_CHECKING:
    from pathlib import Path

    from .contestants.model import Contestant
    from .machine import Cores

_POLL_SECONDS = 0.002
_SECONDS_TO_ANSWER = 30.0


class Probe:
    """Starts a contestant for each sample."""

    unit = "start"

    def sample(self, contestant: Contestant, app: str, folder: Path, cores: Cores, threads: int) -> Sample:
        """One figure; Missing when there is none."""
        raise NotImplementedError


@dataclass(frozen=True)
class Import(Probe):
    """A program that does nothing but an import: its processor time, and the most memory that it had."""

    def sample(self, contestant: Contestant, app: str, folder: Path, cores: Cores, threads: int) -> Sample:
        command = command_of(contestant, app, folder / "none")
        began = time.perf_counter()
        with pinned(cores.server):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=APPS, env=environment_of(contestant))
        with child:
            assert child.stdout is not None
            told = child.stdout.read()
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise Missing(f"exit status {child.returncode}")
        seconds = time.perf_counter() - began
        return Sample(1, seconds, used.ru_utime + used.ru_stime, memory=int(told) * 1024)


@dataclass(frozen=True)
class FirstAnswer(Probe):
    """From exec to the first answer: time, processor time, and the memory that is the server's own afterwards."""

    def sample(self, contestant: Contestant, app: str, folder: Path, cores: Cores, threads: int) -> Sample:
        with contextlib.ExitStack() as stack:
            path = folder / "first.sock"
            stack.callback(path.unlink, missing_ok=True)
            began = time.perf_counter()
            server = start(contestant, app, path, cores.server, threads)
            stack.callback(server.tree.end)
            while True:
                try:
                    once.straight(server, HELLO.request(1))
                    break
                except (OSError, BrokenAnswer):
                    if not server.tree.running or time.perf_counter() - began > _SECONDS_TO_ANSWER:
                        raise Missing(f"does not answer: {server.tree.last_words()}") from None
                    time.sleep(_POLL_SECONDS)
            seconds = time.perf_counter() - began
            return Sample(1, seconds, server.tree.cpu_seconds(), memory=server.tree.own_bytes())


@dataclass(frozen=True)
class IdleConnections(Probe):
    """Connections that are kept open after one request each; the memory is that of one."""

    count: int = 2000
    unit: str = "connection"

    def sample(self, contestant: Contestant, app: str, folder: Path, cores: Cores, threads: int) -> Sample:
        wire = WIRES[contestant.protocol]
        request = wire.encode(HELLO.request(1), kept=True)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(started(contestant, app, folder, cores.server, threads))
            once.expect(server, HELLO, None)
            before = server.tree.resident_bytes()
            cpu = server.tree.cpu_seconds()
            began = time.perf_counter()
            peers = []
            try:
                for _ in range(self.count):
                    peer = stack.enter_context(server.connect())
                    peer.settimeout(once.SECONDS_TO_ANSWER)
                    peers.append(peer)
                    once.ask_on(peer, wire, request)
                for peer in peers:
                    once.ask_on(peer, wire, request)
            except (OSError, BrokenAnswer) as problem:
                raise Missing(f"keeps only {len(peers)} connections: {problem}") from None
            seconds = time.perf_counter() - began
            cpu = server.tree.cpu_seconds() - cpu
            memory = (server.tree.resident_bytes() - before) / self.count
            return Sample(self.count, seconds, cpu, memory=round(memory))
