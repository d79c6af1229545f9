"""The examples in docs/call.md do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.call.status import STATUSES
from simple_fastcgi.cli.call.writeout import VARIABLES
from tests.support.examples import ROOT, blocks_of
from tests.support.php import PING_PATH, STATUS_PATH
from tests.webservers.children import App

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.php import PhpFpm

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

PAGE = (ROOT / "docs" / "call.md").read_text(encoding="utf-8")
# Each command, and what it prints; nothing: whatever it likes.
EXAMPLES = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks_of(PAGE, "console")), re.MULTILINE)


APP = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    environ["wsgi.input"].read()
    name = environ["QUERY_STRING"].rpartition("=")[2] or "you"
    return [f"Hello, {name}!\\n".encode()]
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where an application is served as the page has it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "hello.py").write_text(APP)
        with App.serve("hello:app", f"unix:{folder}/app.sock", folder / "log", cwd=folder):
            yield f"unix:{folder}/app.sock"


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_examples(command: str, output: str, address: str, php: PhpFpm) -> None:
    php.add("index.php", 'echo "index";')
    php.add("shop/item.php", 'echo $_SERVER["PATH_INFO"];')
    for written, meant in (
        ("simple-fastcgi ", f"{sys.executable} -m simple_fastcgi "),
        ("unix:/run/app.sock", address),
        ("unix:/run/php/php-fpm.sock", php.address),
        ("/var/www", str(php.document_root)),
        ("/status", STATUS_PATH),
        ("/ping", PING_PATH),
    ):
        command = command.replace(written, meant)
        output = output.replace(written, meant)
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    parts = unmeasured(output.rstrip("\n")).split("\n...\n")
    pattern = "\n(?:.*\n)*".join(map(re.escape, parts))
    assert re.search(pattern, unmeasured(done.stderr + done.stdout)), done.stderr + done.stdout


def unmeasured(text: str) -> str:
    """`text` with the same in place of what is measured, and of lengths."""
    return re.sub(r"\d+\.\d+|\d+(?= bytes)", "N", text)


def test_the_tables_are_complete() -> None:
    for number, meaning in STATUSES.items():
        assert f"| {number} | {meaning} |\n" in PAGE
    for name in VARIABLES:
        assert f"`{name}`" in PAGE
