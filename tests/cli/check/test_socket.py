"""As a web server: applications that are well, and all that may be in their place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net.access import user_name
from tests.cli.call.support import ANSWER, HEAD, fake, target_of
from tests.cli.call.test_failures import reset_next
from tests.cli.check.support import Twist, twisted
from tests.servers.support import listening_socket
from tests.support.lying import end, stderr, stdout
from tests.webservers.children import ROOT, App

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cli.check.conftest import Setup
    from tests.cli.check.support import Check
    from tests.support.php import PhpFpm

ALL = ["socket file", "web server user", "connection", "FastCGI", "answer", "mount point", "keep-alive", "values"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, also for users whose temporary folder has a long one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name).resolve()


def test_the_probe_on_its_socket_is_well(check: Check, setup: Setup) -> None:
    said = check(f"unix:{setup.probe.address}")
    assert (said.status, said.bad) == (0, {})
    assert [found["name"] for found in said.told["checks"]] == ALL
    assert "mode 0660" in said.of("socket file")["what"]
    assert said.of("answer")["what"].startswith("/ is answered 200 OK in ")
    assert "FCGI_MPXS_CONNS=1" in said.of("values")["what"]


def test_below_a_mount_point(check: Check, setup: Setup) -> None:
    said = check(f"unix:{setup.probe.address}", "--root-path", "/café", "--path", "/a b?c=d")
    assert said.bad == {}
    assert said.of("mount point")["what"] == "the application takes itself to be mounted at /café, as it is asked"
    assert said.of("answer")["what"].startswith("/caf%C3%A9/a%20b?c=d is answered 200 OK")


def test_a_mount_point_that_the_application_was_told_otherwise(check: Check, folder: Path) -> None:
    bind, options = f"unix:{folder}/app.sock", ("--root-path", "/shop")
    with App.serve("simple_fastcgi.check:app", bind, folder / "log", *options):
        said = check(bind, "--root-path", "app")
    assert said.bad == {"mount point": "problem"}
    assert "mounted at /shop, not at /app" in said.of("mount point")["what"]


def test_php(check: Check, php: PhpFpm) -> None:
    php.add("checked.php", 'echo "fine";')
    said = check(php.address, "--script", f"{php.document_root}/checked.php")
    assert (said.status, said.bad) == (0, {})
    assert said.of("values")["what"] == "FCGI_MPXS_CONNS=0"


def test_php_that_was_told_no_script_or_a_wrong_one(check: Check, php: PhpFpm) -> None:
    said = check(php.address)
    assert "PHP was not told which file to run" in said.of("answer")["why"]
    assert said.of("answer")["cure"] == "give --script FILE"
    said = check(php.address, "--script", "/nowhere/index.php")
    assert "SCRIPT_FILENAME=/nowhere/index.php" in said.of("answer")["why"]
    assert said.status == 1
    php.add("page.html", "")
    said = check(php.address, "--script", f"{php.document_root}/page.html")
    assert "security.limit_extensions" in said.of("answer")["why"]
    assert said.of("answer")["cure"]


NOT_THERE = [
    ("unix:{folder}/app.sock", "there is no socket file {folder}/app.sock", "--bind unix:{folder}/app.sock"),
    ("unix:{folder}/no/app.sock", "there is no folder {folder}/no", "RuntimeDirectory=no"),
    ("unix:{folder}/file/app.sock", "there is no folder {folder}/file", "create it"),
    ("unix:{folder}/file", "{folder}/file is no socket", "remove it"),
    ("unix:{folder}", "{folder} is no socket", "remove it"),
    ("unix:{folder}/dead.sock", "nobody listens on this socket file (connection refused)", "which replaces the file"),
    ("unix:{folder}/datagrams.sock", "this socket takes datagrams", "correct the address"),
    ("unix:@nobody-listens-here", "nobody listens", "simple-fastcgi serve"),
    ("127.0.0.1:{port}", "nobody listens at 127.0.0.1:{port} (connection refused)", "ss -ltnp"),
    ("no-such-host.invalid:9000", "the name 'no-such-host.invalid' cannot be resolved", "correct the address"),
]


@pytest.mark.parametrize(("target", "what", "cure"), NOT_THERE, ids=[target for target, _, _ in NOT_THERE])
def test_what_is_not_there(check: Check, folder: Path, target: str, what: str, cure: str) -> None:
    (folder / "file").touch()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{folder}/dead.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams, socket.socket() as silent:
        datagrams.bind(f"{folder}/datagrams.sock")
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        said = check(target.format(folder=folder, port=port))
    assert said.status == 1
    (found,) = [found for found in said.told["checks"] if found["status"] != "ok"]
    assert what.format(folder=folder, port=port) in found["what"]
    assert cure.format(folder=folder, port=port) in found["cure"]
    assert found["why"]


def test_a_full_listen_queue(check: Check) -> None:
    with listening_socket(socket.AF_UNIX, 0) as (_, address), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(address)
        said = check(f"unix:{address}", "--timeout", "0.1")
    assert "within 0.1 s (--timeout)" in said.of("connection")["what"]
    assert "listen queue is full" in said.of("connection")["why"]


HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
# What an application answers with on the connection behind the first, which only looks whether it can be had.
ANSWERS: list[tuple[Sequence[bytes | object], str, str, str]] = [
    ([HTTP], "FastCGI", "problem", "this speaks HTTP, not FastCGI"),
    ([b"\x15\x03\x01\x00\x02\x02\x50"], "FastCGI", "problem", "FastCGI version 21"),
    ([b""], "FastCGI", "problem", "closed the connection before any response"),
    ([stdout(HEAD + b"he")], "FastCGI", "problem", "within the response's body"),
    ([stdout(b"nonsense\n\n") + end()], "FastCGI", "problem", "no header field"),
    ([end(app_status=1)], "FastCGI", "problem", "the request ended without a response"),
    ([end(protocol_status=2)], "FastCGI", "problem", "FCGI_OVERLOADED"),
    ([...], "FastCGI", "problem", "no whole answer within --timeout: nothing has come"),
    ([stderr(b"Traceback\nKeyError: 1\n") + stdout(b"Status: 500\n\n") + end()], "answer", "problem", "answered 500"),
    ([stdout(b"Status: 503\n\n") + end()], "answer", "problem", "/ is answered 503 Service Unavailable in"),
    ([stdout(b"Status: 404 Nothing\n\n") + end()], "answer", "warning", "/ is answered 404 Nothing in"),
    ([stderr(b"careful\n") + ANSWER], "answer", "ok", "/ is answered 200 OK in"),
    ([ANSWER], "keep-alive", "warning", "the application closes the connection"),
    ([ANSWER, ANSWER], "values", "ok", "FCGI_GET_VALUES is not answered"),
]


@pytest.mark.parametrize(
    ("answers", "name", "status", "what"), ANSWERS, ids=[f"{name}-{what}" for _, name, _, what in ANSWERS]
)
def test_what_applications_do(
    check: Check, answers: Sequence[bytes | object], name: str, status: str, what: str
) -> None:
    # Nobody waits but for the one that is silent; behind all else the question for values is hung up on.
    with fake([], answers, []) as (target, _):
        said = check(target, "--timeout", "0.2" if answers == [...] else "20")
    found = said.of(name)
    assert found["status"] == status
    assert what in found["what"]
    assert status == "ok" or (found["why"] and found["cure"])
    if b"KeyError: 1" in b"".join(answer for answer in answers if isinstance(answer, bytes)):
        assert found["why"] == "it says on FCGI_STDERR: KeyError: 1"


def test_an_http_server_that_waits_for_a_line(check: Check) -> None:
    """Python's, and gunicorn's: a record has no end of a line, so they answer nothing."""
    with twisted(Twist()) as url:
        said = check(url.removeprefix("http://").rstrip("/"), "--timeout", "0.2")
    assert said.of("FastCGI")["what"] == "this speaks HTTP, not FastCGI"
    with fake([], [...], [b"-ERR unknown command\r\n"]) as (target, _):
        said = check(target, "--timeout", "0.2")
    assert "nothing has come" in said.of("FastCGI")["what"]


def test_a_reset_instead_of_an_answer(check: Check) -> None:
    """It says what an end would: which of the two a refused client sees is chance."""
    with listening_socket(socket.AF_INET) as (listening, address):

        def answer() -> None:
            listening.accept()[0].close()
            reset_next(listening)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        said = check(target_of(address), "--timeout", "20")
        thread.join()
    found = said.of("FastCGI")
    assert found["what"] == "the application closed the connection before any response"
    assert "--allow-from, FCGI_WEB_SERVER_ADDRS" in found["why"]
    assert "names the peer" in found["cure"]


def test_a_client_that_is_not_allowed(check: Check, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server is told by the one of two lists that this client is none of its own."""
    log, app = folder / "log", "simple_fastcgi.check:app"
    with App.serve(app, "127.0.0.1:0", log, "--allow-from", "192.0.2.1") as server:
        assert "before any response" in check(server.upstream).of("FastCGI")["what"]
        server.wait_for(r"connection from 127\.0\.0\.1 refused")
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1")
    with App.serve(app, f"unix:{folder}/app.sock", folder / "other.log") as server:
        assert "before any response" in check(server.upstream).of("FastCGI")["what"]


def test_an_endless_answer_is_not_read_to_its_end(check: Check) -> None:
    piece = stdout(b"x" * 65000) * 20
    with fake([], [stdout(HEAD) + piece, ...], []) as (target, _):
        said = check(target, "--timeout", "20")
    assert said.of("answer")["status"] == "ok"


# As nobody, once everything is imported: another user may be unable to read the interpreter's folder.
UNPRIVILEGED = """
import grp, os, pwd, sys
from simple_fastcgi.cli import main
main(["check", "unix:/none"])
privileged = os.geteuid() == 0
if privileged:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
status = main(["check", *sys.argv[1:]])
if privileged:
    os.seteuid(0)
sys.exit(status)
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("folder_mode", "socket_mode", "says"),
    [
        (0o711, 0o600, "3 connection      this user ({user}) may not connect"),
        (0o000, 0o666, "1 socket file     this user ({user}) cannot look so far"),
    ],
    ids=["socket", "folder"],
)
def test_a_user_who_may_not_connect(folder: Path, folder_mode: int, socket_mode: int, says: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    folder.chmod(0o711)
    path = inner / "app.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(socket_mode if os.geteuid() == 0 else 0)
        inner.chmod(folder_mode)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, f"unix:{path}", "--web-server-user", "0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        inner.chmod(0o700)
    assert done.returncode == 1, done.stderr
    user = user_name(65534 if os.geteuid() == 0 else os.geteuid())
    assert says.format(user=user) in done.stdout
    assert "cure: " in done.stdout
