"""What README.md and docs/development.md say of the development server is what it does."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import _read
from simple_fastcgi.dev.settings import DEFAULT_GRACEFUL_TIMEOUT, DEFAULT_HTTP
from simple_fastcgi.dev.watch import PATTERNS
from tests.support.examples import ROOT, blocks_of

from .support import DevServer, browser, wait_for_requests

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
MASKS = ((r"127\.0\.0\.1:\d+", "127.0.0.1:8000"), (r"\d\d:\d\d:\d\d", "12:00:01"), (r" +\S+ m?s ", "   2.05 ms "))


def commands(text: str) -> list[list[str]]:
    lines = "".join(blocks_of(text, "console")).splitlines()
    return [shlex.split(line[2:])[1:] for line in lines if line.startswith("$ simple-fastcgi dev")]


def test_the_first_example(tmp_path: Path) -> None:
    (source,) = blocks_of(PAGE, "python")
    (tmp_path / "shop.py").write_text(source)
    _, app, *options = commands(PAGE)[0]
    with DevServer(tmp_path, *options, app=app) as server, browser(server.url) as client:
        assert client.get("/").text == "We are open\n"
        wait_for_requests(server, "/")
        log = server.log_since()
    (shown,) = [block for block in blocks_of(PAGE, "console") if "answers over FastCGI" in block]
    for pattern, mask in MASKS:
        log = re.sub(pattern, mask, log)
    assert shown.splitlines()[1:] == log.splitlines()


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    (source,) = [block for block in blocks_of(README, "python") if block.startswith("# hello.py\n")]
    (tmp_path / "hello.py").write_text(source)
    ((_, app),) = commands(README)
    with DevServer(tmp_path, "--no-reload", app=app) as server, browser(server.url) as client:
        assert client.get("/").text == "Hello from WSGI\n"
    assert "open http://127.0.0.1:8000/ — Ctrl+C ends, changes of its code restart it\n" in README


def test_every_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(PAGE):
        assert _read(words).app == "shop:app"
    assert not capsys.readouterr().err


def test_the_patterns_are_those_that_are_watched(capsys: pytest.CaptureFixture[str]) -> None:
    (sentence,) = re.findall(r"^Watched are (.*?) below", PAGE, re.MULTILINE | re.DOTALL)
    assert tuple(re.findall(r"`([^`]+)`", sentence)) == PATTERNS
    with pytest.raises(SystemExit):
        _read(["dev", "--help"])
    assert "Changes of *.py and of templates (*.html, *.jinja, *.jinja2, *.j2) restart" in capsys.readouterr().out


def test_the_settings_that_are_told_are_the_defaults() -> None:
    assert f"for `--graceful-timeout` seconds\n({DEFAULT_GRACEFUL_TIMEOUT:g}) at most" in PAGE
    assert f"open http://{DEFAULT_HTTP}/" in PAGE
