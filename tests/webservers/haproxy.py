"""HAProxy: an fcgi-app, with connections that are kept, shared by several requests, or used once."""

from __future__ import annotations

import contextlib
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .children import wait_until
from .fronts import Front, SitesServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .children import App

GLOBAL = """\
global
    log stdout format raw local0
"""
SECTIONS = """
frontend {name}
    mode http
    bind {listen} thread 1
    timeout client 300s
    {frontend}
    default_backend {name}

backend {name}
    mode http
    timeout connect 5s
    timeout server 300s
    option http-buffer-request
    use-fcgi-app {name}
    {backend}
    server app {server} proto fcgi

fcgi-app {name}
    docroot /srv/app
    pass-header Authorization
    log-stderr global
    {app}
"""


class Haproxy(SitesServer):
    """HAProxy with a frontend for each of its fronts."""

    ends_with = (-signal.SIGTERM,)
    statuses_without_application = frozenset({503})

    def prepare(self, program: str, folder: Path, parts: str) -> Sequence[str]:
        path = folder / "haproxy.cfg"
        path.write_text(GLOBAL + parts)
        return [program, "-f", str(path), "-db"]

    def wait_until_ready(self) -> None:
        wait_until(self._listens)

    def _listens(self) -> bool:
        """Whether it does, on all its ports, or has ended."""
        with contextlib.ExitStack() as stack:
            for origin, _ in self._sites.values():
                address = urlsplit(origin)
                sock = stack.enter_context(socket.socket())
                if self.runs and sock.connect_ex((address.hostname, address.port)) != 0:
                    return False
        return True

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR: with this format of the log there is nothing around it."""
        return self.log_since(mark)


LIMITS = {
    "chunked uploads": "HAProxy refuses a body whose length it does not know, unless all of it fits into one buffer",
    "client that leaves": "HAProxy tells of it only when the application sends something",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class HaproxyFront(Front):
    """What stands in the sections; by default all that ``simple-fastcgi config haproxy`` prints."""

    frontend: str = ""
    backend: str = ""
    app: str = ""
    kept: bool = True
    server_name: str = ""
    tells_user: bool = True
    longest_head: int = 12288
    chunked_status: int | None = 400
    chunked_up_to: int = 8192
    notices_at_once: bool = False
    limits: Mapping[str, str] = field(default_factory=lambda: LIMITS)
    server = Haproxy
    software = "HAProxy"

    def site(self, listen: str, app: App) -> str:
        if not (self.frontend or self.backend or self.app):
            (file,) = make(
                "haproxy", Plan(bind=app.upstream, listen=listen, root_path=self.mount, name=self.name)
            ).files
            return file.text
        server = app.upstream.replace("unix:", "unix@")
        return SECTIONS.format(
            name=self.name, listen=listen, server=server, frontend=self.frontend, backend=self.backend, app=self.app
        )


# Only so one connection is shared by requests of several clients, from the first one on.
SHARED = "http-reuse always"
PATH_INFO = "path-info ^()(/.*)$"
MULTIPLEXED = HaproxyFront(
    name="haproxy-multiplexed",
    backend=SHARED,
    app=f"{PATH_INFO}\n    option mpxs-conns\n    option max-reqs 32",
    # An answer to a body of more than 16 KB may be HAProxy's own 500, and an abandoned stream is not told of.
    full=False,
)
ASKING = HaproxyFront(name="haproxy-get-values", backend=SHARED, app=f"{PATH_INFO}\n    option get-values", full=False)
MOUNTED = HaproxyFront(name="haproxy-app", mount="/app", full=False)
FRONTS = (
    HaproxyFront(name="haproxy"),
    MULTIPLEXED,
    ASKING,
    MOUNTED,
    HaproxyFront(name="haproxy-tcp", transport="tcp", full=False),
    HaproxyFront(name="haproxy-once", transport="tcp", app="no option keep-conn", kept=False, full=False),
    # Parameters as people write them: the whole path as SCRIPT_NAME, as PATH_INFO, or as both.
    HaproxyFront(name="haproxy-stock", app="option keep-conn", full=False),
    HaproxyFront(name="haproxy-index", app="index index.php", full=False),
    HaproxyFront(name="haproxy-set-param", app="set-param PATH_INFO %[path,url_dec]", full=False),
    HaproxyFront(
        name="haproxy-app-path-info", mount="/app", app="path-info ^(/app)(/.*)?$", root_path="/app", full=False
    ),
    # The prefix is gone from all that the application is told.
    HaproxyFront(
        name="haproxy-app-replaced",
        mount="/app",
        root_path="/app",
        backend="http-request set-path /app/ if { path /app }\n    http-request replace-path /app(/.*) \\1",
        app=PATH_INFO,
        full=False,
    ),
)
