"""Command lines that are read without argparse mean what they mean to argparse."""

from __future__ import annotations

import argparse
import contextlib
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cli import serve as command
from simple_fastcgi.cli.quick import QuickParser

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_quickly(words: Sequence[str]) -> dict[str, Any] | None:
    parser = QuickParser()
    command.add_arguments(parser)
    found = parser.read(words)
    return None if found is None else vars(found)


def read_by_argparse(words: Sequence[str]) -> dict[str, Any] | None:
    """None for a mistake, and for help."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return vars(parser.parse_args(words))
    except SystemExit:
        return None


@pytest.mark.parametrize(
    "words",
    [
        ["shop:app"],
        ["shop:app", "--bind", "unix:/run/app.sock", "--threads", "8"],
        ["--bind=127.0.0.1:9000", "--factory", "shop:create_app", "--idle-timeout", "2.5"],
        ["shop:app", "--threads", "1", "--threads=2", "--allow-from", "::1", "--allow-from", "10.0.0.0/8"],
        ["shop:app", "--root-path", "", "--no-unbuffered-events", "--interface", "wsgi", "--log-level=error"],
        ["shop:app", "--root-path=", "--max-params", " 1_0 "],
        ["shop:app", "--chdir", "/srv/shop"],
        ["--reload-on-touch", "--threads=1", "shop:app", "--reload-on-touch", "a b", "--reload-on-touch"],
    ],
)
def test_the_usual_needs_no_argparse(words: list[str]) -> None:
    found = read_quickly(words)
    assert found is not None
    assert found == read_by_argparse(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["shop:app", "--help"],
        ["shop:app", "-h"],
        ["shop:app", "another:app"],
        ["shop:app", "--thread", "1"],
        ["shop:app", "--threads"],
        ["shop:app", "--threads", "many"],
        ["shop:app", "--threads", "-1"],
        ["shop:app", "--interface", "cgi"],
        ["shop:app", "--factory=yes"],
        ["shop:app", "--bind", "--factory"],
        ["shop:app", "--bind=--"],
        ["shop:app", "--no-such-option"],
        ["--", "shop:app"],
        ["-"],
        ["--reload-on-touch", "shop:app"],
        ["shop:app", "--reload-on-touch", "--thread"],
    ],
)
def test_the_rest_is_for_argparse(words: list[str]) -> None:
    assert read_quickly(words) is None


WORDS = st.sampled_from(
    [
        *("shop:app", "1", "-1", "2.5", "", "-", "--", "-h", "--help", "wsgi", "debug", "a b", "-a b", "--bind x"),
        *("--bind", "--bind=", "--bind=x", "--bind=--", "--bi", "--threads", "--threads=3", "--threads=x", "--factory"),
        *("--factory=", "--interface", "--interface=asgi", "--allow-from", "--allow-from=::1", "--log-level"),
        *("--idle-timeout", "--max-params=7", "--no-unbuffered-events", "--nothing"),
        *("--reload-on-touch", "--reload-on-touch=", "--reload-on-touch=x"),
    ]
)


@given(st.lists(WORDS, max_size=6))
def test_what_is_read_quickly_is_what_argparse_reads(words: list[str]) -> None:
    found = read_quickly(words)
    if found is not None:
        assert found == read_by_argparse(words)
