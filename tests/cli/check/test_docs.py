"""The examples in docs/check.md do what they say, and its tables are complete."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.check.socket import CHECKS as SOCKET_CHECKS
from simple_fastcgi.cli.check.url import CHECKS
from simple_fastcgi.net.access import group_name, user_name
from tests.support.examples import ROOT, blocks_of

if TYPE_CHECKING:
    from tests.cli.check.conftest import Setup
    from tests.support.php import PhpFpm

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^\$ simple-fastcgi (check .*)\n((?:(?!\$ ).+\n)*)", "".join(blocks_of(PAGE, "console")), re.MULTILINE
)


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_examples(command: str, output: str, setup: Setup, php: PhpFpm, capsys: pytest.CaptureFixture[str]) -> None:
    php.add("index.php", 'echo "index";')
    words, expected = command, output
    for written, meant in (
        ("http://shop.example/", setup.url(port=8000)),
        ("http://old.example:8080/", setup.url(port=8002)),
        ("shop.example", f"127.0.0.1:{setup.nginx.ports[0]}"),
        ("old.example:8080", f"127.0.0.1:{setup.nginx.ports[2]}"),
        ("unix:/run/php/php-fpm.sock", php.address),
        ("/var/www", str(php.document_root)),
        ("/run/shop/app.sock", str(setup.probe.address)),
        ("shop:shop", f"{user_name(os.geteuid())}:{group_name(os.getegid())}"),
        ("www-data", "daemon"),
    ):
        words, expected = words.replace(written, meant), expected.replace(written, meant)
    status = main(shlex.split(words))
    said = unmeasured(capsys.readouterr().out)
    assert status == ("problem" in output.replace("no problem", ""))
    pattern = r"(?:.*\n)*".join(map(re.escape, unmeasured(expected).split("...\n")))
    assert re.fullmatch(pattern, said), said


def unmeasured(text: str) -> str:
    """`text` with the same in place of what is measured, and of versions."""
    return re.sub(r"(?<=nginx/)[\d.]+|[\d.]+(?= ms)", "N", text)


def test_the_tables_are_complete() -> None:
    for checks in (CHECKS, SOCKET_CHECKS):
        for number, name in enumerate(checks, 1):
            assert f"| {number} | {name} | " in PAGE
