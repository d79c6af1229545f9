"""A process that has few descriptors (``ulimit -n``), or whose standard ones are closed."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, encode_request, params_for
from tests.webservers.children import SERVING, App, wait_until

if TYPE_CHECKING:
    from pathlib import Path

# Nothing is imported but what has to be: a server's own late imports must not fail.
APPS = """\
import os

taken = []

def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/take":
        try:
            while True:
                taken.append(os.dup(2))
        except OSError:
            pass
    elif environ["PATH_INFO"] == "/give":
        while taken:
            os.close(taken.pop())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
KINDS = {
    "one thread": ("apps:wsgi", "--threads", "1"),
    "threads": ("apps:wsgi", "--threads", "4"),
    "asyncio": ("apps:asgi", "--loop", "asyncio"),
    "uvloop": ("apps:asgi", "--loop", "uvloop"),
}
# The program without site-packages, whose .pth files may load what it would import late.
STARTER = "import sys; sys.path += {path!r}; from simple_fastcgi.cli import main; sys.exit(main())"


class Behind(App):
    """`simple-fastcgi serve` behind `shell`, words of sh(1) in which its command is {}."""

    ends_with = (0, 2)


def start(shell: str, folder: Path, *options: str, bind: str | None = "unix:app.sock") -> Behind:
    """A program that is told to begin; it may not serve yet."""
    (folder / "apps.py").write_text(APPS)
    starter = STARTER.format(path=[path for path in sys.path if "site-packages" in path])
    command = [sys.executable, "-S", "-c", starter, "serve", *options]
    words = [*command, "--workers", "1", *(("--bind", bind) if bind else ())]
    app = Behind(["sh", "-c", shell.format(shlex.join(words))], folder / "log", cwd=folder)
    app.address = str(folder / "app.sock")
    return app


def cpu_seconds(app: App) -> float:
    with open(f"/proc/{app.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("limit", "clients"), [(40, 80), pytest.param(256, 300, marks=pytest.mark.once)])
def test_more_connections_than_descriptors(kind: str, limit: int, clients: int, tmp_path: Path) -> None:
    """Some are left to imports and to the application; all are answered in the end."""
    with start(f"ulimit -Sn {limit}; exec {{}}", tmp_path, *KINDS[kind]) as app, ExitStack() as closing:
        app.wait_for(SERVING)
        started = time.monotonic()
        webs = [closing.enter_context(WebServer(app.address)) for _ in range(clients)]
        for web in webs:
            web.send(encode_request(params_for()))
        told = r"ERROR simple_fastcgi: cannot accept connections for now: \d+ of {} descriptors .*raise ulimit -n"
        app.wait_for(told.format(limit))
        # Of these the next request has begun to come, so that they do not give way.
        request = encode_request(params_for())
        for web in webs[: limit // 4]:
            assert web.response().body == b"hello"
            web.send(request[:1])
        # And again when a second is over; it watches the socket no more meanwhile.
        mark, before = app.mark(), cpu_seconds(app)
        app.wait_for("cannot accept", mark)
        assert cpu_seconds(app) - before < 0.5
        for web in webs[: limit // 4]:
            web.send(request[1:])
            assert web.response().body == b"hello"
            web.close()
        for web in webs[limit // 4 :]:
            assert web.response().body == b"hello"
            web.close()
        said = app.log_since()
        assert "Traceback" not in said
        assert len(re.findall("cannot accept", said)) <= time.monotonic() - started + 1
        assert app.stop() == 0


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("kind", ["one thread", "threads"])
def test_an_application_that_takes_all_descriptors(kind: str, tmp_path: Path) -> None:
    """There is none for an import either; so the log is written without logging, and the server lives."""
    with start("ulimit -Sn 64; exec {}", tmp_path, *KINDS[kind]) as app, ExitStack() as closing:
        app.wait_for(SERVING)
        first = closing.enter_context(WebServer(app.address))
        assert first.request(params_for("/take")).body == b"hello"
        second = closing.enter_context(WebServer(app.address))
        second.send(encode_request(params_for()))
        app.wait_for(r"ERROR simple_fastcgi: cannot accept connections, .*: \[Errno 24\] .* \(raise ulimit -n\)")
        assert first.request(params_for("/give")).body == b"hello"
        assert second.response().body == b"hello"
        assert "Traceback" not in app.log_since()
        assert app.stop() == 0


@pytest.mark.usefixtures("unmeasured")
def test_an_application_that_has_most_descriptors(tmp_path: Path) -> None:
    """Connections get half of what it leaves, and not none."""
    hold = "exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0 9<&0; ulimit -Sn 22; exec {}"
    with start(hold, tmp_path, *KINDS["one thread"]) as app, ExitStack() as closing:
        app.wait_for(SERVING)
        webs = [closing.enter_context(WebServer(app.address)) for _ in range(9)]
        for web in webs:
            web.send(encode_request(params_for()))
        app.wait_for("cannot accept connections for now: ")
        for web in webs:
            assert web.response().body == b"hello"
            web.close()


REDIRECTIONS = ("<&-", ">&-", "2>&-")


def connected(app: App) -> WebServer | None:
    """A connection to it, as soon as it listens."""
    assert app.runs, app.log_since()
    try:
        return WebServer(app.address)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("kind", ["one thread", "threads", "uvloop"])
def test_closed_standard_descriptors(kind: str, closed: tuple[int, ...], tmp_path: Path) -> None:
    """No socket gets their numbers, into which logs would write and which uvloop takes for a mistake."""
    shell = " ".join(["exec {}", *(REDIRECTIONS[number] for number in closed)])
    with start(shell, tmp_path, *KINDS[kind], "--access-log", "-") as app:
        # Without its log it has no way to tell that it serves.
        with wait_until(lambda: connected(app)) as web:
            for _ in range(2):
                assert web.request(params_for()).body == b"hello"
            for number in closed:
                assert os.readlink(f"/proc/{app.process.pid}/fd/{number}") == "/dev/null"
        assert app.stop() == 0
        said = app.log_since()
        assert (" stopped\n" in said) == (2 not in closed)
        assert said.count("GET /") == (0 if 1 in closed else 2)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-"])
def test_no_socket_where_standard_input_is_closed(closed: str, tmp_path: Path) -> None:
    with start(f"exec {{}} {closed}", tmp_path, "apps:wsgi", bind=None) as app:
        assert app.wait() == 2
        said = app.log_since()
    assert not said if "2" in closed else "nothing to serve on: " in said
