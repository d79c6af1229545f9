"""`serve()`: in threads, on sockets of every kind, and to its graceful end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from simple_fastcgi import serve
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways.lifespan import LifespanError
from simple_fastcgi.net import bind_socket
from simple_fastcgi.protocol.constants import FCGI_STDOUT
from simple_fastcgi.serving.machine import this_machine
from simple_fastcgi.serving.origin import name_of
from tests.support.webserver import TIMEOUT, WebServer, encode_request, params_for
from tests.webservers.children import ROOT, Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    StartResponse = Callable[..., Any]

# libuv keeps a pipe for signals from the first loop of a process on: no test has left it behind.
uvloop.new_event_loop().close()


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
        thread.join(TIMEOUT)
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


@pytest.mark.parametrize("loop", ("auto", "asyncio", "uvloop"))
def test_asgi_in_a_thread_until_an_event_is_set(tmp_path: Path, loop: str) -> None:
    path = tmp_path / "app.sock"
    with served(asgi, f"unix:{path}", loop=loop):
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


@pytest.mark.parametrize("app", [wsgi, asgi])
def test_the_web_servers_of_the_environment(monkeypatch: pytest.MonkeyPatch, app: Any) -> None:
    for web_servers, served_at_all in (("192.0.2.1", False), ("192.0.2.1,127.0.0.1", True)):
        monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", web_servers)
        with socket.create_server(("127.0.0.1", 0)) as listening, served(app, sock=listening, allow_from="127.0.0.1"):
            with WebServer(listening.getsockname()) as web_server:
                if served_at_all:
                    assert web_server.request(params_for()).status == 200
                else:
                    assert web_server.at_eof()


def test_web_servers_of_the_environment_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "web.example.org")
    for app in (wsgi, asgi):
        with pytest.raises(ConfigurationError, match=r"^FCGI_WEB_SERVER_ADDRS: 'web\.example\.org'"):
            serve(app, "127.0.0.1:0", stop=threading.Event())


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
        timeout=TIMEOUT,
    )
    lines = done.stderr.splitlines()
    assert "INFO simple_fastcgi: serving __main__ (WSGI, " in lines[0]
    assert lines[1].endswith("stopped")


# ------------------------------------------------------------------------------ the end, in a thread


class Held:
    """Applications whose request waits until the test lets it go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def wait(self) -> None:
        self.begun.set()
        assert self.go_on.wait(TIMEOUT)

    def wsgi(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        self.wait()
        yield b", done"

    async def asgi(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.to_thread(self.wait)
        await send({"type": "http.response.body", "body": b", done"})


KINDS: dict[str, dict[str, Any]] = {
    "one thread": {"threads": 1},
    "threads": {"threads": 3},
    "asyncio": {"loop": "asyncio"},
    "uvloop": {"loop": "uvloop"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_under_way_is_completed(tmp_path: Path, kind: str) -> None:
    held = Held()
    path = tmp_path / "app.sock"
    app = held.wsgi if "threads" in KINDS[kind] else held.asgi
    with served(app, f"unix:{path}", **KINDS[kind]) as stop:
        with wait_until(partial(connect, str(path))) as web_server:
            web_server.send(encode_request(params_for()))
            held.begun.wait(TIMEOUT)
            stop.set()
            held.go_on.set()
            assert web_server.response().body == b"begun, done"
            web_server.eof()


def test_a_handler_that_is_stuck_is_left_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`serve` returns all the same."""
    held = Held()
    path = tmp_path / "app.sock"
    try:
        with served(held.wsgi, f"unix:{path}", threads=2, graceful_timeout=0.1) as stop:
            with wait_until(partial(connect, str(path))) as web_server:
                web_server.send(encode_request(params_for()))
                assert held.begun.wait(TIMEOUT)
                stop.set()
                # What had begun is cut short.
                with pytest.raises(EOFError):
                    while True:
                        assert web_server.record().type == FCGI_STDOUT
        assert not held.go_on.is_set()
        assert "1 connections cut off after 0.1 s (graceful_timeout)" in caplog.messages
        assert "some handlers still run after 0.1 s (graceful_timeout)" in caplog.messages
    finally:
        held.go_on.set()


@pytest.mark.parametrize("loop", ("asyncio", "uvloop"))
def test_a_start_that_never_ends_can_be_stopped(tmp_path: Path, loop: str) -> None:
    starting = threading.Event()

    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        starting.set()
        await receive()

    with served(app, f"unix:{tmp_path}/app.sock", loop=loop) as stop:
        assert starting.wait(TIMEOUT)
        stop.set()


@pytest.mark.parametrize("loop", ("asyncio", "uvloop"))
def test_a_failed_start(tmp_path: Path, loop: str) -> None:
    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(LifespanError, match="the application failed to start: no database"):
        serve(app, f"unix:{tmp_path}/app.sock", loop=loop)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_one_after_the_other(tmp_path: Path) -> None:
    for app in (wsgi, asgi, wsgi):
        with served(app, f"unix:{tmp_path}/app.sock"):
            assert answer(f"{tmp_path}/app.sock")


def test_two_at_once(tmp_path: Path) -> None:
    with served(wsgi, f"unix:{tmp_path}/1.sock"), served(asgi, f"unix:{tmp_path}/2.sock"):
        assert answer(f"{tmp_path}/1.sock") == b"[True, False, False]"
        assert answer(f"{tmp_path}/2.sock") == b"lifespan.startup"


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    """In the main thread, where they were changed."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    for app in (wsgi, asgi):
        stop = threading.Event()
        stop.set()
        serve(app, f"unix:{tmp_path}/app.sock", stop=stop)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_in_the_main_thread(tmp_path: Path, kind: str) -> None:
    """Sent by the application itself, whose request is completed."""

    def from_wsgi(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        os.kill(os.getpid(), signal.SIGUSR1)
        yield b"x"

    async def from_asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        os.kill(os.getpid(), signal.SIGUSR1)
        await send({"type": "http.response.body", "body": b"x"})

    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(answer(f"{tmp_path}/app.sock")))
    asking.start()
    serve(from_wsgi if "threads" in KINDS[kind] else from_asgi, f"unix:{tmp_path}/app.sock", **KINDS[kind])
    asking.join(TIMEOUT)
    assert answers == [b"x"]


# ------------------------------------------------------------------------------ settings


HERE = this_machine()


def connect(address: str | tuple[str, int]) -> WebServer | None:
    try:
        return WebServer(address)
    except OSError:
        return None


@pytest.mark.parametrize(
    ("settings", "told"),
    (
        ({}, f"serving tests.serving.test_run (WSGI, {HERE.threads(1)} threads for {HERE}) on 127.0.0.1:"),
        ({"threads": 1}, "serving tests.serving.test_run (WSGI, 1 thread) on 127.0.0.1:"),
        ({"name": "shop", "threads": 4}, "serving shop (WSGI, 4 threads) on 127.0.0.1:"),
        ({"name": "shop", "interface": "asgi"}, "serving shop (ASGI) on 127.0.0.1:"),
        ({"name": "shop", "allow_from": "127.0.0.0/8"}, "serving shop (WSGI, "),
    ),
    ids=str,
)
def test_the_start_up_line(caplog: pytest.LogCaptureFixture, settings: dict[str, Any], told: str) -> None:
    stop = threading.Event()
    stop.set()
    with caplog.at_level(logging.INFO):
        serve(wsgi, "127.0.0.1:0", stop=stop, **settings)
    line, last = caplog.messages
    assert line.startswith(told)
    assert line.endswith(" (only for 127.0.0.0/8)") == ("allow_from" in settings)
    assert last == "stopped"


class Object:
    """An application that is no function."""

    def __init__(self, import_name: object = None) -> None:
        self.import_name = import_name

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return wsgi(environ, start_response)


@pytest.mark.parametrize(
    ("app", "script", "name"),
    [
        (wsgi, "/srv/index.fcgi", "tests.serving.test_run"),
        (Object, "/srv/index.fcgi", "tests.serving.test_run"),
        (Object("shop.web"), "/srv/index.fcgi", "shop.web"),
        (Object("__main__"), "/srv/index.fcgi", "index"),
        (Object(), "/srv/index.fcgi", "index"),
        (Object(5), "/srv/shop/__main__.py", "shop"),
        (partial(wsgi), "/srv/shop.py", "shop"),
        (Object(), None, "tests.serving.test_run"),
    ],
)
def test_what_an_object_is_called(monkeypatch: pytest.MonkeyPatch, app: object, script: str | None, name: str) -> None:
    """The module of its class would be the framework's."""
    main = types.ModuleType("__main__")
    if script is not None:
        main.__file__ = script
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert name_of(app) == name


def test_the_status_calls_an_object_by_its_name(tmp_path: Path) -> None:
    with served(Object("shop"), f"unix:{tmp_path}/a", status_path="/status"):
        with wait_until(partial(connect, f"{tmp_path}/a")) as web_server:
            assert web_server.request(params_for("/status")).body.split()[1] == b"shop"


def test_the_start_up_line_of_an_object(caplog: pytest.LogCaptureFixture) -> None:
    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    stop = threading.Event()
    stop.set()
    with caplog.at_level(logging.INFO):
        serve(App(), "127.0.0.1:0", stop=stop)
    # It ended before it began.
    assert caplog.messages[-1] == "stopped"


def test_root_path_and_buffering_of_events(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return [environ["SCRIPT_NAME"].encode()]

    with served(app, f"unix:{tmp_path}/app.sock", root_path="app", unbuffered_events=False):
        with wait_until(partial(connect, f"{tmp_path}/app.sock")) as web_server:
            got = web_server.request(params_for("/app/x"))
    assert (got.body, got.head.get("x-accel-buffering")) == (b"/app", None)


def test_the_interface_that_was_told(tmp_path: Path) -> None:
    """The shape of these says nothing, or something else."""
    with served(lambda *arguments: wsgi(*arguments), f"unix:{tmp_path}/1.sock", interface="wsgi"):
        assert answer(f"{tmp_path}/1.sock") == b"[True, False, False]"
    with served(lambda *arguments: asgi(*arguments), f"unix:{tmp_path}/2.sock", interface="asgi"):
        assert answer(f"{tmp_path}/2.sock") == b"lifespan.startup"


def test_an_interface_that_cannot_be_told() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot tell whether .* say it with --interface"):
        serve(lambda *arguments: wsgi(*arguments))


@pytest.mark.parametrize(
    ("setting", "value", "cure"),
    [
        ("root_path", 5, "give a str"),
        ("root_path", "https://example.org/app", "give the path alone"),
        ("stop", 5, "give a threading.Event"),
        ("app_dir", 5, "give the path of a directory"),
        ("name", 5, "give a str"),
    ],
)
def test_settings_of_another_kind(setting: str, value: Any, cure: str) -> None:
    """They are told before the application is loaded: there is none of that name."""
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigurationError, match=f"^{setting}={value!r}: {cure}"):
        serve("no_such_module:app", "unix:/nowhere/app.sock", **settings)


@pytest.mark.parametrize("setting", ("socket_mode", "socket_owner", "socket_group"))
def test_settings_of_a_socket_that_is_there_already(setting: str) -> None:
    settings: dict[str, Any] = {setting: 0}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with pytest.raises(ConfigurationError, match=f"{setting}: only for a unix socket that is made here"):
            serve(wsgi, sock=listening, **settings)


def test_a_socket_that_does_not_listen() -> None:
    with socket.socket() as sock, pytest.raises(ConfigurationError, match="not a listening one"):
        serve(wsgi, sock=sock)


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with bind_socket(f"unix:{tmp_path}/app.sock"):
        with pytest.raises(OSError, match="busy"):
            serve(wsgi, f"unix:{tmp_path}/app.sock")
        assert (tmp_path / "app.sock").exists()


def test_without_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with served(asgi, f"unix:{tmp_path}/app.sock"):
        assert answer(f"{tmp_path}/app.sock") == b"lifespan.startup"
    with pytest.raises(ConfigurationError, match=r"uvloop is not installed \(pip install simple_fastcgi\[uvloop\]\)"):
        serve(asgi, f"unix:{tmp_path}/app.sock", loop="uvloop")
    assert not list(tmp_path.iterdir())


PROGRAM = """\
from simple_fastcgi import serve

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr([environ[name] for name in ("wsgi.multithread", "wsgi.multiprocess")]).encode()]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})

"""


@pytest.mark.parametrize(("app", "expected"), (("wsgi", b"[True, True]"), ("asgi", b"asgi")))
def test_a_spawned_program_finds_its_socket(tmp_path: Path, app: str, expected: bytes) -> None:
    """On descriptor 0, where web servers and spawn-fcgi leave it."""
    path = tmp_path / "app.sock"
    (tmp_path / "program.py").write_text(f"{PROGRAM}serve({app})\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with Spawned(tmp_path / "program.py", listening, tmp_path / "log") as child, WebServer(str(path)) as web_server:
            assert web_server.request(params_for()).body == expected
            assert f" on fd 0 (unix:{path})" in child.log_since()
            assert child.stop() == 0
    # It belongs to whoever made it.
    assert path.exists()


class Spawned(Child):
    """A Python program with a listening socket on descriptor 0."""

    def __init__(self, program: Path, listening: socket.socket, log: Path) -> None:
        starter = "import os, sys; os.dup2(int(sys.argv[1]), 0); os.execv(sys.executable, ['python', sys.argv[2]])"
        command = (sys.executable, "-c", starter, str(listening.fileno()), str(program))
        super().__init__(command, log, pass_fds=(listening.fileno(),))
