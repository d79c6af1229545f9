"""What an Authorizer answers, and what is refused before it is written (FastCGI 1.0, 6.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.authorizer import encode_allow, encode_denial
from simple_fastcgi.cgi.environ import native_environ

OK = b"Status: 200 OK\r\n"


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ((), b""),
        ({}, b""),
        ({"AUTH_METHOD": "database lookup"}, b"Variable-AUTH_METHOD: database lookup\r\n"),
        ([("A", "1"), ["A", ""]], b"Variable-A: 1\r\nVariable-A: \r\n"),
        (iter([("A", "1")]), b"Variable-A: 1\r\n"),
        ({"NAME": "Zoë €\udcff"}, b"Variable-NAME: Zo\xc3\xab \xe2\x82\xac\xff\r\n"),
    ],
)
def test_allow(variables: Any, fields: bytes) -> None:
    assert encode_allow(variables) == OK + fields + b"\r\n"


def test_allow_with_further_fields() -> None:
    headers: list[tuple[str, str] | str] = [("X-User", "u"), "X-Groups: a, b"]
    assert encode_allow({"U": "u"}, headers) == OK + b"Variable-U: u\r\nX-User: u\r\nX-Groups: a, b\r\n\r\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"": "x"},
        {"A B": "x"},
        {"A:": "x"},
        {"É": "x"},
        {"A\r\nB": "x"},
        {"A": "x\r\nStatus: 403"},
        {"A": "x\n"},
        {"A": "\r"},
        {"A": "\0"},
        {"A": "\ud800"},
        {"A": 1},
        {1: "x"},
        {"A": None},
        [("A",)],
        [("A", "x", "y")],
        "AB",
        ["A=x"],
        [{"A": "x"}],
    ],
)
def test_what_is_no_variable(variables: Any) -> None:
    with pytest.raises(ValueError):
        encode_allow(variables)


@pytest.mark.parametrize("header", ["no colon", ("Status", "403"), "status: 403", ("A", "x\r\n"), ("A", 1), ("", "x")])
def test_further_fields_that_are_none(header: Any) -> None:
    with pytest.raises(ValueError):
        encode_allow(extra_headers=[header])


@given(st.dictionaries(st.text("ABC_-", min_size=1), st.binary(max_size=20)))
def test_any_value_comes_back(raw: dict[str, bytes]) -> None:
    """Whatever `environ` gave can be handed on, and the next handler's `environ` has the same."""
    told = {name.upper(): value.translate(None, b"\r\n\0") for name, value in raw.items()}
    values = {name: value.decode("utf-8", "surrogateescape") for name, value in told.items()}
    lines = encode_allow(values).decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    received = dict(line.removeprefix("Variable-").split(": ", 1) for line in lines)
    assert native_environ(received, []) == values


@pytest.mark.parametrize(
    ("arguments", "head"),
    [
        ((403, "text/plain", ()), b"Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n"),
        (
            (401, "", [("WWW-Authenticate", 'Basic realm="r"')]),
            b'Status: 401 Unauthorized\r\nWWW-Authenticate: Basic realm="r"\r\n\r\n',
        ),
        (
            (302, "", ["Location: https://example.org/login?next=%2F"]),
            b"Status: 302 Found\r\nLocation: https://example.org/login?next=%2F\r\n\r\n",
        ),
        ((204, "", ()), b"Status: 204 No Content\r\n\r\n"),
        (
            (401, "text/plain", ["Content-Type: text/html"]),
            b"Status: 401 Unauthorized\r\nContent-Type: text/html\r\n\r\n",
        ),
    ],
)
def test_denial(arguments: Any, head: bytes) -> None:
    assert encode_denial(*arguments) == head


@pytest.mark.parametrize("code", [200, 200.0, 199, 100, 600, True, "403", None])
def test_a_status_that_denies_nothing(code: Any) -> None:
    with pytest.raises(ValueError, match="200 is the status that grants|give a whole number"):
        encode_denial(code, "text/plain", ())
