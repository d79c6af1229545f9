"""Apache, with the application behind mod_proxy_fcgi or spawned by mod_fcgid."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .children import Spawned
from .fronts import Front, Server, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App

# What Debian has loaded from the beginning, and what the configurations below need.
MODULES = (
    "mpm_event",
    "alias",
    "authn_core",
    "authz_core",
    "authz_user",
    "dir",
    "env",
    "fcgid",
    "mime",
    "proxy",
    "proxy_fcgi",
    "reqtimeout",
    "rewrite",
    "setenvif",
)
MODULES_FOLDER = "/usr/lib/apache2/modules"
MAIN = """\
ServerRoot {folder}
DefaultRuntimeDir run
PidFile run/apache.pid
Mutex file:run default
ErrorLog run/error.log
ServerName localhost
TypesConfig /etc/mime.types
FcgidIPCDir run
FcgidProcessTableFile run/fcgid_shm
# Applications that a test's end leaves behind would hold it up.
FcgidTerminationScore 0
FcgidZombieScanInterval 1
FcgidInitialEnv SECRET_KEY "of the tests"
FcgidInitialEnv PYTHONPATH "{pythonpath}"
StartServers 1
<Directory />
    Require all denied
    AllowOverride None
</Directory>
"""


class Apache(Server):
    """Apache with a virtual host for each of its fronts."""

    statuses_without_application = frozenset({503})
    error = re.compile(r"(?:AH01071: Got error '(.*?)'|mod_fcgid: stderr: (.*?))(?:, referer: .*)?$", re.MULTILINE)

    def __init__(self, program: str, sites: Mapping[Front, tuple[str, str]], folder: Path) -> None:
        self._sites = sites
        (folder / "run").mkdir(exist_ok=True)
        configuration = [f"LoadModule {name}_module {MODULES_FOLDER}/mod_{name}.so\n" for name in MODULES]
        configuration.append(MAIN.format(folder=folder, pythonpath=os.environ.get("PYTHONPATH", "")))
        for origin, text in sites.values():
            if "Listen " not in text:
                configuration.append(f"Listen {origin.removeprefix('http://')}\n")
            configuration.append(text)
        (folder / "apache.conf").write_text("".join(configuration))
        command = [program, "-d", str(folder), "-f", "apache.conf", "-DFOREGROUND"]
        if os.geteuid() == 0:
            # Its children would become another user, who cannot reach the folder, and it refuses to stay root.
            rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rights, *command]
        super().__init__(command, folder / "run" / "error.log", cwd=folder)
        self.wait_for("AH00094: Command line")

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Self:
        sites: dict[Front, tuple[str, str]] = {}
        for front in fronts:
            host, port = free_address()
            if isinstance(front, ProxyFront):
                assert app is not None
                text = front.configure(f"{host}:{port}", app)
            else:
                assert isinstance(front, FcgidFront)
                text = front.configure(f"{host}:{port}", command, folder / front.name)
            sites[front] = (f"http://{host}:{port}", text)
        return cls(program("apache2"), sites, folder)

    def origin(self, front: Front) -> str:
        return self._sites[front][0]

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR, in as many messages as records, or as lines."""
        found = ["".join(groups) for groups in self.error.findall(self.log_since(mark))]
        return "".join(_unescaped(text.removesuffix(r"\n")) + "\n" for text in found)

    def spawned(self) -> Spawned:
        return Spawned(self, "simple_fastcgi", "serve")


def _unescaped(text: str) -> str:
    """Without the escapes that Apache writes for control characters."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)


@dataclass(frozen=True, eq=False, kw_only=True)
class ApacheFront(Front):
    """What stands in the configuration in front of MOUNT."""

    server_name: str = ""
    joins_fields: bool = True
    server = Apache


@dataclass(frozen=True, eq=False, kw_only=True)
class ProxyFront(ApacheFront):
    """mod_proxy_fcgi: the lines within a virtual host, with APP for the application's address."""

    lines: str

    def configure(self, listen: str, app: App) -> str:
        """The configuration, with the virtual host at `listen`."""
        if isinstance(app.address, str):
            upstream = f"unix:{app.address}|fcgi://{self.name}"
        else:
            upstream = "fcgi://{}:{}".format(*app.address)
        return f"<VirtualHost {listen}>\n{self.lines.replace('APP', upstream)}</VirtualHost>\n"


@dataclass(frozen=True, eq=False, kw_only=True)
class FcgidFront(ApacheFront):
    """mod_fcgid: the lines within a virtual host, with FOLDER for the one that has index.fcgi."""

    lines: str
    one_process: bool = False
    spawns: ClassVar[bool] = True

    def configure(self, listen: str, command: Sequence[str], folder: Path) -> str:
        """The configuration, with the virtual host at `listen` and an executable index.fcgi in `folder`."""
        folder.mkdir()
        script = folder / "index.fcgi"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
        script.chmod(0o755)
        return f"<VirtualHost {listen}>\n{self.lines.replace('FOLDER', str(folder))}</VirtualHost>\n"


PASSED = "<Location />\nCGIPassAuth On\n</Location>\nAllowEncodedSlashes NoDecode\n"
FRONTS: tuple[ApacheFront, ...] = (
    ProxyFront(
        name="apache-proxy",
        kept=True,
        full=False,
        lines=PASSED + 'ProxyPass "/" "APP/" enablereuse=on flushpackets=on\n',
    ),
    FcgidFront(
        name="apache-fcgid",
        full=False,
        lines=PASSED
        + 'ScriptAlias "/" "FOLDER/index.fcgi/"\nFcgidMaxRequestLen 67108864\nFcgidOutputBufferSize 0\n'
        + '<Directory "FOLDER">\nSetHandler fcgid-script\nOptions +ExecCGI\nRequire all granted\n</Directory>\n',
    ),
)
