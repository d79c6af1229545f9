"""`serve()`: in threads, on sockets of every kind, and to its graceful end."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import serve
from simple_fastcgi.errors import ConfigurationError
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    StartResponse = Callable[..., Any]

SECONDS = 20.0


def wsgi(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    facts = ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")
    return [repr([environ[fact] for fact in facts]).encode()]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            scope["state"]["started"] = kind
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["started"].encode()})


@contextmanager
def served(app: Callable[..., Any], *arguments: Any, **settings: Any) -> Iterator[threading.Event]:
    """`serve` in a thread; the event that stops it."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            serve(app, *arguments, stop=stop, **settings)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert not errors


def answer(address: str | tuple[str, int], path: str = "/") -> bytes:
    def connect() -> WebServer | None:
        try:
            return WebServer(address)
        except OSError:
            return None

    with wait_until(connect) as web_server:
        return web_server.request(params_for(path)).body


@pytest.mark.parametrize(("threads", "facts"), [(1, b"[False, False, False]"), (3, b"[True, False, False]")])
def test_wsgi_in_a_thread_until_an_event_is_set(tmp_path: Path, threads: int, facts: bytes) -> None:
    path = tmp_path / "app.sock"
    with served(wsgi, f"unix:{path}", threads=threads):
        assert answer(str(path)) == facts
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


def test_asgi_in_a_thread_until_an_event_is_set(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with served(asgi, f"unix:{path}", loop="asyncio"):
        assert answer(str(path)) == b"lifespan.startup"
    assert not path.exists()


def test_a_listening_socket_of_the_callers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with served(wsgi, sock=listening, threads=1):
            assert answer(listening.getsockname()) == b"[False, True, False]"
        assert listening.fileno() >= 0


def test_an_inherited_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, served(wsgi, f"fd://{listening.fileno()}", threads=1):
        assert answer(listening.getsockname()) == b"[False, True, False]"


def test_who_may_connect_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, served(wsgi, sock=listening, allow_from=["192.0.2.0/24"]):
        with WebServer(listening.getsockname()) as web_server:
            assert web_server.at_eof()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"interface": "cgi"}, "auto, wsgi, asgi"),
        ({"lifespan": "maybe"}, "auto, on, off"),
        ({"loop": "trio"}, "auto, asyncio, uvloop"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"threads": "4"}, "threads"),
        ({"max_conections": 5}, "max_connections"),
        ({"idle_timeout": -1}, "idle_timeout"),
        ({"sock": 0}, "bind and sock"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        serve(wsgi, f"unix:{tmp_path}/app.sock", **settings)
    assert not list(tmp_path.iterdir())


def test_the_program_s_own_logging_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # pytest's handlers on the root logger are the program's own here.
    before = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO), served(wsgi, f"unix:{tmp_path}/app.sock"):
        answer(f"{tmp_path}/app.sock")
    assert logging.getLogger().handlers == before
    assert not logging.getLogger("simple_fastcgi").handlers
    assert any(record.getMessage().startswith("serving ") for record in caplog.records)


def test_without_logging_of_its_own_the_program_s_log_is_visible(tmp_path: Path) -> None:
    program = (
        "import logging, threading\n"
        "from simple_fastcgi import serve\n"
        "def app(environ, start_response): ...\n"
        "stop = threading.Event()\n"
        "stop.set()\n"
        f"serve(app, 'unix:{tmp_path}/app.sock', stop=stop)\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    lines = done.stderr.splitlines()
    assert "INFO simple_fastcgi: serving __main__ (WSGI, 4 threads) on unix:" in lines[0]
    assert lines[1].endswith("stopped")
