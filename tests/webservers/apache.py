"""Apache, with the application behind mod_proxy_fcgi or spawned by mod_fcgid."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .children import ROOT, Spawned
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
    "auth_basic",
    "authn_core",
    "authnz_fcgi",
    "authz_core",
    "authz_user",
    "deflate",
    "dir",
    "env",
    "fcgid",
    "filter",
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
# On a kept connection the client sees an answer that broke off only after KeepAliveTimeout, 5 s.
SetEnvIf Request_URI "/error/during|/probe/short|/probe/handshake" nokeepalive
MaxKeepAliveRequests 0
TypesConfig apache.types
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
        configuration.append(MAIN.format(folder=folder, pythonpath=ROOT))
        for origin, text in sites.values():
            if "Listen " not in text:
                configuration.append(f"Listen {origin.removeprefix('http://')}\n")
            configuration.append(text)
        (folder / "apache.types").touch()
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
        return Spawned(self, "index.fcgi")


def _unescaped(text: str) -> str:
    """Without the escapes that Apache writes for control characters."""
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), text)


@dataclass(frozen=True, eq=False, kw_only=True)
class ApacheFront(Front):
    """What all ways with Apache have in common."""

    mib: int = 64
    """The largest upload."""
    server_name: str = ""
    joins_fields: bool = True
    server = Apache

    @property
    def static(self) -> tuple[tuple[str, str], ...]:
        """What Apache serves itself, where `config` has made its configuration."""
        return ((f"{self.mount}/pages", str(ROOT / "docs")),)


@dataclass(frozen=True, eq=False, kw_only=True)
class ProxyFront(ApacheFront):
    """mod_proxy_fcgi, as ``config`` writes it or with other lines."""

    software = "mod_proxy_fcgi"
    lines: str = ""
    """Within a virtual host, with APP for the application's address; empty: what ``config`` writes."""
    before: str = ""
    """What stands in front of the virtual host."""
    notices_at_once: bool = False

    def configure(self, listen: str, app: App) -> str:
        """The configuration, with the virtual host at `listen`."""
        if not self.lines:
            plan = Plan(
                name=self.name,
                bind=app.upstream,
                listen=listen,
                root_path=self.mount,
                server_name="localhost",
                max_body_size=self.mib,
                static=self.static,
            )
            return self.before + make("apache-proxy", plan).files[0].text
        unix = isinstance(app.address, str)
        upstream = f"{app.upstream}|fcgi://{self.name}" if unix else f"fcgi://{app.upstream}"
        return host(listen, PASSED + self.lines.replace("APP", upstream))


@dataclass(frozen=True, eq=False, kw_only=True)
class FcgidFront(ApacheFront):
    """mod_fcgid, by ScriptAlias or by .htaccess, as ``config`` writes them."""

    software = "mod_fcgid"
    htaccess: bool = False
    one_process: bool = False
    breaks_off: bool = False
    adds_error_page: bool = True
    spawns: ClassVar[bool] = True

    def configure(self, listen: str, command: Sequence[str], folder: Path) -> str:
        """The configuration, with the virtual host at `listen`, and files in `folder`."""
        place = folder / self.mount.strip("/") if self.htaccess else folder
        place.mkdir(parents=True)
        plan = Plan(
            app=command[4],
            directory=str(place),
            listen=listen,
            root_path=self.mount,
            server_name="localhost",
            workers=PROCESSES,
            max_body_size=self.mib,
            static=self.static,
        )
        site, *files = make("apache-fcgid", plan).files
        for file in files:
            path = place / os.path.basename(file.path)
            path.write_text(file.text)
            path.chmod(0o755 if file.executable else 0o644)
        return host(listen, SHARED_HOST.format(folder=folder)) if self.htaccess else site.text


def host(listen: str, lines: str) -> str:
    """A virtual host."""
    return f"<VirtualHost {listen}>\nServerName localhost\n{lines}</VirtualHost>\n"


PROCESSES = 4
PASSED = """\
<Location />
    CGIPassAuth On
</Location>
AllowEncodedSlashes On
"""
# What a host gives those who can write an .htaccess.
SHARED_HOST = f"""\
DocumentRoot {{folder}}
FcgidMaxProcessesPerClass {PROCESSES}
<Directory {{folder}}>
    Options ExecCGI SymLinksIfOwnerMatch
    AllowOverride FileInfo
    Require all granted
</Directory>
AllowEncodedSlashes On
"""
SLASH = 'RedirectMatch "^/app$" "/app/"\n'
PATH_INFO = """\
ProxyFCGISetEnvIf "true" PATH_INFO "%{reqenv:SCRIPT_NAME}"
ProxyFCGISetEnvIf "true" SCRIPT_NAME ""
"""


def _way(name: str, lines: str, **options: object) -> ProxyFront:
    return ProxyFront(name=f"apache-{name}", lines=lines, full=False, **options)  # type: ignore[arg-type]


PROXY = ProxyFront(name="apache-proxy", kept=True)
FCGID = FcgidFront(
    name="apache-fcgid",
    limits={
        "error within the response": "mod_fcgid adds an error page to an answer of untold length, and ends it well"
    },
)
HTACCESS = FcgidFront(name="apache-htaccess", htaccess=True, full=False)
PROXY_APP = replace(PROXY, name="apache-proxy-app", mount="/app", full=False)
FCGID_APP = replace(FCGID, name="apache-fcgid-app", mount="/app", full=False)
HTACCESS_APP = replace(HTACCESS, name="apache-htaccess-app", mount="/app")
FRONTS: tuple[ApacheFront, ...] = (
    PROXY,
    PROXY_APP,
    _way("match", 'ProxyPassMatch "^/" "APP"\n'),
    _way("setenv", 'ProxyPass "/" "APP/"\n' + PATH_INFO),
    _way(
        "sethandler-app",
        SLASH + '<Location "/app/">\nRequire all granted\nSetHandler "proxy:APP"\n</Location>\n',
        mount="/app",
    ),
    _way("sethandler", '<Location "/">\nRequire all granted\nSetHandler "proxy:APP"\n</Location>\n', root_path="/"),
    _way("whole-app", 'ProxyPass "/app" "APP/app"\n', mount="/app", root_path="/app"),
    _way("tcp", 'ProxyPass "/" "APP/"\n', transport="tcp"),
    _way("match-tcp", 'ProxyPassMatch "^/(.*)$" "APP/$1"\n', transport="tcp"),
    _way(
        "tcp-app",
        SLASH + 'ProxyPass "/app/" "APP/" enablereuse=on\n',
        transport="tcp",
        mount="/app",
        kept=True,
    ),
    FCGID,
    FCGID_APP,
    HTACCESS,
    HTACCESS_APP,
)
