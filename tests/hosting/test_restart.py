"""A program begins anew when a file is touched, and no request is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi import serve
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.serving.restart import kept_socket
from tests.support.webserver import WebServer, encode_request, params_for
from tests.webservers.children import App

from .support import ASGI, SOURCES, WSGI, Served, answer, set_back, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("kind", SOURCES)
def test_it_replaces_itself_on_the_same_socket(tmp_path: Path, kind: str) -> None:
    (tmp_path / "shop.py").write_text(SOURCES[kind] % "old")
    path = tmp_path / "app.sock"
    with Served.serve("shop:app", f"unix:{path}", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        inode = path.stat().st_ino
        old, pid = answer(str(path))
        assert old == b"old"
        mark = app.mark()
        with WebServer(str(path)) as begun:
            begun.begin(params_for())
            assert answer(str(path)) == [b"old", pid]
            write(tmp_path / "shop.py", SOURCES[kind] % "new")
            app.wait_for("shop.py was touched", mark)
            # The request that has begun is served to its end; one that comes meanwhile waits for the new code.
            with WebServer(str(path)) as waiting:
                waiting.send(encode_request(params_for()))
                begun.body(b"", end=True)
                assert begun.response().body.split() == [b"old", pid]
                assert waiting.response().body.split() in ([b"old", pid], [b"new", pid])
        app.wait_for("serving", mark)
        assert answer(str(path)) == [b"new", pid]
        assert path.stat().st_ino == inode
        assert app.log_since().count("serving shop:app") == 2
        app.wait_for("serving shop:app.*mode 0660", mark)
    assert not path.exists()


@pytest.mark.once
@pytest.mark.parametrize("name", ["restart.txt", "tmp/restart.txt"])
def test_a_file_to_touch_may_appear_and_go(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop.py").write_text(WSGI % "any")
    (tmp_path / "tmp").mkdir()
    file = tmp_path / name
    with Served.serve("shop:app", "127.0.0.1:0", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        acts: tuple[Callable[[], None], ...] = (file.touch, lambda: set_back(file), file.unlink)
        for act in acts:
            mark = app.mark()
            act()
            app.wait_for(f"{name} was touched", mark)
            app.wait_for("serving shop:app", mark)
            assert answer(app.address)[0] == b"any"


SCRIPT = """\
import sys
sys.path.insert(0, {folder!r})
from simple_fastcgi import serve
serve("shop:make", factory=True, reload_on_touch=True)
"""
FACTORY = """\
def make():
    return app
"""


@pytest.mark.once
def test_a_script_that_nobody_would_spawn_again(tmp_path: Path, program: Callable[[str], str]) -> None:
    """Its socket came on fd 0, but from no web server."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "shop.py").write_text(WSGI % "old" + FACTORY)
    script = tmp_path / "index.fcgi"
    script.write_text(SCRIPT.format(folder=str(tmp_path / "code")))
    log = tmp_path / "log"
    with Served.spawn(program("spawn-fcgi"), tmp_path / "app.sock", log, str(script)) as app:
        old, pid = answer(app.address)
        assert old == b"old"
        mark = app.mark()
        write(tmp_path / "code" / "shop.py", WSGI % "new" + FACTORY)
        app.wait_for("shop.py was touched(.|\n)*serving", mark)
        assert answer(app.address) == [b"new", pid]
        mark = app.mark()
        set_back(script)
        app.wait_for("index.fcgi was touched(.|\n)*serving", mark)
        assert answer(app.address) == [b"new", pid]


@pytest.mark.once
def test_a_stop_signal_behind_a_touch_ends(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WSGI % "any")
    (tmp_path / "now").touch()
    # Not measured: a signal that comes while coverage saves what it has is more than that can bear.
    path = tmp_path / "app.sock"
    options = ("--reload-on-touch", "now", "--threads=1")
    with App.serve("shop:app", f"unix:{path}", tmp_path / "log", *options, cwd=tmp_path) as app:
        with WebServer(str(path)) as begun:
            begun.begin(params_for())
            set_back(tmp_path / "now")
            # A single thread reads for the request first.
            begun.body(b"", end=True)
            begun.response()
            app.wait_for("now was touched")
            app.signal(signal.SIGTERM)
        assert app.wait() == 0


SLOW = """\
import os, subprocess, time
if os.path.exists("slowly"):
    # What the application starts meanwhile can be told to end.
    helper = subprocess.Popen(["sleep", "3600"])
    helper.terminate()
    helper.wait()
    print("loading", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.mark.parametrize("kind", [pytest.param("WSGI", marks=pytest.mark.once), "ASGI"])
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.once)])
def test_a_stop_signal_while_the_new_code_is_loaded(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    path = tmp_path / "app.sock"
    (tmp_path / "shop.py").write_text(SLOW + SOURCES[kind] % "any")
    with Served.serve("shop:app", f"unix:{path}", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        mark = app.mark()
        (tmp_path / "slowly").touch()
        set_back(tmp_path / "shop.py")
        app.wait_for("loading", mark)
        with WebServer(str(path)) as waiting:
            waiting.send(encode_request(params_for(), keep=False))
            app.signal(number)
            (tmp_path / "go").touch()
            assert waiting.response().body.split()[0] == b"any"
        assert app.wait() == 0
    assert not path.exists()


@pytest.mark.once
def test_a_second_stop_signal_waits_for_no_code(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    (tmp_path / "shop.py").write_text(SLOW + WSGI % "any")
    with App.serve("shop:app", f"unix:{path}", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        mark = app.mark()
        (tmp_path / "slowly").touch()
        set_back(tmp_path / "shop.py")
        app.wait_for("loading", mark)
        while app.process.poll() is None:
            app.signal(signal.SIGTERM)
        assert app.wait() == -signal.SIGTERM
    assert not path.exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"reload_on_touch": ""}, "reload_on_touch: '' is no path"),
        ({"reload_on_touch": 5}, "reload_on_touch=5: give True, a path or a list of paths"),
        ({"reload_on_touch": [b"restart.txt"]}, "is no path"),
        ({"reload_on_touch": [None]}, "give True, a path"),
        ({"reload_on_touch": True, "sock": 0, "bind": None}, "not with sock"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(settings: dict[str, object], says: str) -> None:
    settings = {"bind": "127.0.0.1:0", **settings}
    with pytest.raises(ConfigurationError, match=says):
        serve(lambda environ, start_response: [], **settings)  # type: ignore[arg-type]


@pytest.mark.once
def test_not_with_workers_nor_in_another_thread(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WSGI % "any")
    command = [sys.executable, "-m", "simple_fastcgi", "serve", "shop:app", "--bind", "unix:a", "--workers=2"]
    with Served([*command, "--reload-on-touch"], tmp_path / "log", cwd=tmp_path) as child:
        child.ends_with = (2,)
        assert child.wait() == 2
    assert "SIGHUP reloads" in child.log_since()
    program = (
        "import threading\n"
        "from simple_fastcgi import serve\n"
        "threading.Thread(target=serve, args=('shop:app', 'unix:a'), kwargs={'reload_on_touch': True}).start()\n"
    )
    with Served([sys.executable, "-c", program], tmp_path / "log", cwd=tmp_path) as child:
        child.wait()
    assert "call serve() in its main thread" in child.log_since()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("told", ["1:0:", "", "{pid}:x:", "{pid}:0:", "{pid}:987654:"])
def test_a_kept_socket_that_is_none_is_let_be(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """The variable may have come to any program."""
    monkeypatch.setenv("_SIMPLE_FASTCGI_KEPT_SOCKET", told.format(pid=os.getpid()))
    assert kept_socket(None, None) is None
    assert "_SIMPLE_FASTCGI_KEPT_SOCKET" not in os.environ


@pytest.mark.once
def test_a_socket_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WSGI % "any")
    path = tmp_path / "app.sock"
    with Served.serve("shop:app", f"unix:{path}", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        path.unlink()
        mark = app.mark()
        (tmp_path / "restart.txt").touch()
        app.wait_for("serving", mark)
        assert answer(str(path))[0] == b"any"


FLASK = """\
from flask import Flask
app = Flask(__name__)
@app.get("/")
def index():
    return "%s 1"
"""
OBJECTS = {
    "a function": (WSGI, "from simple_fastcgi import serve\nserve(app, 'unix:app.sock', **TOUCH)"),
    "Flask's": (FLASK, "from simple_fastcgi import serve\nserve(app, 'unix:app.sock', reload_on_touch=[True, 'x'])"),
    "flup": (FLASK, "from simple_fastcgi import flup\nflup.WSGIServer(app, bindAddress='app.sock', **TOUCH).run()"),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", OBJECTS)
def test_the_file_of_an_application_that_is_given_as_an_object(tmp_path: Path, kind: str) -> None:
    source, script = OBJECTS[kind]
    (tmp_path / "shop.py").write_text(source % "old")
    (tmp_path / "script.py").write_text(f"from shop import app\nTOUCH = {{'reload_on_touch': True}}\n{script}\n")
    with Served([sys.executable, "script.py"], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving shop ")
        assert answer(f"{tmp_path}/app.sock")[0] == b"old"
        mark = child.mark()
        write(tmp_path / "shop.py", source % "new")
        child.wait_for("shop.py was touched(.|\n)*serving shop ", mark)
        assert answer(f"{tmp_path}/app.sock")[0] == b"new"


MOVING = """\
import os
os.chdir("other")
"""
TOUCHED = "--bind unix:app.sock --reload-on-touch"
MOVED_SCRIPT = """\
from simple_fastcgi import serve
from shop import app
serve(app, "unix:app.sock", reload_on_touch=True)
"""


@pytest.mark.once
@pytest.mark.parametrize("command", [f"-m simple_fastcgi serve shop:app {TOUCHED}", "script.py", "./script.py"])
def test_an_application_that_changes_directory(tmp_path: Path, command: str) -> None:
    (tmp_path / "shop.py").write_text(MOVING + WSGI % "any")
    (tmp_path / "script.py").write_text(MOVED_SCRIPT)
    (tmp_path / "other").mkdir()
    with Served([sys.executable, *command.split()], tmp_path / "log", cwd=tmp_path) as child:
        path = child.wait_for(r"serving .* on unix:(\S+)")[1]
        mark = child.mark()
        (tmp_path / "restart.txt").touch()
        child.wait_for("serving", mark)
        assert answer(path)[0] == b"any"


STUCK = """\
import asyncio, threading

async def app(scope, receive, send):
    assert scope["type"] == "http"
    print("stuck", flush=True)
    await asyncio.to_thread(threading.Event().wait)
"""


@pytest.mark.once
def test_a_handler_that_is_stuck_does_not_keep_it(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(STUCK)
    options = ("--reload-on-touch", "--graceful-timeout", "0.1")
    with Served.serve("shop:app", "127.0.0.1:0", tmp_path / "log", *options, cwd=tmp_path) as app:
        with WebServer(app.address) as stuck:
            stuck.begin(params_for())
            app.wait_for("stuck")
            mark = app.mark()
            write(tmp_path / "shop.py", ASGI % "new")
            app.wait_for("beginning anew although a handler is still busy 0.1 s after the touch", mark)
        assert answer(app.address)[0] == b"new"


@pytest.mark.once
def test_a_python_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WSGI % "any")
    program = (
        "import sys\n"
        "from simple_fastcgi import serve\n"
        "sys.executable = '/nowhere/python'\n"
        f"serve('shop:app', 'unix:{tmp_path}/app.sock', reload_on_touch=['now'])\n"
        "print('the end')\n"
    )
    with Served([sys.executable, "-c", program], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving")
        (tmp_path / "now").touch()
        assert child.wait() == 0
    told = child.log_since()
    assert "the program ends, since it cannot begin anew: /nowhere/python: " in told
    assert told.endswith("the end\n")


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.0.0.1:1"])
def test_a_kept_socket_is_for_the_address_that_it_had(monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = os.dup(listening.fileno())
        monkeypatch.setenv("_SIMPLE_FASTCGI_KEPT_SOCKET", f"{os.getpid()}:{number}:127.0.0.1:0")
        kept = kept_socket(bind, None)
        if bind == "127.0.0.1:0":
            assert kept is not None
            with kept:
                assert kept.describe() == "{}:{}".format(*listening.getsockname())
                assert not os.get_inheritable(number)
        else:
            assert kept is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_change_right_behind_the_import_counts(tmp_path: Path) -> None:
    """Somebody uploads while the program starts."""
    source = (
        "import os\nif 'CHANGED' not in os.environ:\n    os.environ['CHANGED'] = ''\n    os.utime(__file__, (1, 1))\n"
    )
    (tmp_path / "shop.py").write_text(source + WSGI % "any")
    with Served.serve("shop:app", f"unix:{tmp_path}/a", tmp_path / "log", "--reload-on-touch", cwd=tmp_path) as app:
        app.wait_for(r"shop.py was touched(.|\n)*serving")
