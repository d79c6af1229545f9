"""What a Filter is told about its data (FastCGI 1.0, 6.4)."""

from __future__ import annotations

import pytest

from simple_fastcgi.cgi.filter import data_last_mod, data_length


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1792000000", 1792000000),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        (" 1", None),
        ("1_0", None),
        ("\xb2", None),
        ("soon", None),
    ],
)
def test_numbers(text: str, number: int | None) -> None:
    assert data_length({"FCGI_DATA_LENGTH": text}) == number
    assert data_last_mod({"FCGI_DATA_LAST_MOD": text}) == number


def test_nothing_told() -> None:
    assert data_length({}) is data_last_mod({}) is None
