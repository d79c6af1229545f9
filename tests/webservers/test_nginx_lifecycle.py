"""How applications end under SIGTERM, with requests in flight and nginx's connections open."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .children import wait_until
from .sites import TRANSPORTS

if TYPE_CHECKING:
    from .sites import Framework, Front, Sites

UNIX_KEPT = TRANSPORTS[1]

every_framework = pytest.mark.parametrize("framework", ("flask", "starlette"))


@every_framework
@pytest.mark.parametrize(
    "front",
    [
        pytest.param(front, id=front.name, marks=[] if front is UNIX_KEPT else [pytest.mark.once])
        for front in TRANSPORTS
    ],
)
def test_a_signal_lets_requests_in_flight_end(sites: Sites, framework: Framework, front: Front) -> None:
    site = sites.start(framework, front)
    with site.client() as client, ThreadPoolExecutor(2) as pool:
        list(pool.map(client.get, ["/url"] * 2))  # leaves a connection idle, if they are kept
        answer = pool.submit(client.get, "/slow?seconds=0.5")
        site.app.wait_for("began /slow")
        site.app.signal(signal.SIGTERM)
        assert answer.result().status_code == 200
        assert answer.result().json() == {"slept": 0.5}
        assert site.app.wait() == 0
        assert client.get("/url").status_code == 502
    if isinstance(site.app.address, str):
        assert not Path(site.app.address).exists()
    log = site.app.log_since()
    assert log.splitlines()[-1].endswith("INFO simple_fastcgi: stopped")
    assert "Traceback" not in log


@every_framework
def test_a_second_signal_ends_at_once(sites: Sites, framework: Framework) -> None:
    site = sites.start(framework, UNIX_KEPT)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/slow?seconds=10")
        site.app.wait_for("began /slow")
        site.app.signal(signal.SIGTERM)
        wait_until(lambda: not Path(str(site.app.address)).exists())
        assert not answer.done()
        site.app.signal(signal.SIGTERM)
        assert site.app.wait() == -signal.SIGTERM
        assert answer.result().status_code == 502


@every_framework
def test_an_application_that_was_spawned_lets_requests_end(sites: Sites, framework: Framework) -> None:
    """Its socket is spawn-fcgi's: nobody else removes it, and the next one takes it over."""
    command = ("-m", "simple_fastcgi", "serve", f"tests.webservers.apps.{framework}_probe:app")
    site = sites.spawn(*command)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/slow?seconds=0.5")
        site.app.wait_for("began /slow")
        site.app.signal(signal.SIGTERM)
        assert answer.result().json() == {"slept": 0.5}
        assert site.app.wait() == 0
        assert Path(str(site.app.address)).exists()
        sites.respawn(Path(str(site.app.address)), *command)
        assert client.get("/status/200").text == "status 200\n"
