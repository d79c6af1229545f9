"""Docs and examples show what ``simple-fastcgi config`` prints."""

from __future__ import annotations

import pytest

from .children import ROOT
from .shown import renewals, renewed

pytestmark = pytest.mark.once


def test_docs_and_examples_are_what_is_printed() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in renewals().items() if path.read_text("utf-8") != text]
    assert stale == [], "renew them: .venv/bin/python -m tests.webservers.shown"


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
