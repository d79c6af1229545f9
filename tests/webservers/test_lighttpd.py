"""What is particular about lighttpd: it starts processes and starts them anew, asks authorizers, and stores bodies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.webserver import TIMEOUT

from .children import ROOT, Spawned, wait_until
from .fronts import free_address
from .lighttpd import (
    MAIN_FRONT,
    MOUNTED,
    PREFIX,
    SPAWNING,
    STREAMED,
    WRITTEN,
    WRITTEN_FRONTS,
    Lighttpd,
    LighttpdSpawning,
    generate,
)
from .sites import client as browser
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    from .fronts import Framework
    from .sites import Site, Sites

pytestmark = pytest.mark.once

ONE_PROCESS = LighttpdSpawning(name="lighttpd-one-process", processes=1)
GUARDED = """\
$HTTP["url"] =~ "^/private(/|$)" {{
    fastcgi.server = ("/private" => ((
        {guard},
        "mode" => "authorizer",
        "check-local" => "disable",
        "docroot" => "{docroot}"
    )))
}}
else $HTTP["url"] =~ "^/closed(/|$)" {{
    fastcgi.server = ("/closed" => ((
        {no_guard},
        "mode" => "authorizer",
        "check-local" => "disable",
        "docroot" => "{docroot}"
    )))
}}
else $HTTP["url"] =~ "^/app(/|$)" {{
    fastcgi.server = ("/app" => (
        ({guard_again}, "mode" => "authorizer", "check-local" => "disable"),
        ({application}, "check-local" => "disable")
    ))
}}
"""
BROKEN = "raise RuntimeError('no application today')\n"
WHOLE = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here it is"]
"""


def connect(site: Site) -> HTTPConnection:
    """For requests that a browser does not make."""
    address = urlsplit(site.origin)
    assert address.hostname is not None
    return HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)


def pids(site: Site) -> list[int]:
    """Of the processes that lighttpd has started."""
    assert isinstance(site.app, Spawned)
    return site.app.pids


# -------------------------------------------------------------------------------------- what is generated


@each([MOUNTED], "flask")
def test_files_are_served_without_the_application(site: Site, client: httpx.Client) -> None:
    assert client.get("/files/a%20file").text == "as it is\n"
    missing = client.get("/files/none")
    assert (missing.status_code, "<?xml" in missing.text) == (404, True)


@each([MOUNTED], "flask")
def test_what_only_begins_as_the_mount_point_is_not_the_application_s(site: Site, client: httpx.Client) -> None:
    answer = client.get(f"{site.origin}/apples/url")
    assert (answer.status_code, "<?xml" in answer.text) == (404, True)


@each([PREFIX], "flask")
def test_a_mount_point_without_the_condition_has_more_than_it_seems(site: Site, client: httpx.Client) -> None:
    assert client.get(f"{site.origin}/apples/url").json()["script_root"] == "/apples"


@each([MOUNTED], "flask")
def test_a_body_that_is_too_large_is_refused_before_it_comes(site: Site) -> None:
    connection = connect(site)
    connection.putrequest("PUT", "/app/upload/raw")
    connection.putheader("Content-Length", str((64 << 20) + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@each([MAIN_FRONT], "starlette")
def test_a_head_that_is_too_large_is_refused(client: httpx.Client) -> None:
    assert client.get("/", headers={"X-Long": "x" * 8192}).status_code == 431


@each([MAIN_FRONT])
def test_slashes_are_decoded_and_merged(client: httpx.Client) -> None:
    for path in ("a%2Fb", "a//b", "c/../a/b", "c/%2E%2E/a/b"):
        assert client.get(f"/unicode/{path}").json()["name"] == "a/b"


# -------------------------------------------------------------------------------------- bodies


@each([STREAMED], "flask")
def test_a_streamed_upload_is_handed_on_while_it_arrives(site: Site) -> None:
    connection, mark = connect(site), site.app.mark()
    connection.putrequest("POST", "/slow")
    connection.putheader("Content-Length", "4")
    connection.endheaders(b"ab")
    site.app.wait_for("began /slow", mark)
    connection.send(b"cd")
    assert connection.getresponse().status == 405
    connection.close()


@each([STREAMED], "flask")
def test_a_streamed_upload_cannot_come_in_chunks(site: Site) -> None:
    """Unless all of it has come with its head."""
    connection = connect(site)
    connection.putrequest("PUT", "/upload/raw")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


@each([STREAMED])
def test_a_streamed_answer_arrives_piece_by_piece(client: httpx.Client, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with client.stream("GET", "/probe/handshake", params={"seen": str(seen)}) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first\n"
        seen.touch()
        assert b"".join(pieces) == b"second\n"


@each([MAIN_FRONT, MOUNTED, SPAWNING])
@pytest.mark.parametrize("size", (1_500_000, 2_200_000, 4_000_000))
def test_a_range_of_a_file_is_never_empty(client: httpx.Client, tmp_path: Path, size: int) -> None:
    """Lighttpd cuts ranges out of whole answers itself, and sends nothing of those that came as fast as it reads."""
    file = tmp_path / "file"
    file.write_bytes(content := os.urandom(size))
    for start, stop in ((0, 100), (100, 200), (size // 2, size)) * 5:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        answer = client.get("/probe/file", params={"path": str(file), "whole": ""}, headers=headers)
        # One of which it did not have the whole when it began to answer is sent whole.
        assert answer.content == (content[start:stop] if answer.status_code == 206 else content)


def test_whoever_has_answers_held_back_turns_ranges_off(sites: Sites, tmp_path: Path) -> None:
    """Lighttpd has the whole of each answer then, however slowly it comes."""
    file = tmp_path / "file"
    file.write_bytes(content := os.urandom(1_500_000))
    text = 'server.range-requests = "disable"\n' + PREFIX.text
    site = sites.start("flask", replace(PREFIX, name="lighttpd-without-ranges", text=text))
    with site.client() as client:
        answer = client.get("/probe/file", params={"path": str(file), "whole": ""}, headers={"Range": "bytes=0-99"})
        assert (answer.status_code, answer.content == content) == (200, True)
        # The application's own ranges are none of its business.
        answer = client.get("/probe/file", params={"path": str(file)}, headers={"Range": "bytes=0-99"})
        assert (answer.status_code, answer.content) == (206, content[:100])


# -------------------------------------------------------------------------------------- processes


def test_a_process_that_dies_is_replaced(sites: Sites) -> None:
    site = sites.start("flask", SPAWNING)
    first, second = pids(site)
    mark = site.app.mark()
    os.kill(first, signal.SIGKILL)
    site.app.wait_for("INFO simple_fastcgi: serving", mark)
    after = set(pids(site))
    assert (len(after), first in after, second in after) == (2, False, True)
    with site.client() as client:
        assert {client.get("/url").status_code for _ in range(10)} == {200}


@pytest.mark.parametrize("framework", ("flask", "starlette"))
def test_who_connects_while_a_process_ends_is_served(sites: Sites, framework: Framework) -> None:
    """Lighttpd learns of the end when it has come: until then it connects to a socket on which nobody accepts."""
    site = sites.start(framework, ONE_PROCESS)
    with site.client() as client, ThreadPoolExecutor(10) as pool:
        slow = pool.submit(client.get, "/slow?seconds=0.5")
        site.app.wait_for("began /slow")
        site.app.signal(signal.SIGTERM)
        late = list(pool.map(client.get, ["/status/200"] * 8))
        assert {answer.text for answer in late} == {"status 200\n"}
        assert slow.result().json() == {"slept": 0.5}


def test_reloading_lighttpd_begins_anew_and_loses_nothing(sites: Sites) -> None:
    site = sites.start("flask", ONE_PROCESS)
    (before,) = pids(site)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.get, "/slow?seconds=0.5")
        site.app.wait_for("began /slow")
        site.server.signal(signal.SIGUSR1)
        site.server.wait_for("graceful shutdown started")
        assert client.get("/status/200").text == "status 200\n"
        assert slow.result().json() == {"slept": 0.5}
        assert before not in pids(site)


@pytest.fixture
def short_path(sites: Sites) -> Path:
    """A folder whose sockets have short names."""
    return sites.folder()


def test_an_application_that_cannot_start_says_why(program: Callable[[str], str], short_path: Path) -> None:
    (short_path / "run").mkdir()
    module = short_path / "newborn.py"
    module.write_text(BROKEN)
    host, port = free_address()
    text = generate(f"{host}:{port}", short_path, app="newborn:app", workers=1)
    text = text.replace("/run/lighttpd/", f"{short_path}/run/")
    with Lighttpd(program("lighttpd"), [text], short_path) as server, browser(f"http://{host}:{port}") as client:
        answer = client.get("/")
        assert (answer.status_code, "today" in answer.text) == (500, False)
        wait_until(lambda: "RuntimeError: no application today" in server.errors_since())
        module.write_text(WHOLE)
        wait_until(lambda: client.get("/").text == "here it is")


# -------------------------------------------------------------------------------------- authorizers


@pytest.fixture
def guarded(program: Callable[[str], str], short_path: Path) -> Iterator[str]:
    """Files and an application behind examples/native/guard.py, which lets `ali` in with the password `p`."""
    (short_path / "run").mkdir()
    for name in ("private", "closed"):
        (short_path / name).mkdir()
        (short_path / name / "a.txt").write_text("for ali")
    (short_path / "users").write_text(f"ali rw {sha256(b'p').hexdigest()}\nbob r {sha256(b'q').hexdigest()}\n")

    def start(name: str, command: str) -> str:
        return (
            f'"bin-path" => "{sys.executable} {command}", "socket" => "{short_path}/run/{name}", "max-procs" => 1, '
            f'"bin-environment" => ("FCGI_GUARD_USERS" => "{short_path}/users")'
        )

    host, port = free_address()
    guard = str(ROOT / "examples" / "native" / "guard.py")
    text = GUARDED.format(
        guard=start("a", guard),
        guard_again=start("b", guard),
        application=start("c", "-m simple_fastcgi serve tests.webservers.apps.flask_probe:app"),
        no_guard=start("d", "-m simple_fastcgi serve tests.webservers.apps.flask_probe:app"),
        docroot=short_path,
    )
    text = 'server.modules += ("mod_staticfile")\n' + WRITTEN.format(address=f"{host}:{port}", text=text)
    with Lighttpd(program("lighttpd"), [text], short_path) as server:
        server.wait_for("INFO simple_fastcgi: serving")
        yield f"http://{host}:{port}"


def test_an_authorizer_in_front_of_files_and_of_an_application(guarded: str) -> None:
    with browser(guarded) as client:
        for url in ("/private/a.txt", "/app/environ"):
            refused = client.get(url)
            assert (refused.status_code, refused.text) == (401, "Who are you?\n")
            assert refused.headers["WWW-Authenticate"].startswith('Basic realm="guarded"')
            assert client.get(url, auth=("ali", "wrong")).status_code == 401
        assert client.get("/private/a.txt", auth=("ali", "p")).text == "for ali"
        facts = client.get("/app/environ", auth=("ali", "p")).json()
        assert (facts["GUARD_USER"], facts["GUARD_RIGHTS"], facts["SCRIPT_NAME"]) == ("ali", "rw", "/app")
        # The body is kept for whoever serves the request.
        assert client.put("/app/upload/raw", content=b"x" * 100_000, auth=("ali", "p")).json()["size"] == 100_000
        assert client.put("/app/upload/raw", content=b"x", auth=("bob", "q")).status_code == 403


def test_who_is_no_authorizer_lets_nobody_in(guarded: str) -> None:
    """Its silence would be consent to lighttpd."""
    with browser(guarded) as client:
        answer = client.get("/closed/a.txt", auth=("ali", "p"))
    assert answer.status_code == 500
    assert answer.text == "The application does not serve requests in FastCGI role 2.\n"


# -------------------------------------------------------------------------------------- the page


def test_the_page_shows_what_is_tested(program: Callable[[str], str], tmp_path: Path) -> None:
    """Each way to write it is one of the fronts above, and lighttpd takes each block."""
    page = (ROOT / "docs" / "webservers" / "lighttpd.md").read_text("utf-8")
    blocks = re.findall(r"^ *```lighttpd\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    for front in WRITTEN_FRONTS:
        assert front.text.replace("APPLICATION", '"socket" => "/run/shop/app.sock"') in blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.conf"
        text = block.replace("/srv/shop/.venv/bin/python", sys.executable)
        file.write_text(f'server.document-root = "{tmp_path}"\nserver.modules = ("mod_rewrite", "mod_fastcgi")\n{text}')
        done = subprocess.run(
            [program("lighttpd"), "-tt", "-f", str(file)], capture_output=True, text=True, check=False
        )
        assert (block, done.returncode, done.stderr) == (block, 0, "")
