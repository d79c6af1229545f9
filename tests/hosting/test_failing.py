"""An application that fails to start under a web server answers with 500, tells why, and is mended by new code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_AUTHORIZER
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import ROOT, wait_until

from .support import Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.webserver import Response

pytestmark = pytest.mark.once

GOOD = """\
def make():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"good"]
    return app
"""
LIFESPAN = """\
def make():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
    return app
"""
# What each of them tells.
BROKEN = (
    ("def make(:\n", "SyntaxError: invalid syntax"),
    ("import pandas_of_mars\n", "ModuleNotFoundError: No module named 'pandas_of_mars'"),
    ("def make():\n    raise ValueError('no settings')\n", "ValueError: no settings"),
    ("def male(): pass\n", "has no attribute 'make': is 'male' meant?"),
    ("def make():\n    return lambda x: 1\n", "cannot tell"),
    (LIFESPAN, "the application failed to start: no database"),
    ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence"),
)


def ask(app: Served, **options: int) -> Response:
    with WebServer(app.address) as web_server:
        return web_server.request(params_for(), b"a body", **options)


def upload(path: Path, text: str) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_every_reason_is_told_until_the_code_changes(tmp_path: Path, program: Callable[[str], str]) -> None:
    module, path = tmp_path / "shop.py", tmp_path / "app.sock"
    upload(module, BROKEN[0][0])
    command = ("-m", "simple_fastcgi", "serve", "shop:make", "--factory")
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    with Served.spawn(program("spawn-fcgi"), path, tmp_path / "log", *command, env=environment) as app:
        mark = 0
        for source, reason in BROKEN:
            if mark:
                mark = app.mark()
                upload(module, source)
            app.wait_for("shop:make failed to start; requests are answered with 500 until its code changes", mark)
            for _ in range(2):
                failed = ask(app)
                assert (failed.status, failed.body.strip()) == (500, b"Internal Server Error")
                assert reason in failed.stderr.decode()
            assert app.log_since(mark).count(reason) == 1
            mark = app.mark()
        assert 'File "' not in failed.body.decode()
        assert ask(app, role=FCGI_AUTHORIZER).status == 500
        upload(module, GOOD)
        app.wait_for("serving shop:make", mark)
        assert ask(app).body == b"good"


def test_what_was_missing_appears(tmp_path: Path, program: Callable[[str], str]) -> None:
    """In a script: the module itself, then one that it imports."""
    code = tmp_path / "code"
    code.mkdir()
    script = tmp_path / "index.fcgi"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(code)!r})\n"
        "import simple_fastcgi\nsimple_fastcgi.serve('a.b:make', factory=True)\n"
    )
    with Served.spawn(program("spawn-fcgi"), tmp_path / "app.sock", tmp_path / "log", str(script)) as app:
        assert b"no module named 'a': check the name" in ask(app).stderr
        (code / "a").mkdir()
        app.wait_for(r"code/a was touched(.|\n)*no module named 'a.b'")
        mark = app.mark()
        upload(code / "a" / "b.py", "import c\n" + GOOD)
        app.wait_for(r"a/b.py was touched(.|\n)*failed to start", mark)
        assert b"No module named 'c'" in ask(app).stderr
        mark = app.mark()
        upload(code / "c.py", "")
        app.wait_for(r"c.py was touched(.|\n)*serving a.b:make", mark)
        mark = app.mark()
        # Mended, it watches nothing any more.
        upload(script, "import simple_fastcgi\nsimple_fastcgi.serve('gone:app')\n")
        assert ask(app).status == 200
        assert app.log_since(mark) == ""


def test_begun_anew_with_broken_code_it_stays(tmp_path: Path) -> None:
    """Nobody would start it again; only started by hand it ends, at once and with the traceback."""
    module, path = tmp_path / "shop.py", tmp_path / "app.sock"
    upload(module, GOOD)
    options = ("--factory", "--reload-on-touch")
    with Served.serve("shop:make", f"unix:{path}", tmp_path / "log", *options, cwd=tmp_path) as app:
        mark = app.mark()
        upload(module, "1 / 0\n")
        app.wait_for(r"failed to start", mark)
        assert b"ZeroDivisionError" in ask(app).stderr
        done = subprocess.run(
            [sys.executable, "-m", "simple_fastcgi", "serve", "shop:make", "--bind", f"unix:{tmp_path}/b"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
        upload(module, GOOD)
        app.wait_for("serving shop:make", mark)
        assert wait_until(lambda: ask(app).body == b"good")
