"""What only Apache does: an Authorizer in front, .htaccess, and processes that it starts itself."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .apache import FCGID, FCGID_APP, HTACCESS, HTACCESS_APP, PROXY, PROXY_APP, ProxyFront
from .children import ROOT, Child, Spawned, wait_until
from .fronts import free_address
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from .apache import ApacheFront
    from .children import App
    from .sites import Site, Sites

pytestmark = pytest.mark.once


@dataclass(frozen=True, eq=False, kw_only=True)
class Uncommented(ProxyFront):
    """As ``config`` writes it, with lines that are a comment there."""

    pattern: str
    """What they look like: its groups stay."""

    def configure(self, listen: str, app: App) -> str:
        text, count = re.subn(self.pattern, lambda found: "\n".join(found.groups()), super().configure(listen, app))
        assert count == 1
        return text


MIB = 1 << 20
GUARD = "examples/native/guard.py"
CONFIGURATION = (ROOT / "examples/native/apache.conf").read_text()

# ------------------------------------------------------------------------- an Authorizer


@pytest.fixture
def guarded(sites: Sites, program: Callable[[str], str], tmp_path: Path) -> Iterator[tuple[Site, str]]:
    """The application below /private, which guard.py guards as the example's configuration says; and Ali's password."""
    users = tmp_path / "users.txt"
    made = subprocess.run([sys.executable, GUARD, "ali", "rw"], capture_output=True, text=True, check=True, cwd=ROOT)
    users.write_text(f"{made.stdout}zoë r {hashlib.sha256(b'zo').hexdigest()}\n", encoding="utf-8")
    address, port = free_address()
    command = [program("spawn-fcgi"), "-n", "-a", address, "-p", str(port), "--", sys.executable]
    configuration = CONFIGURATION.replace("127.0.0.1:9001", f"{address}:{port}")
    with Child([*command, GUARD], tmp_path / "guard.log", env={"FCGI_GUARD_USERS": str(users)}) as guard:

        def listening() -> bool:
            with socket.socket() as client:
                return client.connect_ex((address, port)) == 0

        wait_until(listening)
        site = sites.start("flask", replace(PROXY, name="apache-guarded", mount="/private", before=configuration))
        yield site, made.stderr.split()[-1]
        assert guard.runs


def test_an_authorizer_lets_in_or_refuses(guarded: tuple[Site, str]) -> None:
    site, password = guarded
    ali, zoe = ("ali", password), ("zoë", "zo")
    with site.client() as client:
        facts = client.get("/environ", auth=ali).json()
        assert (facts["GUARD_USER"], facts["GUARD_RIGHTS"], facts["REMOTE_USER"]) == ("ali", "rw", "ali")
        assert client.post("/form", data={"name": "x"}, auth=ali).status_code == 303
        assert client.get("/environ", auth=zoe).json()["GUARD_USER"] == "zoë".encode().decode("latin-1")
        refused = client.post("/form", data={"name": "x"}, auth=zoe)
        assert (refused.status_code, refused.text) == (403, "You may only look.\n")
        for headers in (
            {},
            {"Authorization": "Basic !"},
            {"Authorization": "Basic /w=="},
            {"Authorization": "Bearer x"},
        ):
            answer = client.get("/environ", headers=headers)
            assert (answer.status_code, answer.text) == (401, "Who are you?\n")
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="guarded", charset="UTF-8"'
        assert client.get("/environ", auth=("ali", "zo")).status_code == 401
        # Nobody gets in who merely says so.
        assert client.get("/environ", headers={"GUARD_USER": "ali", "GUARD-USER": "ali"}).status_code == 401


def test_the_page_shows_the_configuration_of_the_example() -> None:
    page = (ROOT / "docs/webservers/apache.md").read_text(encoding="utf-8")
    lines = [line for line in CONFIGURATION.splitlines() if not line.strip().startswith("#")]
    assert "\n".join(lines).strip() in page


# ---------------------------------------------------------------- mod_fcgid and .htaccess


@each([HTACCESS, HTACCESS_APP], "flask")
def test_the_script_is_in_no_url(site: Site, client: httpx.Client) -> None:
    for path in ("/url", "/unicode/a%2Fb", "/unicode/x%3Fy", "/unicode/index.fcgi2", "/redirect"):
        answer = client.get(path)
        assert answer.status_code in {200, 302}
        assert "index.fcgi" not in f"{answer.headers} {answer.text}".replace("index.fcgi2", "")
    for path in ("/index.fcgi", "/index.fcgi/url", "/index.fcgi?a=b"):
        assert client.get(path).status_code == 404


@each([PROXY, FCGID, HTACCESS], "flask")
def test_slashes_are_what_they_are_behind_other_servers(client: httpx.Client) -> None:
    for path in ("/unicode/a%2Fb", "/unicode/a//b", "/unicode/x%2F../a%2fb"):
        assert client.get(path).json()["name"] == "a/b"
    assert client.get("/unicode/a%252Fb").json()["name"] == "a%2Fb"
    assert client.get("/environ%2F?a=b").status_code == 404


@each([PROXY, FCGID, FCGID_APP, HTACCESS_APP])
def test_an_answer_with_a_location_is_not_taken_for_a_redirect(site: Site, client: httpx.Client) -> None:
    """mod_fcgid follows that of a 200 itself, as that of a CGI program, and the answer would be lost."""
    for to in (f"{site.front.mount}/probe/location?code=200&to=/", "https://other.example/"):
        for method in ("GET", "POST"):
            answer = client.request(method, "/probe/location", params={"code": "200", "to": to})
            assert (answer.status_code, answer.text) == (200, "the answer\n")
            assert answer.headers.get("Location") == (None if site.front.spawns else to)
            answer = client.request(method, "/probe/location", params={"code": "201", "to": to})
            assert (answer.status_code, answer.text, answer.headers["Location"]) == (201, "the answer\n", to)


@each([HTACCESS], "flask")
def test_credentials_pass_the_rewriting(client: httpx.Client) -> None:
    facts = client.get("/environ", headers={"Authorization": "Bearer x"}).json()
    assert facts["HTTP_AUTHORIZATION"] == "Bearer x"
    assert "HTTP_AUTHORIZATION" not in client.get("/environ").json()


@each([HTACCESS], "flask")
def test_files_beside_the_script_are_served_and_sources_are_not(site: Site, client: httpx.Client) -> None:
    folder = site.server.cwd / site.front.name
    for name in ("robots.txt", "settings.py", "secret.env", ".hidden", ".well-known/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("here")
    for name, status in (
        ("robots.txt", 200),
        (".well-known/x", 200),
        ("settings.py", 403),
        ("secret.env", 403),
        (".hidden", 403),
        (".htaccess", 403),
        ("other.py", 404),
    ):
        assert (name, client.get(f"/{name}").status_code) == (name, status)


def test_processes_that_were_killed_are_started_anew(sites: Sites) -> None:
    """What one of them was at is lost, with a 500, and nothing else."""
    site = sites.start("flask", FCGID)
    app = site.app
    assert isinstance(app, Spawned)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        assert client.get("/status/200").status_code == 200
        answer = pool.submit(client.get, "/slow?seconds=10")
        app.wait_for("began /slow")
        killed = app.pids
        app.signal(signal.SIGKILL)
        assert answer.result().status_code == 500
        wait_until(lambda: not set(killed) & set(app.pids))
        assert client.get("/status/200").status_code == 200


# --------------------------------------------------------------------- files and limits


@each([PROXY, PROXY_APP, FCGID, FCGID_APP], "flask")
def test_apache_serves_files_itself(client: httpx.Client) -> None:
    """Its folders are within the application's place in the URL, and come first."""
    answer = client.get("/pages/webservers/apache.md")
    assert (answer.status_code, answer.text[:9]) == (200, "# Apache\n")
    assert "Accept-Ranges" in answer.headers
    assert client.get("/pages/nothing").status_code == 404
    assert client.get("/pages").status_code == 404  # the application's


@pytest.mark.parametrize("front", (replace(PROXY, mib=1), replace(FCGID, mib=1)), ids=("proxy", "fcgid"))
def test_an_upload_that_is_too_large_is_refused(sites: Sites, front: ApacheFront) -> None:
    """With its length told beforehand; mod_proxy_fcgi passes on any number of chunks, mod_fcgid fails at too many."""
    site = sites.start("flask", front)
    with site.client() as client:
        assert client.put("/upload/raw", content=b"x" * MIB).json()["size"] == MIB
        assert client.put("/upload/raw", content=b"x" * (MIB + 1)).status_code == 413
        answer = client.put("/upload/raw", content=iter((b"x" * (2 * MIB),)))
        assert answer.status_code == (500 if front.spawns else 200)


@each([PROXY, FCGID], "flask")
def test_no_answer_varies_by_what_is_looked_at_for_that(client: httpx.Client) -> None:
    """Caches would have to compare the lengths of requests, and some keep nothing that varies by such a field."""
    for answer in (client.get("/status/200"), client.put("/upload/raw", content=b"x")):
        assert (answer.status_code, answer.headers.get("Vary")) == (200, None)


def test_uploads_in_chunks_can_be_refused(sites: Sites) -> None:
    """With the lines that are printed as a comment."""
    site = sites.start("flask", Uncommented(name="apache-411", pattern=r'# (<If "-n .*>)\n *# ( .*)\n *# (</If>)'))
    with site.client() as client:
        assert client.put("/upload/raw", content=iter((b"x",))).status_code == 411
        answer = client.put("/upload/raw", content=b"x")
        assert (answer.json()["size"], answer.headers.get("Vary")) == (1, None)


def test_uploads_in_chunks_can_be_given_a_length(sites: Sites) -> None:
    """With the line that is printed as a comment, for frameworks to which one without a length is an empty one."""
    for front, size in (
        (PROXY, 0),
        (Uncommented(name="apache-sendcl", pattern="# (SetEnv proxy-sendcl 1)"), 300_000),
    ):
        with sites.start("flask", front).client() as client:
            assert client.put("/probe/told", content=iter((b"x" * 100_000,) * 3)).json() == {"read": size}
            assert client.put("/upload/raw", content=iter((b"x" * 100_000,) * 3)).json()["size"] == 300_000


def test_an_application_that_comes_back_is_asked_at_once(sites: Sites) -> None:
    """Connections that were kept are no trap, and nobody is sent away for a minute (``retry=0``)."""
    site = sites.start("flask", PROXY)
    with site.client() as client:
        assert client.get("/status/200").status_code == 200
        address = str(site.process.address)
        site.process.stop()
        assert client.get("/status/200").status_code == 503
        again = ("-m", "simple_fastcgi", "serve", "tests.webservers.apps.flask_probe:app")
        sites.respawn(Path(address), *again)
        assert client.get("/status/200").status_code == 200


def test_an_application_that_does_not_start_says_why(sites: Sites) -> None:
    """Visitors get a plain 500, the error log has the traceback, and the next start comes with the next upload."""
    site = sites.start("flask", FCGID)
    folder = site.server.cwd / FCGID.name
    script = folder / "index.fcgi"
    script.write_text(script.read_text().replace("tests.webservers.apps.flask_probe:app", "broken:app"))
    (folder / "broken.py").write_text("raise RuntimeError('this application has no database')\n")
    with site.client() as client:
        answer = client.get("/url")
        assert (answer.status_code, "database" in answer.text) == (500, False)
        site.server.wait_for("RuntimeError: this application has no database")
        assert "Traceback (most recent call last)" in site.server.log_since()
        (folder / "broken.py").write_text("from tests.webservers.apps.flask_probe import app\n")
        wait_until(lambda: client.get("/url").status_code == 200)
