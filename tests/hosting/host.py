"""A shared host: an Apache with mod_fcgid, and a user's home with examples/shared_hosting in it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.webservers.apache import HTACCESS, MODULES_FOLDER, SHARED_HOST, Apache, host
from tests.webservers.children import ROOT
from tests.webservers.fronts import free_address
from tests.webservers.sites import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

EXAMPLE = ROOT / "examples" / "shared_hosting"
PYTHON, HOME = "/home/you/venv/bin/python", "/home/you"


class Host:
    """A user's home on a shared host."""

    def __init__(self, home: Path, apache: Apache, url: str) -> None:
        self.home = home
        self.apache = apache
        self.url = url
        self.script = home / "public_html" / "index.fcgi"
        self.code = home / "guestbook" / "app.py"

    def client(self) -> httpx.Client:
        return client(self.url)


def at_home(script: Path, home: Path) -> None:
    """Replace the example's Python and home in a script by those that there are, and let it be executed."""
    script.write_text(script.read_text().replace(PYTHON, sys.executable).replace(HOME, str(home)))
    script.chmod(0o755)


@contextmanager
def hosted(program: Callable[[str], str]) -> Iterator[Host]:
    # Short, for the paths of sockets; and reachable for the web server's user.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        home = folder / "you"
        shutil.copytree(EXAMPLE, home)
        at_home(home / "public_html" / "index.fcgi", home)
        address = "{}:{}".format(*free_address())
        # Hosts have CGI, too.
        cgi = f"LoadModule cgid_module {MODULES_FOLDER}/mod_cgid.so\nScriptSock cgid.sock\n"
        site = f"{cgi}Listen {address}\n" + host(address, SHARED_HOST.format(folder=home / "public_html"))
        with Apache(program("apache2"), {HTACCESS: (f"http://{address}", site)}, folder) as apache:
            yield Host(home, apache, f"http://{address}")


def upload(path: Path, text: str) -> None:
    """As FTP does it, and keeping an older time, as some programs do."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before, before - 10**9))
