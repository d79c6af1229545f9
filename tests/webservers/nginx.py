"""nginx, in every way in which applications are set up behind it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .children import ROOT
from .fronts import Front, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App

STOCK = "include /etc/nginx/fastcgi_params;"
HOST = "fastcgi_param HTTP_HOST $host:$server_port;"
SPLIT = f'{STOCK} {HOST} fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $fastcgi_script_name;'
MOUNTED = f"fastcgi_split_path_info ^(/app)(/.*)$; {STOCK} {HOST} fastcgi_param PATH_INFO $fastcgi_path_info;"

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


class Nginx(Server):
    """nginx with a configuration whose ``listen 127.0.0.1:8000``, ``8001`` and so on become ports that are free."""

    error = re.compile(r'FastCGI sent in stderr: "(.*?)" while', re.DOTALL)

    def __init__(self, program: str, configuration: str, folder: Path, fronts: Sequence[Front] = ()) -> None:
        self._fronts = fronts
        (folder / "run").mkdir(parents=True, exist_ok=True)
        ports = sorted(set(re.findall(r"listen 127\.0\.0\.1:(\d+)[ ;]", configuration)))
        self.ports: list[int] = []
        with contextlib.ExitStack() as stack:
            # It inherits sockets that listen already, as from a predecessor at an upgrade: no port can be lost to
            # another process meanwhile, and who connects early waits in the queue.
            listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=511)) for _ in ports]
            for written, sock in zip(ports, listening, strict=True):
                port = sock.getsockname()[1]
                configuration = re.sub(rf"127\.0\.0\.1:{written}(?=[ ;])", f"127.0.0.1:{port}", configuration)
                self.ports.append(port)
            if os.geteuid() == 0:
                # Its workers would be another user, who cannot reach the folder.
                configuration = "user root;\n" + configuration
            (folder / "nginx.conf").write_text(configuration)
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
            configuration = (app.cwd / "nginx.conf").read_text()
        else:
            configuration = configure(app.upstream, fronts)
        return cls(program("nginx"), configuration, folder, fronts)

    def origin(self, front: Front) -> str:
        return f"http://127.0.0.1:{self.ports[0 if front.example else self._fronts.index(front)]}"

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR. Each record is a message, whose last line end nginx takes off."""
        return "\n".join(self.error.findall(self.log_since(mark)))


@dataclass(frozen=True, eq=False, kw_only=True)
class NginxFront(Front):
    """The parameters make the difference, the connections, and the place in the URL."""

    params: str = SPLIT
    transfer: int = 50 << 20
    tells_user: bool = True
    server = Nginx


def _transport(name: str, **options: object) -> NginxFront:
    return NginxFront(name=name, ways=("", "/direct"), **options)  # type: ignore[arg-type]


TRANSPORTS = (
    _transport("unix"),
    _transport("unix-kept", kept=True),
    _transport("tcp", transport="tcp"),
    _transport("tcp-kept", transport="tcp", kept=True),
)


def _mount(name: str, params: str = SPLIT, **options: object) -> NginxFront:
    return NginxFront(name=name, params=params, full=False, **options)  # type: ignore[arg-type]


MOUNTS = (
    TRANSPORTS[0],
    _mount("stock", STOCK, tells_port=None),
    _mount("stock-host", f"{STOCK} fastcgi_param HTTP_HOST $host;", tells_port=False),
    _mount("both", f"{STOCK} {HOST} fastcgi_param PATH_INFO $fastcgi_script_name;"),
    _mount("mounted", MOUNTED, mount="/app"),
    _mount("mounted-stock", f"{STOCK} {HOST}", mount="/app", root_path="/app"),
    _mount("example", example=True),
    _mount("example-mounted", mount="/app", example=True),
)
NATIVE = _mount("native", STOCK, kept=True, example=True)
FRONTS = (*TRANSPORTS, *MOUNTS[1:])


def configure(upstream: str, fronts: Sequence[Front]) -> str:
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
        if isinstance(front, NginxFront)
    ]
    return CONFIGURATION.format(upstream=upstream, servers="".join(servers))


def example_configuration(name: str, folder: Path) -> str:
    """What comes with an example, for files below `folder`."""
    configuration = (ROOT / "examples" / name / "nginx.conf").read_text()
    return configuration.replace("root /usr/share/doc;", f"root {folder}/docs;")
