"""What is measured, of whom, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contestants.table import IMPORTS
from .load.kinds import EventStreams, Straight, StraightTransfer, ThroughNginx, Transfer
from .load.requests import HEADERS_40, POST_10K, VARIED, parameters
from .probes import FirstAnswer, IdleConnections, Import

if TYPE_CHECKING:
    from .load.kinds import Load
    from .probes import Probe
    from .results import Main

# The contestants by what they serve, the one that ratios go to among them.
THREADED = (
    "simple_fastcgi-wsgi",
    "uwsgi-fcgi",
    "uwsgi",
    "gunicorn-gthread",
    "gunicorn-gthread-fast",
    "granian-wsgi",
    "waitress",
    "fcgisgi-wsgi",
    "flup6",
)
WSGI = (*THREADED, "gunicorn-sync")
ASGI = (
    "simple_fastcgi-uvloop",
    "simple_fastcgi-asyncio",
    "uvicorn-uvloop",
    "uvicorn-asyncio",
    "uvicorn-h11",
    "gunicorn-asgi",
    "gunicorn-asgi-fast",
    "granian-asgi",
    "hypercorn",
    "fcgisgi-asgi",
)
SYNC = ("simple_fastcgi-sync", "sf008-sync")
ASYNC = ("simple_fastcgi-async", "sf008-async")
OTHER_LANGUAGES = ("go-fcgi", "libfcgi", "php-fpm")
# For tables with many points: who leads, each in its own way.
FEW_WSGI = ("simple_fastcgi-wsgi", "uwsgi-fcgi", "granian-wsgi")
FEW_ASGI = ("simple_fastcgi-uvloop", "uvicorn-uvloop", "granian-asgi")

LOADED = ("cpu", "lowest", "spread", "ratio", "rate", "p99", "errors", "others")
MOVED = ("cpu", "lowest", "spread", "ratio", "rate", "memory", "errors", "others")
BORN = ("cpu ms", "spread", "ratio", "wall ms", "memory")
IMPORTED = ("cpu ms", "cpu over", "spread", "wall ms", "memory", "memory over")
IDLE = ("bytes", "ratio")


@dataclass(frozen=True)
class Scenario:
    """One table of the results: `contestants` serve `app` under `load`; `reference` is the one that ratios go to.

    `quick`: the contestants in the quick preset, which leaves out a scenario that has none. `every_python`: the full
    preset measures it on each interpreter, not on the first alone.
    """

    name: str
    title: str
    app: str
    load: Load | Probe
    contestants: tuple[str, ...]
    reference: str
    threads: int = 1
    main: Main = "cpu"
    columns: tuple[str, ...] = LOADED
    quick: tuple[str, ...] = ()
    every_python: bool = False
    point: tuple[str, float] | None = None
    """What grows from scenario to scenario of one series, and how much of it there is in this one."""


def _hello_and_varied() -> list[Scenario]:
    hello, varied = ThroughNginx(), ThroughNginx(VARIED)
    uwsgi, uvicorn, old = "uwsgi-fcgi", "uvicorn-uvloop", "sf008-async"
    quick_wsgi = ("limit-epoll", "simple_fastcgi-wsgi", "uwsgi-fcgi", "gunicorn-sync")
    quick_asgi = ("limit-uvloop", "simple_fastcgi-uvloop", "simple_fastcgi-asyncio", "uvicorn-uvloop")
    return [
        Scenario(
            "hello-wsgi",
            "Hello from raw WSGI, one thread",
            "hello",
            hello,
            ("limit-epoll", *WSGI),
            uwsgi,
            quick=quick_wsgi,
            every_python=True,
        ),
        Scenario(
            "varied-wsgi",
            "Raw WSGI, no two requests alike",
            "varied",
            varied,
            WSGI,
            uwsgi,
            quick=quick_wsgi[1:3],
            every_python=True,
        ),
        Scenario(
            "hello-asgi",
            "Hello from raw ASGI",
            "hello",
            hello,
            ("limit-uvloop", *ASGI),
            uvicorn,
            quick=quick_asgi,
            every_python=True,
        ),
        Scenario(
            "varied-asgi",
            "Raw ASGI, no two requests alike",
            "varied",
            varied,
            ASGI,
            uvicorn,
            quick=("simple_fastcgi-uvloop", "uvicorn-uvloop"),
            every_python=True,
        ),
        Scenario("hello-flask", "Hello from Flask, one thread", "flask_app:app", hello, WSGI, uwsgi),
        Scenario("varied-flask", "Flask, no two requests alike", "flask_app:app", varied, WSGI, uwsgi),
        Scenario("hello-starlette", "Hello from Starlette", "starlette_app:app", hello, ASGI, uvicorn),
        Scenario("varied-starlette", "Starlette, no two requests alike", "starlette_app:app", varied, ASGI, uvicorn),
        Scenario(
            "hello-native-sync",
            "Hello from a handler, synchronous API, and from other languages",
            "hello",
            hello,
            ("limit-epoll", *SYNC, *OTHER_LANGUAGES),
            "go-fcgi",
            every_python=True,
        ),
        Scenario(
            "varied-native-sync", "A handler, synchronous API, no two requests alike", "varied", varied, SYNC, SYNC[1]
        ),
        Scenario(
            "hello-native-async",
            "Hello from a handler, asynchronous API",
            "hello",
            hello,
            ("limit-uvloop", *ASYNC),
            old,
            every_python=True,
        ),
        Scenario(
            "varied-native-async", "A handler, asynchronous API, no two requests alike", "varied", varied, ASYNC, old
        ),
    ]


def _other_ways_to_ask() -> list[Scenario]:
    straight, opened = Straight(), ThroughNginx(kept=False)
    uwsgi, uvicorn = "uwsgi-fcgi", "uvicorn-uvloop"
    quick_wsgi = ("limit-epoll", "simple_fastcgi-wsgi", "uwsgi-fcgi")
    quick_asgi = ("limit-uvloop", "simple_fastcgi-uvloop", "uvicorn-uvloop")
    by_us = "straight at the socket, every answer checked"
    return [
        Scenario(
            "straight-wsgi",
            f"Hello from raw WSGI, {by_us}",
            "hello",
            straight,
            ("limit-epoll", *WSGI),
            uwsgi,
            quick=quick_wsgi,
        ),
        Scenario(
            "straight-asgi",
            f"Hello from raw ASGI, {by_us}",
            "hello",
            straight,
            ("limit-uvloop", *ASGI),
            uvicorn,
            quick=quick_asgi,
        ),
        Scenario(
            "unkept-wsgi",
            "Hello from raw WSGI, a connection for each request",
            "hello",
            opened,
            ("limit-epoll", *WSGI),
            uwsgi,
        ),
        Scenario(
            "unkept-asgi",
            "Hello from raw ASGI, a connection for each request",
            "hello",
            opened,
            ("limit-uvloop", *ASGI),
            uvicorn,
        ),
        Scenario(
            "threads-fast",
            "Hello from raw WSGI, 8 threads",
            "hello",
            ThroughNginx(),
            ("simple_fastcgi-wsgi-1", *THREADED),
            uwsgi,
            threads=8,
        ),
        Scenario(
            "threads-slow",
            "An application that blocks for 5 ms, 8 threads; the ratio is of requests in a second: more is better",
            "slow",
            ThroughNginx(),
            THREADED,
            uwsgi,
            threads=8,
            main="rate",
        ),
        Scenario(
            "multiplexed",
            "Hello, 8 requests at once on each of 2 connections, straight at the socket",
            "hello",
            Straight(connections=2, depth=8),
            ("simple_fastcgi-uvloop", "simple_fastcgi-asyncio", "fcgisgi-asgi"),
            "fcgisgi-asgi",
        ),
        Scenario(
            "multiplexed-threads",
            "Hello, 8 requests at once on each of 2 connections, straight at the socket, 8 threads",
            "hello",
            Straight(connections=2, depth=8),
            ("simple_fastcgi-wsgi", "fcgisgi-wsgi", "go-fcgi"),
            "go-fcgi",
            threads=8,
        ),
    ]


def _larger_requests() -> list[Scenario]:
    uwsgi, uvicorn = "uwsgi-fcgi", "uvicorn-uvloop"
    found = []
    for name, title, app, traffic in (
        ("headers", "40 headers of 6 KB in all", "hello", HEADERS_40),
        ("post", "10 KB posted and sent back", "echo", POST_10K),
    ):
        load = ThroughNginx(traffic)
        found += [
            Scenario(f"{name}-wsgi", f"{title}, raw WSGI", app, load, WSGI, uwsgi),
            Scenario(f"{name}-asgi", f"{title}, raw ASGI", app, load, ASGI, uvicorn),
        ]
    for count in (10, 100, 500, 1000, 2000):
        found.append(
            Scenario(
                f"parameters-{count}",
                f"{count:,} parameters, straight at the socket",
                "hello",
                Straight(parameters(count), connections=4),
                ("simple_fastcgi-wsgi", "simple_fastcgi-uvloop", "uwsgi-fcgi", "fcgisgi-wsgi", "fcgisgi-asgi", "flup6"),
                "fcgisgi-asgi",
                point=("parameter", count),
            )
        )
    return found


def _connections() -> list[Scenario]:
    found = []
    for count in (1, 8, 64, 512):
        load = ThroughNginx(connections=count)
        title = f"{count} connections at once" if count > 1 else "one connection"
        found += [
            Scenario(
                f"connections-{count}-wsgi", f"Hello from raw WSGI, {title}", "hello", load, FEW_WSGI, FEW_WSGI[1]
            ),
            Scenario(
                f"connections-{count}-asgi", f"Hello from raw ASGI, {title}", "hello", load, FEW_ASGI, FEW_ASGI[1]
            ),
        ]
    return found


def _bodies() -> list[Scenario]:
    uwsgi, uvicorn = "uwsgi-fcgi", "uvicorn-uvloop"
    up, down = "Upload of 100 MB", "Download of 100 MB in chunks of 64 KB"
    up_straight, down_straight = StraightTransfer("upload"), StraightTransfer("download")
    by_us = "straight at the socket"
    # granian sends 2 MB in a second there, for a reason of its own: its turns would take minutes.
    unless_slow = tuple(name for name in WSGI if name != "granian-wsgi")
    return [
        Scenario("upload-wsgi", f"{up}, raw WSGI", "upload", Transfer("upload"), WSGI, uwsgi, columns=MOVED),
        Scenario(
            "upload-threads",
            f"{up}, raw WSGI, 8 threads",
            "upload",
            Transfer("upload"),
            THREADED,
            uwsgi,
            threads=8,
            columns=MOVED,
        ),
        Scenario("upload-asgi", f"{up}, raw ASGI", "upload", Transfer("upload"), ASGI, uvicorn, columns=MOVED),
        Scenario("download-wsgi", f"{down}, raw WSGI", "download", Transfer("download"), WSGI, uwsgi, columns=MOVED),
        Scenario("download-asgi", f"{down}, raw ASGI", "download", Transfer("download"), ASGI, uvicorn, columns=MOVED),
        Scenario("upload-straight-wsgi", f"{up}, raw WSGI, {by_us}", "upload", up_straight, WSGI, uwsgi, columns=MOVED),
        Scenario(
            "upload-straight-asgi", f"{up}, raw ASGI, {by_us}", "upload", up_straight, ASGI, uvicorn, columns=MOVED
        ),
        Scenario(
            "download-straight-wsgi",
            f"{down}, raw WSGI, {by_us}",
            "download",
            down_straight,
            unless_slow,
            uwsgi,
            columns=MOVED,
        ),
        Scenario(
            "download-straight-asgi",
            f"{down}, raw ASGI, {by_us}",
            "download",
            down_straight,
            ASGI,
            uvicorn,
            columns=MOVED,
        ),
        Scenario(
            "file-wsgi",
            "A file of 100 MB through wsgi.file_wrapper, beside chunks of 64 KB",
            "file",
            Transfer("file"),
            ("simple_fastcgi-wsgi-chunks", *WSGI),
            "simple_fastcgi-wsgi-chunks",
            columns=MOVED,
        ),
        Scenario(
            "file-asgi",
            "A file of 100 MB through pathsend where there is that, beside chunks of 64 KB",
            "file",
            Transfer("file"),
            ("simple_fastcgi-uvloop-chunks", *ASGI),
            "simple_fastcgi-uvloop-chunks",
            columns=MOVED,
        ),
        Scenario(
            "events",
            "500 streams of server-sent events, 4 a second each",
            "events",
            EventStreams(),
            ASGI,
            uvicorn,
            columns=MOVED,
        ),
    ]


def _at_rest() -> list[Scenario]:
    kept_wsgi = (
        "limit-epoll",
        *(name for name in WSGI if name not in {"uwsgi-fcgi", "uwsgi", "gunicorn-sync", "flup6"}),
    )
    kept_asgi = ("limit-uvloop", *ASGI)
    idle = "Memory of an idle kept connection, of 2,000"
    first = "From exec to the first answer"
    unless_uwsgi = tuple(name for name in WSGI if name != "uwsgi")
    return [
        Scenario(
            "idle-wsgi",
            f"{idle}, raw WSGI",
            "hello",
            IdleConnections(),
            kept_wsgi,
            "fcgisgi-wsgi",
            main="memory",
            columns=IDLE,
        ),
        Scenario(
            "idle-asgi",
            f"{idle}, raw ASGI",
            "hello",
            IdleConnections(),
            kept_asgi,
            "uvicorn-uvloop",
            main="memory",
            columns=IDLE,
        ),
        Scenario(
            "first-answer-wsgi",
            f"{first}, raw WSGI, and memory then",
            "hello",
            FirstAnswer(),
            unless_uwsgi,
            "flup6",
            columns=BORN,
        ),
        Scenario(
            "first-answer-asgi",
            f"{first}, raw ASGI, and memory then",
            "hello",
            FirstAnswer(),
            ASGI,
            "uvicorn-uvloop",
            columns=BORN,
        ),
        Scenario(
            "import",
            "What an import costs; the memory is the most that the program had",
            "",
            Import(),
            tuple(one.name for one in IMPORTS),
            "import-nothing",
            columns=IMPORTED,
            every_python=True,
        ),
    ]


SCENARIOS = (
    *_hello_and_varied(),
    *_other_ways_to_ask(),
    *_larger_requests(),
    *_connections(),
    *_bodies(),
    *_at_rest(),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
