"""Real web servers with what is printed for settings of which no site of tests/webservers is made."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.webservers import apache, caddy, haproxy, nginx
from tests.webservers.children import App
from tests.webservers.fronts import free_address
from tests.webservers.lighttpd import Lighttpd
from tests.webservers.sites import client as browser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.webservers.fronts import Server

pytestmark = pytest.mark.once

APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["{SCRIPT_NAME} {PATH_INFO}".format_map(environ).encode()]
"""
WITH_FILES = ("nginx", "apache-proxy", "apache-fcgid", "lighttpd", "caddy")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One whose sockets have short names, with an application that tells where it is asked."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        (Path(path) / "told.py").write_text(APPLICATION)
        (Path(path) / "run").mkdir()
        yield Path(path)


@contextmanager
def site(name: str, program: Callable[[str], str], folder: Path, **settings: object) -> Iterator[httpx.Client]:
    """A browser in front of the web server `name` with what is printed for it."""
    host, port = ("127.0.0.1", 8000) if name == "nginx" else free_address()
    with App.serve("told:app", "127.0.0.1:0", folder / "app.log", cwd=folder) as app:
        settings |= {"app": "told:app", "directory": str(folder), "bind": app.upstream, "listen": f"{host}:{port}"}
        files = make(name, Plan(**settings)).files  # type: ignore[arg-type]
        for file in files[1:]:
            path = folder / Path(file.path).name
            path.write_text(file.text)
            path.chmod(0o755)
        with start(name, program, files[0].text, f"http://{host}:{port}", folder) as server:
            if isinstance(server, nginx.Nginx):
                port = server.ports[0]
            with browser(f"http://{host}:{port}") as client:
                yield client


def start(name: str, program: Callable[[str], str], text: str, origin: str, folder: Path) -> Server:
    """The web server, with `text` in its configuration."""
    if name == "nginx":
        return nginx.Nginx(program(name), nginx.CONFIGURATION.format(sites=text), folder)
    if name == "lighttpd":
        return Lighttpd(program(name), [text], folder)
    if name == "caddy":
        return caddy.Caddy(program(name), {caddy.MOUNTED: (origin, text)}, folder)
    if name == "haproxy":
        return haproxy.Haproxy(program(name), {haproxy.FRONTS[0]: (origin, text)}, folder)
    return apache.Apache(program("apache2"), {apache.PROXY: (origin, text)}, folder)


@pytest.mark.parametrize("name", WITH_FILES)
def test_files_above_the_mount_point(name: str, program: Callable[[str], str], folder: Path) -> None:
    """Of the folders and the application, that one has a URL whose place is the longest."""
    places = {"": "root", "/site": "around", "/site/app/static": "static", "/site/app/static/large": "large"}
    for kind in places.values():
        (folder / kind).mkdir()
        (folder / kind / "a.txt").write_text(f"{kind}\n")
    static = [(url, str(folder / kind)) for url, kind in places.items()]
    with site(name, program, folder, root_path="/site/app", static=static) as client:
        for url, kind in places.items():
            assert (url, client.get(f"{url}/a.txt").text) == (url, f"{kind}\n")
        assert client.get("/site/app/").text == "/site/app /"
        assert client.get("/site/app/a.txt?b=c").text == "/site/app /a.txt"
        assert client.get("/site/app", follow_redirects=True).text in {"/site/app /", "/site/app "}
        # Those of others, which have no such files.
        for url in ("/site/application", "/site/app/static/none", "/sites/a.txt", "/none"):
            assert (url, client.get(url).status_code) == (url, 404)


@pytest.mark.parametrize("name", [*WITH_FILES, "haproxy"])
def test_a_host_name_knows_no_capitals(name: str, program: Callable[[str], str], folder: Path) -> None:
    """However it was given, and however a visitor writes it."""
    with site(name, program, folder, server_name="Shop.Example") as client:
        for host in ("shop.example", "Shop.Example", "SHOP.example:8080"):
            answer = client.get("/here", headers={"Host": host})
            assert (host, answer.status_code, answer.text) == (host, 200, " /here")


def test_lighttpd_starts_the_python_of_a_virtual_environment(program: Callable[[str], str], folder: Path) -> None:
    (folder / "shop" / ".venv" / "bin").mkdir(parents=True)
    (folder / "shop" / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "told.py").rename(folder / "shop" / "told.py")
    host, port = free_address()
    plan = Plan(app="told:app", directory=f"{folder}/shop", python=".venv/bin/python", listen=f"{host}:{port}")
    text = make("lighttpd", plan).files[0].text.replace("/run/lighttpd/", f"{folder}/run/")
    with Lighttpd(program("lighttpd"), [text], folder), browser(f"http://{host}:{port}") as client:
        assert client.get("/here").text == " /here"
