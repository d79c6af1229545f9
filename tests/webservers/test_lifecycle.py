"""How applications end under SIGTERM, with requests in flight and the web server's connections open."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .children import Spawned, wait_until
from .nginx import TRANSPORTS
from .scenarios import scenario
from .sites import FULL

if TYPE_CHECKING:
    from .fronts import Framework, Front
    from .sites import Sites

UNIX_KEPT = TRANSPORTS[1]

every_framework = pytest.mark.parametrize("framework", ("flask", "starlette"))


@scenario("SIGTERM with a request in flight")
@every_framework
@pytest.mark.parametrize(
    "front",
    [pytest.param(front, id=front.name, marks=[] if front is UNIX_KEPT else [pytest.mark.once]) for front in FULL],
)
def test_a_signal_lets_requests_in_flight_end(sites: Sites, framework: Framework, front: Front) -> None:
    site = sites.start(framework, front)
    with site.client() as client, ThreadPoolExecutor(2) as pool:
        list(pool.map(client.get, ["/url"] * 2))  # leaves a connection idle, if they are kept
        answer = pool.submit(client.get, "/slow?seconds=0.5")
        site.app.wait_for("began /slow")
        spawned = site.app.pids if isinstance(site.app, Spawned) else []
        site.app.signal(signal.SIGTERM)
        assert answer.result().status_code == 200
        assert answer.result().json() == {"slept": 0.5}
        if not site.front.spawns:
            assert site.process.wait() == 0
            assert client.get("/url").status_code in site.server.statuses_without_application
        else:  # it is started anew
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in spawned))
            assert client.get("/url").status_code == 200
            return
    if isinstance(site.process.address, str):
        assert not Path(site.process.address).exists()
    log = site.app.log_since()
    assert log.splitlines()[-1].endswith("INFO simple_fastcgi: stopped")
    assert "Traceback" not in log


@every_framework
def test_a_second_signal_ends_at_once(sites: Sites, framework: Framework) -> None:
    site = sites.start(framework, UNIX_KEPT)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/slow?seconds=10")
        site.process.wait_for("began /slow")
        site.process.signal(signal.SIGTERM)
        wait_until(lambda: not Path(str(site.process.address)).exists())
        assert not answer.done()
        site.process.signal(signal.SIGTERM)
        assert site.process.wait() == -signal.SIGTERM
        assert answer.result().status_code == 502


@pytest.mark.once
@every_framework
def test_an_application_that_was_spawned_lets_requests_end(sites: Sites, framework: Framework) -> None:
    """Its socket is spawn-fcgi's: nobody else removes it, and the next one takes it over."""
    command = ("-m", "simple_fastcgi", "serve", f"tests.webservers.apps.{framework}_probe:app")
    site = sites.spawn(*command)
    with site.client() as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.get, "/slow?seconds=0.5")
        site.process.wait_for("began /slow")
        site.process.signal(signal.SIGTERM)
        assert answer.result().json() == {"slept": 0.5}
        assert site.process.wait() == 0
        assert Path(str(site.process.address)).exists()
        sites.respawn(Path(str(site.process.address)), *command)
        assert client.get("/status/200").text == "status 200\n"
