"""The one fixture that runs a case on every kind of server."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.aio import connections as aio_connections
from simple_fastcgi.sync import connections, threading_server
from simple_fastcgi.sync import server as sync_server
from simple_fastcgi.sync.poller import SelectorPoller
from tests.servers.support import PARAMETERS, TIMEOUT, Kind, Log, Serve
from tests.support.outcome import FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """The package's warnings and errors; what the test does not claim fails it, unless it has failed already."""
    with Log() as log:
        yield log
    if FAILED in request.node.stash:
        # Handlers that waited for the rest of the test have failed with it.
        return
    assert [record.getMessage() for record in log.records] == []


@pytest.fixture(params=PARAMETERS)
def server_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """The kind of server that a case runs on; a module may ask for some of them by its own parameters."""
    kind: Kind = request.param
    if kind.name == "selector":
        monkeypatch.setattr(connections, "Poller", SelectorPoller)
    # A thread that ends late on a busy machine is no handler that still runs.
    monkeypatch.setattr(threading_server, "_ENDING_SECONDS", TIMEOUT)
    return kind


@pytest.fixture(params=[socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    """Where the listening socket is."""
    family: socket.AddressFamily = request.param
    return family


@pytest.fixture
def serve(server_kind: Kind, log: Log) -> Iterator[Serve]:
    """Start servers of the kind; they end with the test."""
    with ExitStack() as resources:
        yield Serve(server_kind, resources)


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers look at the time much more often than they do for users, so that tiny limits are hit at once."""
    for module in (sync_server, aio_connections):
        monkeypatch.setattr(module, "_SWEEP_SECONDS", 0.01)
