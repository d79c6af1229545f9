"""Native handlers behind nginx, as examples/native has them.

They are started by spawn-fcgi, with their socket on descriptor 0.
"""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .sites import Site, Sites

ECHOES = ("examples/native/echo.py", "examples/native/async_echo.py")
"""The two programs of the promised API, as they stand."""
GRACEFUL = ("tests/webservers/apps/graceful.py", "tests/webservers/apps/async_graceful.py")

every_echo = pytest.mark.parametrize("script", ECHOES, ids=("sync", "async"))


@every_echo
def test_the_promised_programs_answer(sites: Sites, script: str) -> None:
    site = sites.spawn(script)
    with site.client() as client:
        known: set[str] = set()
        for number in range(20):
            answer = client.put(
                f"/gr%C3%BCn/{number}?q=%C3%A4", content=b"x" * number, headers={b"X-Name": "Zoë".encode()}
            )
            assert answer.headers["Content-Type"] == "application/json"
            environ = answer.json()
            assert (environ["REQUEST_METHOD"], environ["CONTENT_LENGTH"]) == ("PUT", str(number))
            assert (environ["SCRIPT_NAME"], environ["QUERY_STRING"]) == (f"/grün/{number}", "q=%C3%A4")
            assert environ["HTTP_X_NAME"] == "Zoë"
            known = known or site.process.sockets
        assert site.process.sockets <= known  # one connection for them all


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A document root with a secret beside it."""
    root = tmp_path / "root"
    (root / "grün & weiß").mkdir(parents=True)
    (root / "large").mkdir()
    for number in range(1200):
        (root / "large" / f"file {number}").touch()
    (root / "a.txt").write_text("12345")
    (root / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    return root


def names(site: Site, url: str) -> set[str]:
    with site.client() as client:
        answer = client.get(url)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    return {json.loads(line)["name"] for line in answer.text.splitlines()}


def test_a_directory_listing(sites: Sites, tree: Path) -> None:
    site = sites.spawn("examples/native/directory_listing.py", env={"FCGI_LISTING_ROOT": str(tree)})
    assert names(site, "/") == {"grün & weiß", "large", "a.txt", "out"}
    assert names(site, "/gr%C3%BCn%20&%20wei%C3%9F/") == set()
    assert names(site, "/large") == {f"file {number}" for number in range(1200)}
    with site.client() as client:
        assert client.head("/large").content == b""
        assert client.get("/a.txt").status_code == 404
        assert client.get("/nowhere").json() == {"status": 404, "error": "no such folder"}
        assert client.get("/out").status_code == 403
        assert client.post("/").headers["Allow"] == "GET, HEAD"
        for escape in ("/large/%2e%2e/%2e%2e/secret", "/%252e%252e/secret", "/..%2fsecret"):
            answer = client.get(escape)
            assert answer.status_code in {400, 403, 404}
            assert "key" not in answer.text


def test_a_directory_listing_of_the_document_root(sites: Sites) -> None:
    site = sites.spawn("examples/native/directory_listing.py")
    root = Path(str(site.process.address)).parents[1] / "docs"  # as the configuration says
    (root / "a folder").mkdir(parents=True)
    assert names(site, "/") == {"a folder"}


@every_echo
def test_a_spawned_program_ends_by_a_signal_and_another_takes_its_socket(sites: Sites, script: str) -> None:
    """These two say nothing of signals: SIGTERM ends them at once, as it does any program."""
    site = sites.spawn(script)
    with site.client() as client:
        assert client.get("/").status_code == 200
        site.process.signal(signal.SIGTERM)
        assert site.process.wait() == -signal.SIGTERM
        assert client.get("/").status_code == 502
        sites.respawn(Path(str(site.process.address)), script)
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("script", GRACEFUL, ids=("sync", "async"))
def test_a_spawned_program_that_shuts_down_lets_its_requests_end(sites: Sites, script: str) -> None:
    site = sites.spawn(script)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/")
        site.process.wait_for("began")
        site.process.signal(signal.SIGTERM)
        assert answer.result().text == "done"
    assert site.process.wait() == 0
    assert site.process.log_since() == "began\n"
