"""Services of the tests in this folder."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from .support import Kind, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a name so short that a socket fits into it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="workers-") as name:
        yield name


@pytest.fixture
def start(folder: str) -> Iterator[Callable[..., Service]]:
    """Start workers of a kind; the service ends with the test, and must end well."""
    with ExitStack() as stack:

        def make(
            kind: Kind,
            *options: str,
            app: str | None = None,
            workers: int = 2,
            bind: str | None = None,
            **more: Any,
        ) -> Service:
            path = f"{folder}/app.sock"
            command = kind.command(bind or path, *options, app=app, workers=workers)
            return stack.enter_context(Service(command, path, **more))

        yield make
