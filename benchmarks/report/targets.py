"""What this project promises of its speed, and how far a run bears it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import slope

from .grid import grid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contestants.model import Contestant
    from benchmarks.results import Row, Run
    from benchmarks.scenarios import Scenario

_MB = 2**20


@dataclass(frozen=True)
class Target:
    """One promise: a figure of `ours` in a scenario, as a multiple of `peer`'s if there is one.

    `must` is the bar and `aim` is where we want to stand, None if there is none; both are the most that the figure may
    be, or with `is_floor` the least. `figure`: the scenario's main one, or one of :data:`FIGURES`. `python`: the
    interpreter; by default the first that the run has.
    """

    title: str
    scenario: str
    ours: str
    peer: str = ""
    must: float | None = None
    aim: float | None = None
    figure: str = "main"
    is_floor: bool = False
    python: str = ""

    def measured(self, run: Run) -> float | None:
        """The figure; None if the run does not have what it takes."""
        mine = self._value(run, self.ours)
        if not self.peer or mine is None:
            return mine
        other = self._value(run, self.peer)
        if not other:
            return None
        return mine - other if self.figure in _OVER else mine / other

    def verdict(self, value: float | None) -> str:
        """In a word."""
        if value is None:
            return "not measured"
        if self.aim is not None and self._holds(value, self.aim):
            return "aim reached"
        if self.must is None:
            return "aim missed"
        return "met" if self._holds(value, self.must) else "**missed**"

    def _holds(self, value: float, bound: float) -> bool:
        # As it is printed.
        return round(value, 2) >= bound if self.is_floor else round(value, 2) <= bound

    def _value(self, run: Run, contestant: str) -> float | None:
        if self.figure == "slope":
            points = [
                (table.point[1], row.cpu_us)
                for table in run.tables
                if table.point and table.point[0] == self.scenario and (row := self._row(table.rows, contestant))
            ]
            return slope(points) if len(points) > 1 else None
        for table in run.tables:
            if table.scenario == self.scenario and (row := self._row(table.rows, contestant)):
                return FIGURES[self.figure](row) if self.figure != "main" else row.main(table.main)
        return None

    def _row(self, rows: list[Row], contestant: str) -> Row | None:
        named = [row for row in rows if row.contestant == contestant and row.measured]
        return next((row for row in named if not self.python or row.python in {"", self.python}), None)


FIGURES: dict[str, Callable[[Row], float]] = {
    "memory MB": lambda row: (row.memory or 0) / _MB,
    "CPU ms": lambda row: row.cpu_us / 1000,
}
"""Those that are not the main one of their scenario; beside them "slope", what one more of something costs, in us."""
# These are told as differences.
_OVER = ("memory MB", "CPU ms")

_WSGI, _UVLOOP, _ASYNCIO = "simple_fastcgi-wsgi", "simple_fastcgi-uvloop", "simple_fastcgi-asyncio"
_UWSGI, _UVICORN = "uwsgi-fcgi", "uvicorn-uvloop"

TARGETS = (
    Target("hello WSGI, one thread", "hello-wsgi", _WSGI, _UWSGI, 0.80, 0.70),
    Target("hello WSGI, one thread", "hello-wsgi", _WSGI, "gunicorn-sync", 0.10),
    Target("hello WSGI, one thread", "hello-wsgi", _WSGI, "limit-epoll", None, 2.2),
    Target("varied WSGI", "varied-wsgi", _WSGI, _UWSGI, 0.92, 0.78),
    Target("a connection for each request", "unkept-wsgi", _WSGI, _UWSGI, 1.25, 1.05),
    Target("hello WSGI, 8 threads", "threads-fast", _WSGI, _UWSGI, 0.85, 0.65),
    Target("hello WSGI, 8 threads", "threads-fast", _WSGI, f"{_WSGI}-1", 1.25, 1.10),
    Target("hello WSGI, 8 threads", "threads-fast", _WSGI, "flup6", 0.30),
    Target("hello WSGI, 8 threads", "threads-fast", _WSGI, "waitress", 0.30),
    Target("8 threads that wait 5 ms (requests/s)", "threads-slow", _WSGI, _UWSGI, 0.95, 1.0, is_floor=True),
    *(
        Target(f"{kind} ASGI, uvloop, {python}", f"{kind}-asgi", _UVLOOP, _UVICORN, must, aim, python=python)
        for kind in ("hello", "varied")
        for python, must, aim in (("3.11", 1.0, 0.90), ("3.12", 0.85, 0.75), ("3.13", 0.85, 0.75))
    ),
    Target("hello ASGI, plain asyncio", "hello-asgi", _ASYNCIO, "uvicorn-asyncio", 0.90),
    Target("hello ASGI, plain asyncio", "hello-asgi", _ASYNCIO, _UVICORN, None, 0.90),
    Target("Flask", "hello-flask", _WSGI, _UWSGI, 1.0),
    Target("Flask", "hello-flask", _WSGI, "granian-wsgi", 1.0),
    Target("Starlette", "hello-starlette", _UVLOOP, _UVICORN, 1.0),
    Target("Starlette", "hello-starlette", _UVLOOP, "granian-asgi", 1.0),
    Target("native handler, synchronous", "hello-native-sync", "simple_fastcgi-sync", "go-fcgi", 0.45, 0.30),
    Target("native handler, synchronous", "hello-native-sync", "simple_fastcgi-sync", "sf008-sync", 0.30),
    Target("native handler on uvloop", "hello-native-async", "simple_fastcgi-async", "sf008-async", 0.30, 0.20),
    Target("40 headers, WSGI", "headers-wsgi", _WSGI, _UWSGI, 1.0, 0.85),
    Target("40 headers, ASGI", "headers-asgi", _UVLOOP, _UVICORN, 1.0, 0.85),
    Target("10 KB posted, WSGI", "post-wsgi", _WSGI, _UWSGI, 1.0, 0.85),
    Target("10 KB posted, ASGI", "post-asgi", _UVLOOP, _UVICORN, 1.0, 0.85),
    Target("100 MB upload, WSGI", "upload-wsgi", _WSGI, _UWSGI, 1.0, 0.75),
    Target("100 MB upload, ASGI", "upload-asgi", _UVLOOP, _UVICORN, 0.80, 0.55),
    Target("100 MB download in chunks, WSGI", "download-wsgi", _WSGI, _UWSGI, 0.90, 0.65),
    Target("100 MB download in chunks, ASGI", "download-asgi", _UVLOOP, _UVICORN, 1.3, 1.0),
    *(
        Target(f"{way} of 100 MB, {kind}: memory, MB", f"{way}-{kind.lower()}", ours, "", 4.0, figure="memory MB")
        for way in ("upload", "download")
        for kind, ours in (("WSGI", _WSGI), ("ASGI", _UVLOOP))
    ),
    Target("a file of 100 MB, file_wrapper", "file-wsgi", _WSGI, f"{_WSGI}-chunks", 0.50, 0.25),
    Target("a file of 100 MB, pathsend", "file-asgi", _UVLOOP, f"{_UVLOOP}-chunks", 0.50, 0.25),
    Target("an idle connection, WSGI: bytes", "idle-wsgi", _WSGI, "", 1024, 300),
    Target("an idle connection, uvloop: bytes", "idle-asgi", _UVLOOP, "", 2048, 1200),
    Target("one more parameter, WSGI", "parameter", _WSGI, "fcgisgi-wsgi", 0.50, figure="slope"),
    Target("one more parameter, ASGI", "parameter", _UVLOOP, "fcgisgi-asgi", 0.50, figure="slope"),
    Target("one more parameter, ASGI: us", "parameter", _UVLOOP, "", None, 0.35, figure="slope"),
    Target("an event of 500 streams", "events", _UVLOOP, _UVICORN, 1.0, 0.80),
    Target(
        "import simple_fastcgi: CPU ms", "import", "import-simple_fastcgi", "import-nothing", 15, 8, figure="CPU ms"
    ),
    Target(
        "import simple_fastcgi: MB", "import", "import-simple_fastcgi", "import-nothing", 3, 1.5, figure="memory MB"
    ),
    Target("exec to the first answer, WSGI", "first-answer-wsgi", _WSGI, "flup6", 1.2),
    Target("exec to the first answer, WSGI", "first-answer-wsgi", _WSGI, "waitress", None, 1.0),
)


def is_compared(scenario: Scenario, contestant: Contestant, first_python: str) -> bool:
    """Whether a target is about `contestant` in `scenario`, of a run whose first interpreter is `first_python`."""
    names = {scenario.name, scenario.point[0] if scenario.point else scenario.name}
    # Another checkout takes part with a label.
    name = contestant.name.partition("@")[0]
    return any(
        target.scenario in names
        and name in {target.ours, target.peer}
        and contestant.python in {"", target.python or first_python}
        for target in TARGETS
    )


def section(run: Run) -> Iterator[str]:
    """A table of all targets; nothing for a run that has measured none."""
    rows = []
    for target in TARGETS:
        value = target.measured(run)
        if value is not None:
            bounds = ("" if bound is None else f"{bound:g}" for bound in (target.must, target.aim))
            rows.append((target.title, target.peer or "itself", *bounds, f"{value:,.2f}", target.verdict(value)))
    if rows:
        yield "## Targets"
        yield ""
        yield from grid(("of what", "to whom", "must", "aim", "measured", ""), rows)
        yield ""
