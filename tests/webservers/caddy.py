"""Caddy: ``transport fastcgi``, at the root and below a path that is split off, taken away or left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .fronts import Front, SitesServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .children import App

GLOBAL = """\
{
    admin off
    storage file_system %s
    auto_https off
}
"""


class Caddy(SitesServer):
    """Caddy with a site for each of its fronts."""

    def prepare(self, program: str, folder: Path, parts: str) -> Sequence[str]:
        path = folder / "Caddyfile"
        path.write_text(GLOBAL % folder + parts)
        return [program, "run", "--config", str(path), "--adapter", "caddyfile"]

    def wait_until_ready(self) -> None:
        self.wait_for("serving initial configuration")

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR, where ``capture_stderr`` is written: it logs the lines of one request together."""
        entries = [json.loads(line) for line in self.log_since(mark).splitlines() if line.startswith("{")]
        return "".join(entry["body"] for entry in entries if entry["msg"] == "stderr")


LIMITS = {
    "client that leaves": "Caddy tells of it only when the application sends something",
    "error within the response": "Caddy ends an answer that breaks off well, unless its Content-Length tells more",
    "traceback in the error log": "Caddy 2.6 drops FCGI_STDERR; the application's log has it",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class CaddyFront(Front):
    """What stands in the site, in front of APP; by default all that ``simple-fastcgi config caddy`` prints."""

    text: str = ""
    server_name: str = ""
    joins_fields: bool = True
    notices_at_once: bool = False
    breaks_off: bool = False
    logs_errors: bool = False
    limits: Mapping[str, str] = field(default_factory=lambda: LIMITS)
    server = Caddy
    software = "Caddy"

    def site(self, listen: str, app: App) -> str:
        """The whole site, for any host name."""
        if not self.text:
            (file,) = make("caddy", Plan(bind=app.upstream, listen=listen, root_path=self.mount)).files
            return file.text
        upstream = app.upstream.replace("unix:", "unix/")
        host, _, port = listen.rpartition(":")
        return f"http://:{port} {{\n    bind {host}\n{self.text.replace('APP', upstream)}\n}}\n"


PASS = "reverse_proxy APP {\n transport fastcgi\n flush_interval -1\n }"
MOUNTED = CaddyFront(name="caddy-app", mount="/app", full=False)
# None of FRONTS: on a busy machine an ordinary answer takes so long, too.
TIMED = CaddyFront(name="caddy-timed", text=PASS.replace("fastcgi\n", "fastcgi {\n read_timeout 2s\n }\n"), full=False)
FRONTS = (
    CaddyFront(name="caddy"),
    CaddyFront(name="caddy-tcp", transport="tcp", full=False),
    MOUNTED,
    CaddyFront(
        name="caddy-handle-path",
        mount="/app",
        # Without the first line Caddy answers /app by itself, with an empty page.
        text=f"redir /app /app/ 308\n handle_path /app/* {{\n {PASS}\n }}\n",
        full=False,
    ),
    CaddyFront(
        name="caddy-handle",
        mount="/app",
        root_path="/app",
        text=f"@app path /app /app/*\n handle @app {{\n {PASS}\n }}\n",
        full=False,
    ),
    # What people write who come from PHP: it looks for files first.
    CaddyFront(name="caddy-php-fastcgi", text='php_fastcgi APP {\n index off\n split ""\n }\n', full=False),
)
