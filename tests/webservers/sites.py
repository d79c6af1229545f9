"""Applications behind nginx, in every way in which they are set up there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, get_args

import httpx
import pytest

from tests.support.webserver import TIMEOUT

from .children import ROOT, App, Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

Framework = Literal["flask", "starlette"]

STOCK = "include /etc/nginx/fastcgi_params;"
HOST = "fastcgi_param HTTP_HOST $host:$server_port;"
SPLIT = f'{STOCK} {HOST} fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $fastcgi_script_name;'
MOUNTED = f"fastcgi_split_path_info ^(/app)(/.*)$; {STOCK} {HOST} fastcgi_param PATH_INFO $fastcgi_path_info;"


@dataclass(frozen=True)
class Front:
    """One way to set up nginx; the parameters make the difference, the connections, and the place in the URL."""

    name: str
    params: str = SPLIT
    transport: Literal["unix", "tcp"] = "unix"
    kept: bool = False
    mount: str = ""
    root_path: str | None = None
    example: bool = False
    """The configuration that comes with the example, as it stands."""

    @property
    def server(self) -> tuple[str, str | None, bool]:
        """Fronts that agree in this share an application and an nginx."""
        return self.transport, self.root_path, self.example


TRANSPORTS = (
    Front("unix", transport="unix"),
    Front("unix-kept", transport="unix", kept=True),
    Front("tcp", transport="tcp"),
    Front("tcp-kept", transport="tcp", kept=True),
)
MOUNTS = (
    TRANSPORTS[0],
    Front("stock", STOCK),
    Front("stock-host", f"{STOCK} fastcgi_param HTTP_HOST $host;"),
    Front("both", f"{STOCK} {HOST} fastcgi_param PATH_INFO $fastcgi_script_name;"),
    Front("mounted", MOUNTED, mount="/app"),
    Front("mounted-stock", f"{STOCK} {HOST}", mount="/app", root_path="/app"),
    Front("example", example=True),
    Front("example-mounted", mount="/app", example=True),
)
NATIVE = Front("native", STOCK, kept=True, example=True)
FRONTS = tuple({front.name: front for front in TRANSPORTS + MOUNTS}.values())

CONFIGURATION = """\
error_log run/error.log;
pid run/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path run/client_body;
    fastcgi_temp_path run/fastcgi;
    proxy_temp_path run/proxy;
    scgi_temp_path run/scgi;
    uwsgi_temp_path run/uwsgi;
    upstream app {{ server {upstream}; }}
    upstream kept {{ server {upstream}; keepalive 8; keepalive_requests 1000000; }}
    keepalive_requests 1000000;
    client_max_body_size 256m;
    fastcgi_max_temp_file_size 0;
    {servers}
}}
"""
SERVER = """
    server {{
        listen 127.0.0.1:{port};
        server_name localhost;
        fastcgi_keep_conn {keep};
        location {mount}/ {{
            {params}
            fastcgi_pass {upstream};
        }}
        location /direct/ {{
            fastcgi_split_path_info ^(/direct)(/.*)$;
            include /etc/nginx/fastcgi_params;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_request_buffering off;
            fastcgi_buffering off;
            fastcgi_pass {upstream};
        }}
    }}
"""


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


def configure(upstream: str, fronts: Iterable[Front]) -> str:
    """A configuration with a server for each of `fronts`, on the ports 8000, 8001 and so on."""
    servers = [
        SERVER.format(
            port=8000 + number,
            keep="on" if front.kept else "off",
            upstream="kept" if front.kept else "app",
            params=front.params,
            mount=front.mount,
        )
        for number, front in enumerate(fronts)
    ]
    return CONFIGURATION.format(upstream=upstream, servers="".join(servers))


def client(url: str, **options: Any) -> httpx.Client:
    """A browser, of which nothing on this machine is a setting."""
    return httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False, verify=False, **options)


@dataclass(frozen=True)
class Site:
    """An application behind nginx."""

    framework: Framework | Literal["native"]
    front: Front
    app: App
    nginx: Nginx
    origin: str
    """Scheme, host and port."""

    @property
    def url(self) -> str:
        return self.origin + self.front.mount

    def client(self, **options: Any) -> httpx.Client:
        return client(self.url, **options)


class Sites:
    """Starts sites, and ends them all at the end of the `with` block."""

    def __init__(self, folder: Path, program: Callable[[str], str]) -> None:
        self._folder = folder
        self._program = program
        self._stack = contextlib.ExitStack()
        self._running: dict[tuple[object, ...], Callable[[Front], Site]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def folder(self) -> Path:
        """A new folder."""
        path = self._folder / str(sum(1 for _ in self._folder.iterdir()))
        path.mkdir()
        return path

    def start(self, framework: Framework, front: Front, *options: str) -> Site:
        """Start an application and nginx."""
        return self._start(framework, [front], *options)(front)

    def get(self, framework: Framework, front: Front) -> Site:
        """The same, started once for all tests that ask for it."""
        key = (framework, front.server)
        if key not in self._running:
            alike = [other for other in FRONTS if other.server == front.server]
            self._running[key] = self._start(framework, alike)
        return self._running[key](front)

    def spawn(self, *arguments: str, env: Mapping[str, str] | None = None) -> Site:
        """Let spawn-fcgi start a Python program, behind nginx as the native examples configure it."""
        folder = self.folder()
        (folder / "run").mkdir()
        app = self.respawn(folder / "run" / "app.sock", *arguments, env=env)
        configuration = (ROOT / "examples" / "native" / "nginx.conf").read_text()
        nginx = self._nginx(configuration.replace("root /usr/share/doc;", f"root {folder}/docs;"), folder)
        return Site("native", NATIVE, app, nginx, f"http://127.0.0.1:{nginx.ports[0]}")

    def respawn(self, path: Path, *arguments: str, env: Mapping[str, str] | None = None) -> App:
        """Let spawn-fcgi start a Python program on a socket file that may have been another's."""
        log = path.with_suffix(".log")
        return self._stack.enter_context(App.spawn(self._program("spawn-fcgi"), path, log, *arguments, env=env))

    def _nginx(self, configuration: str, folder: Path) -> Nginx:
        return self._stack.enter_context(Nginx(self._program("nginx"), configuration, folder))

    def _start(self, framework: Framework, fronts: list[Front], *options: str) -> Callable[[Front], Site]:
        folder, front = self.folder(), fronts[0]
        (folder / "run").mkdir()
        bind = f"unix:{folder}/run/app.sock" if front.transport == "unix" else "127.0.0.1:0"
        example = ROOT / "examples" / f"{framework}_app"
        if front.root_path is not None:
            options += ("--root-path", front.root_path)
        if framework == "starlette" and front.transport == "tcp":
            options += ("--loop", "asyncio")  # the others run on uvloop, where it is installed
        if front.example:
            app = App.serve("app:app", bind, folder / "app.log", *options, cwd=example)
            configuration = (example / "nginx.conf").read_text()
        else:
            name = f"tests.webservers.apps.{framework}_probe:app"
            app = App.serve(name, bind, folder / "app.log", "--log-level", "debug", *options)
            configuration = configure(app.upstream, fronts)
        self._stack.enter_context(app)
        nginx = self._nginx(configuration, folder)

        def site(front: Front) -> Site:
            port = nginx.ports[0 if front.example else fronts.index(front)]
            return Site(framework, front, app, nginx, f"http://127.0.0.1:{port}")

        return site
