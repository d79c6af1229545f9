"""What the documentation promises to cover; that it builds without a warning is `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

import simple_fastcgi

DOCS = Path(__file__).parent.parent / "docs"


def test_api_page_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)) == sorted(simple_fastcgi.__all__)
