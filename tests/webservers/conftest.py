"""Sites that are started once for all tests of a process, and sites of a test's own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .sites import Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from .sites import Site


@pytest.fixture(scope="session")
def _shared_sites(program: Callable[[str], str]) -> Iterator[Sites]:
    # A short path, for sockets, also for users whose temporary folder has a long one.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Sites(Path(folder), program) as sites:
        yield sites


@pytest.fixture
def sites(program: Callable[[str], str]) -> Iterator[Sites]:
    """For applications that the test ends."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Sites(Path(folder), program) as sites:
        yield sites


@pytest.fixture
def site(request: pytest.FixtureRequest, _shared_sites: Sites) -> Site:
    """The site that the test's parameter says; see :func:`.sites.each`."""
    return _shared_sites.get(*request.param)


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    """A browser that has not been at the site before."""
    with site.client() as client:
        yield client
