"""Servers to be attacked, each in a process of its own, of every kind."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.hostile.support import SHELLS, Server, Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Server]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def shell(request: pytest.FixtureRequest) -> Shell:
    shell: Shell = request.param
    return shell


@pytest.fixture
def case(request: pytest.FixtureRequest, shell: Shell) -> str:
    """What the table of figures calls the test."""
    name: str = request.node.name
    return name.removeprefix("test_").replace(f"{shell.name}-", "").replace(f"[{shell.name}]", "")


@pytest.fixture
def start(shell: Shell, tmp_path: Path, case: str, unmeasured: None) -> Iterator[Start]:
    """Start the test's server with options of its own; it ends with the test, and well."""
    with ExitStack() as servers:

        def start(*options: str, tcp: bool = False) -> Server:
            server = servers.enter_context(Server.start(shell, tmp_path, *options, tcp=tcp))
            server.case = case
            return server

        yield start


@pytest.fixture
def start_native(shell: Shell, tmp_path: Path, case: str, unmeasured: None) -> Iterator[Start]:
    """Start a server with handlers of its own, without a gateway."""
    with ExitStack() as servers:

        def start() -> Server:
            server = servers.enter_context(Server.start_native(shell, tmp_path))
            server.case = case
            return server

        yield start


@pytest.fixture
def server(start: Start) -> Server:
    """A server with the limits that everybody has."""
    return start()


@pytest.fixture(scope="session")
def _shared() -> Iterator[dict[str, Server]]:
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        yield servers
        for server in servers.values():
            stack.push(server)


@pytest.fixture
def shared(
    shell: Shell, _shared: dict[str, Server], case: str, tmp_path_factory: pytest.TempPathFactory, unmeasured: None
) -> Server:
    """The same for many cases, one behind the other: they leave it as it was."""
    if shell.name not in _shared:
        _shared[shell.name] = Server.start(shell, tmp_path_factory.mktemp(shell.name))
    server = _shared[shell.name]
    server.case = case
    return server
