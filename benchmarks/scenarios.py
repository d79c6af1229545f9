"""What is measured, of whom, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .load.kinds import Straight, ThroughNginx
from .load.requests import VARIED

if TYPE_CHECKING:
    from .load.kinds import Load

WSGI = (
    "simple_fastcgi-wsgi",
    "uwsgi-fcgi",
    "uwsgi",
    "gunicorn-sync",
    "gunicorn-gthread",
    "granian-wsgi",
    "waitress",
    "fcgisgi-wsgi",
    "flup6",
)
ASGI = (
    "simple_fastcgi-uvloop",
    "simple_fastcgi-asyncio",
    "uvicorn-uvloop",
    "uvicorn-asyncio",
    "uvicorn-h11",
    "gunicorn-asgi",
    "granian-asgi",
    "hypercorn",
    "fcgisgi-asgi",
)
SYNC = ("simple_fastcgi-sync", "sf008-sync", "go-fcgi", "libfcgi", "php-fpm")
ASYNC = ("simple_fastcgi-async", "sf008-async")
THREADED = (
    "simple_fastcgi-wsgi",
    "uwsgi-fcgi",
    "uwsgi",
    "gunicorn-gthread",
    "granian-wsgi",
    "waitress",
    "fcgisgi-wsgi",
    "flup6",
)


@dataclass(frozen=True)
class Scenario:
    """One table of the results: `contestants` serve `app` under `load`; `reference` is the one that ratios go to."""

    name: str
    title: str
    app: str
    load: Load
    contestants: tuple[str, ...]
    reference: str
    threads: int = 1
    quick: tuple[str, ...] = ()
    """The contestants in the quick preset, which leaves out a scenario that has none."""


SCENARIOS = (
    Scenario(
        "hello-wsgi",
        "Hello, raw WSGI, one thread",
        "hello",
        ThroughNginx(),
        ("limit-epoll", *WSGI),
        "uwsgi-fcgi",
        quick=("limit-epoll", "simple_fastcgi-wsgi", "uwsgi-fcgi", "gunicorn-sync"),
    ),
    Scenario(
        "varied-wsgi",
        "Raw WSGI, no two requests alike",
        "varied",
        ThroughNginx(VARIED),
        WSGI,
        "uwsgi-fcgi",
        quick=("simple_fastcgi-wsgi", "uwsgi-fcgi"),
    ),
    Scenario(
        "hello-asgi",
        "Hello, raw ASGI",
        "hello",
        ThroughNginx(),
        ("limit-uvloop", *ASGI),
        "uvicorn-uvloop",
        quick=("limit-uvloop", "simple_fastcgi-uvloop", "simple_fastcgi-asyncio", "uvicorn-uvloop"),
    ),
    Scenario(
        "varied-asgi",
        "Raw ASGI, no two requests alike",
        "varied",
        ThroughNginx(VARIED),
        ASGI,
        "uvicorn-uvloop",
        quick=("simple_fastcgi-uvloop", "uvicorn-uvloop"),
    ),
    Scenario(
        "straight-wsgi",
        "Hello, raw WSGI, straight at the socket, every answer checked",
        "hello",
        Straight(),
        ("limit-epoll", *WSGI),
        "uwsgi-fcgi",
        quick=("limit-epoll", "simple_fastcgi-wsgi", "uwsgi-fcgi"),
    ),
    Scenario(
        "straight-asgi",
        "Hello, raw ASGI, straight at the socket, every answer checked",
        "hello",
        Straight(),
        ("limit-uvloop", *ASGI),
        "uvicorn-uvloop",
        quick=("limit-uvloop", "simple_fastcgi-uvloop", "uvicorn-uvloop"),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
