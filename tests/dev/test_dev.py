"""``simple-fastcgi dev``, as a developer meets it: real processes, real requests."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.processes import has_ended
from tests.support.webserver import TIMEOUT
from tests.webservers.children import ROOT

from .support import COMMAND, DevServer, browser, wait_for_requests, wait_until

# They say nothing about the interpreter, and each of them starts several.
pytestmark = pytest.mark.once

WSGI = """\
import os, sys
ANSWER = b"first"
def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise ValueError("a mistake of the application")
    if environ["PATH_INFO"] == "/die":
        with open("died", "a") as file:
            file.write("x")
        os._exit(7)
    environ["wsgi.errors"].write(f"said by {environ['PATH_INFO']}\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/facts":
        return [repr([os.getpid(), environ["wsgi.multiprocess"], environ["SCRIPT_NAME"], sys.argv[1:2]]).encode()]
    if environ["PATH_INFO"] == "/echo":
        return [environ["wsgi.input"].read()]
    return [ANSWER]
"""
ASGI = """\
import asyncio, contextlib, pathlib
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        pathlib.Path("shut-down").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/never":
        pathlib.Path("came").touch()
        await asyncio.sleep(1000)
    kind = b"text/event-stream" if scope["path"] == "/events" else b"text/plain"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    step = pathlib.Path("go-on")
    if scope["path"] == "/steps":
        while not step.exists():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"second"})
        return
    await receive()
    while (await receive())["type"] != "http.disconnect":
        pass
    pathlib.Path("noticed").touch()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(WSGI)
    return tmp_path


def rewrite(folder: Path, old: str, new: str) -> None:
    """As editors do: the new file takes the old one's place at once."""
    path = folder / "app.py"
    (folder / "app.new").write_text(path.read_text().replace(old, new))
    (folder / "app.new").rename(path)


def test_a_wsgi_application_answers_and_ctrl_c_ends_everything(folder: Path) -> None:
    with DevServer(folder) as server, browser(server.url) as client:
        assert server.log_since().startswith("app:app (WSGI, 4 threads) answers over FastCGI\n")
        assert client.get("/").text == "first"
        assert client.post("/echo", content=bytes(200_000)).content == bytes(200_000)
        pid, multiprocess, script_name, words = eval(client.get("/facts?x=y").text)
        assert (multiprocess, script_name, words) == (False, "", ["dev"])
        assert server.children() == [pid]
        assert client.get("/raise").status_code == 500
        assert wait_for_requests(server, "/facts?x=y").groups()[:2] == ("GET", "200")
        assert wait_for_requests(server, "/raise")[2] == "500"
        assert server.interrupt() == 0
        assert has_ended(pid)
    log = server.log_since()
    # Everything once: what the application said, and its traceback.
    assert log.count("said by /facts\n") == 1
    assert log.count("ValueError: a mistake of the application") == 1
    assert log.count("Traceback") == 1
    assert "\x1b" not in log


def test_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "t"
    runs.mkdir()
    with DevServer(folder, "--no-reload", env={"TMPDIR": str(runs)}) as server:
        assert server.url
        (path,) = runs.glob("*/app.sock")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        (child,) = server.children()
        # Nobody is asked: neither the server nor its child.
        server.process.kill()
        wait_until(lambda: has_ended(child))
        wait_until(lambda: not list(runs.iterdir()))
        server.ends_with = (-signal.SIGKILL,)


def test_an_asgi_application_streams_and_hears_of_departures(folder: Path) -> None:
    (folder / "app.py").write_text(ASGI)
    with (
        DevServer(folder, "--debug", env={"FORCE_COLOR": "1"}) as server,
        browser(server.wait_for(r"(http://\S+)")[1]) as client,
    ):
        with client.stream("GET", "/steps") as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"first"
            (folder / "go-on").touch()
            assert b"".join(pieces) == b"second"
        with client.stream("GET", "/leave") as response:
            assert next(response.iter_bytes()) == b"first"
        wait_until((folder / "noticed").exists)
        server.wait_for(r"/leave  \x1b\[33m\(the client left\)\x1b\[0m\n")
        with client.stream("GET", "/events") as response:
            assert next(response.iter_bytes()) == b"first"
            # What never ends does not hold up the end.
            assert server.interrupt() == 0
    assert (folder / "shut-down").exists()
    assert "--debug: werkzeug's debugger is for WSGI, and this is an ASGI application;" in server.log_since()
    assert "\x1b[32m200\x1b[0m" in server.log_since()
    assert "Traceback" not in server.log_since()


def test_a_change_is_answered_with_the_new_code_and_no_request_fails(folder: Path) -> None:
    answers: list[httpx.Response] = []
    changed = threading.Event()

    def visit(url: str) -> None:
        with browser(url) as client:
            while not changed.is_set():
                answers.append(client.get("/"))
                changed.wait(0.005)

    with DevServer(folder) as server:
        visitors = [threading.Thread(target=visit, args=(server.url,)) for _ in range(3)]
        for visitor in visitors:
            visitor.start()
        try:
            wait_until(lambda: len(answers) > 10)
            rewrite(folder, "first", "second")
            wait_until(lambda: answers and answers[-1].text == "second")
        finally:
            changed.set()
            for visitor in visitors:
                visitor.join()
        server.wait_for(r"(?s)app\.py changed: starting anew\n.*app:app \(WSGI, 4 threads\) is back after")
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, "first"), (200, "second")}


def test_a_change_waits_for_requests_under_way_but_not_for_event_streams(folder: Path) -> None:
    (folder / "app.py").write_text(ASGI)
    with DevServer(folder, "--graceful-timeout", f"{TIMEOUT:g}") as server, browser(server.url) as client:
        with client.stream("GET", "/steps") as under_way, client.stream("GET", "/events") as events:
            pieces, more = under_way.iter_bytes(), events.iter_bytes()
            assert (next(pieces), next(more)) == (b"first", b"first")
            rewrite(folder, 'b"first"', 'b"new"')
            server.wait_for("changed: starting anew")
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(client.get, "/steps")
                (folder / "go-on").touch()
                assert next(pieces) == b"second"
                with pytest.raises(httpx.RemoteProtocolError):
                    next(more)
                assert waiting.result(TIMEOUT).text == "newsecond"


def test_a_change_cuts_what_takes_too_long(folder: Path) -> None:
    (folder / "app.py").write_text(ASGI)
    with DevServer(folder, "--graceful-timeout", "0") as server, browser(server.url) as client:
        with ThreadPoolExecutor() as pool:
            never = pool.submit(client.get, "/never")
            wait_until((folder / "came").exists)
            (folder / "app.py").touch()
            assert never.result(TIMEOUT).status_code == 503
        server.wait_for(r"/never  \(cut off\)\n")
        server.wait_for("is back after")


def test_an_application_that_fails_comes_back_when_its_code_changes(folder: Path) -> None:
    (folder / "app.py").write_text(f"1 / 0 # <b>\n{WSGI}")
    # The address is told when there is something to open.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with DevServer(folder, "--http", f"127.0.0.1:{port}") as server, browser(f"http://127.0.0.1:{port}") as client:
        server.wait_for(r"app:app failed to start: waiting for its code to change")
        page = client.get("/", headers={"Accept": "text/html,*/*"})
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert "1 / 0 # &lt;b&gt;" in page.text
        assert "<h1>app:app failed to start</h1>" in page.text
        plain = client.get("/")
        assert plain.headers["content-type"] == "text/plain; charset=utf-8"
        assert "ZeroDivisionError: division by zero\n" in plain.text
        rebound = client.get("/", headers={"Host": f"evil.example:{port}"})
        assert rebound.status_code == 503
        assert "ZeroDivisionError" not in rebound.text
        assert server.log_since().count("ZeroDivisionError") == 1

        # What the page itself does: ask for the next start.
        def wait_for_start() -> None:
            with browser(f"http://127.0.0.1:{port}") as waiting:
                assert waiting.head("/", headers={"X-Simple-Fastcgi-Dev": "wait"}).status_code == 204
                assert waiting.get("/").text == "first"

        waiter = threading.Thread(target=wait_for_start)
        waiter.start()
        rewrite(folder, "1 / 0", "")
        waiter.join(TIMEOUT)
        assert not waiter.is_alive()
        server.wait_for(r"open http")
        # A crash in the middle of it all.
        (child,) = server.children()
        os.kill(child, signal.SIGKILL)
        server.wait_for(r"the process of app:app was ended by SIGKILL: waiting for its code to change")
        assert client.get("/").status_code == 503
        rewrite(folder, "first", "second")
        server.wait_for("is back after")
        assert client.get("/").text == "second"


def test_a_request_of_which_the_process_dies_is_answered_and_never_sent_again(folder: Path) -> None:
    with DevServer(folder) as server, browser(server.url) as client:
        # Whatever connection this leaves behind may be used by the next one.
        assert client.get("/").text == "first"
        died = client.get("/die")
        assert died.status_code == 502
        assert died.text.startswith("502 Bad Gateway: the application's process has ended")
        server.wait_for(r"the process of app:app ended with status 7: waiting for its code to change")
        assert client.get("/").status_code == 503
        rewrite(folder, "first", "second")
        server.wait_for("is back after")
        assert client.get("/").text == "second"
    assert (folder / "died").read_text() == "x"


def test_a_request_that_the_process_never_took_is_answered_when_that_has_died(folder: Path) -> None:
    """It stands still, so that its listen queue has the request."""
    with DevServer(folder) as server, browser(server.url) as client, ThreadPoolExecutor() as pool:
        (child,) = server.children()
        os.kill(child, signal.SIGSTOP)
        waiting = pool.submit(client.get, "/facts")
        # A connection that nobody has accepted yet, as Linux tells of it.
        queued = rf" 02 +0 \S+/\.app\.sock\.{server.process.pid}\n"
        wait_until(lambda: re.search(queued, Path("/proc/net/unix").read_text()))
        os.kill(child, signal.SIGKILL)
        answer = waiting.result(TIMEOUT)
        assert answer.status_code == 503
        assert "the process of app:app was ended by SIGKILL" in answer.text


def test_the_debugger_of_werkzeug(folder: Path) -> None:
    with DevServer(folder, "--debug", "--no-reload") as server, browser(server.url) as client:
        assert re.search(r"werkzeug's debugger is on, its PIN is [\d-]+\n", server.log_since())
        page = client.get("/raise")
        assert page.status_code == 500
        assert "<title>ValueError: a mistake of the application" in page.text
        for host, status in (("localhost:8000", 200), ("a.localhost", 200), ("[::1]:80", 200), ("evil.example", 403)):
            assert client.get("/", headers={"Host": host}).status_code == status
        assert client.get("/?__debugger__=yes&cmd=resource&f=style.css").status_code == 200


def test_mounted_below_a_path(folder: Path) -> None:
    with DevServer(folder, "--root-path", "/shop", "--no-reload") as server, browser(server.url) as client:
        assert server.url.endswith("/shop/")
        assert eval(client.get("facts").text)[2] == "/shop"
        elsewhere = client.get(server.url.replace("/shop/", "/shopping"))
        assert (elsewhere.status_code, elsewhere.text) == (404, "404 Not Found: the application is mounted at /shop/\n")


def told(folder: Path, *arguments: str, status: int, python: tuple[str, ...] = ()) -> str:
    """What the command says that ends at once with `status`."""
    command = [sys.executable, *python, *COMMAND[1:], *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr


def test_a_busy_port(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        http = f"127.0.0.1:{busy.getsockname()[1]}"
        assert told(folder, "app:app", "--http", http, status=1) == (
            f"simple-fastcgi: --http {http}: busy, another program listens there: stop that program, or choose another "
            "address\n"
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["app:app", "--http", "nonsense"], "--http 'nonsense': give an address and a port, for example \"127.0"),
        (
            ["app:app", "--debug", "--http", "0.0.0.0:0"],
            "--debug lets whoever knows its PIN run code: it needs an addr",
        ),
        (["app:app", "--reload-dir", "nowhere"], "nowhere' is no directory: give one that exists"),
        (["app:app", "--graceful-timeout", "-1"], "--graceful-timeout -1: give a number of seconds from 0"),
        (["nowhere:app", "--http", "127.0.0.1:0"], "simple-fastcgi: no module named 'nowhere': check the name"),
    ],
    ids=["http", "debug", "folder", "seconds", "module"],
)
def test_what_cannot_be(folder: Path, arguments: list[str], said: str) -> None:
    text = told(folder, *arguments, status=2)
    assert said in text
    assert text.count("\n") == 1


def test_without_reload_a_failure_ends_it(folder: Path) -> None:
    (folder / "app.py").write_text("1 / 0\n")
    text = told(folder, "app:app", "--http", "127.0.0.1:0", "--no-reload", status=1)
    assert text.endswith("ZeroDivisionError: division by zero\napp:app failed to start\n")


def test_what_is_not_installed_is_named(folder: Path) -> None:
    """The interpreter sees the standard library and this package alone."""
    text = told(folder, "app:app", status=2, python=("-S",))
    assert text == (
        "simple-fastcgi: dev needs uvicorn and watchfiles and anyio, which are not installed: "
        "pip install 'simple_fastcgi[dev]'\n"
    )


def test_open_starts_a_browser(folder: Path) -> None:
    (folder / "browser").write_text('#!/bin/sh\necho "$1" > opened.new && mv opened.new opened\n')
    (folder / "browser").chmod(0o755)
    env = {"BROWSER": f"{folder}/browser %s", "NO_COLOR": "1", "FORCE_COLOR": "1"}
    with DevServer(folder, "--open", "--no-reload", env=env) as server:
        wait_until((folder / "opened").exists)
        assert (folder / "opened").read_text() == f"{server.url}\n"
    assert "\x1b" not in server.log_since()
