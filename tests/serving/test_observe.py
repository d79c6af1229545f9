"""The settings of what an operator sees, in one process."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import serve
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.serving.leave import Leave
from simple_fastcgi.serving.observe import Observing
from simple_fastcgi.serving.status_server import _holder_of
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import App, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello"]


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """The folder of a server with these settings, which listens there on app.sock; FOLDER in them stands for it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{folder}/app.sock")
        sock.listen()
        stop = threading.Event()
        here: dict[str, Any] = {
            name: value.replace("FOLDER", folder) if isinstance(value, str) else value
            for name, value in settings.items()
        }
        thread = threading.Thread(target=lambda: serve(app, sock=sock, stop=stop, **here))
        thread.start()
        try:
            yield folder
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ping_path": "ping"}, "ping_path='ping': give a path that begins with a slash, as /fcgi-ping"),
        ({"status_path": "/a?b"}, "status_path='/a\\?b': give a path .*, as /fcgi-status"),
        ({"ping_path": "/x", "status_path": "/x"}, "ping_path and status_path are both /x: give two paths"),
        ({"slowlog_timeout": -1.0}, "slowlog_timeout=-1.0: give seconds, or 0 for none"),
        ({"request_timeout": float("inf")}, "request_timeout=inf: give seconds, or 0 for none"),
        ({"request_timeout": float("nan")}, "request_timeout=nan: give seconds"),
        ({"request_timeout": "60"}, "request_timeout='60': give seconds"),
        ({"slowlog_timeout": None}, "slowlog_timeout=None: give seconds"),
        ({"slowlog_timeout": True}, "slowlog_timeout=True: give seconds"),
        ({"ping_path": 5}, "ping_path=5: give a path that begins with a slash"),
        ({"status_bind": 5}, "status_bind=5: give a str"),
        ({"access_log": 5}, "access_log=5: give a file"),
        ({"access_log": "-", "access_log_format": "xml"}, "access_log_format='xml': give one of combined, json"),
        ({"slowlog_timeout": 5.0, "request_timeout": 2.5}, "slowlog_timeout=5 is beyond request_timeout=2.5, "),
        ({"access_log_format": "json"}, "access_log_format: there is no access log; give access_log, too"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        serve(app, "unix:/nowhere/app.sock", **settings)


@pytest.mark.parametrize(
    ("bind", "of_status"),
    [
        (None, "unix:a.sock"),
        ("unix:a.sock", None),
        ("unix:a.sock", "unix:b.sock"),
        ("unix:a.sock", "unix:@a.sock"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:9000", "127.0.0.1:9001"),
        ("fd://3", "unix:a.sock"),
        ("wrong", "wrong"),
    ],
)
def test_two_addresses(bind: str | None, of_status: str | None) -> None:
    Observing(status_bind=of_status).check_apart(bind)


@pytest.mark.parametrize("settings", [{"access_log": "/no/such/folder/log"}, {"status_bind": "unix:/no/such/s.sock"}])
def test_what_cannot_be_opened(settings: dict[str, Any], tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        with pytest.raises(OSError, match="no/such"):
            serve(app, f"unix:{folder}/app.sock", **settings)
        assert not Path(folder, "app.sock").exists()


def test_an_access_log_alone() -> None:
    with served(access_log="FOLDER/log", access_log_format="json", name="shop") as folder:
        with WebServer(f"{folder}/app.sock") as web:
            assert web.request(params_for("/a")).body == b"Hello"
            # Nothing else is observed: this is the application's.
            assert web.request(params_for("/fcgi-ping")).body == b"Hello"
        lines = Path(folder, "log").read_text().splitlines()
    assert [json.loads(line)["uri"] for line in lines] == ["/a", "/fcgi-ping"]


def test_the_socket_of_the_status() -> None:
    with served(status_bind="unix:FOLDER/status.sock", status_path="/own") as folder:
        with WebServer(f"{folder}/app.sock") as web:
            assert web.request(params_for("/own")).body.startswith(b"pool:")
        with WebServer(f"{folder}/status.sock") as web:
            assert web.request(params_for("/fcgi-ping")).body == b"pong\n"
            assert json.loads(web.request(params_for("/own?json")).body)["requests"] == 1
            assert web.request(params_for("/fcgi-status")).body.startswith(b"pool:")
            assert web.request(params_for("/")).status == 404
    assert not Path(folder, "status.sock").exists()


def test_one_of_several_processes_has_the_socket_of_the_status(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("simple_fastcgi.serving.status_server.TURN_SECONDS", 0.01)
    caplog.set_level("INFO")

    def told(part: str) -> bool:
        return any(part in message for message in caplog.messages)

    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        where = f"unix:{shared}/s"
        with ExitStack() as later:
            with served(status_bind=where, name="first") as first:
                wait_until(lambda: told("the status is at "))
                folders = [later.enter_context(served(status_bind=where, name=name)) for name in ("second", "third")]
                wait_until(
                    lambda: caplog.text.count(f"the status is not at {where}: process {os.getpid()} has it") == 2
                )
                for folder in (first, *folders):
                    with WebServer(f"{folder}/app.sock") as web:
                        assert web.request(params_for("/a")).body == b"Hello"
                with WebServer(f"{shared}/s") as web:
                    assert web.request(params_for("/fcgi-status")).body.split()[1] == b"first"
            wait_until(lambda: caplog.text.count("the status is at ") == 2)
            with WebServer(f"{shared}/s") as web:
                assert web.request(params_for("/fcgi-status")).body.split()[1] in (b"second", b"third")
        # The last one ended without ever having had it.
        assert not Path(shared, "s").exists()


def test_a_status_that_other_machines_can_reach(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = threading.Event()
    stop.set()
    serve(app, "127.0.0.1:0", allow_from="192.0.2.1", status_bind="0.0.0.0:0", stop=stop)
    (told,) = (message for message in caplog.messages if message.startswith("the status is at 0.0.0.0:"))
    assert told.endswith(" (only for 192.0.2.1)")
    with pytest.raises(ConfigurationError, match=r"^status_bind: .* no authentication"):
        serve(app, "127.0.0.1:0", status_bind="0.0.0.0:0", stop=stop)


def test_the_socket_of_the_status_is_for_the_same_users(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stop = threading.Event()
    stop.set()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        serve(app, f"unix:{folder}/a", status_bind=f"unix:{folder}/s", socket_mode="606", stop=stop)
    assert sum("(mode 0606, owner " in message for message in caplog.messages) == 2


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--threads", "1")], ids=["one", "workers"])
def test_the_socket_of_the_status_is_the_only_file(options: tuple[str, ...], tmp_path: Path) -> None:
    """So those settings are its own."""
    (tmp_path / "hello.py").write_text("from tests.serving.test_observe import app\n")
    options += ("--status-bind", "unix:s", "--socket-mode", "606", "--socket-group", str(os.getegid()))
    with App.serve("hello:app", "127.0.0.1:0", tmp_path / "log", *options, cwd=tmp_path) as served:
        assert "the status is at unix:" in served.wait_for(r"the status is at .*\(mode 0606, owner \S+\)")[0]
    with pytest.raises(ConfigurationError, match="are for socket files"):
        serve(app, "127.0.0.1:0", status_bind="127.0.0.1:0", socket_mode="606")
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConfigurationError, match="with bind or status_bind$"):
        serve(app, sock=sock, status_bind="unix:@s", socket_mode="606")


def test_who_has_an_address() -> None:
    assert _holder_of("127.0.0.1:1") == _holder_of("unix:/no/such") == "another process"


def test_a_handler_that_comes_to_its_end_after_all_ends_no_process() -> None:
    monitor = Monitor()
    hung, other = monitor.arrived({}), monitor.arrived({})
    stopped: list[int] = []
    leave = Leave(
        *(monitor, lambda: stopped.append(1), lambda: stopped.append(2)),
        threads=2,
        graceful_timeout=60.0,
    )
    assert not leave.server_ended()
    ended = monitor.arrived({})
    monitor.end(ended, aborted=False)
    # Given up and done at the same moment: that is no reason to leave.
    leave(ended)
    assert not stopped
    leave(hung)
    leave(hung)
    assert leave._thread is not None
    monitor.end(hung, aborted=False)
    monitor.end(other, aborted=False)
    leave._thread.join()
    assert leave.server_ended()
    assert stopped == [1]


MOVING = """\
import os
from tests.serving.test_observe import app
os.chdir("elsewhere")
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_relative_paths_of_an_application_that_changes_directory(tmp_path: Path, workers: str) -> None:
    """They count from where the command was given, also for a log that is opened anew because it was rotated."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moving.py").write_text(MOVING)
    log = tmp_path / "access.log"
    options = ("--workers", workers, "--access-log", "access.log", "--status-bind", "unix:status.sock")

    def is_logged() -> bool:
        with WebServer(str(tmp_path / "app.sock")) as web:
            assert web.request(params_for()).body == b"Hello"
        return log.exists()

    with App.serve("moving:app", "unix:app.sock", tmp_path / "log", *options, cwd=tmp_path):
        wait_until(is_logged)
        log.rename(tmp_path / "access.log.1")
        wait_until(is_logged)
        with WebServer(str(tmp_path / "status.sock")) as web:
            assert web.request(params_for("/fcgi-ping")).body == b"pong\n"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_access_log_is_told_as_it_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"access_log \(--access-log\) 'no/access.log': "):
        serve(app, "unix:app.sock", access_log="no/access.log")


def test_a_current_directory_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OSError, match="No such file"):
        serve(app, f"unix:{tmp_path}/app.sock", access_log="access.log")
    with pytest.raises(OSError, match="No such file"):
        serve(app, "unix:app.sock", status_bind="unix:status.sock")
