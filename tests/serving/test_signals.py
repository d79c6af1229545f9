"""How a server that runs in a process of its own ends at signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.serving import signals
from simple_fastcgi.serving.signals import STOP_SIGNALS, StopSignals
from tests.support.webserver import TIMEOUT, WebServer, params_for
from tests.webservers.children import App, Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.webserver import Address

# Each request tells that it runs, and ends when the test lets it: a fixed time would be too short or too long.
APPS = """\
import asyncio, os, time
from simple_fastcgi.serving import signals

if os.path.exists("patient"):
    signals._STUCK_SECONDS = 3600

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/wait":
        yield b"waiting"
        wait("go")
    yield b", done"

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/wait":
        await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b", done"})
"""
KINDS = {
    "one thread": ("apps:wsgi", "--threads", "1"),
    "threads": ("apps:wsgi", "--threads", "3"),
    "asyncio": ("apps:asgi", "--loop", "asyncio"),
    "uvloop": ("apps:asgi", "--loop", "uvloop"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "apps.py").write_text(APPS)
    return KINDS[request.param]


def start(kind: tuple[str, ...], folder: Path, *options: str) -> App:
    app, *own = kind
    return App.serve(app, f"unix:{folder}/app.sock", folder / "log", *own, *options, cwd=folder)


def begin_request(web_server: WebServer) -> None:
    web_server.begin(params_for("/wait"))
    web_server.body(b"", end=True)
    while b"waiting" not in web_server.record().content:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_request_under_way_is_completed(kind: tuple[str, ...], tmp_path: Path, number: signal.Signals) -> None:
    with start(kind, tmp_path) as app, WebServer(app.address) as web_server, WebServer(app.address) as idle:
        assert idle.request(params_for("/")).body == b", done"
        begin_request(web_server)
        app.signal(number)
        if "1" not in kind:
            # Of a single thread the one request has all the attention.
            assert idle.at_eof()
        (tmp_path / "go").touch()
        assert web_server.response().stdout == b", done"
        assert web_server.at_eof()
        assert app.wait() == 0
        assert not (tmp_path / "app.sock").exists()


def test_whoever_connects_at_the_end_is_refused(kind: tuple[str, ...], tmp_path: Path) -> None:
    app, *own = kind
    with App.serve(app, "127.0.0.1:0", tmp_path / "log", *own, cwd=tmp_path) as child:
        with WebServer(child.address) as web_server:
            begin_request(web_server)
            child.signal(signal.SIGTERM)
            if "1" not in kind:
                # Of a single thread the one request has all the attention.
                wait_until(lambda: is_refused(child.address))
            (tmp_path / "go").touch()
            assert web_server.response().stdout == b", done"
        assert child.wait() == 0


def is_refused(address: Address) -> bool:
    try:
        WebServer(address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_second_signal_ends_at_once(kind: tuple[str, ...], tmp_path: Path) -> None:
    with start(kind, tmp_path) as app, WebServer(app.address) as web_server:
        begin_request(web_server)
        app.signal(signal.SIGTERM)
        app.signal(signal.SIGTERM)
        # Signals of the same kind may melt into one.
        while app.process.poll() is None:
            app.signal(signal.SIGTERM)
        assert app.wait() == -signal.SIGTERM
        assert not (tmp_path / "app.sock").exists()


def test_a_handler_that_never_ends_is_given_up(kind: tuple[str, ...], tmp_path: Path) -> None:
    if "1" not in kind:
        # It ends by itself, however slow the machine is.
        (tmp_path / "patient").touch()
    with start(kind, tmp_path, "--graceful-timeout", "0.2") as app, WebServer(app.address) as web_server:
        begin_request(web_server)
        app.signal(signal.SIGTERM)
        status = app.wait()
        # Tasks are cancelled, threads left behind; but the one that serves alone can only be ended with the process.
        assert status == (1 if "1" in kind else 0), app.log_since()
        assert "graceful_timeout" in app.log_since()
        assert not (tmp_path / "app.sock").exists()
        app.ends_with = (status,)


def fill(pipe: int) -> None:
    """What nobody reads takes no more."""
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(pipe, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(pipe, True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_log_that_nobody_reads_does_not_keep_it_alive(kind: tuple[str, ...], tmp_path: Path, stream: str) -> None:
    app, *own = kind
    path = f"{tmp_path}/app.sock"
    options = ("--bind", f"unix:{path}", "--workers", "1", "--graceful-timeout", "0.2", "--access-log", "-")
    reading, writing = os.pipe()
    with open(tmp_path / "log", "wb") as log:
        stdout, stderr = (writing if each == stream else log for each in ("stdout", "stderr"))
        command = [sys.executable, "-m", "simple_fastcgi", "serve", app, *own, *options]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: os.path.exists(path))
        with WebServer(path) as web_server, WebServer(path) as other:
            begin_request(web_server)
            fill(writing)
            if stream == "stdout" and "3" in kind:
                # The thread that serves this one waits with its line in the access log.
                other.begin(params_for("/"))
                other.body(b"", end=True)
                assert other.record().content
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)
        assert not os.path.exists(path)
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


def test_a_log_that_nobody_reads_keeps_no_request_from_being_given_up(tmp_path: Path) -> None:
    (tmp_path / "apps.py").write_text(APPS)
    path = f"{tmp_path}/app.sock"
    options = ("--workers", "1", "--threads", "2", "--slowlog-timeout", "0.2", "--request-timeout", "0.4")
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "simple_fastcgi", "serve", "apps:wsgi", "--bind", f"unix:{path}", *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=writing)
    try:
        wait_until(lambda: os.path.exists(path))
        with WebServer(path) as web_server:
            begin_request(web_server)
            fill(writing)
            # Nobody can end a thread but with its process.
            assert process.wait(TIMEOUT) == 1
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


STUCK = """\
import asyncio, os, time

def block(*arguments):
    while True:
        time.sleep(0.01)

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        message = await receive()
        if os.path.exists("slow-start"):
            open("starting", "x").close()
            await asyncio.sleep(3600)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(3600 if os.path.exists("slow-shutdown") else 0)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
    if scope["path"] == "/thread":
        await asyncio.to_thread(block)
    elif scope["path"] == "/stubborn":
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    elif scope["path"] == "/block":
        block()
"""


@pytest.fixture(params=("asyncio", "uvloop"))
def loop(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "apps.py").write_text(STUCK)
    return ("apps:asgi", "--loop", request.param, "--graceful-timeout", "0.2")


@pytest.mark.parametrize("path", ("/block", "/thread", "/stubborn"))
def test_what_nothing_can_cancel_is_ended_with_the_process(loop: tuple[str, ...], tmp_path: Path, path: str) -> None:
    """A loop that does not turn; a thread that the loop waits for when it closes; a task that cannot be cancelled."""
    with start(loop, tmp_path) as app, WebServer(app.address) as web_server:
        web_server.begin(params_for(path))
        assert web_server.record().content.endswith(b"waiting")
        app.signal(signal.SIGTERM)
        assert app.wait() == 1
        assert "ending although a handler is still busy 0.2 s after the signal (graceful_timeout)" in app.log_since()
        assert not (tmp_path / "app.sock").exists()
        app.ends_with = (1,)


def test_a_shutdown_of_the_application_that_never_ends(loop: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "slow-shutdown").touch()
    with start(loop, tmp_path) as app:
        app.signal(signal.SIGTERM)
        assert app.wait() == 1
        app.ends_with = (1,)


def test_a_start_of_the_application_that_never_ends(loop: tuple[str, ...], tmp_path: Path) -> None:
    """Nobody is waiting for an answer yet: the end comes at once."""
    (tmp_path / "slow-start").touch()
    command = (sys.executable, "-m", "simple_fastcgi", "serve", *loop[:-1], "3600", "--bind", "unix:app.sock")
    with Child(command, tmp_path / "log", cwd=tmp_path) as app:
        wait_until((tmp_path / "starting").exists)
        assert (tmp_path / "app.sock").exists()
        app.signal(signal.SIGTERM)
        assert app.wait() == 0
        assert app.log_since().endswith(" INFO simple_fastcgi: stopped\n")
        assert "serving" not in app.log_since()
        assert not (tmp_path / "app.sock").exists()


@pytest.mark.parametrize("second", (signal.SIGINT, signal.SIGUSR1))
def test_a_second_signal_of_another_kind(kind: tuple[str, ...], tmp_path: Path, second: signal.Signals) -> None:
    with start(kind, tmp_path) as app, WebServer(app.address) as web_server:
        begin_request(web_server)
        app.signal(signal.SIGTERM)
        # It has come when the file is gone.
        wait_until(lambda: not (tmp_path / "app.sock").exists())
        app.signal(second)
        assert app.wait() == -second
        app.ends_with = (-second,)


# ------------------------------------------------------------------------------ StopSignals by itself


class Stops:
    """Counts what `StopSignals` asks for."""

    def __init__(self, graceful_timeout: float = 3600.0) -> None:
        self.calls: list[str] = []
        self.given_up = threading.Event()
        self.signals = StopSignals(
            lambda: self.calls.append("stop"),
            graceful_timeout=graceful_timeout,
            at_once=lambda: self.calls.append("at once"),
        )

    def exit(self, status: int) -> None:
        self.calls.append(f"exit {status}")
        self.given_up.set()


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int, object]]]:
    """What this process sends to itself, and how the signal would have been handled."""
    sent: list[tuple[int, int, object]] = []
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    # Whoever runs the tests may have had it ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number, signal.getsignal(number))))
    yield sent
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_asks_and_the_second_one_ends(
    kills: list[tuple[int, int, object]], number: signal.Signals
) -> None:
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}
    stops = Stops()
    with stops.signals:
        assert all(signal.getsignal(each) != before[each] for each in STOP_SIGNALS)
        signal.raise_signal(number)
        assert (stops.calls, kills) == (["stop"], [])
        signal.raise_signal(signal.SIGTERM)
        assert stops.calls == ["stop", "at once"]
        assert kills == [(os.getpid(), signal.SIGTERM, signal.SIG_DFL)]
    assert {each: signal.getsignal(each) for each in STOP_SIGNALS} == before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None], ids=["ignored", "handled"])
def test_a_hang_up_that_is_somebody_elses(kills: list[tuple[int, int, object]], handler: Any) -> None:
    signal.signal(signal.SIGHUP, handler)
    stops = Stops()
    with stops.signals:
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == handler
    assert stops.calls == []


def test_what_is_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    stops = Stops(graceful_timeout=0.01)
    monkeypatch.setattr(signals, "_STUCK_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", stops.exit)
    with stops.signals:
        signal.raise_signal(signal.SIGUSR1)
        assert stops.given_up.wait(TIMEOUT)
    # So short a time may be over before the signal's handler has ended.
    stops.calls.remove("stop")
    assert stops.calls == ["at once", "exit 1"]
    assert caplog.messages == ["ending although a handler is still busy 0.01 s after the signal (graceful_timeout)"]


def test_a_signal_that_was_held_comes_to_whoever_serves(kills: list[tuple[int, int, object]]) -> None:
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}
    signals.deliver_held()  # Nothing was.
    signals.hold_signals()
    signal.raise_signal(signal.SIGTERM)
    assert signals.take_held_signals() is not None
    stops = Stops()
    with stops.signals:
        assert stops.calls == []
        signals.deliver_held()
        assert stops.calls == ["stop"]
    assert {each: signal.getsignal(each) for each in STOP_SIGNALS} == before
    assert signals.take_held_signals() is None


def test_an_application_that_is_never_loaded_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kills: list[tuple[int, int, object]]
) -> None:
    stops = Stops()
    monkeypatch.setattr(signals, "_STUCK_SECONDS", 0.0)
    monkeypatch.setattr(signals, "_LOADING_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", stops.exit)
    signals.hold_signals()
    held = signals.take_held_signals()
    assert held is not None
    held.at_once = lambda: stops.calls.append("at once")
    signal.raise_signal(signal.SIGTERM)
    assert stops.given_up.wait(TIMEOUT)
    assert stops.calls == ["at once", "exit 1"]
    assert caplog.messages == ["ending although the application is still being loaded 0.01 s after the signal"]
    with stops.signals:
        signals.deliver_held()


def test_signals_are_the_main_threads_business() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    during: list[object] = []

    def run() -> None:
        with Stops().signals:
            during.extend(signal.getsignal(number) for number in STOP_SIGNALS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(TIMEOUT)
    assert during == before == [signal.getsignal(number) for number in STOP_SIGNALS]


def test_a_child_that_the_application_forks_ends_by_its_signals() -> None:
    """As multiprocessing ends its own; what was to be done here is not done there."""
    told, tell = os.pipe()
    with StopSignals(lambda: os._exit(9), graceful_timeout=TIMEOUT, at_once=lambda: None):
        child = os.fork()
        if not child:
            # Python forgets signals that came while it forked, and heeds one that came just before a sleep behind it.
            os.write(tell, b".")
            while True:
                time.sleep(0.01)
        os.read(told, 1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


LASTING = """\
import threading
import time
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1, "jobs")

def wsgi(environ, start_response):
    pool.submit(threading.Event().wait)
    start_response("200 OK", [])
    return [b""]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    pool.submit(threading.Event().wait)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
"""


class Measured(App):
    measured = True


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_threads_of_the_application_have_what_is_left_of_the_graceful_time(tmp_path: Path, app: str) -> None:
    """Python would wait for them for ever."""
    (tmp_path / "lasting.py").write_text(LASTING)
    options = ("--graceful-timeout", "0.5")
    bind = f"unix:{tmp_path}/app.sock"
    with Measured.serve(f"lasting:{app}", bind, tmp_path / "log", *options, cwd=tmp_path) as child:
        with WebServer(child.address) as web_server:
            web_server.request(params_for())
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
        told = child.log_since().splitlines()
    assert told[-2].endswith("INFO simple_fastcgi: stopped")
    assert told[-1].endswith("WARNING simple_fastcgi: the application still has threads that run: jobs_0")


def test_threads_with_nothing_to_do_end_in_good_order(tmp_path: Path) -> None:
    """Though graceful_timeout is over: a stream had all of it."""
    (tmp_path / "lasting.py").write_text(f"""
import atexit, sys
atexit.register(lambda: print("in good order", file=sys.stderr))
{LASTING.replace("threading.Event().wait", "time.time")}
def streaming(environ, start_response):
    wsgi(environ, lambda *_: None)
    start_response("200 OK", [])
    while True:
        time.sleep(0.01)
        yield b"x"
""")
    options = ("--graceful-timeout", "0.2")
    bind = f"unix:{tmp_path}/app.sock"
    with Measured.serve("lasting:streaming", bind, tmp_path / "log", *options, cwd=tmp_path) as child:
        with WebServer(child.address) as web_server:
            web_server.begin(params_for())
            web_server.body(b"", end=True)
            assert web_server.record().content
            child.signal(signal.SIGTERM)
            assert child.wait() == 0
        assert "in good order" in child.log_since()
        assert "still has threads" not in child.log_since()


def test_threads_of_the_application_that_end_in_time_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "lasting.py").write_text(LASTING.replace("threading.Event().wait", "time.sleep, 0.2"))
    with Measured.serve("lasting:wsgi", f"unix:{tmp_path}/app.sock", tmp_path / "log", cwd=tmp_path) as child:
        with WebServer(child.address) as web_server:
            web_server.request(params_for())
        child.signal(signal.SIGTERM)
        assert child.wait() == 0
        assert child.log_since().endswith("INFO simple_fastcgi: stopped\n")
