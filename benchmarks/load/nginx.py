"""One nginx in front of all contestants of a scenario, on the core of the load."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.contestants.prepare import Missing
from benchmarks.processes import Tree
from scripts.prepare import SYSTEM_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.contestants.launch import Server

SECONDS_TO_START = 10.0

_MAIN = """\
worker_processes 1;
daemon off;
master_process on;
{user}
worker_rlimit_nofile 20000;
error_log {folder}/nginx-error.log warn;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    large_client_header_buffers 8 32k;
    client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/fastcgi;
    proxy_temp_path {folder}/proxy;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    fastcgi_max_temp_file_size 0;
    proxy_max_temp_file_size 0;
    uwsgi_max_temp_file_size 0;
    fastcgi_read_timeout 120s;
    proxy_read_timeout 120s;
    uwsgi_read_timeout 120s;
{servers}
}}
"""
_UPSTREAM = """\
    upstream {name} {{ server unix:{socket}; {keep} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
{location}
        }}
    }}
"""
# What Debian's fastcgi_params has, with the path as PATH_INFO.
_CGI = """\
QUERY_STRING $query_string
REQUEST_METHOD $request_method
CONTENT_TYPE $content_type
CONTENT_LENGTH $content_length
SCRIPT_NAME ""
PATH_INFO $uri
REQUEST_URI $request_uri
DOCUMENT_URI $document_uri
DOCUMENT_ROOT $document_root
SERVER_PROTOCOL $server_protocol
REQUEST_SCHEME $scheme
GATEWAY_INTERFACE CGI/1.1
SERVER_SOFTWARE nginx/$nginx_version
REMOTE_ADDR $remote_addr
REMOTE_PORT $remote_port
REMOTE_USER $remote_user
SERVER_ADDR $server_addr
SERVER_PORT $server_port
SERVER_NAME $server_name
REDIRECT_STATUS 200
""".splitlines()


@dataclass(frozen=True)
class Manner:
    """How nginx deals with its servers, see :func:`in_front`."""

    kept: bool = True
    buffered: bool = True
    stored: bool = True


class Nginx:
    """A running nginx: `ports` has the port for each contestant's title."""

    def __init__(self, ports: dict[str, int], tree: Tree) -> None:
        self.ports = ports
        self.tree = tree


def _program() -> str | None:
    return shutil.which("nginx", path=SYSTEM_PATH)


def version() -> str:
    """Its name and version, or that it is missing."""
    program = _program()
    if program is None:
        return "no nginx"
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return told.rpartition(":")[2].strip()


@contextlib.contextmanager
def in_front(
    servers: Sequence[Server],
    folder: Path,
    core: int,
    *,
    kept: bool = True,
    buffered: bool = True,
    stored: bool = True,
) -> Iterator[Nginx]:
    """An nginx with a port for each server.

    `kept`: it keeps its connections to servers, but for the single ones; otherwise it opens one for each request.
    `buffered`: it buffers answers, as is its default. `stored`: it buffers the bodies of requests, on its disk if they
    are large, as is its default, too. Missing when there is no nginx, or it does not start.
    """
    program = _program()
    if program is None:
        raise Missing("nginx is not installed")
    file = folder / "nginx.conf"
    log = folder / "nginx-error.log"
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in servers]
        numbers = [listener.fileno() for listener in listeners]
        titles = [server.contestant.title for server in servers]
        ports = {title: one.getsockname()[1] for title, one in zip(titles, listeners, strict=True)}
        file.write_text(configuration(servers, ports, folder, Manner(kept, buffered, stored)))
        # As when one nginx takes over from another: a port that was only free a moment ago may be somebody else's now.
        env = {**os.environ, "NGINX": "".join(f"{number};" for number in numbers)}
        command = [program, "-c", str(file), "-p", str(folder), "-e", str(log)]
        tree = Tree(command, core, folder / "nginx.log", env=env, pass_fds=numbers)
    try:
        _wait(tree, folder / "nginx.pid")
        yield Nginx(ports, tree)
    finally:
        tree.end()


def configuration(servers: Sequence[Server], ports: dict[str, int], folder: Path, manner: Manner) -> str:
    """The configuration file."""
    parts = []
    for number, server in enumerate(servers):
        own = replace(manner, kept=manner.kept and not server.contestant.single)
        parts.append(
            _UPSTREAM.format(
                name=f"server{number}",
                socket=server.path,
                keep="keepalive 600; keepalive_requests 1000000000; keepalive_timeout 1h;" if own.kept else "",
                port=ports[server.contestant.title],
                location="\n".join(" " * 12 + line for line in _location(server, f"server{number}", own)),
            )
        )
    user = "user root;" if os.geteuid() == 0 else ""  # the folder is private
    return _MAIN.format(folder=folder, servers="".join(parts), user=user)


def _location(server: Server, upstream: str, manner: Manner) -> Iterator[str]:
    protocol = server.contestant.protocol
    prefix = {"fastcgi": "fastcgi", "http": "proxy", "uwsgi": "uwsgi"}[protocol]
    if not manner.buffered:
        yield f"{prefix}_buffering off;"
    if not manner.stored:
        yield f"{prefix}_request_buffering off;"
    if protocol == "http":
        yield f"proxy_pass http://{upstream};"
        yield "proxy_http_version 1.1;"
        yield f'proxy_set_header Connection "{"" if manner.kept else "close"}";'
        yield "proxy_set_header Host $host;"
        return
    yield f"{prefix}_pass {upstream};"
    if protocol == "fastcgi":
        yield f"fastcgi_keep_conn {'on' if manner.kept else 'off'};"
        if script := server.contestant.script:
            yield f"fastcgi_param SCRIPT_FILENAME {script};"
    yield from (f"{prefix}_param {line};" for line in _CGI)


def _wait(tree: Tree, pid_file: Path) -> None:
    """Until it has started."""
    deadline = time.monotonic() + SECONDS_TO_START
    while not pid_file.exists():
        if not tree.running or time.monotonic() > deadline:
            raise Missing(f"nginx does not start: {tree.last_words()}")
        time.sleep(0.02)
