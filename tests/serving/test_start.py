"""What a served application does not pay for: modules that its start and its first answers have no need of."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, params_for
from tests.webservers.children import Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

APP = """\
import sys

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(sorted(sys.modules)).replace("'", '"').encode()]
"""
SCRIPT = f"""\
{APP}
from simple_fastcgi import serve
serve(app, sys.argv[1])
"""
NEEDLESS = {
    *("argparse", "gettext", "locale", "shutil", "re", "textwrap"),
    *("inspect", "ast", "dis", "tokenize", "typing", "dataclasses", "contextlib"),
    *("logging", "traceback", "string", "weakref", "pwd", "grp"),
    *("asyncio", "concurrent", "concurrent.futures", "ssl", "subprocess"),
    *("tempfile", "random", "pathlib", "ipaddress", "json", "http", "urllib", "email", "importlib.metadata"),
    "importlib.util",
}


def imported_by(command: Sequence[str], folder: Path) -> set[str]:
    """The modules of a process that `command` starts, behind its first answer."""
    path = folder / "app.sock"
    # Without site-packages, whose .pth files may load anything.
    with Child((sys.executable, "-S", *command), folder / "log", cwd=folder):
        wait_until(path.exists)
        with WebServer(str(path)) as web_server:
            modules = json.loads(web_server.request(params_for()).body)
    return set(modules)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("options", [(), ("--log-level", "warning"), ("--threads", "1", "--log-level=warning")])
def test_the_command_imports_nothing_needless(
    tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not options:
        # It finds no gunicorn, and counts CPUs for its threads alone.
        monkeypatch.delenv("SIMPLE_FASTCGI_WORKERS")
    (tmp_path / "shop.py").write_text(APP)
    starter = "import sys; from simple_fastcgi.cli import main; sys.exit(main())"
    command = ("-c", starter, "serve", "shop:app", "--bind", "unix:app.sock", *options)
    imported = imported_by(command, tmp_path)
    # The line that tells of the start names the socket's owner.
    needed = set() if options else {"pwd", "grp"}
    assert imported & NEEDLESS == needed
    assert ("queue" in imported) == ("--threads" not in options)
    assert ("simple_fastcgi.serving.machine" in imported) == ("--threads" not in options)


@pytest.mark.usefixtures("unmeasured")
def test_a_program_imports_nothing_needless(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT)
    assert imported_by(("program.py", "unix:app.sock"), tmp_path) & NEEDLESS == {"pwd", "grp"}
