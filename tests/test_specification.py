"""docs/specification.md names code and tests for each thing that FastCGI 1.0 asks: all of them exist."""

from __future__ import annotations

import ast
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "specification.md"
ROWS = re.findall(r"^\| (?!What is asked)(.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
SECTIONS = {"2.2", "2.3", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "5.1", "5.2", "5.3", "5.4", "5.5"}
SECTIONS |= {"6.1", "6.2", "6.3", "6.4", "7", "8"}


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_place_exists() -> None:
    for asked, places, _ in ROWS:
        names = re.findall(r"`([^`]+)`", places)
        assert names, asked
        for name in names:
            # It raises for what is not there, modules and attributes alike.
            pkgutil.resolve_name(f"simple_fastcgi.{name}")


def test_each_test_exists() -> None:
    for asked, _, shown_by in ROWS:
        tests = re.findall(r"`([\w/]+\.py)::(test_\w+)`", shown_by)
        # Nothing else stands there.
        assert ", ".join(f"`{file}::{test}`" for file, test in tests) == shown_by, asked
        missing = [(file, test) for file, test in tests if test not in functions(file)]
        assert not missing, asked


def test_every_section_has_its_place() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = set(re.findall(r"^#+ ([\d.]+?)\.? ", page, re.MULTILINE)) | set(
        re.findall(r"^\| ([\d.]+):", page, re.MULTILINE)
    )
    assert told >= SECTIONS


def test_the_table_is_read() -> None:
    """Every line that looks like a row is one."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    heads = sum(line.startswith(("| What is asked", "|---")) for line in lines)
    assert len(ROWS) == len(lines) - heads
