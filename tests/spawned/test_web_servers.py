"""The script of docs/spawning.md called by lighttpd's mod_cgi and Apache's mod_cgid, with Flask and Starlette in it."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.examples import blocks_of
from tests.support.webserver import TIMEOUT
from tests.webservers.children import ROOT, Child, wait_until
from tests.webservers.fronts import free_address

from .support import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.once

FRAMEWORKS = ("flask", "starlette")
LIGHTTPD = """\
server.document-root = "{folder}/htdocs"
server.upload-dirs = ("{folder}")
server.bind = "{host}"
server.port = {port}
"""
APACHE_MODULES = ("mpm_event", "authn_core", "authz_core", "cgid", "dir", "mime", "rewrite")
APACHE = """\
ServerRoot {folder}
DefaultRuntimeDir .
PidFile pid
ScriptSock cgid.sock
Mutex file:{folder} default
ErrorLog log
ServerName localhost
TypesConfig /etc/mime.types
StartServers 1
Listen {host}:{port}
DocumentRoot {folder}/htdocs
<Directory {folder}/htdocs>
    Require all granted
    AllowOverride All
</Directory>
"""


class CgiServer(Child):
    origin: str
    shown = ""
    """What of the script's name stands in URLs."""


@pytest.fixture(scope="module", params=["lighttpd", "apache2"])
def server(request: pytest.FixtureRequest, program: Callable[[str], str]) -> Iterator[CgiServer]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "log").touch()
        write_scripts(folder / "htdocs")
        host, port = free_address()
        path = program(request.param)
        command = (
            lighttpd(path, folder, host, port) if request.param == "lighttpd" else apache(path, folder, host, port)
        )
        with CgiServer(command, folder / "log", cwd=folder) as started:
            started.wait_for("server started|AH00094: Command line")
            started.origin = f"http://{host}:{port}"
            started.shown = "/index.cgi" if request.param == "lighttpd" else ""
            started.ends_with = (0, 1) if request.param == "lighttpd" else (0,)  # 1: a client was still connected
            yield started


def write_scripts(htdocs: Path) -> None:
    (source,) = [block for block in blocks_of(PAGE, "python") if block.startswith("#!")]
    (htaccess,) = blocks_of(PAGE, "apache")
    for framework in FRAMEWORKS:
        folder = htdocs / framework
        folder.mkdir(parents=True)
        text = source.replace("/srv/hello/venv/bin/python", sys.executable)
        text = text.replace('"/srv/hello"', repr(str(ROOT))).replace("from hello", f"from examples.{framework}_app.app")
        (folder / "index.cgi").write_text(text)
        (folder / "index.cgi").chmod(0o755)
        (folder / ".htaccess").write_text(htaccess)


def lighttpd(path: str, folder: Path, host: str, port: int) -> list[str]:
    (text,) = blocks_of(PAGE, "lighttpd")
    (folder / "lighttpd.conf").write_text(LIGHTTPD.format(folder=folder, host=host, port=port) + text)
    return [path, "-D", "-f", str(folder / "lighttpd.conf")]


def apache(path: str, folder: Path, host: str, port: int) -> list[str]:
    modules = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in APACHE_MODULES]
    text = "".join(modules) + APACHE.format(folder=folder, host=host, port=port)
    (folder / "apache.conf").write_text(text)
    command = [path, "-d", str(folder), "-f", "apache.conf", "-DFOREGROUND"]
    if os.geteuid() == 0:
        # Its children would become another user, who cannot reach the folder, and it refuses to stay root.
        rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rights, *command]
        os.chown(folder, 65534, 65534)
        os.chown(folder / "log", 65534, 65534)
    return command


@pytest.mark.parametrize(
    ("server", "framework"), [("lighttpd", "flask"), ("apache2", "starlette")], indirect=["server"]
)
def test_a_cgi_script(server: CgiServer, framework: str) -> None:
    """Each of both behind one of both: a process for each request takes its time."""
    mark = server.mark()
    place = f"/{framework}{server.shown}"
    with httpx.Client(base_url=server.origin + place, timeout=TIMEOUT, trust_env=False, verify=False) as client:
        found = client.get("/url?a=b%20c")
        assert found.status_code == 200
        assert f"{server.origin}{place}/url" in found.text
        environ = client.get("/environ", headers={"Authorization": "Basic YTpi"})
        assert "Basic YTpi" in environ.text
        form = client.post("/form", data={"name": "Ada", "message": "grün"})
        assert (form.status_code, httpx.URL(form.headers["Location"]).path) == (303, f"{place}/form")
        body = os.urandom(3 << 20)
        assert client.put("/upload/raw", content=body).json()["sha256"] == hashlib.sha256(body).hexdigest()
        download = client.get("/download/3000000")
        assert len(download.content) == 3000000
        failed = client.get("/error/before")
        assert (failed.status_code, "Traceback" in failed.text) == (500, False)
    wait_until(lambda: "Traceback (most recent call last)" in server.log_since(mark))


def test_a_body_in_chunks(server: CgiServer) -> None:
    """Either the web server counts them, or the script reads to their end."""
    body = os.urandom(100_000)
    with httpx.Client(
        base_url=f"{server.origin}/flask{server.shown}", timeout=TIMEOUT, trust_env=False, verify=False
    ) as client:
        answer = client.put("/upload/raw", content=iter([body[:1000], body[1000:]]))
    assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
