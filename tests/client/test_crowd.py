"""Ten thousand requests over eight connections, a part of which are given up: no answer is another's, none is lost."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from simple_fastcgi.client import FcgiTransport
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.testing import AppServer
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REQUESTS = 10_000
THREADS = 16
CONNECTIONS = 8


def answer(marker: str, size: int) -> bytes:
    """The body of the response: its request's own marker, over and over."""
    return (marker.encode() + b".") * size


def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Sends, in several blocks, what the request says and the body that came with it."""
    marker, size = environ["PATH_INFO"][1:], int(environ["QUERY_STRING"])
    body = environ["wsgi.input"].read()  # type: ignore[attr-defined]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Marker", marker)])

    def blocks() -> Iterator[bytes]:
        yield body
        for _ in range(4):
            yield answer(marker, size)

    return blocks()


def go_on(client: httpx.Client, numbers: Iterator[int], seed: int, wrong: list[str]) -> int:
    """Make requests as long as there are numbers; how many were given up."""
    chance = random.Random(seed)
    given_up = 0
    for number in numbers:
        marker, size = f"{seed}-{number}", chance.choice((1, 10, 100, 1000))
        body = marker.encode() * chance.choice((0, 1, 1000))
        content = iter([body[:100], body[100:]]) if chance.random() < 0.3 else body
        with client.stream("POST", f"/{marker}?{size}", content=content) as response:
            if response.headers["x-marker"] != marker:
                wrong.append(marker)
            if chance.random() < 0.2:
                # Somewhere in the middle of it.
                next(response.iter_raw(), None)
                given_up += 1
            elif response.read() != body + 4 * answer(marker, size):
                wrong.append(marker)
    return given_up


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_answer_is_anothers() -> None:
    numbers = iter(range(REQUESTS))
    wrong: list[str] = []
    given_up: list[int] = []
    lock = threading.Lock()

    def mine() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    limits = ClientLimits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    with AppServer(app, threads=CONNECTIONS) as server:
        transport = FcgiTransport(server.address, limits=limits)
        with httpx.Client(transport=transport, base_url="http://app", timeout=TIMEOUT) as client:
            threads = [
                threading.Thread(target=lambda seed=seed: given_up.append(go_on(client, mine(), seed, wrong)))
                for seed in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5 * TIMEOUT)
            assert len(given_up) == THREADS
            assert wrong == []
            assert sum(given_up) > REQUESTS / 10
            assert transport.active_connections == 0
            assert transport.idle_connections <= CONNECTIONS
    # What is left of a socket the fixture for leaks finds.
    assert server.errors == []
