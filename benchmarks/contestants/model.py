"""What the suite knows of a contestant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Protocol = Literal["fastcgi", "http", "uwsgi"]
Interface = Literal["wsgi", "asgi", "sync", "async", "canned", "import", "other"]

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "benchmarks" / "apps"
HERE = Path(__file__).resolve().parent

OURS = "simple_fastcgi"
"""The environment in which a checkout of this project runs."""
# Where the applications of an interface stand; both native APIs have programs instead of applications.
MODULES: dict[Interface, str] = {"wsgi": "raw_wsgi", "asgi": "raw_asgi"}


@dataclass(frozen=True)
class Environment:
    """Where a contestant's program comes from.

    `requirements`: for pip, into a virtual environment of its own, one for each interpreter. `packages`: Debian's, by
    the programs that they bring. `build`: commands that make it; `{folder}` is where to. All may be empty: then it runs
    on the interpreter that runs the suite.
    """

    name: str
    requirements: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    build: tuple[tuple[str, ...], ...] = ()
    frameworks: bool = True
    """Whether the applications need Flask and Starlette beside it."""

    @property
    def python(self) -> bool:
        """Whether it lives in virtual environments."""
        return bool(self.requirements)


@dataclass(frozen=True)
class Contestant:
    """One server in one mode.

    `command` is filled in with `{python}` (of its environment), `{bin}` (the folder of that), `{folder}` (of what was
    built), `{socket}` (the unix socket to bind), `{app}` (MODULE:ATTR), `{name}` (the application's bare name),
    `{threads}`, `{here}` (this folder), `{root}` (of the project).
    """

    name: str
    environment: Environment
    protocol: Protocol
    interface: Interface
    command: tuple[str, ...]
    threaded: tuple[str, ...] = ()
    """What to add to the command for more than one thread."""
    application: str = ""
    """The application that it serves whatever the scenario says."""
    threads: int = 0
    """Its number of threads whatever the scenario says."""
    keeps: bool = True
    """Whether it keeps connections open."""
    single: bool = False
    """Whether it serves one connection to its end before the next: kept ones would make the others starve."""
    inherits: bool = False
    """Whether it takes the listening socket on descriptor 0 instead of binding `{socket}`."""
    script: str = ""
    """SCRIPT_FILENAME, for those that run what it names."""
    env: dict[str, str] = field(default_factory=dict)
    python: str = ""
    """The interpreter's version, for those that live in a virtual environment."""
    source: Path = ROOT
    """The checkout that `{root}` and PYTHONPATH mean, to compare two of this project."""

    @property
    def ours(self) -> bool:
        """Whether it is this project, from a checkout."""
        return self.environment.name == OURS

    @property
    def title(self) -> str:
        """Its name, with the interpreter."""
        return f"{self.name} ({self.python})" if self.python else self.name

    def app(self, wanted: str) -> str:
        """MODULE:ATTR of an application that a scenario names, in full or for this interface."""
        wanted = self.application or wanted
        return wanted if ":" in wanted else f"{MODULES.get(self.interface, self.interface)}:{wanted}"
