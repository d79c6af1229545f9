"""The command line: what it prints, and with which exit status."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import __version__
from simple_fastcgi.cli import dev, main
from simple_fastcgi.cli import serve as command
from simple_fastcgi.cli.auto import choose
from simple_fastcgi.limits import Limits
from simple_fastcgi.serving.machine import Machine
from tests.support.webserver import TIMEOUT, WebServer, params_for
from tests.webservers.children import ROOT, App, Child

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
    "exiting.py": "raise SystemExit(7)\n",
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


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["dev", "--help"]])
def test_help_reads_well(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: simple-fastcgi")
    assert max(map(len, text.splitlines())) <= 120


def test_help_begins_with_what_one_types(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    first, _, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "usage: simple-fastcgi serve MODULE:ATTR [--bind ADDRESS] [options]"
    assert second.startswith("Run a WSGI application (Flask, Django, ...) or an ASGI application")


def test_every_option_is_explained() -> None:
    commands: Any = argparse.ArgumentParser().add_subparsers()
    command.add_command(commands)
    dev.add_command(commands)
    for parser in commands.choices.values():
        for action in parser._actions:
            assert action.help, action.option_strings
            assert not action.help.endswith(".")


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


@pytest.mark.parametrize("option", ["--threads", "--workers"])
@pytest.mark.parametrize("value", ["abc", "1.5", ""])
def test_no_number(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["hello:app", option, value], capsys, 2)
    # As of the environment and of a file.
    assert said.endswith(f"error: argument {option}: {value!r}: give a whole number, or auto\n")


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
        (["hello:app", "--bind", "127.0.0.1:80,127.0.0.1:81"], "several addresses: give one, as '127.0.0.1:80'"),
        (["hello:app", "--bind", "unix:x.sock", "--access-log", ""], "access_log='': it names no file: give one,"),
        (["hello:app", "--bind", "unix:x.sock", "--socket-mode", "999"], "999"),
        (["hello:app", "--bind", "unix:x.sock", "--socket-owner", "no-such-user-here"], "no-such-user-here"),
        (["hello:app", "--bind", "unix:x.sock", "--threads", "0"], "threads"),
        (["hello:app", "--bind", "unix:x.sock", "--threads", "0", "--workers", "2"], "threads=0: give a whole number"),
        (
            ["hello:app", "--bind", "unix:x.sock", "--threads", "-1", "--workers", "2"],
            "threads=-1: give a whole number",
        ),
        (["hello:app", "--bind", "unix:x.sock", "--workers", "0"], "workers"),
        (["hello:app", "--bind", "unix:x.sock", "--max-connections", "0"], "max_connections"),
        (["hello:app", "--bind", "unix:x.sock", "--root-path", "/a?b"], "?"),
        (["hello:make_app", "--bind", "unix:x.sock"], "--factory"),
        (["hello:app", "--socket-mode", "600"], "socket_mode"),
        (["hello:make_app", "--factory", "--bind", "9000"], "127.0.0.1:9000"),
        (["hello:app", "--bind", "unix:x.sock", "--socket-group", "no-such-group-here"], "no-such-group-here"),
        (["hello:app", "--bind", "unix:x.sock", "--allow-from", "127.0.0.1"], "--allow-from"),
        (["hello:app", "--bind", "127.0.0.1:0", "--allow-from", ""], "allow_from"),
        (["hello:app", "--bind", "127.0.0.1:0", "--allow-from", "x"], "'x' is no address"),
        (["hello:app", "--bind", "unix:x.sock", "--chdir", "no-such-folder"], "--chdir 'no-such-folder': No such file"),
        (["hello:app", "--chdir", ".", "--reload-on-touch"], "--chdir '.': with --reload-on-touch give the whole path"),
        (["hello:app", "--bind", "unix:x.sock", "--chdir", "hello.py"], "--chdir 'hello.py': Not a directory"),
        (["hello:app", "--bind", "fd://0"], "fd 0 is"),
        (["hello:app", "--bind", "fd://99999"], "fd 99999 is closed"),
        (["hello:app", "--bind", "unix:x.sock", "--idle-timeout", "nan"], "idle_timeout"),
        (["hello:app", "--bind", "unix:x.sock", "--idle-timeout", "inf"], "idle_timeout"),
        (["hello:app", "--bind", "unix:x.sock", "--workers", "2", "--worker-timeout", "0"], "--worker-timeout 0"),
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
    ("bind", "of_status"),
    [
        ("unix:a.sock", "unix:a.sock"),
        ("unix:a.sock", "unix:./a.sock"),
        ("unix:@simple-fastcgi-a", "unix:@simple-fastcgi-a"),
        ("127.0.0.1:9999", "127.0.0.1:9999"),
        ("fd://3", "fd://3"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_address_for_two(bind: str, of_status: str, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["hello:app", "--bind", bind, "--status-bind", of_status, "--workers", workers], capsys, 2)
    assert said == (
        f"simple-fastcgi: bind and status_bind (--bind, --status-bind) are both {bind}: "
        "give the status an address of its own\n"
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", ["no-such-folder/a.log", "hello.py/a.log", "."])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_access_log_that_cannot_be_opened(path: str, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["hello:app", "--bind", "unix:x.sock", "--workers", workers, "--access-log", path], capsys, 1)
    assert f"simple-fastcgi: access_log (--access-log) {path!r}: " in said
    assert said.endswith(
        ': give a file in a folder that exists, where the user who runs this may write; or "-" for standard output\n'
    )
    assert not Path("x.sock").exists()


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
        done = run_in(folder, "serve", "hello:app", stdin=source)
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
            r"serving hello:app \(WSGI, \d+ threads for [^)]+\) on unix:.*x\.sock \(mode 0606, owner \S+:\S+\)",
            app.log_since(),
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


# ------------------------------------------------------------------------------ what becomes of the options


def test_it_works_in_the_folder_that_it_is_told(folder: Path, tmp_path: Path) -> None:
    """Modules and relative paths are that folder's; what stands where it was started hides none of them."""
    start = tmp_path / "start"
    start.mkdir()
    (start / "hello.py").write_text("raise SystemExit('the wrong one')\n")
    with App.serve("hello:app", "unix:x.sock", tmp_path / "log", "--chdir", str(folder), cwd=start) as app:
        assert (folder / "x.sock").is_socket()
        with WebServer(f"{folder}/x.sock") as server:
            assert server.request(params_for("/a")).body == b"|/a"
        assert app.runs


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `serve` is called with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(command, "serve", lambda app, **settings: calls.append({"app": app, **settings}))
    return calls


def test_every_option_arrives(folder: Path, served: list[dict[str, Any]]) -> None:
    texts = {"bind": "unix:x.sock", "interface": "asgi", "root_path": "/a", "lifespan": "on", "loop": "asyncio"}
    texts |= {"socket_mode": "600", "socket_owner": "me", "socket_group": "us"}
    texts |= {"access_log": "-", "access_log_format": "json", "ping_path": "/p", "status_path": "/s"}
    texts |= {"status_bind": "unix:y.sock"}
    limits = {name: default + 1 for name, default in Limits.DEFAULTS.items()}
    seconds = {"slowlog_timeout": 1.5, "request_timeout": 2.5}
    arguments = ["serve", "hello:make", "--factory", "--threads", "3", "--no-unbuffered-events"]
    arguments += ["--reload-on-touch=now", "--reload-on-touch"]
    for name, value in {**texts, **limits, **seconds}.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    arguments += ["--allow-from", "10.0.0.0/8,::1", "--allow-from", "127.0.0.1"]
    assert main(arguments) == 0
    assert served == [
        {
            "app": "hello:make",
            "factory": True,
            "app_dir": "",
            "name": "hello:make",
            "reload_on_touch": ["now", True],
            "threads": 3,
            "unbuffered_events": False,
            "allow_from": "10.0.0.0/8,::1,127.0.0.1",
            **texts,
            **limits,
            **seconds,
        }
    ]
    # Whole numbers are whole, seconds are not.
    assert [type(served[0][name]) for name in limits] == [type(value) for value in Limits.DEFAULTS.values()]


def test_options_that_are_not_given(folder: Path, served: list[dict[str, Any]]) -> None:
    assert main(["serve", "hello:app"]) == 0
    nothing = dict.fromkeys(("bind", "root_path", "socket_mode", "socket_owner", "socket_group"))
    autos = dict.fromkeys(("interface", "lifespan", "loop"), "auto")
    load = {"app": "hello:app", "name": "hello:app", "factory": False, "app_dir": "", "reload_on_touch": None}
    seen = {"access_log_format": "combined", "slowlog_timeout": 0.0, "request_timeout": 0.0}
    seen |= dict.fromkeys(("access_log", "ping_path", "status_path", "status_bind"))
    assert served == [{**load, "threads": None, "unbuffered_events": True, **nothing, **autos, **seen}]


FOR_3 = {"machine": "3 CPUs", "workers_chosen": True}
WANTED = "one process, where 3 CPUs allow 3: "


@pytest.mark.parametrize(
    ("words", "workers", "threads", "chosen", "told"),
    [
        ("--bind unix:x", 3, 4, FOR_3, ""),
        ("--bind unix:x --threads 7", 3, 7, FOR_3, ""),
        ("--bind unix:x --workers 2", 2, 6, {**FOR_3, "workers_chosen": False}, ""),
        ("--bind unix:x --workers 2 --threads 7", 2, 7, {"machine": "", "workers_chosen": False}, ""),
        ("--bind unix:x --workers 1", 1, None, {}, ""),
        ("--bind unix:x --reload-on-touch --threads 2", 1, 2, {}, f"{WANTED}--reload-on-touch is for one"),
        # Nobody is surprised where others decide.
        ("--bind fd://7", 1, None, {}, ""),
        ("", 1, None, {}, ""),
    ],
)
def test_as_many_as_the_machine_can_have(
    words: str,
    workers: int,
    threads: int | None,
    chosen: dict[str, object],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.delenv("SIMPLE_FASTCGI_WORKERS")
    monkeypatch.setattr("simple_fastcgi.serving.machine.this_machine", lambda: Machine(3.0, 0))
    monkeypatch.setattr(command, "serve", lambda app, **settings: calls.append((1, settings["threads"], {})))
    monkeypatch.setattr(
        command,
        "_serve_with_workers",
        lambda arguments, **chosen: calls.append((arguments.workers, arguments.threads, chosen)),
    )
    caplog.set_level("INFO")
    assert main(["serve", "hello:app", *words.split()]) == 0
    assert calls == [(workers, threads, chosen)]
    assert caplog.messages == ([told] if told else [])


def test_one_worker_where_there_cannot_be_several(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = argparse.Namespace(workers="auto", threads=2, reload_on_touch=None, bind=None)
    monkeypatch.setattr("simple_fastcgi.serving.machine.this_machine", lambda: Machine(3.0, 0))
    monkeypatch.setattr("simple_fastcgi.cli.auto.is_listening", lambda fd: fd == 0)
    assert choose(arguments) == (1, 2, "", "")
    monkeypatch.setattr("simple_fastcgi.cli.auto.is_listening", lambda fd: False)
    monkeypatch.setattr("simple_fastcgi.net.activation.is_activated", lambda: True)
    assert choose(arguments) == (3, 2, "3 CPUs", "")
    arguments.bind = "unix:x.sock"
    monkeypatch.setattr("gunicorn.version_info", (20, 1, 0))
    assert choose(arguments)[3] == (
        f"{WANTED}several need gunicorn 25, this is 20.1.0: pip install -U 'simple_fastcgi[gunicorn]'"
    )
    monkeypatch.setitem(sys.modules, "gunicorn", None)
    assert choose(arguments) == (1, 2, "", f"{WANTED}several need gunicorn: pip install 'simple_fastcgi[gunicorn]'")
    # Here nobody misses it.
    monkeypatch.setattr("simple_fastcgi.serving.machine.this_machine", lambda: Machine(0.5, 0))
    assert choose(arguments) == (1, 2, "", "")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("error", "line"),
    (
        (OSError(98, "it is busy"), "simple-fastcgi: it is busy\n"),
        (OSError("something"), "simple-fastcgi: something\n"),
    ),
    ids=repr,
)
def test_what_the_machine_refuses_has_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, line: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command, "serve", refuse)
    assert main(["serve", "hello:app"]) == 1
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("folder")
def test_a_mistake_of_ours_is_shown_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(command, "serve", fail)
    with pytest.raises(RuntimeError, match="ours"):
        main(["serve", "hello:app"])


@pytest.mark.usefixtures("folder")
def test_an_application_that_ends_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own status might be 0, for whoever looks after the service. With workers the same is told."""
    said = complaint(["exiting:app", "--bind", "unix:x.sock"], capsys, 1)
    assert said == "simple-fastcgi: exiting:app ended the process while it was loaded: SystemExit(7)\n"


def test_ctrl_c_while_the_application_is_loaded(tmp_path: Path) -> None:
    # In short sleeps, for a signal that comes just before one is noted behind it.
    (tmp_path / "slow.py").write_text("import time\nprint('loading', flush=True)\nwhile True: time.sleep(0.01)\n")
    command = [sys.executable, "-m", "simple_fastcgi", "serve", "slow:app", "--bind", "unix:x.sock"]
    # Whoever started the tests in the background has it ignored.
    heeded = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    with Child([sys.executable, "-c", heeded, *command], tmp_path / "log", cwd=tmp_path) as child:
        child.ends_with = (130,)
        child.wait_for("loading")
        child.signal(signal.SIGINT)
        assert child.wait() == 130
        assert child.log_since() == "loading\n"


@pytest.mark.usefixtures("folder")
def test_an_exit_that_was_told_already(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*_: object, **__: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(command, "serve", leave)
    with pytest.raises(SystemExit, match="1"):
        main(["serve", "hello:app"])


@pytest.fixture
def _forget_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are imported anew."""
    for name in [name for name in sys.modules if name.startswith("simple_fastcgi.workers.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-requests", "-1"], "--max-requests -1: give a whole number from 0 up"),
        (["--max-requests-jitter=5"], "--max-requests-jitter: there is no --max-requests; give it, too"),
        (
            ["--max-requests=5", "--reload-on-touch"],
            "--reload-on-touch is for one process: with --max-requests, SIGHUP reloads the application",
        ),
    ],
)
def test_processes_that_cannot_be(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(["hello:app", *words], capsys, 2) == f"simple-fastcgi: {told}\n"


@pytest.mark.usefixtures("folder", "_forget_workers")
def test_several_workers_without_gunicorn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gunicorn", None)
    said = complaint(["hello:app", "--workers", "2"], capsys, 2)
    assert said == "simple-fastcgi: --workers 2 needs gunicorn: pip install 'simple_fastcgi[gunicorn]'\n"
    said = complaint(["hello:app", "--max-requests", "9"], capsys, 2)
    assert said == "simple-fastcgi: --max-requests needs gunicorn: pip install 'simple_fastcgi[gunicorn]'\n"


@pytest.mark.usefixtures("folder", "_forget_workers")
def test_several_workers_with_something_else_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simple_fastcgi.workers.wsgi", None)
    with pytest.raises(ModuleNotFoundError):
        main(["serve", "hello:app", "--workers", "2"])


# ------------------------------------------------------------------------------ sockets


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "says"),
    (
        (["--bind", "unix:hello.py"], "is a regular file, not a socket"),
        (["--bind", "unix:no-such-folder/x.sock"], "does not exist"),
        (["--bind", "unix:/proc/x.sock"], "unix:/proc/x.sock: no socket can be made in /proc: choose another path"),
        (["--bind", "192.0.2.1:9000", "--allow-from", "192.0.2.0/24"], "has no such address"),
    ),
    ids=repr,
)
def test_what_cannot_be_bound_has_status_1(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(["hello:app", *arguments], capsys, 1)
    assert says in said
    assert said.count("\n") == 1
    assert Path("hello.py").read_text() == APP


def run_in(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simple_fastcgi", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        **options,
    )


def test_a_second_instance_leaves_the_first_one_alone(folder: Path, tmp_path: Path) -> None:
    bind = f"unix:{folder}/x.sock"
    with App.serve("hello:app", bind, tmp_path / "log", cwd=folder) as app:
        done = run_in(folder, "serve", "hello:app", "--bind", bind)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{bind} is busy, another program serves it" in done.stderr
        with WebServer(app.address) as web_server:
            assert web_server.request(params_for("/a")).body == b"|/a"


def test_owner_and_group(folder: Path, tmp_path: Path) -> None:
    owner, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    options = ("--socket-mode", "0600", "--socket-owner", owner, "--socket-group", str(os.getegid()))
    with App.serve("hello:app", f"unix:{folder}/x.sock", tmp_path / "log", *options, cwd=folder) as app:
        assert f"x.sock (mode 0600, owner {owner}:{group})" in app.log_since()


def test_tcp_with_an_allow_list(folder: Path, tmp_path: Path) -> None:
    options = ("--allow-from", "192.0.2.0/24", "--allow-from", "127.0.0.1", "--log-level", "debug")
    with App.serve("hello:app", "0.0.0.0:0", tmp_path / "log", *options, cwd=folder) as app:
        assert " (only for 192.0.2.0/24, 127.0.0.1)\n" in app.log_since()
        assert isinstance(app.address, tuple)
        with WebServer(("127.0.0.1", app.address[1])) as web_server:
            assert web_server.request(params_for("/a")).body == b"|/a"


def test_a_socket_on_descriptor_0(folder: Path, tmp_path: Path) -> None:
    starter = "import os, sys; os.dup2(int(sys.argv[1]), 0); os.execv(sys.executable, ['python', *sys.argv[2:]])"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("x.sock")
        listening.listen()
        number = listening.fileno()
        arguments = (starter, str(number), "-m", "simple_fastcgi", "serve", "hello:app", "--threads", "1")
        with Child((sys.executable, "-c", *arguments), tmp_path / "log", cwd=folder, pass_fds=(number,)) as app:
            with WebServer("x.sock") as web_server:
                assert web_server.request(params_for("/a")).body == b"|/a"
            assert "serving hello:app (WSGI, 1 thread) on fd 0 (unix:" in app.log_since()
    assert Path("x.sock").exists()


def test_a_closed_descriptor_0(folder: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m simple_fastcgi serve hello:app <&-', sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert "nothing to serve on" in done.stderr
    assert done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------ where it writes


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("words", ["check unix:no.sock", "check unix:no.sock --json", "config nginx --app hello:app"])
@pytest.mark.parametrize(
    ("where", "status", "told"),
    [
        (">&-", None, ""),
        (">/dev/full", 1, "standard output: No space left on device\n"),
        ("<&- >&- 2>&-", None, ""),
        # A reader that has gone wants to know nothing.
        ("| exec sleep 0", None, ""),
    ],
)
def test_a_standard_output_that_takes_nothing(
    folder: Path, words: str, where: str, status: int | None, told: str
) -> None:
    command = [sys.executable, "-m", "simple_fastcgi", *words.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = ["/bin/sh", "-c", f'"$@" {where}', "sh", *command]
    done = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    # config says on standard error what to do with what it printed.
    assert done.stderr.endswith(told)
    if "|" not in where:
        assert done.returncode == (status if status is not None else words.startswith("check"))


# ------------------------------------------------------------------------------ how it is started


def test_python_m(tmp_path: Path) -> None:
    done = run_in(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"simple_fastcgi {__version__}\n", "")
    done = run_in(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: simple-fastcgi ")


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["simple-fastcgi"].partition(":")
    assert getattr(import_module(module), name) is main


def test_nobodys_fault_but_the_applications(folder: Path) -> None:
    """As the whole program: nothing but the user's own lines, and the exit status."""
    done = run_in(folder, "serve", "crashing:app", "--bind", "unix:x.sock")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "simple-fastcgi: crashing:app failed while it was loaded:\nTraceback (most recent call last):\n"
        f'  File "{folder}/crashing.py", line 4, in <module>\n'
    )
    assert done.stderr.endswith("ValueError: my own fault\n")
    assert "simple_fastcgi" not in done.stderr
