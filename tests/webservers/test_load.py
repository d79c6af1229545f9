"""Many requests: at once, and one after the other on a kept connection."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import TIMEOUT, WebServer, params_for

from .nginx import TRANSPORTS
from .scenarios import scenario
from .sites import FULL, each

if TYPE_CHECKING:
    import httpx

    from .fronts import Front
    from .sites import Site, Sites

pytestmark = pytest.mark.no_cover
KEPT = [front for front in FULL if front.kept]


@scenario("200 requests over 20 connections")
@each(FULL)
def test_concurrent_requests_get_their_own_answers(site: Site) -> None:
    def ask(number: int) -> None:
        if number % 2:
            answer = client.get(f"/unicode/name%20{number}?number={number}", headers={"Cookie": f"number={number}"})
            assert answer.json()["name"] == f"name {number}"
            assert answer.json()["query"] == {"number": [str(number)]}
        else:
            body = f"{number} ".encode() * number * 100
            answer = client.post(f"/upload/raw?number={number}", content=body)
            assert answer.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    with site.client() as client, ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(ask, range(200)))) == 200


@scenario("kept connections")
@each(KEPT)
def test_the_web_server_keeps_one_connection_for_many_requests(site: Site) -> None:
    host, _, port = site.origin.removeprefix("http://").partition(":")
    client = HTTPConnection(host, int(port), timeout=TIMEOUT)
    known: set[str] = set()
    for number in range(1000):
        client.request("GET", f"/unicode/{number}")
        answer = client.getresponse()
        assert f'"{number}"' in answer.read().decode()
        if number == 0:
            known = site.app.sockets
    client.close()
    # Some open another one after a thousand requests.
    assert len(site.app.sockets - known) <= 1


@pytest.mark.parametrize(
    "front",
    [
        pytest.param(front, id=front.name, marks=[pytest.mark.once] if number else [])
        for number, front in enumerate(front for front in KEPT if not front.spawns)
    ],
)
def test_a_kept_connection_gives_way(sites: Sites, front: Front) -> None:
    """The web server keeps the only one that there may be; a second web server is served, and then the first again."""
    site = sites.start("flask", front, "--workers", "1", "--max-connections", "1")
    with site.client() as client:
        for _ in range(2):
            assert client.get("/url").status_code == 200
            with WebServer(site.process.address) as other:
                assert other.request(params_for("/url")).status == 200
    site.app.wait_for("1 connections are open")


@pytest.mark.slow
@pytest.mark.timeout(900)
@each(TRANSPORTS[1:2])
def test_ten_thousand_requests_on_one_connection(site: Site, client: httpx.Client) -> None:
    with WebServer(site.process.address) as server:
        for number in range(10_000):
            answer = server.request(params_for(f"/unicode/{number}?q={number}"))
            assert (answer.status, answer.protocol_status) == (200, 0)
            assert f'"name":"{number}"'.encode() in answer.body.replace(b" ", b"")
            assert len(answer.stderr) == 0
    assert client.get("/").status_code == 200
