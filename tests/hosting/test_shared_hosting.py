"""examples/shared_hosting under a real Apache with mod_fcgid, as a shared host has it."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.webservers.children import wait_until

from .host import EXAMPLE, HOME, PYTHON, hosted, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .host import Host

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def shared(program: Callable[[str], str]) -> Iterator[Host]:
    with hosted(program) as found:
        yield found


@pytest.fixture
def own(program: Callable[[str], str]) -> Iterator[Host]:
    """A host for a test that changes what is there."""
    with hosted(program) as found:
        yield found


def test_the_files_are_those_that_config_prints() -> None:
    plan = Plan(app="app:app", directory=f"{HOME}/guestbook", python=PYTHON)
    _, *files = make("apache-fcgid", plan).files
    for file in files:
        path = EXAMPLE / "public_html" / os.path.basename(file.path)
        assert path.read_text() == file.text
        assert os.access(path, os.X_OK) == file.executable


def test_the_guest_book(shared: Host) -> None:
    with shared.client() as browser:
        page = browser.get("/")
        assert "Nobody has been here yet" in page.text
        signed = browser.post("/sign", data={"name": "Zoë", "message": "<b>Grüße</b>"})
        assert signed.status_code == 303
        assert re.fullmatch(r"/#entry-\d+", signed.headers["location"])
        page = browser.get("/")
        assert "&lt;b&gt;Grüße&lt;/b&gt;" in page.text
        assert browser.post("/sign", data={"name": ""}).status_code == 400
        assert "index.fcgi" not in page.text
        # Authorization passes.
        (link,) = re.findall(r'href="(/delete/\d+)"', page.text)
        assert browser.get(link).status_code == 401
        (shared.home / "guestbook" / "password.txt").write_text("sesame\n")
        assert browser.get(link, auth=("me", "wrong")).status_code == 401
        assert browser.get("/delete/99", auth=("me", "sesame")).status_code == 404
        assert "Grüße" in browser.get(link, auth=("me", "sesame")).text
        assert browser.post(link, auth=("me", "sesame")).headers["location"] == "/"
        assert "Nobody has been here yet" in browser.get("/").text
        assert browser.get("/missing").status_code == 404


def test_apache_serves_files_and_nobody_sees_the_script(shared: Host) -> None:
    with shared.client() as browser:
        style = browser.get("/static/style.css")
        assert style.text == (EXAMPLE / "public_html" / "static" / "style.css").read_text()
        assert "etag" in style.headers
        for path in ("/index.fcgi", "/index.fcgi/", "/.htaccess"):
            assert browser.get(path).status_code in (403, 404)


def test_what_lies_beside_the_script_is_for_no_visitor(own: Host) -> None:
    """Nor what databases, editors and hosts leave beside it; all else is."""
    folder = own.script.parent
    refused = [
        *("data.sqlite3", "data.sqlite3-wal", "data.sqlite3-journal", "data.db-shm", "app.py", "app.py~", "app.py.bak"),
        *("index.fcgi~", "index.fcgi.bak", "error_log", "error_log.1", "error_log-20260101.gz", "app.log.2.gz", ".env"),
        *("dump.sql", "dump.sql.gz", "dump.sql.zip", "#app.py#"),
    ]
    served = ["notes.txt", "python.html", "a~b.txt", "app.py.html", "log", "db-guide.html", "a#b.txt", "sql.zip"]
    for name in (*refused, *served):
        (folder / name).write_text("here")
    # With it Apache serves a file for what lies below it, too.
    rules = folder / ".htaccess"
    rules.write_text(f"AcceptPathInfo On\n{rules.read_text()}")
    other = folder / "other.fcgi"
    other.write_text(own.script.read_text())
    other.chmod(0o755)
    with own.client() as browser:
        for path in ("{}", "{}/", "{}/below"):
            got = {name: browser.get(f"/{path.format(quote(name))}").status_code for name in refused}
            assert got == dict.fromkeys(refused, 403)
        assert [browser.get(f"/{quote(name)}").text for name in served] == ["here"] * len(served)
        assert "Nobody has been here yet" in browser.get("/other.fcgi/").text


def answers_of(shared: Host, browsers: int, path: str, until: threading.Event) -> tuple[list[str], threading.Thread]:
    """What `browsers` get one after the other until the event is set; a list that grows, and who to join."""
    answers: list[str] = []

    def browse() -> None:
        with shared.client() as browser:
            while not until.is_set():
                try:
                    response = browser.get(path)
                    answers.append(f"{response.status_code} {response.text}")
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    threads = [threading.Thread(target=browse) for _ in range(browsers)]

    def browse_all() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    everybody = threading.Thread(target=browse_all)
    everybody.start()
    return answers, everybody


VERSION = """
@app.get("/version")
def version() -> str:
    import os
    return "{version}"
"""


def test_new_code_takes_over_and_no_request_is_lost(own: Host) -> None:
    source = own.code.read_text()
    upload(own.code, source + VERSION.format(version="1"))
    end = threading.Event()
    answers, browsing = answers_of(own, 4, "/version", end)
    try:
        for version in (2, 3):
            wait_until(lambda version=version: answers.count(f"200 {version - 1}") > 20)  # type: ignore[misc]
            upload(own.code, source + VERSION.format(version=version))
            if version == 3:
                own.script.with_name("restart.txt").touch()
            wait_until(lambda version=version: answers[-8:] == [f"200 {version}"] * 8)  # type: ignore[misc]
    finally:
        end.set()
        browsing.join()
    assert set(answers) == {"200 1", "200 2", "200 3"}


def test_broken_code_is_told_and_mended(own: Host) -> None:
    source = own.code.read_text()
    upload(own.code, source.replace("import sqlite3\n", "import sqlite4\n"))
    with own.client() as browser:
        mark = own.apache.mark()
        for _ in range(2):
            failed = browser.get("/")
            assert failed.status_code == 500
            assert "sqlite4" not in failed.text
            assert "Traceback" not in failed.text
        told = own.apache.errors_since(mark)
        assert f'File "{own.code}", line' in told
        assert "No module named 'sqlite4'" in told
        mark = own.apache.mark()
        upload(own.code, source)
        wait_until(lambda: browser.get("/").status_code == 200)


def test_an_error_is_told_to_the_log(own: Host) -> None:
    upload(own.code, own.code.read_text() + '@app.get("/fail")\ndef fail() -> str:\n    return 1 / 0\n')
    with own.client() as browser:
        assert browser.get("/fail").status_code == 500
        assert "ZeroDivisionError: division by zero" in own.apache.errors_since()
