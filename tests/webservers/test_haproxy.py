"""What is special about HAProxy: connections shared by requests, and its limits."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Semaphore
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.support.examples import blocks_of
from tests.support.webserver import TIMEOUT

from .children import ROOT, wait_until
from .fronts import Front, free_address
from .haproxy import ASKING, FRONTS, GLOBAL, MOUNTED, MULTIPLEXED, Haproxy
from .sites import client as browser
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .sites import Site, Sites

pytestmark = pytest.mark.once

MAIN = FRONTS[0]


@each([MULTIPLEXED, ASKING], "starlette")
def test_requests_at_once_share_a_connection(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """Either told so in the configuration or by the application itself (FCGI_GET_VALUES)."""
    seen, begun = tmp_path / "seen", Semaphore(0)

    def ask() -> bytes:
        with client.stream("GET", "/probe/handshake", params={"seen": str(seen)}) as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first\n"
            begun.release()
            return b"".join(pieces)

    client.get("/url")
    before = site.app.sockets
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        try:
            assert all(begun.acquire(timeout=TIMEOUT) for _ in answers)
            assert site.app.sockets <= before
        finally:
            seen.touch()
        assert [answer.result() for answer in answers] == [b"second\n"] * 8


@each([MULTIPLEXED])
def test_many_requests_that_share_a_connection_get_their_own_answers(site: Site) -> None:
    """Bodies are small: with larger ones HAProxy answers 500 by itself, when its buffer is full (its issue #3346)."""

    def ask(number: int) -> None:
        if number % 2:
            answer = client.get(f"/unicode/{number}?number={number}").json()
            assert (answer["name"], answer["query"]) == (str(number), {"number": [str(number)]})
        else:
            assert client.put("/upload/raw", content=b"x" * number).json()["size"] == number

    with site.client() as client, ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(ask, range(200)))) == 200


@each([MULTIPLEXED])
def test_a_neighbour_that_breaks_off_is_seen_to(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """Its connection is closed for that, when the requests beside it have ended."""
    seen = tmp_path / "seen"
    with client.stream("GET", "/probe/handshake", params={"seen": str(seen)}) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first\n"
        with client.stream("GET", "/error/during") as other:
            rest = other.iter_raw()
            assert next(rest) == b"This answer begins well.\n"
            seen.touch()
            assert b"".join(pieces) == b"second\n"
            with pytest.raises(httpx.RemoteProtocolError):
                list(rest)
    assert client.get("/url").status_code == 200


def test_who_finds_no_room_on_a_connection_is_told_at_once(sites: Sites, tmp_path: Path) -> None:
    """HAProxy takes FCGI_OVERLOADED for no answer, and would wait for one as long as its timeout lets it."""
    seen = tmp_path / "seen"
    site = sites.start("starlette", MULTIPLEXED, "--max-requests-per-connection", "1")
    with site.client() as client:
        with client.stream("GET", "/probe/handshake", params={"seen": str(seen)}) as answer:
            pieces = answer.iter_raw()
            assert next(pieces) == b"first\n"
            refused = client.get("/url")
            assert (refused.status_code, refused.text) == (503, "Service Unavailable\n")
            seen.touch()
            assert b"".join(pieces) == b"second\n"
        assert client.get("/url").status_code == 200


@each([MAIN, MULTIPLEXED], "flask")
def test_complaints_in_the_middle_of_an_answer(site: Site, client: httpx.Client) -> None:
    """HAProxy before 2.6.16 crashes at a record of FCGI_STDERR without padding that is the last in its buffer."""
    mark = site.server.mark()
    for _ in range(5):
        text = client.get("/probe/complaints?count=20").text
        assert text == "".join(f"line {number}\n" for number in range(20))
    wait_until(lambda: "complaint 18\n" in site.server.errors_since(mark))
    assert site.server.runs


@each([MAIN], "flask")
def test_a_body_beyond_the_limit(site: Site) -> None:
    """What is printed looks at the length and does not wait for all of the body."""
    address = urlsplit(site.origin)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT)
    connection.request("PUT", "/upload/raw", b"x" * 65536, headers={"Content-Length": str((64 << 20) + 1)})
    assert connection.getresponse().status == 413
    connection.close()


@each([MOUNTED], "flask")
def test_the_mount_point_gets_its_slash(site: Site, client: httpx.Client) -> None:
    for query in ("", "?x=%20&y=a/b"):
        answer = client.get(f"{site.origin}/app{query}")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"/app/{query}")
    assert client.get(f"{site.origin}/application").status_code == 503  # no backend has it


@each([MAIN], "starlette")
@pytest.mark.parametrize(("sent", "path"), [("/unicode/a%2Fb", "a/b"), ("/unicode/a//b", "a//b")])
def test_slashes_arrive_as_they_were_sent(client: httpx.Client, sent: str, path: str) -> None:
    assert client.get(sent).json()["name"] == path


@each([MAIN], "flask")
def test_tls_and_the_name_of_the_site(site: Site, program: Callable[[str], str], tmp_path: Path) -> None:
    """The application is told of TLS by HAProxy itself."""
    name = ("-subj", "/CN=shop.example", "-nodes", "-keyout", "key.pem", "-out", "shop.example.pem")
    command = (program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *name)
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    with (tmp_path / "shop.example.pem").open("a") as both:
        both.write((tmp_path / "key.pem").read_text())
    host, port = free_address()
    plan = Plan(bind=f"unix:{site.process.address}", listen=f"{host}:{port}", server_name="Shop.example")
    text = make("haproxy", plan).files[0].text
    text = text.replace(f"bind {host}:{port}", f"bind {host}:{port} ssl crt {tmp_path}/shop.example.pem")
    folder = tmp_path / "haproxy"
    folder.mkdir()
    sites: dict[Front, tuple[str, str]] = {MAIN: (f"https://{host}:{port}", text)}
    with Haproxy(program("haproxy"), sites, folder) as server, browser(server.origin(MAIN)) as client:
        answer = client.get("/url", headers={"Host": f"shop.example:{port}"})
        assert answer.json()["external"] == f"https://shop.example:{port}/url"
        assert client.get("/url").status_code == 503  # this name is nobody's


def test_haproxy_accepts_what_its_page_shows(program: Callable[[str], str], tmp_path: Path) -> None:
    blocks = blocks_of((ROOT / "docs" / "webservers" / "haproxy.md").read_text("utf-8"), "text")
    assert len(blocks) == 3
    frontend = "frontend x\nmode http\ntimeout client 1s\nbind 127.0.0.1:80\n"  # without one it would not start
    for block in blocks:
        (tmp_path / "haproxy.cfg").write_text(GLOBAL + frontend + block)
        command = [program("haproxy"), "-c", "-f", str(tmp_path / "haproxy.cfg")]
        checked = subprocess.run(command, capture_output=True, check=False, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")
