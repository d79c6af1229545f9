"""Every case runs on the four shells that people use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.support import SHELLS
from tests.servers.conftest import family, log, serve

if TYPE_CHECKING:
    from tests.servers.support import Kind

__all__ = ["family", "log", "serve", "server_kind"]


@pytest.fixture(params=SHELLS, ids=lambda kind: kind.name)
def server_kind(request: pytest.FixtureRequest) -> Kind:
    """The shell that a case runs on."""
    kind: Kind = request.param
    return kind
