"""Response heads as they are written, and everything that is refused (RFC 3875, 6)."""

from __future__ import annotations

import array
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from simple_fastcgi.cgi import response
from simple_fastcgi.cgi.response import (
    as_bytes,
    encode_body,
    encode_chunk,
    encode_document_head,
    encode_head,
    encode_redirect,
    status_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Fields = list[tuple[str, str]]

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz"
latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=20)
tokens = st.text(st.sampled_from(TOKEN), min_size=1, max_size=10) | st.sampled_from(["Location", "LOCATION", "X-A"])
anything = st.text(max_size=12) | st.text(st.sampled_from("aA:- \r\n\0\t\xff\u0100"), max_size=6)


def parse(head: bytes) -> Fields:
    """The fields, as any web server reads them."""
    text = head.decode("latin-1")
    assert text.endswith("\r\n\r\n")
    lines = text[:-4].split("\r\n")
    for line in lines:
        assert not any(character in line for character in "\r\n\0")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@pytest.fixture(autouse=True)
def _no_names_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "known_names", {})


# --------------------------------------------------------------------- status


@pytest.mark.parametrize("code", [status for status in HTTPStatus if 200 <= status < 600])
def test_reason_phrases_are_the_standard_librarys(code: HTTPStatus) -> None:
    assert status_line(code) == f"{int(code)} {code.phrase}"
    assert status_line(int(code)) == f"{int(code)} {code.phrase}"


@pytest.mark.parametrize("code", [299, 399, 420, 450, 499, 599])
def test_codes_without_a_phrase(code: int) -> None:
    assert status_line(code) == f"{code} Unknown"


@pytest.mark.parametrize(
    "code", [-200, 0, 1, 99, 100, 101, 103, 199, 600, 999, 2000, True, "200", 200.0, None, b"200", []], ids=repr
)
def test_bad_codes(code: Any) -> None:
    with pytest.raises(ValueError, match="status code"):
        status_line(code)


# --------------------------------------------------------------------- heads


def test_head() -> None:
    assert encode_head("200 OK", [("Content-Type", "text/plain"), ("X-A", "b")]) == (
        b"Status: 200 OK\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\n"
    )
    assert encode_head("204 No Content", []) == b"Status: 204 No Content\r\n\r\n"
    assert encode_head("200 \xfc", [("X", "\xe9")]) == b"Status: 200 \xfc\r\nX: \xe9\r\n\r\n"


def test_several_fields_of_one_name_stay_and_keep_their_order() -> None:
    fields = [("Set-Cookie", "a=1"), ("X", "y"), ("Set-Cookie", "b=2"), ("set-cookie", "c=3")]
    assert parse(encode_head("200 OK", fields))[1:] == fields


@pytest.mark.parametrize("name", ["Location", "location", "LOCATION"])
def test_location_stands_before_status(name: str) -> None:
    # HAProxy makes a 302 of every redirect whose Status comes first.
    head = encode_head("301 Moved Permanently", [("X", "y"), (name, "/z"), ("Link", "a")])
    assert parse(head) == [(name, "/z"), ("Status", "301 Moved Permanently"), ("X", "y"), ("Link", "a")]


@given(latin, st.lists(st.tuples(tokens, latin), max_size=5))
def test_what_is_written_is_read_back(status: str, fields: Fields) -> None:
    location = [field for field in fields if field[0].lower() == "location"]
    assume(len(location) < 2)
    others = [field for field in fields if field not in location]
    assert parse(encode_head(status, fields)) == [*location, ("Status", status), *others]


@given(anything, st.lists(st.tuples(anything, anything), max_size=3))
@example("200 OK", [("A", "b\n c")])
def test_whatever_is_accepted_is_read_back(status: str, fields: Fields) -> None:
    try:
        head = encode_head(status, fields)
    except ValueError:
        return
    assert sorted(parse(head)) == sorted([("Status", status), *fields])


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\r\n", "\u0100", "\u2028", "\ud800"])
@pytest.mark.parametrize("where", ["status", "name", "value"])
@pytest.mark.parametrize("form", ["{}", "a{}", "{}a", "a{}a"])
def test_what_would_end_a_line_is_refused(character: str, where: str, form: str) -> None:
    bad = form.format(character)
    status, name, value = (bad if where == part else "a" for part in ("status", "name", "value"))
    with pytest.raises(ValueError):
        encode_head(status, [("X", "y"), (name, value), ("Z", "")])
    with pytest.raises(ValueError):
        encode_head(status, [("Location", "y"), (name, value)])


@pytest.mark.parametrize(
    "name", ["", " ", "a b", " a", "a ", "a:", ":a", "a\t", "(a)", "a/b", "\xfc", '"a"', "a,b", "a=b"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="field name"):
        encode_head("200 OK", [(name, "x")])
    assert name not in response.known_names


@pytest.mark.parametrize("name", [None, 5, b"X"])
def test_names_that_are_no_text(name: Any) -> None:
    with pytest.raises(ValueError, match="field name"):
        encode_head("200 OK", [(name, "x")])


def test_the_culprit_is_named() -> None:
    with pytest.raises(ValueError, match=r"'X-Evil: a\\r\\nSet-Cookie: b'"):
        encode_head("200 OK", [("X-Good", "a"), ("X-Evil", "a\r\nSet-Cookie: b")])


def test_what_is_remembered_of_names_is_bounded() -> None:
    for number in range(3000):
        encode_head("200 OK", [(f"X-{number}", ""), (f"X-{number:064}", "")])
        assert len(response.known_names) <= 1024
    assert all(len(name) <= 64 for name in response.known_names)
    # Those that are in use come again.
    encode_head("200 OK", [("Server-Timing", "")])
    assert "Server-Timing" in response.known_names
    assert parse(encode_head("200 OK", [("X-2999", "a")])) == [("Status", "200 OK"), ("X-2999", "a")]
    with pytest.raises(ValueError):
        encode_head("200 OK", [("X 2999", "a")])


# --------------------------------------------------------------------- document responses


def test_document_head() -> None:
    head = encode_document_head(404, "text/html", [("X-A", "b"), "X-C: d", ["X-E", "f"]])  # type: ignore[list-item]
    assert parse(head) == [
        ("Status", "404 Not Found"),
        ("Content-Type", "text/html"),
        ("X-A", "b"),
        ("X-C", "d"),
        ("X-E", "f"),
    ]


def test_no_type_no_content_type() -> None:
    assert encode_document_head(204, "", ()) == b"Status: 204 No Content\r\n\r\n"


@pytest.mark.parametrize("mime_type", ["text/plain", ""])
@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_a_type_among_the_fields_stands_in_place_of_the_default(mime_type: str, name: str) -> None:
    head = parse(encode_document_head(200, mime_type, [("X-A", "b"), (name, "text/html"), "X-C: d"]))
    assert head[1:] == [("X-A", "b"), (name, "text/html"), ("X-C", "d")]


def test_a_type_is_given_in_one_place() -> None:
    with pytest.raises(ValueError, match="as 'text/csv': give it as mime_type or in extra_headers, not both$"):
        encode_document_head(200, "text/csv", ["Content-Type: text/html"])


@pytest.mark.parametrize("name", ["Content-Type", "Content-Length", "Location", "LOCATION"])
def test_fields_that_a_response_has_once(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name.lower()} is there already, as 'text/plain': give "):
        encode_document_head(200, "text/plain", [(name.lower(), "text/plain"), ("X", "y"), (name, "text/plain")])


def test_no_content_length_is_added() -> None:
    assert b"Content-Length" not in encode_document_head(200, "text/plain", ())
    assert parse(encode_document_head(200, "", ["Content-Length: 5"]))[1] == ("Content-Length", "5")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("A: b", ("A", "b")),
        ("A:b", ("A", "b")),
        ("A:", ("A", "")),
        ("A:  b\t ", ("A", "b")),
        ("A: b: c", ("A", "b: c")),
        ("A::", ("A", ":")),
    ],
)
def test_fields_as_text(text: str, field: tuple[str, str]) -> None:
    assert parse(encode_document_head(200, "", [text]))[1:] == [field]


BAD_HEADERS: list[Any] = [
    "",
    "no colon",
    ": no name",
    "A : blank",
    " A: blank",
    "A: b\r\nB: c",
    "A: b\n",
    "A: \0",
    "A: \u20ac",
    ("A",),
    ("A", "b", "c"),
    ("A", 5),
    (5, "b"),
    ("A", None),
    (b"A", b"b"),
    ("", "b"),
    ("A", "b\r\n"),
    ("A", "b\n c"),
    ("A\r\nB", "c"),
    ("A:", "b"),
    b"A: b",
    None,
    5,
    {"A": "b"},
    "Status: 200",
    ("status", "200 OK"),
    ("STATUS", "200 OK"),
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=repr)
def test_bad_extra_headers(header: Any) -> None:
    with pytest.raises(ValueError):
        encode_document_head(200, "text/plain", [("X", "y"), header])


@pytest.mark.parametrize("code", [100, 600, "200", True], ids=repr)
def test_bad_code_of_a_document(code: Any) -> None:
    with pytest.raises(ValueError):
        encode_document_head(code, "text/plain", ())


@pytest.mark.parametrize("mime_type", ["text/plain\r\nX: y", "text\n", "\0", "\u20ac"])
def test_bad_type(mime_type: str) -> None:
    with pytest.raises(ValueError):
        encode_document_head(200, mime_type, ())


def test_headers_may_come_from_a_generator() -> None:
    def fields() -> Iterator[str]:
        yield "A: b"
        yield "C: d"

    assert parse(encode_document_head(200, "", fields()))[1:] == [("A", "b"), ("C", "d")]


@pytest.mark.parametrize("answer", [response.INTERNAL_SERVER_ERROR, response.FORBIDDEN])
def test_our_own_answers(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert parse(head + b"\r\n\r\n") == [("Status", status_line(status)), ("Content-Type", "text/plain; charset=utf-8")]
    assert body == HTTPStatus(status).phrase.encode() + b"\n"


# --------------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/", "/"),
        ("/a/b?c=d&e=f", "/a/b?c=d&e=f"),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a%20b"),
        ("/a%2Fb%", "/a%2Fb%"),
        ("/caf\xe9/\u20ac", "/caf%C3%A9/%E2%82%AC"),
        ("/a\tb\x7f", "/a%09b%7F"),
        ("/\\example.com", "/%5Cexample.com"),
        ("/\t/example.com", "/%09/example.com"),
        ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
        ("/a//b", "/a//b"),
        ("http://example.com", "http://example.com"),
        ("https://[::1]:8080/a?b#c", "https://[::1]:8080/a?b#c"),
        ("HTTPS://example.com/\xfc", "HTTPS://example.com/%C3%BC"),
        ("git+ssh://example.com/", "git+ssh://example.com/"),
        ("mailto:someone@example.com", "mailto:someone@example.com"),
    ],
)
def test_redirect(target: str, sent: str) -> None:
    for software in ("", "nginx/1.22.1", "lighttpd/1.4.69", "HAProxy 2.6.12"):
        assert encode_redirect(target, software) == f"Location: {sent}\r\n\r\n".encode("ascii")
    for software in ("Apache/2.4.71 (Debian)", "Apache", "Caddy/2.6.2"):
        assert encode_redirect(target, software) == f"Location: {sent}\r\nStatus: 302 Found\r\n\r\n".encode("ascii")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "a/b",
        "?a",
        "#a",
        " /a",
        "//example.com/",
        "///example.com",
        "\\\\example.com",
        ":",
        "://a",
        "http:",
        "1http://a",
        "h ttp://a",
        "h\u00fcttp://a",
        "\u00fc:a",
        "/a\rb",
        "/a\nb",
        "/a\0b",
        "/a\r\nSet-Cookie: b",
        "http://a\r\n",
        "\n/a",
        "/\ud800",
        None,
        5,
        b"/a",
    ],
    ids=repr,
)
def test_bad_redirects(target: Any) -> None:
    with pytest.raises(ValueError):
        encode_redirect(target)


@given(st.text(max_size=20) | st.text(st.sampled_from("/:\\ahtp.\r\n\t?#%"), max_size=12).map(lambda text: "/" + text))
def test_a_redirect_is_one_line_and_leaves_its_host_only_when_told(target: str) -> None:
    try:
        head = encode_redirect(target)
    except ValueError:
        return
    ((name, location),) = parse(head)
    assert name == "Location"
    assert location.isascii()
    assert location.isprintable()
    assert " " not in location
    if target.startswith("/"):
        # Browsers skip tabs and take a backslash for a slash.
        assert location[:1] == "/"
        assert location.replace("\\", "/")[:2] != "//"


# --------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("mime_type", "data", "body"),
    [
        ("text/plain", None, b""),
        ("application/json", None, b""),
        ("text/plain", "caf\xe9", b"caf\xc3\xa9"),
        ("text/plain", b"\xff", b"\xff"),
        ("text/plain", bytearray(b"ab"), b"ab"),
        ("text/plain", memoryview(b"abcd")[::2], b"ac"),
        ("text/plain", "\udcff", b"\xff"),
        ("application/json", b"[", b"["),
        ("application/json", bytearray(b"["), b"["),
        ("application/json", memoryview(b"["), b"["),
        ("application/json", "text", b'"text"'),
        ("application/json", {"a": [1, None, "\xe9"]}, b'{"a": [1, null, "\\u00e9"]}'),
        ("application/problem+json; charset=utf-8", 5, b"5"),
        ("application/x-ndjson", [], b"[]"),
    ],
)
def test_body(mime_type: str, data: object, body: bytes) -> None:
    encoded = encode_body(mime_type, data)
    assert encoded == body
    assert type(encoded) is bytes


@pytest.mark.parametrize("data", [5, 1.5, [], {}, object()])
def test_bodies_that_cannot_be_sent(data: object) -> None:
    with pytest.raises(TypeError):
        encode_body("text/plain", data)
    with pytest.raises(TypeError):
        encode_chunk(data)


def test_json_that_cannot_be() -> None:
    with pytest.raises(TypeError):
        encode_body("application/json", object())


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.booleans())))
def test_json_is_read_back(data: dict[str, object]) -> None:
    assert json.loads(encode_body("application/json", data)) == data


def test_chunks() -> None:
    assert encode_chunk("\u20ac") == b"\xe2\x82\xac"
    assert encode_chunk(b"ab") == b"ab"
    assert encode_chunk(array.array("B", b"ab")) == b"ab"


def test_bytes_are_copied_only_if_they_can_change() -> None:
    data = bytes(1000)
    assert as_bytes(data) is data
    changing = bytearray(b"ab")
    kept = as_bytes(changing)
    changing[0] = 0
    assert kept == b"ab"
    with pytest.raises(TypeError, match="not str"):
        as_bytes("text")
