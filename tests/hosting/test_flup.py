"""Scripts written for flup run with another import."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import flup
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.flup import fcgi, fcgi_fork, fcgi_single
from tests.support.webserver import WebServer, params_for

from .support import Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("wsgi.multithread", "wsgi.multiprocess", "SCRIPT_NAME", "PATH_INFO", "shop.name")
    return [repr([environ.get(name) for name in names]).encode()]
"""
# As people have written them; the import is the only line that changes.
THREADS = """\
from flup.server.fcgi import WSGIServer
from app import app

if __name__ == "__main__":
    print(WSGIServer(
        app, {"shop.name": "Ada's", "SCRIPT_NAME": "", "wsgi.version": None}, bindAddress="app.sock", umask=0o007,
        multiplexed=True, maxThreads=50, minSpare=2, debug=True, roles=(1, 2), warp=9,
    ).run(), flush=True)
"""
FORK = """\
from flup.server.fcgi_fork import WSGIServer
from app import app
WSGIServer(app, maxChildren=2, maxRequests=100).run()
"""


def ask(address: Any) -> str:
    with WebServer(address) as web_server:
        return web_server.request(params_for("/index.fcgi/a", SCRIPT_NAME="/index.fcgi", PATH_INFO="/a")).body.decode()


def write(folder: Path, script: str) -> Path:
    (folder / "app.py").write_text(APP)
    path = folder / "index.fcgi"
    path.write_text(script.replace("flup.server", "simple_fastcgi.flup"))
    return path


def test_a_script_with_threads(tmp_path: Path) -> None:
    script, path = write(tmp_path, THREADS), tmp_path / "app.sock"
    with Served([sys.executable, str(script)], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving app ")
        assert path.stat().st_mode & 0o777 == 0o770
        assert ask(str(path)) == """[True, False, '', '/index.fcgi/a', "Ada's"]"""
        child.signal(signal.SIGHUP)
        assert child.wait() == 0
    told = child.log_since()
    assert "serving app (WSGI, 50 threads)" in told
    assert told.endswith("True\n")
    warned = re.findall(r"flup's (\w+).* is passed over", told)
    assert warned == ["minSpare", "warp", "debug", "roles"]
    assert not path.exists()


def test_a_script_that_forked(tmp_path: Path, program: Callable[[str], str]) -> None:
    """On the web server's socket it is one of many processes."""
    script = write(tmp_path, FORK)
    with Served.spawn(program("spawn-fcgi"), tmp_path / "app.sock", tmp_path / "log", str(script)) as app:
        assert ask(app.address) == "[False, True, '/index.fcgi', '/a', None]"
        told = app.log_since()
    assert "maxChildren is passed over: this is one process" in told
    assert "are not made" not in told


def test_what_each_address_means() -> None:
    def bind(address: Any) -> str | None:
        return flup.WSGIServer(lambda environ, start_response: [], bindAddress=address)._bind

    assert flup.WSGIServer is fcgi.WSGIServer
    assert bind(None) is None
    assert bind("/run/app.sock") == "unix:/run/app.sock"
    assert bind(("127.0.0.1", 9000)) == "127.0.0.1:9000"
    assert bind(("", 9000)) == "0.0.0.0:9000"
    assert bind(("::1", 9000, 0, 0)) == "[::1]:9000"
    for wrong in ("", 9000, ("127.0.0.1",), (1, 2), ["127.0.0.1", 9000]):
        with pytest.raises(ConfigurationError, match="bindAddress=.*give the path of a unix socket"):
            bind(wrong)


def test_what_cannot_be(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        return []

    with pytest.raises(ConfigurationError, match="give an octal number"):
        fcgi.WSGIServer(app, bindAddress="x", umask=-1)
    with pytest.raises(ConfigurationError, match=r"say with --allow-from \(allow_from=\) who may connect"):
        fcgi.WSGIServer(app, bindAddress=("", 0)).run()
    with pytest.raises(ConfigurationError, match="threads='many'"):
        fcgi.WSGIServer(app, bindAddress=str(tmp_path / "x"), maxThreads="many").run()  # type: ignore[arg-type]


def test_overridden_methods_and_missing_processes_are_told(caplog: pytest.LogCaptureFixture) -> None:
    class Server(fcgi_fork.WSGIServer):
        def error(self, request: object) -> None: ...

    server = Server(lambda environ, start_response: [], bindAddress="/nowhere/x", scriptName="/shop")
    assert not server.multithreaded
    assert isinstance(server, fcgi_single.WSGIServer)
    assert "Server.error() is never called: what fails is answered with a plain 500" in caplog.messages
    assert any("child processes are not made" in message for message in caplog.messages)
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(OSError, match="/nowhere"):
        server.run()
    assert signal.getsignal(signal.SIGHUP) == before
