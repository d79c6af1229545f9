"""Servers that `call` calls, and the command itself."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi import AsyncFcgiServer
from simple_fastcgi.cli import main
from tests.cli.call.support import Said, echo, stdin_of, target_of
from tests.servers.support import Kind, Serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.call.support import Call

KINDS = [
    Kind("sync", concurrent=False),
    Kind("asyncio", is_async=True, server_class=AsyncFcgiServer, loop_factory=asyncio.new_event_loop),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that echoes, of each kind."""
    with ExitStack() as resources:
        yield target_of(Serve(request.param, resources)(echo).address)


@pytest.fixture(scope="module")
def one_target() -> Iterator[str]:
    """A server that echoes, where its kind does not matter."""
    with ExitStack() as resources:
        yield target_of(Serve(KINDS[0], resources)(echo).address)


@pytest.fixture
def call(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Call:
    """``simple-fastcgi call`` in this process; `stdin` is what it can read."""

    def run(*words: str, stdin: bytes | None = None) -> Said:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", stdin_of(_pipe_with(stdin)))
        status = main(["call", *words])
        if stdin is not None:
            sys.stdin.close()
        captured = capfdbinary.readouterr()
        return Said(status, captured.out, captured.err.decode("utf-8", "surrogateescape"))

    return run


def _pipe_with(data: bytes) -> io.FileIO:
    assert len(data) <= 65536
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return io.FileIO(reading)
