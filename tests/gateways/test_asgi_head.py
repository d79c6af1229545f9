"""The head of an ASGI application's response: the fast way finds what the careful one finds."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.response import status_line
from simple_fastcgi.gateways import asgi_head, response
from simple_fastcgi.gateways.asgi_head import encode_asgi_head
from simple_fastcgi.gateways.response import encode_application_head

NAMES = st.sampled_from(
    [
        *(b"content-type", b"Content-Type", b"content-length", b"CONTENT-LENGTH", b"location", b"status"),
        *(b"transfer-encoding", b"x-accel-buffering", b"x-one", b"Set-Cookie", b"", b"a b", b"\xe9"),
    ]
)
VALUES = st.one_of(
    st.sampled_from([b"0", b"7", b"007", b"-1", b"+1", b"9" * 18, b"9" * 19, b"text/plain", b"Text/Event-Stream; a=b"]),
    st.sampled_from([b"text/event-stream", b"text/enriched", b"a\rb", b"a\nb", b"a\r\nb: c", b"a\0b", b"\xff", b""]),
    st.binary(max_size=12),
)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_head, "_heads", {})
    monkeypatch.setattr(asgi_head, "_known_names", {})
    monkeypatch.setattr(asgi_head, "_status_lines", {})
    monkeypatch.setattr(response, "_warned", set())


def outcome(encode: Any, *args: Any) -> Any:
    try:
        return encode(*args)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def carefully(code: Any, fields: list[tuple[bytes, bytes]], unbuffered_events: bool) -> Any:
    text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
    return encode_application_head(status_line(code), text, unbuffered_events=unbuffered_events)


@given(
    st.sampled_from([200, 204, 404, 599, 99, 600, 200.0, True, HTTPStatus.OK]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.booleans(),
)
def test_the_second_time_is_like_the_first(
    code: Any, fields: list[tuple[bytes, bytes]], unbuffered_events: bool
) -> None:
    expected = outcome(carefully, code, fields, unbuffered_events)
    for _ in range(2):
        assert outcome(encode_asgi_head, code, fields, unbuffered_events) == expected


@given(
    st.sampled_from(["200 OK", "404 ", "299", "600 No", "200 a\rb", "200 a\nb: c", "200 a\0b", "200 \xe9", "2000"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.booleans(),
)
def test_so_it_is_with_text(status: str, fields: list[tuple[bytes, bytes]], unbuffered_events: bool) -> None:
    text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
    expected = outcome(lambda: response._encode_any(status, text, unbuffered_events=unbuffered_events))
    for _ in range(2):
        got = outcome(lambda: encode_application_head(status, text, unbuffered_events=unbuffered_events))
        assert got == expected


@pytest.mark.parametrize(
    "fields",
    (
        [["x-one", b"a"]],
        [[b"x-one", "a"]],
        ((name, b"a") for name in ("x-one",)),
        [(b"content-length", "7")],
    ),
)
def test_text_is_refused(fields: Any) -> None:
    encode_asgi_head(200, [(b"x-one", b""), (b"content-length", b"7")], True)
    with pytest.raises(TypeError, match="are bytes, not str"):
        encode_asgi_head(200, fields, True)


@pytest.mark.parametrize("kind", (bytes, bytearray, memoryview))
def test_what_is_like_bytes_is_taken(kind: Any) -> None:
    for _ in range(2):
        fields = [(kind(b"x-one"), kind(b"a")), (kind(b"content-length"), kind(b"7"))]
        assert encode_asgi_head(200, fields, True) == (
            b"Status: 200 OK\r\nx-one: a\r\ncontent-length: 7\r\n\r\n",
            7,
        )


def test_any_iterable_is_read_once() -> None:
    for _ in range(2):
        fields = (pair for pair in [(b"new-" * 30, b"a"), (b"x-one", b"b")])
        head = b"Status: 200 OK\r\n" + b"new-" * 30 + b": a\r\nx-one: b\r\n\r\n"
        assert encode_asgi_head(200, fields, True) == (head, None)


def test_names_are_not_remembered_without_end() -> None:
    for number in range(1100):
        encode_asgi_head(200, [(b"x-%d" % number, b"a"), (b"n" * 65, b"b")], True)
        assert len(asgi_head._known_names) <= 1024
    assert b"n" * 65 not in asgi_head._known_names
    # Those that are in use come again.
    assert b"x-1099" in asgi_head._known_names
    assert encode_asgi_head(200, [(b"x-1099", b"a")], True) == (b"Status: 200 OK\r\nx-1099: a\r\n\r\n", None)


def test_heads_are_not_remembered_without_end() -> None:
    """Only those that tell no more than type and length: another one may be somebody's secret."""
    for number in [*range(1100), 1099]:
        fields = [(b"content-type", b"a/b"), (b"content-length", b"%d" % number)]
        for _ in range(3):
            assert encode_asgi_head(200, fields, True) == (
                b"Status: 200 OK\r\ncontent-type: a/b\r\ncontent-length: %d\r\n\r\n" % number,
                number,
            )
            encode_asgi_head(200, [(b"set-cookie", b"%d" % number)], True)
            encode_asgi_head(200, [(b"content-type", b"x" * 128)], True)
    assert 0 < len(asgi_head._heads) <= 1024
    assert all(len(key) == 3 for key in asgi_head._heads)
    assert "set-cookie" not in repr(asgi_head._heads)
