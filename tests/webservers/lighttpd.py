"""lighttpd: what ``config lighttpd`` prints, and the other ways in which people write it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .children import Spawned, wait_until
from .fronts import Front, Server, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App

MAIN = """\
server.document-root = "{folder}"
server.upload-dirs = ("{folder}")
server.bind = "{folder}/unused.sock"
server.modules = ("mod_rewrite", "mod_fastcgi")
"""
STARTED = "INFO simple_fastcgi: serving"
WRITTEN = '$SERVER["socket"] == "{address}" {{\n{text}}}\n'
LIMITS = {
    "client that leaves": "the application is told when it writes next, and not before",
    "error within the response": "one without Content-Length that breaks off before lighttpd has passed any of it on "
    "looks complete",
}


class Lighttpd(Server):
    """lighttpd, with what is written for each address of its own."""

    ends_with = (0, 1)  # the latter when a client was still connected
    statuses_without_application = frozenset({503})

    def __init__(
        self, program: str, texts: Sequence[str], folder: Path, addresses: Mapping[Front, str] | None = None
    ) -> None:
        self._addresses = addresses or {}
        configuration = folder / "lighttpd.conf"
        configuration.write_text(MAIN.format(folder=folder) + "".join(texts))
        super().__init__([program, "-D", "-f", str(configuration)], folder / "lighttpd.log", cwd=folder)
        with self.starting():
            self.wait_for("server started")

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Self:
        addresses: dict[Front, str] = {}
        texts, processes = [], 0
        (folder / "files").mkdir()
        (folder / "files" / "a file").write_text("as it is\n")
        for number, front in enumerate(fronts):
            assert isinstance(front, LighttpdFront)
            host, port = free_address()
            addresses[front] = address = f"{host}:{port}"
            if front.text:
                assert app is not None
                text = front.text.replace("APPLICATION", _place(app))
                texts.append(WRITTEN.format(address=address, text=text))
                continue
            settings: dict[str, object] = {"root_path": front.mount, "static": [(f"{front.mount}/files", "files")]}
            if app is not None:
                texts.append(generate(address, folder, bind=app.upstream, **settings))
                continue
            assert isinstance(front, LighttpdSpawning)
            processes += front.processes
            text = generate(address, folder, app=command[4], name=f"app{number}", workers=front.processes, **settings)
            # The tests' own options, and their folder.
            words = " ".join(command[:5])
            assert (text.count(words), text.count("/run/lighttpd/")) == (1, 1)
            texts.append(text.replace(words, " ".join(command)).replace("/run/lighttpd/", f"{folder}/run/"))
        server = cls(program("lighttpd"), texts, folder, addresses)
        with server.starting():
            server.wait_for("(?s)" + ".*".join([STARTED] * processes))
        return server

    def origin(self, front: Front) -> str:
        return f"http://{self._addresses[front]}"

    def errors_since(self, mark: int = 0) -> str:
        """Each line of a message is a line of the log."""
        lines = self.log_since(mark).splitlines()
        return "\n".join(found for line in lines if (found := line.partition("FastCGI-stderr:")[2]))

    def spawned(self) -> Spawned:
        return Spawned(self, "simple_fastcgi", "serve")

    def stop(self) -> int:
        app = self.spawned() if self.runs else None
        status = super().stop()
        if app is not None:
            wait_until(lambda: not app.runs)
        return status


def generate(address: str, folder: Path, **settings: object) -> str:
    """What ``config lighttpd`` prints, for an application whose folder is `folder`."""
    plan = Plan(listen=address, python=sys.executable, directory=str(folder), **settings)  # type: ignore[arg-type]
    (file,) = make("lighttpd", plan).files
    return file.text


def _place(app: App) -> str:
    if isinstance(app.address, str):
        return f'"socket" => "{app.address}"'
    return '"host" => "{}", "port" => {}'.format(*app.address)


@dataclass(frozen=True, eq=False, kw_only=True)
class LighttpdFront(Front):
    """In front of an application that listens."""

    text: str = ""
    """What is written, in front of APPLICATION; empty: what is generated."""
    server_name: str = ""
    joins_fields: bool = True
    passes_empty: bool = False
    longest_head: int = 8192
    notices_at_once: bool = False
    breaks_off_early: bool = False
    limits: Mapping[str, str] = field(default_factory=lambda: LIMITS)
    server = Lighttpd
    software = "lighttpd"


@dataclass(frozen=True, eq=False, kw_only=True)
class LighttpdSpawning(LighttpdFront):
    """It starts the application itself."""

    processes: int = 2
    one_process: bool = False
    spawns: ClassVar[bool] = True


def _written(name: str, text: str, **options: object) -> LighttpdFront:
    return LighttpdFront(name=f"lighttpd-{name}", text=text, full=False, **options)  # type: ignore[arg-type]


MAIN_FRONT = LighttpdFront(name="lighttpd")
SPAWNING = LighttpdSpawning(name="lighttpd-spawning")
MOUNTED = LighttpdFront(name="lighttpd-mounted", mount="/app", full=False)
# A mount point, as it is mostly written; and the same with it taken out of REQUEST_URI.
PREFIX = _written(
    "prefix",
    """\
fastcgi.server = ("/app" => ((
    APPLICATION,
    "check-local" => "disable"
)))
""",
    mount="/app",
)
STRIPPED = _written(
    "strip",
    """\
fastcgi.server = ("/app" => ((
    APPLICATION,
    "check-local" => "disable",
    "strip-request-uri" => "/app/"
)))
""",
    mount="/app",
)
# Everything is rewritten to a script, which is not there.
REWRITTEN = _written(
    "rewrite",
    """\
url.rewrite-once = ("^(/.*)$" => "/index.fcgi$1")
fastcgi.server = ("/index.fcgi" => ((
    APPLICATION,
    "check-local" => "disable"
)))
""",
)
REWRITTEN_BELOW = _written(
    "rewrite-mounted",
    """\
url.rewrite-once = ("^/app(/.*)?$" => "/app/index.fcgi$1")
fastcgi.server = ("/app/index.fcgi" => ((
    APPLICATION,
    "check-local" => "disable"
)))
""",
    mount="/app",
)
# The root without fix-root-scriptname: only the operator can tell the mount point.
UNFIXED = _written(
    "no-fix",
    """\
fastcgi.server = ("/" => ((
    APPLICATION,
    "check-local" => "disable"
)))
""",
    root_path="/",
)
# Nothing is stored by lighttpd, neither requests nor answers.
STREAMED = _written(
    "stream",
    """\
server.stream-request-body = 1
server.stream-response-body = 2
fastcgi.server = ("/" => ((
    APPLICATION,
    "check-local" => "disable",
    "fix-root-scriptname" => "enable"
)))
""",
)
WRITTEN_FRONTS = (PREFIX, STRIPPED, REWRITTEN, REWRITTEN_BELOW, UNFIXED, STREAMED)
FRONTS = (
    MAIN_FRONT,
    SPAWNING,
    LighttpdSpawning(name="lighttpd-spawning-mounted", mount="/app", processes=1, full=False),
    LighttpdFront(name="lighttpd-tcp", mount="/app", transport="tcp", full=False),
    MOUNTED,
    *WRITTEN_FRONTS,
)
