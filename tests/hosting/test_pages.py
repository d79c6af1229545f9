"""docs/shared-hosting.md, docs/fastapi-shared-hosting.md and docs/flup.md: what they show is run as it stands."""

from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.flup import WSGIServer
from simple_fastcgi.flup.base import _NEEDLESS
from tests.support.examples import ROOT, blocks_of
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import Child, wait_until

from .host import EXAMPLE, HOME, PYTHON, at_home, hosted, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .host import Host

pytestmark = pytest.mark.once

SHARED = (ROOT / "docs" / "shared-hosting.md").read_text()
FASTAPI = (ROOT / "docs" / "fastapi-shared-hosting.md").read_text()
FLUP = (ROOT / "docs" / "flup.md").read_text()
USUAL, WITHOUT, LOG = blocks_of(SHARED, "python")
# Where the web server logs what it could not start.
NOT_STARTED = "End of script output before headers: index.fcgi"


@pytest.fixture
def own(program: Callable[[str], str]) -> Iterator[Host]:
    with hosted(program) as found:
        yield found


def test_it_shows_the_files_of_the_example() -> None:
    assert (EXAMPLE / "public_html" / "index.fcgi").read_text() == USUAL
    assert [(EXAMPLE / "public_html" / ".htaccess").read_text()] == blocks_of(SHARED, "apache")


def test_a_folder_of_packages(own: Host) -> None:
    """With any Python of the host's, and an error log of its own."""
    packages = own.home / "packages"
    packages.mkdir()
    for path in (*Path(sysconfig.get_path("purelib")).iterdir(), ROOT / "simple_fastcgi"):
        if not (packages / path.name).exists() and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    log = LOG.replace(HOME, str(own.home))
    script = WITHOUT.replace("/usr/bin/env python3", f"{sys.executable} -S").replace(
        "import sys\n", f"import sys\n{log}"
    )
    own.script.write_text(script)
    upload(own.code, own.code.read_text() + '@app.get("/fail")\ndef fail() -> str:\n    return 1 / 0\n')
    with own.client() as browser:
        assert "Nobody has been here yet" in browser.get("/").text
        assert browser.get("/fail").status_code == 500
    told = (own.home / "error.log").read_text()
    assert "serving app:app (WSGI, 1 thread)" in told
    assert "ZeroDivisionError: division by zero\n" in told
    assert "serving app:app" not in own.apache.log_since()


def test_what_the_log_says_of_scripts_that_do_not_start(own: Host) -> None:
    script = own.script.read_text()

    def log_of(text: bytes, mode: int = 0o755) -> str:
        own.script.write_bytes(text)
        own.script.chmod(mode)
        mark = own.apache.mark()
        with own.client() as browser:
            assert browser.get("/").status_code == 500
        own.apache.wait_for(NOT_STARTED, mark)
        return own.apache.log_since(mark)

    assert "Traceback" not in log_of(script.replace("\n", "\r\n").encode())
    assert "Traceback" not in log_of(script.encode(), 0o644)
    assert "No module named 'simple_fastcgi_of_mars'" in log_of(
        script.replace("from simple_fastcgi", "from simple_fastcgi_of_mars").encode()
    )
    htaccess = own.script.with_name(".htaccess")
    htaccess.write_text(htaccess.read_text() + "Options +Indexes\n")
    mark = own.apache.mark()
    with own.client() as browser:
        assert browser.get("/").status_code == 500
    assert "not allowed here" in own.apache.log_since(mark)


def test_where_there_is_only_cgi(own: Host) -> None:
    htaccess = own.script.with_name(".htaccess")
    text = htaccess.read_text().replace("fcgid-script", "cgi-script")
    htaccess.write_text(text.replace(".fcgi", ".cgi"))
    own.script.rename(own.script.with_name("index.cgi"))
    with own.client() as browser:
        assert browser.post("/sign", data={"name": "Ada", "message": "by CGI"}).headers["location"] == "/#entry-1"
        assert "by CGI" in browser.get("/").text


def test_fastapi(own: Host) -> None:
    app, script = blocks_of(FASTAPI, "python")
    assert script.startswith(f"#!{PYTHON}\n")
    place = own.home / "public_html" / "api"
    place.mkdir()
    (place / "index.fcgi").write_text(script)
    at_home(place / "index.fcgi", own.home)
    (place / ".htaccess").write_text((EXAMPLE / "public_html" / ".htaccess").read_text())
    (own.home / "notes").mkdir()
    (own.home / "notes" / "app.py").write_text(app)
    with own.client() as browser:
        assert browser.get("/api/notes").json() == []
        added = browser.post("/api/notes", json={"text": "Grüße"})
        assert (added.status_code, added.json()) == (201, {"number": 1})
        assert browser.get("/api/notes/1").json() == {"text": "Grüße"}
        assert browser.get("/api/notes/2").status_code == 404
        assert browser.post("/api/notes", json={}).status_code == 422
        # The page on which one can try it finds its description.
        (url,) = re.findall(r"url: '(.*?)'", browser.get("/api/docs").text)
        assert url == "/api/openapi.json"
        assert browser.get(url).json()["info"]["title"] == "Notes"
        assert "Nobody has been here yet" in browser.get("/").text


APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"shop"]
"""


@pytest.mark.parametrize("number", [0, 1])
def test_scripts_from_flup(tmp_path: Path, number: int) -> None:
    script = blocks_of(FLUP, "python")[number].replace("/run/shop", str(tmp_path))
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "shop.fcgi").write_text(script)
    path = tmp_path / "app.sock"
    with Child([sys.executable, str(tmp_path / "shop.fcgi")], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving shop")
        with WebServer(str(path)) as web_server:
            assert web_server.request(params_for()).body == b"shop"
        mark = child.mark()
        child.signal(signal.SIGHUP)
        if number == 0:
            assert child.wait() == 0
        else:
            child.wait_for("serving shop", mark)
            assert wait_until(lambda: path.exists())


def test_every_option_of_flup_is_told() -> None:
    rows = re.findall(r"^\| (`.*?) \|", FLUP, re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", " ".join(rows)))
    code = WSGIServer.__init__.__code__
    known = set(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]) | set(_NEEDLESS)
    assert known - told == {"allow_from", "reload_on_touch"}
    assert not {name for name in told - known if not name.isupper()}


def test_what_both_pages_of_hosting_have_in_common() -> None:
    assert "shared-hosting" in FASTAPI
    assert "fastapi-shared-hosting" in SHARED
    assert os.access(EXAMPLE / "public_html" / "index.fcgi", os.X_OK)
