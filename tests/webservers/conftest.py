"""Sites that are started once for all tests of a process, and sites of a test's own."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .fronts import Front
from .scenarios import PROPERTY, Matrix
from .sites import Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    import httpx

    from .sites import Site


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of one site behind each other: few test processes, and mostly one, have to start it.

    Which site comes first, and which test of it, stays up to chance. What is tested runs in processes that are not
    measured, so neither is this one.
    """
    blocks: dict[object, list[pytest.Item]] = {}
    for item in items:
        if (site := _site_of(item)) is not None:
            blocks.setdefault(site, []).append(item)
            item.add_marker(pytest.mark.no_cover)
    arranged = itertools.chain.from_iterable(blocks.values())
    where = next((index for index, item in enumerate(items) if _site_of(item) is not None), 0)
    others = [item for item in items if _site_of(item) is None]
    items[:] = [*others[:where], *arranged, *others[where:]]


def _site_of(item: pytest.Item) -> object:
    """What the items that share a site have in common; None of others."""
    site = item.callspec.params.get("site") if hasattr(item, "callspec") else None
    return (site[0], site[1].group) if isinstance(site, tuple) and isinstance(site[1], Front) else None


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


# ------------------------------------------------------------------------- the matrix

_matrix = Matrix()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report tell what the test says of a web server: it may be made in another process than the matrix is."""
    report = yield
    mark = item.get_closest_marker(PROPERTY)
    # Of a test that fails or is skipped before it begins the set-up tells; of others the call.
    if mark is not None and isinstance(item, pytest.Function) and (report.when == "call" or not report.passed):
        front = _front_of(item.callspec.params)
        told = (front.software, front.name, mark.args[0], front.limits.get(mark.args[0], ""))
        report.user_properties.append((PROPERTY, told))
    return report


def _front_of(params: Mapping[str, object]) -> Front:
    site = params.get("site")
    front = site[1] if isinstance(site, tuple) else params["front"]
    assert isinstance(front, Front)
    return front


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == PROPERTY and isinstance(value, tuple | list):
            software, front, scenario, reason = map(str, value)
            _matrix.add(software, front, scenario, reason, report.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("matrix"):
        terminalreporter.section("web servers and scenarios")
        for line in _matrix.lines():
            terminalreporter.write_line(line)
