"""Starts each web server with all of its set-ups, one port or socket for each."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.webservers.children import Child
from tests.webservers.fronts import free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .setups import Setup

MODULES = (
    *("mpm_event", "authz_core", "authz_host", "authn_core", "authz_user", "auth_basic", "alias", "mime"),
    *("env", "setenvif", "rewrite", "proxy", "proxy_fcgi", "fcgid", "cgid", "authnz_fcgi", "ssl", "socache_shmcb"),
)


@dataclass(frozen=True)
class Listening:
    """Where one set-up is found: host and port, or a socket's path."""

    setup: Setup
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Started(Child):
    """A web server that ends as it likes: not what it does then is of interest."""

    ends_with = tuple(range(-64, 256))

    def __init__(self, command: Sequence[str], folder: Path, **environment: str) -> None:
        # Apache hands its own PATH on to applications.
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), **environment}
        super().__init__(command, folder / "log", cwd=folder, env=environment)


def listeners(setups: Sequence[Setup], folder: Path) -> list[Listening]:
    """An address for each of `setups`."""
    found = []
    for setup in setups:
        host, port = free_address()
        if setup.listen == "ipv6":
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
                host, port = "::1", probe.getsockname()[1]
        elif setup.listen == "unix":
            host, port = f"{folder}/{setup.name}.front", 0
        found.append(Listening(setup, host, port))
    return found


def prepare(folder: Path) -> None:
    """What configurations name: scripts, and a certificate that nobody trusts."""
    # The web server may be a user who cannot reach an environment of ours; the responder needs none.
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    # It starts for each request of plain CGI, and needs no more than the standard library.
    script = f"#!{python} -IS\n{Path(__file__).with_name('responder.py').read_text()}"
    for name in ("index.fcgi", "index.cgi", "app.cgi"):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    subject = ["-subj", "/CN=shop.example", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *subject]
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
    (folder / "both.pem").write_text(both)


def nginx(program: Callable[[str], str], fronts: Sequence[Listening], folder: Path) -> Child:
    """All of nginx's set-ups."""
    servers = []
    for front in fronts:
        where = f"unix:{front.host}" if front.setup.listen == "unix" else front.authority
        tls = f"ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem"
        servers.append(f"server {{ listen {where} {tls if front.setup.listen == 'tls' else ''}; {front.setup.text} }}")
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "fastcgi", "proxy"))
    temporary += f"scgi_temp_path {folder}/scgi; uwsgi_temp_path {folder}/uwsgi;"
    text = f"user root; pid {folder}/nginx.pid; events {{}} http {{ access_log off; {temporary} {' '.join(servers)} }}"
    (folder / "nginx.conf").write_text(text)
    command = [program("nginx"), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]
    return Started(command, folder)


def apache(program: Callable[[str], str], fronts: Sequence[Listening], folder: Path) -> Child:
    """All of Apache's set-ups."""
    modules = Path("/usr/lib/apache2/modules")
    outside = [f"LoadModule {name}_module {modules}/mod_{name}.so" for name in MODULES]
    lines = [
        *(f"ServerRoot {folder}", f"PidFile {folder}/apache.pid", "ServerName localhost", "ErrorLog error.log"),
        *(
            "DefaultRuntimeDir .",
            "TypesConfig /dev/null",
            f"ScriptSock {folder}/cgid",
            f"FcgidIPCDir {folder}/ipc",
            f"FcgidProcessTableFile {folder}/shm",
        ),
        *("AllowEncodedSlashes NoDecode", f"DocumentRoot {folder}/empty", "Timeout 20"),
        f"<Directory {folder}>\nOptions +ExecCGI +FollowSymLinks\nRequire all granted\nAllowOverride All\n</Directory>",
    ]
    (folder / "empty").mkdir()
    if os.geteuid() == 0:
        # It does not work as root, and must reach the sockets.
        lines += ["User www-data", "Group www-data"]
        folder.chmod(0o755)
        (folder / "app.sock").chmod(0o777)
    for front in fronts:
        setup = front.setup
        lines += [f"Listen {front.authority}", f"<VirtualHost {front.authority}>", "AllowEncodedSlashes NoDecode"]
        lines += [f"AddHandler {'cgi-script .cgi' if setup.server == 'apache-cgid' else 'fcgid-script .fcgi'}"]
        lines += ["ServerName localhost"]
        if setup.listen == "tls":
            lines += [
                "SSLEngine on",
                f"SSLCertificateFile {folder}/cert.pem",
                f"SSLCertificateKeyFile {folder}/key.pem",
            ]
        if setup.htaccess:
            site = folder / f"{setup.server}-{setup.name}"
            place = site if "." in setup.mount else site / setup.mount[1:]
            place.mkdir(parents=True)
            (place / ".htaccess").write_text(setup.text)
            for name in ("index.fcgi", "index.cgi"):
                # Of its own: mod_fcgid's processes are told apart by files.
                (place / name).write_bytes((folder / name).read_bytes())
                (place / name).chmod(0o755)
            lines += [f"DocumentRoot {site}", "</VirtualHost>"]
        else:
            # Those of providers stand outside.
            define = [line for line in setup.text.splitlines() if line.startswith("AuthnzFcgiDefine")]
            outside += define
            lines += [*(line for line in setup.text.splitlines() if line not in define), "</VirtualHost>"]
    (folder / "apache.conf").write_text("\n".join([*outside, *lines]) + "\n")
    return Started([program("apache2"), "-f", f"{folder}/apache.conf", "-DFOREGROUND"], folder)


def lighttpd(program: Callable[[str], str], fronts: Sequence[Listening], folder: Path) -> Child:
    """All of lighttpd's set-ups."""
    modules = ("mod_fastcgi", "mod_cgi", "mod_rewrite", "mod_setenv", "mod_auth", "mod_authn_file")
    host, port = free_address()
    lines = [
        "server.modules = ( {} )".format(", ".join(f'"{name}"' for name in modules)),
        f'server.document-root = "{folder}"\nserver.bind = "{host}"\nserver.port = {port}',
        f'server.errorlog = "{folder}/error.log"',
    ]
    for front in fronts:
        where = front.host if front.setup.listen == "unix" else front.authority
        lines.append(f'$SERVER["socket"] == "{where}" {{\n{front.setup.text}\n}}')
    (folder / "lighttpd.conf").write_text("\n".join(lines) + "\n")
    return Started([program("lighttpd"), "-D", "-f", f"{folder}/lighttpd.conf"], folder)


def haproxy(program: Callable[[str], str], fronts: Sequence[Listening], folder: Path) -> Child:
    """All of HAProxy's set-ups."""
    lines = ["global", "defaults", " mode http", " timeout client 20s", " timeout server 20s", " timeout connect 20s"]
    for number, front in enumerate(fronts):
        where = f"unix@{front.host}" if front.setup.listen == "unix" else f"{front.host}:{front.port}"
        tls = f" ssl crt {folder}/both.pem" if front.setup.listen == "tls" else ""
        lines += [f"frontend f{number}", f" bind {where}{tls}", f" default_backend b{number}"]
        lines += [f"backend b{number}", f" use-fcgi-app a{number}", f" server s unix@{folder}/app.sock proto fcgi"]
        lines += [f"fcgi-app a{number}", f" docroot {folder}", f" {front.setup.text}"]
    (folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
    return Started([program("haproxy"), "-db", "-f", f"{folder}/haproxy.cfg"], folder)


def caddy(program: Callable[[str], str], fronts: Sequence[Listening], folder: Path) -> Child:
    """All of Caddy's set-ups."""
    lines = [f"{{\nadmin off\nauto_https off\nstorage file_system {folder}\n}}"]
    for front in fronts:
        where = f"http://{front.authority}"
        bind = f"bind {front.host}"
        if front.setup.listen == "tls":
            where, bind = f"https://{front.authority}", f"{bind}\ntls {folder}/cert.pem {folder}/key.pem"
        elif front.setup.listen == "unix":
            where, bind = "http://", f"bind unix/{front.host}"
        lines.append(f"{where} {{\n{bind}\n{front.setup.text}\n}}")
    (folder / "Caddyfile").write_text("\n".join(lines) + "\n")
    command = [program("caddy"), "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]
    return Started(command, folder, XDG_CONFIG_HOME=str(folder), XDG_DATA_HOME=str(folder))


SERVERS = {"nginx": nginx, "apache": apache, "lighttpd": lighttpd, "haproxy": haproxy, "caddy": caddy}
VERSION = {"nginx": "-v", "apache": "-v", "lighttpd": "-v", "haproxy": "-v", "caddy": "version"}
