"""nginx, in every way in which applications are set up behind it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .children import ROOT
from .fronts import Front, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App

FASTCGI_PARAMS = "/etc/nginx/fastcgi_params"
STOCK = "include fastcgi_params;"
HOST = "fastcgi_param HTTP_HOST $host:$server_port;"
SPLIT = f'{STOCK} {HOST} fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $fastcgi_script_name;'
STATIC = ROOT / "examples" / "flask_app" / "static"

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
    keepalive_requests 1000000;
    {sites}
}}
"""
WRITTEN = """
    server {{
        listen 127.0.0.1:{port};
        server_name localhost;
        client_max_body_size 256m;
        fastcgi_max_temp_file_size 0;
        location {mount}/ {{
            {params}
            fastcgi_pass {upstream};
        }}
        location /direct/ {{
            fastcgi_split_path_info ^(/direct)(/.*)$;
            include fastcgi_params;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_request_buffering off;
            fastcgi_buffering off;
            fastcgi_pass {upstream};
        }}
    }}
"""

_LISTEN = re.compile(r"listen 127\.0\.0\.1:(\d+)")


class Nginx(Server):
    """nginx with a configuration whose ``listen 127.0.0.1:8000``, ``8001`` and so on become ports that are free."""

    error = re.compile(r'FastCGI sent in stderr: "(.*?)" while', re.DOTALL)

    def __init__(self, program: str, configuration: str, folder: Path, fronts: Sequence[Front] = ()) -> None:
        self._fronts = fronts
        (folder / "run").mkdir(parents=True, exist_ok=True)
        written = sorted(set(_LISTEN.findall(configuration)))
        with contextlib.ExitStack() as stack:
            # It inherits sockets that listen already, as from a predecessor at an upgrade: no port can be lost to
            # another process meanwhile, and who connects early waits in the queue.
            listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=511)) for _ in written]
            self.ports = [sock.getsockname()[1] for sock in listening]
            ports = dict(zip(written, self.ports, strict=True))
            configuration = _LISTEN.sub(lambda found: f"listen 127.0.0.1:{ports[found[1]]}", configuration)
            if os.geteuid() == 0:
                # Its workers would be another user, who cannot reach the folder.
                configuration = "user root;\n" + configuration
            (folder / "nginx.conf").write_text(configuration)
            (folder / "fastcgi_params").write_text(f"include {FASTCGI_PARAMS};\n")  # as it is found beside nginx.conf
            numbers = [sock.fileno() for sock in listening]
            super().__init__(
                [program, "-p", f"{folder}/", "-e", "run/error.log", "-c", "nginx.conf", "-g", "daemon off;"],
                folder / "run" / "error.log",
                cwd=folder,
                env={"NGINX": "".join(f"{number};" for number in numbers)},
                pass_fds=numbers,
            )

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Self:
        assert app is not None
        if fronts[0].example:
            configuration = example_configuration(app.cwd)
        else:
            configuration = configure(app.upstream, fronts)
        return cls(program("nginx"), configuration, folder, fronts)

    def origin(self, front: Front) -> str:
        return f"http://127.0.0.1:{self.ports[bool(front.mount) if front.example else self._fronts.index(front)]}"

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR. Each record is a message, whose last line end nginx takes off."""
        return "\n".join(self.error.findall(self.log_since(mark)))


@dataclass(frozen=True, eq=False, kw_only=True)
class NginxFront(Front):
    """The parameters make the difference, the connections, and the place in the URL."""

    params: str | None = None
    """What stands in the location; None: all is as ``simple-fastcgi config nginx`` prints it."""
    transfer: int = 50 << 20
    tells_user: bool = True
    server = Nginx
    software = "nginx"


def _transport(name: str, params: str | None = None, **options: object) -> NginxFront:
    return NginxFront(name=name, params=params, ways=("", "/direct"), **options)  # type: ignore[arg-type]


TRANSPORTS = (
    _transport("unix", SPLIT),
    _transport("unix-kept", kept=True),
    _transport("tcp", SPLIT, transport="tcp"),
    _transport("tcp-kept", kept=True, transport="tcp"),
)


def _mount(name: str, params: str | None = SPLIT, **options: object) -> NginxFront:
    return NginxFront(name=name, params=params, full=False, **options)  # type: ignore[arg-type]


MOUNTED = _mount("mounted", None, mount="/app", kept=True)
MOUNTS = (
    TRANSPORTS[0],
    _mount("stock", STOCK, tells_port=None),
    _mount("stock-host", f"{STOCK} fastcgi_param HTTP_HOST $host;", tells_port=False),
    _mount("both", f"{STOCK} {HOST} fastcgi_param PATH_INFO $fastcgi_script_name;"),
    MOUNTED,
    _mount("mounted-tcp", None, mount="/app", kept=True, transport="tcp"),
    _mount("mounted-stock", f"{STOCK} {HOST}", mount="/app", root_path="/app"),
    _mount("example", example=True),
    _mount("example-mounted", mount="/app", example=True),
)
NATIVE = _mount("native", STOCK, kept=True, example=True)
FRONTS = (*TRANSPORTS, *MOUNTS[1:])


def configure(upstream: str, fronts: Sequence[Front]) -> str:
    """A configuration with a server for each of `fronts`, on the ports 8000, 8001 and so on."""
    sites = []
    for port, front in enumerate(fronts, 8000):
        assert isinstance(front, NginxFront)
        if front.params is None:
            sites.append(_printed(upstream, front, port))
        else:
            assert not front.kept
            sites.append(WRITTEN.format(port=port, upstream=upstream, params=front.params, mount=front.mount))
    return CONFIGURATION.format(sites="".join(sites))


def _printed(upstream: str, front: Front, port: int) -> str:
    """What is printed for this front, and for /direct, where the lines that let bodies through are no comments."""

    def site(mount: str) -> str:
        plan = Plan(
            name=f"at-{port}",
            bind=upstream,
            root_path=mount,
            listen=f"127.0.0.1:{port}",
            server_name="localhost",
            static=[(f"{mount}/of-nginx", str(STATIC))],
            max_body_size=256,
        )
        return make("nginx", plan).files[0].text

    text = site(front.mount)
    if "/direct" in front.ways:
        direct, lines = re.subn(r"# (fastcgi_(?:request_)?buffering off;)", r"\1", site("/direct"))
        assert lines == 2
        location = direct[direct.index("    location /direct/ {") : direct.rindex("}")]
        text = text[: text.rindex("}")] + location + "}\n"
    return text


def example_configuration(folder: Path, documents: Path | None = None) -> str:
    """What comes with an example, in one piece; `documents` instead of what it shows."""
    configuration = (folder / "nginx.conf").read_text()
    configuration = re.sub(r"include (\w+\.conf);", lambda found: (folder / found[1]).read_text(), configuration)
    return configuration.replace("root /usr/share/doc;", f"root {documents};")
