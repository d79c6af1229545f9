"""Docs and examples show what ``simple-fastcgi config`` prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.config.command import SERVERS
from tests.support.examples import blocks_of, check_nginx

from .children import ROOT
from .shown import COMMAND, commands, pages, renewals, renewed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.once


def test_docs_and_examples_are_what_is_printed() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in renewals().items() if path.read_text("utf-8") != text]
    assert stale == [], "renew them: .venv/bin/python -m tests.webservers.shown"


def test_each_server_has_a_page_that_shows_its_configuration() -> None:
    shown = {words.split()[2] for page in pages() for words in commands(page.read_text("utf-8"))}
    assert sorted(shown) == sorted(SERVERS)


@pytest.mark.parametrize(
    "page",
    [
        "```console\n$ simple-fastcgi config nginx --app a:b\n```\n\n```nginx\nSTALE\n```\n\n```sh\nkept\n```\n",
        "```console\n$ simple-fastcgi config nginx --app a:b\n```\n\nIt prints\nthis:\n\n```nginx\nSTALE\n```\n",
        "```console\n$ simple-fastcgi config nginx --app a:b\nSTALE\n```\n",
    ],
    ids=("apart", "with words between", "together"),
)
def test_prints_of_a_page_are_renewed(page: str) -> None:
    new = renewed(page)
    assert "# a:b behind nginx." in new
    assert "STALE" not in new
    assert ("kept" in page) == ("kept" in new)
    assert renewed(new) == new


@pytest.mark.parametrize(
    "page",
    [
        "```console\n$ simple-fastcgi config nginx > shop.conf\n```\n\n```nginx\nSTALE\n```\n",
        "```console\n$ simple-fastcgi config nginx\n$ nginx -t\n```\n",
        "```console\n$ simple-fastcgi config nginx\n```\n\n## Another matter\n\n```nginx\nSTALE\n```\n",
    ],
)
def test_what_shows_no_print_stays(page: str) -> None:
    assert renewed(page) == page


def test_nginx_accepts_what_its_page_shows(program: Callable[[str], str], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "webservers" / "nginx.md").read_text("utf-8")
    blocks = blocks_of(page, "nginx")
    assert len(blocks) == 6
    for block in blocks:
        # No certificate is at hand.
        text = re.sub(r"^ *ssl_.*\n", "", block.replace("443 ssl;", "443;"), flags=re.MULTILINE)
        check_nginx(program("nginx"), text if "server {" in text else f"server {{ {text} }}", tmp_path)


def test_commands_of_the_pages_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the page does not show what they print, or writes it into files."""
    monkeypatch.chdir(tmp_path)
    pattern = re.compile(rf"{COMMAND}([\w-]+)([^`\n>|&]*)")
    texts = [page.read_text("utf-8").replace("\\\n", " ") for page in pages()]
    found = [(server, options.split()) for text in texts for server, options in pattern.findall(text)]
    taken = [(server, words) for server, words in found if server in SERVERS and "..." not in words]
    assert len(taken) > 5
    for server, words in taken:
        assert (server, words, main(["config", server, *words])) == (server, words, 0)
