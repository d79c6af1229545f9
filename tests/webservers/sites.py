"""Applications behind web servers, in every way in which they are set up there."""

from __future__ import annotations

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

import httpx
import pytest

from tests.support.webserver import TIMEOUT

from . import apache, caddy, haproxy, lighttpd, nginx
from .children import ROOT, App
from .fronts import Framework, Front
from .nginx import NATIVE, Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from .children import Spawned
    from .fronts import Server

FRONTS: tuple[Front, ...] = (
    *nginx.FRONTS,
    *apache.FRONTS,
    *lighttpd.FRONTS,
    *haproxy.FRONTS,
    *caddy.FRONTS,
)
FULL = tuple(front for front in FRONTS if front.full)


def each(fronts: Iterable[Front], *frameworks: Framework) -> pytest.MarkDecorator:
    """Run a test for each of `fronts` and each framework, by default both; its fixture `site` is the site.

    Behind another front another Python does the same: with most of them the test is marked "once".
    """
    cases = [
        pytest.param((framework, front), id=f"{framework}-{front.name}", marks=[pytest.mark.once] if number else [])
        for framework in frameworks or get_args(Framework)
        for number, front in enumerate(fronts)
    ]
    return pytest.mark.parametrize("site", cases, indirect=True)


def client(url: str, **options: Any) -> httpx.Client:
    """A browser, of which nothing on this machine is a setting."""
    return httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False, verify=False, **options)


@dataclass(frozen=True)
class Site:
    """An application behind a web server."""

    framework: Framework | Literal["native"]
    front: Front
    app: App | Spawned
    server: Server
    origin: str
    """Scheme, host and port."""

    @property
    def process(self) -> App:
        """The application, where it is none that the web server starts."""
        assert isinstance(self.app, App)
        return self.app

    @property
    def url(self) -> str:
        return self.origin + self.front.mount

    def urls(self, path: str) -> list[str]:
        """`path` at each place where the application stands, with and without the buffering of bodies."""
        return [self.origin + (way or self.front.mount) + path for way in self.front.ways]

    def client(self, **options: Any) -> httpx.Client:
        return client(self.url, **options)


class Sites:
    """Starts sites, and ends them all at the end of the `with` block."""

    def __init__(self, folder: Path, program: Callable[[str], str]) -> None:
        self._folder = folder
        self._program = program
        self._stacks: list[contextlib.ExitStack] = []
        self._running: dict[tuple[object, ...], Callable[[Front], Site]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # All at once: a web server takes its time to end, and there are dozens of them.
        with ThreadPoolExecutor() as pool:
            list(pool.map(contextlib.ExitStack.close, self._stacks))

    def _stack(self) -> contextlib.ExitStack:
        """What is entered into it ends in turn; what is in different ones ends side by side."""
        self._stacks.append(stack := contextlib.ExitStack())
        return stack

    def folder(self) -> Path:
        """A new folder."""
        path = self._folder / str(sum(1 for _ in self._folder.iterdir()))
        path.mkdir()
        return path

    def start(self, framework: Framework, front: Front, *options: str) -> Site:
        """Start an application and its web server."""
        return self._start(framework, [front], *options)(front)

    def get(self, framework: Framework, front: Front) -> Site:
        """The same, started once for all tests that ask for it."""
        key = (framework, front.group)
        if key not in self._running:
            alike = [other for other in FRONTS if other.group == front.group]
            self._running[key] = self._start(framework, alike)
        return self._running[key](front)

    def spawn(self, *arguments: str, env: Mapping[str, str] | None = None) -> Site:
        """Let spawn-fcgi start a Python program, behind nginx as the native examples configure it."""
        folder = self.folder()
        (folder / "run").mkdir()
        app = self.respawn(folder / "run" / "app.sock", *arguments, env=env)
        configuration = nginx.example_configuration(ROOT / "examples" / "native", folder / "docs")
        server = self._stack().enter_context(Nginx(self._program("nginx"), configuration, folder))
        return Site("native", NATIVE, app, server, server.origin(NATIVE))

    def spawn_behind(self, front: Front, *arguments: str) -> Site:
        """The same behind any web server that does not start it itself."""
        folder = self.folder()
        (folder / "run").mkdir()
        app = self.respawn(folder / "run" / "app.sock", *arguments)
        server = self._stack().enter_context(front.server.start(self._program, [front], app, (), folder))
        return Site("native", front, app, server, server.origin(front))

    def respawn(self, path: Path, *arguments: str, env: Mapping[str, str] | None = None) -> App:
        """Let spawn-fcgi start a Python program on a socket file that may have been another's."""
        log = path.with_suffix(".log")
        return self._stack().enter_context(App.spawn(self._program("spawn-fcgi"), path, log, *arguments, env=env))

    def _start(self, framework: Framework, fronts: list[Front], *options: str) -> Callable[[Front], Site]:
        folder, front, stack = self.folder(), fronts[0], self._stack()
        (folder / "run").mkdir()
        if front.root_path is not None:
            options += ("--root-path", front.root_path)
        if framework == "starlette" and front.transport == "tcp":
            options += ("--loop", "asyncio")  # the others run on uvloop, where it is installed
        if front.example:
            cwd, name = ROOT / "examples" / f"{framework}_app", "app:app"
        else:
            cwd, name = ROOT, f"tests.webservers.apps.{framework}_probe:app"
            options = ("--log-level", "debug", *options)
        app: App | None = None
        if not front.spawns:
            bind = f"unix:{folder}/run/app.sock" if front.transport == "unix" else "127.0.0.1:0"
            app = App.serve(name, bind, folder / "app.log", *options, cwd=cwd)
            stack.enter_context(app)
        command = [sys.executable, "-m", "simple_fastcgi", "serve", name, *options]
        server = front.server.start(self._program, fronts, app, command, folder)
        stack.enter_context(server)

        def site(front: Front) -> Site:
            return Site(framework, front, app or server.spawned(), server, server.origin(front))

        return site
