"""The contestants.

Each runs as one process with one thread, or with as many threads as a scenario asks for, and logs no requests.
"""

from __future__ import annotations

from dataclasses import replace

from . import model
from .model import HERE, Contestant, Environment

OURS = Environment(model.OURS, ("uvloop",))
UWSGI = Environment("uwsgi", ("uwsgi",))
GUNICORN = Environment("gunicorn", ("gunicorn", "uvloop"))
GUNICORN_FAST = Environment("gunicorn-fast", ("gunicorn[fast]", "uvloop"))
UVICORN = Environment("uvicorn", ("uvicorn", "uvloop", "httptools", "h11"))
GRANIAN = Environment("granian", ("granian", "uvloop"))
WAITRESS = Environment("waitress", ("waitress",))
HYPERCORN = Environment("hypercorn", ("hypercorn", "uvloop"))
FCGISGI = Environment("fcgisgi", ("fcgisgi", "uvloop"))
FLUP = Environment("flup6", ("flup6",))
OLD = Environment("simple_fastcgi-0.0.8", ("simple_fastcgi==0.0.8", "uvloop"), frameworks=False)
LIMITS = Environment("limits", ("uvloop",), frameworks=False)
GO = Environment(
    "go",
    packages=(("go", "golang-go"),),
    build=(("go", "build", "-o", "{folder}/hello", "{here}/reference/hello.go"),),
)
C = Environment(
    "libfcgi",
    packages=(("gcc", "gcc"), ("/usr/include/fcgiapp.h", "libfcgi-dev")),
    build=(("gcc", "-O2", "-o", "{folder}/hello", "{here}/reference/hello.c", "-lfcgi"),),
)
PHP = Environment("php-fpm", packages=(("php-fpm", "php-fpm"),))

# The rooms: for 2,000 idle connections, and for a request of 2,000 parameters.
_SERVE = (
    *("{python}", "-m", "simple_fastcgi", "serve", "{app}", "--bind", "unix:{socket}", "--log-level", "warning"),
    *("--workers", "1", "--max-connections", "10000"),
)
_UWSGI = ("{bin}/uwsgi", "--master", "--die-on-term", "--disable-logging", "--need-app", "--module", "{app}")
_UWSGI_ROOM = ("--buffer-size", "65535", "--max-vars", "8192", "--listen", "1024", "--virtualenv", "{bin}/..")
_UWSGI_THREADS = ("--threads", "{threads}")
_GUNICORN = ("{bin}/gunicorn", "{app}", "--bind", "unix:{socket}", "--log-level", "warning", "--no-control-socket")
_GUNICORN_ROOM = ("--keep-alive", "300", "--worker-connections", "10000")
_UVICORN = ("{bin}/uvicorn", "{app}", "--uds", "{socket}", "--no-access-log", "--log-level", "warning")
_UVICORN_ROOM = ("--timeout-keep-alive", "300")
_GRANIAN = (
    "{bin}/granian",
    "{app}",
    "--uds",
    "{socket}",
    "--no-ws",
    "--backpressure",
    "10000",
    "--log-level",
    "warning",
    "--no-access-log",
)
_HYPERCORN = ("{bin}/hypercorn", "{app}", "--bind", "unix:{socket}", "--log-level", "warning", "--keep-alive", "300")
_WAITRESS = (
    *("{bin}/waitress-serve", "--unix-socket", "{socket}", "--threads", "{threads}"),
    *("--connection-limit", "10000", "--channel-timeout", "300"),
)

SERVERS = (
    # What a server on epoll and one on uvloop cost that neither reads the request nor runs an application.
    Contestant("limit-epoll", LIMITS, "fastcgi", "canned", ("{python}", "{here}/launchers/limit_epoll.py", "{socket}")),
    Contestant(
        "limit-uvloop", LIMITS, "fastcgi", "canned", ("{python}", "{here}/launchers/limit_uvloop.py", "{socket}")
    ),
    # This project
    Contestant("simple_fastcgi-wsgi", OURS, "fastcgi", "wsgi", (*_SERVE, "--threads", "{threads}")),
    Contestant("simple_fastcgi-uvloop", OURS, "fastcgi", "asgi", (*_SERVE, "--loop", "uvloop")),
    Contestant("simple_fastcgi-asyncio", OURS, "fastcgi", "asgi", (*_SERVE, "--loop", "asyncio")),
    Contestant("simple_fastcgi-sync", OURS, "fastcgi", "sync", ("{python}", "native_sync.py", "{name}"), inherits=True),
    Contestant(
        "simple_fastcgi-async",
        OURS,
        "fastcgi",
        "async",
        ("{python}", "native_async.py", "{name}", "uvloop"),
        inherits=True,
    ),
    Contestant("simple_fastcgi-wsgi-1", OURS, "fastcgi", "wsgi", (*_SERVE, "--threads", "1"), threads=1),
    Contestant("simple_fastcgi-wsgi-chunks", OURS, "fastcgi", "wsgi", _SERVE, application="download"),
    Contestant(
        "simple_fastcgi-uvloop-chunks", OURS, "fastcgi", "asgi", (*_SERVE, "--loop", "uvloop"), application="download"
    ),
    # FastCGI from Python
    Contestant(
        "uwsgi-fcgi",
        UWSGI,
        "fastcgi",
        "wsgi",
        (*_UWSGI, *_UWSGI_ROOM, "--fastcgi-socket", "{socket}"),
        threaded=_UWSGI_THREADS,
        keeps=False,
    ),
    Contestant(
        "fcgisgi-wsgi",
        FCGISGI,
        "fastcgi",
        "wsgi",
        ("{python}", "{here}/launchers/fcgisgi_wsgi.py", "{app}", "{socket}", "{threads}"),
    ),
    Contestant(
        "fcgisgi-asgi",
        FCGISGI,
        "fastcgi",
        "asgi",
        ("{python}", "{here}/launchers/fcgisgi_asgi.py", "{app}", "{socket}"),
    ),
    Contestant("flup6", FLUP, "fastcgi", "wsgi", ("{python}", "{here}/launchers/flup6.py", "{app}", "{socket}")),
    Contestant(
        "sf008-sync", OLD, "fastcgi", "sync", ("{python}", "native_sync.py", "{name}"), keeps=False, inherits=True
    ),
    Contestant(
        "sf008-async",
        OLD,
        "fastcgi",
        "async",
        ("{python}", "native_async.py", "{name}", "uvloop"),
        keeps=False,
        inherits=True,
    ),
    # HTTP and uwsgi from Python
    Contestant(
        "uwsgi",
        UWSGI,
        "uwsgi",
        "wsgi",
        (*_UWSGI, *_UWSGI_ROOM, "--socket", "{socket}"),
        threaded=_UWSGI_THREADS,
        keeps=False,
    ),
    Contestant("gunicorn-sync", GUNICORN, "http", "wsgi", (*_GUNICORN, *_GUNICORN_ROOM, "-k", "sync"), keeps=False),
    Contestant(
        "gunicorn-gthread",
        GUNICORN,
        "http",
        "wsgi",
        (*_GUNICORN, *_GUNICORN_ROOM, "-k", "gthread", "--threads", "{threads}"),
    ),
    Contestant("gunicorn-asgi", GUNICORN, "http", "asgi", (*_GUNICORN, *_GUNICORN_ROOM, "-k", "asgi")),
    # with its parser written in C
    Contestant(
        "gunicorn-gthread-fast",
        GUNICORN_FAST,
        "http",
        "wsgi",
        (*_GUNICORN, *_GUNICORN_ROOM, "-k", "gthread", "--threads", "{threads}"),
    ),
    Contestant("gunicorn-asgi-fast", GUNICORN_FAST, "http", "asgi", (*_GUNICORN, *_GUNICORN_ROOM, "-k", "asgi")),
    Contestant(
        "uvicorn-uvloop",
        UVICORN,
        "http",
        "asgi",
        (*_UVICORN, *_UVICORN_ROOM, "--loop", "uvloop", "--http", "httptools"),
    ),
    Contestant(
        "uvicorn-asyncio",
        UVICORN,
        "http",
        "asgi",
        (*_UVICORN, *_UVICORN_ROOM, "--loop", "asyncio", "--http", "httptools"),
    ),
    Contestant(
        "uvicorn-h11", UVICORN, "http", "asgi", (*_UVICORN, *_UVICORN_ROOM, "--loop", "asyncio", "--http", "h11")
    ),
    Contestant(
        "granian-wsgi", GRANIAN, "http", "wsgi", (*_GRANIAN, "--interface", "wsgi", "--blocking-threads", "{threads}")
    ),
    Contestant("granian-asgi", GRANIAN, "http", "asgi", (*_GRANIAN, "--interface", "asgi", "--loop", "uvloop")),
    Contestant("waitress", WAITRESS, "http", "wsgi", (*_WAITRESS, "{app}")),
    Contestant("hypercorn", HYPERCORN, "http", "asgi", (*_HYPERCORN, "-k", "uvloop")),
    # Other languages
    Contestant("go-fcgi", GO, "fastcgi", "other", ("{folder}/hello",), inherits=True, env={"GOMAXPROCS": "1"}),
    Contestant("libfcgi", C, "fastcgi", "other", ("{folder}/hello",), keeps=False, single=True, inherits=True),
    Contestant(
        "php-fpm",
        PHP,
        "fastcgi",
        "other",
        ("{python}", "{here}/launchers/php_fpm.py", "{socket}"),
        keeps=False,
        single=True,
        script=str(HERE / "reference" / "hello.php"),
    ),
)

# Not servers: what a program costs that imports one.
IMPORTS = tuple(
    Contestant(
        f"import-{name}", environment, "fastcgi", "import", ("{python}", "{here}/launchers/import_module.py", module)
    )
    for name, environment, module in (
        ("nothing", OURS, "sys"),
        ("simple_fastcgi", OURS, "simple_fastcgi"),
        ("simple_fastcgi-sync", OURS, "simple_fastcgi.sync.server"),
        ("simple_fastcgi-async", OURS, "simple_fastcgi.aio.server"),
        ("simple_fastcgi-wsgi", OURS, "simple_fastcgi.gateways.wsgi"),
        ("asyncio", OURS, "asyncio"),
        ("sf008", OLD, "simple_fastcgi"),
        ("flup6", FLUP, "flup.server.fcgi"),
        ("fcgisgi", FCGISGI, "fcgisgi"),
        ("waitress", WAITRESS, "waitress"),
        ("uvicorn", UVICORN, "uvicorn"),
    )
)
CONTESTANTS = SERVERS + IMPORTS
BY_NAME = {contestant.name: contestant for contestant in CONTESTANTS}


def on_pythons(contestant: Contestant, versions: list[str]) -> list[Contestant]:
    """The contestant once for each interpreter; as it is if it does not depend on one."""
    if not contestant.environment.python:
        return [contestant]
    return [replace(contestant, python=version) for version in versions]
