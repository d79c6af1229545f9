"""The command line: what it prints, and with which exit status."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi import __version__
from simple_fastcgi.cli import main
from simple_fastcgi.limits import Limits
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import ROOT, App

if TYPE_CHECKING:
    from collections.abc import Iterator

APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SCRIPT_NAME"].encode() + b"|" + environ["PATH_INFO"].encode()]

def make_app():
    return app

number = 5
"""
MODULES = {
    "hello.py": APP,
    "broken.py": "import no_such_module_anywhere\n",
    "crashing.py": "def deep():\n    raise ValueError('my own fault')\n\ndeep()\n",
    "unstarted.py": """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is away"})
""",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with the modules above."""
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int) -> str:
    """What `simple-fastcgi serve` says to `arguments` before it ends with `status`."""
    try:
        assert main(["serve", *arguments]) == status
    except SystemExit as end:  # argparse
        assert end.code == status
    said = capsys.readouterr().err
    assert said.startswith(("simple-fastcgi: ", "usage: "))
    return said


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_help_reads_well(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: simple-fastcgi")
    assert max(map(len, text.splitlines())) <= 120


def test_help_tells_every_limit_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, default in Limits.DEFAULTS.items():
        assert re.search(rf"--{name.replace('_', '-')} \w+ [^-]*\(default: {default:.0f}\)", text), name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"simple_fastcgi {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["serve"], ["serve", "hello:app", "--no-such-option"]])
def test_usage_errors_have_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere:app"], "nowhere"),
        (["hello.app"], "hello:app"),
        (["hello"], "hello:app"),
        (["hello.py"], "hello:app"),
        (["hello:ap"], "app"),
        (["hello:number"], "cannot be called"),
        (["hello:app", "--bind", "/run/app.sock"], "unix:/run/app.sock"),
        (["hello:app", "--bind", "nonsense"], "nonsense"),
        (["hello:app", "--bind", "0.0.0.0:9000"], "--allow-from"),
        (["hello:app", "--bind", "unix:x.sock", "--socket-mode", "999"], "999"),
        (["hello:app", "--bind", "unix:x.sock", "--socket-owner", "no-such-user-here"], "no-such-user-here"),
        (["hello:app", "--bind", "unix:x.sock", "--threads", "0"], "threads"),
        (["hello:app", "--bind", "unix:x.sock", "--workers", "0"], "workers"),
        (["hello:app", "--bind", "unix:x.sock", "--max-connections", "0"], "max_connections"),
        (["hello:app", "--bind", "unix:x.sock", "--root-path", "/a?b"], "?"),
        (["hello:make_app", "--bind", "unix:x.sock"], "--factory"),
        (["hello:app", "--socket-mode", "600"], "socket_mode"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_settings_get_one_line_and_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(arguments, capsys, 2)
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("app", "last_line"),
    [
        ("broken:app", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("crashing:app", "ValueError: my own fault"),
    ],
)
def test_an_application_that_fails_to_load_shows_its_own_traceback(
    app: str, last_line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint([app, "--bind", "unix:x.sock"], capsys, 1)
    assert said.splitlines()[-1] == last_line
    assert "simple_fastcgi/" not in said
    assert "importlib" not in said


@pytest.mark.usefixtures("folder")
def test_a_failed_start_up_has_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["unstarted:app", "--bind", "unix:x.sock", "--loop", "asyncio"], capsys, 1)
    assert "the database is away" in said
    assert "Traceback" not in said
    assert not Path("x.sock").exists()


@pytest.mark.usefixtures("folder")
def test_a_busy_port_has_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        said = complaint(["hello:app", "--bind", f"127.0.0.1:{busy.getsockname()[1]}"], capsys, 1)
    assert "busy" in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_live_socket_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind("x.sock")
        live.listen()
        said = complaint(["hello:app", "--bind", "unix:x.sock"], capsys, 1)
        with WebServer("x.sock"):
            pass
    assert "x.sock" in said
    assert said.count("\n") == 1


@contextmanager
def open_stdin(kind: str, folder: Path) -> Iterator[int]:
    """A descriptor of `kind`, as people start programs with."""
    other = None
    if kind == "terminal":
        other, descriptor = os.openpty()
    elif kind == "pipe":
        descriptor, other = os.pipe()
    else:
        descriptor = os.open("/dev/null" if kind == "null" else folder / "hello.py", os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        if other is not None:
            os.close(other)


@pytest.mark.parametrize("stdin", ["null", "terminal", "pipe", "file"])
def test_started_by_hand_it_says_what_it_waits_for(folder: Path, stdin: str) -> None:
    with open_stdin(stdin, folder) as source:
        done = subprocess.run(
            [sys.executable, "-m", "simple_fastcgi", "serve", "hello:app"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=source,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert done.returncode == 2
    for words in ("nothing to serve on", "fd 0 is", "--bind unix:", "fastcgi_pass"):
        assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_stale_socket_is_replaced_and_the_start_up_line_tells_who_may_connect(folder: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("x.sock")
    log = tmp_path / "log"
    with App.serve("hello:app", f"unix:{folder}/x.sock", log, "--socket-mode", "606", cwd=folder) as app:
        assert re.search(
            r"serving hello:app \(WSGI, 4 threads\) on unix:.*x\.sock \(mode 0606, owner \S+:\S+\)", app.log_since()
        )
        assert Path("x.sock").stat().st_mode & 0o777 == 0o606
        with WebServer(app.address) as web_server:
            assert web_server.request(params_for("/a")).body == b"|/a"
    assert not Path("x.sock").exists()


def test_factory_and_root_path(folder: Path, tmp_path: Path) -> None:
    options = ("--factory", "--root-path", "/app", "--threads", "1")
    with (
        App.serve("hello:make_app", f"unix:{folder}/x.sock", tmp_path / "log", *options, cwd=folder) as app,
        WebServer(app.address) as web_server,
    ):
        assert web_server.request(params_for("/app/x")).body == b"/app|/x"
