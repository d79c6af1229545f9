"""The head of a CGI response, read in any slicing; what is no head is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.reply import HeadReader, ResponseHead, glance
from simple_fastcgi.cgi.response import encode_document_head, encode_head, encode_redirect
from simple_fastcgi.errors import ProtocolError, ResponseHeadError

TOKEN = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=12)
SPECIAL = {"status", "location", "content-length"}
values = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=20).map(
    lambda v: v.strip(" \t")
)
fields = st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in SPECIAL), values), max_size=8)


def read(data: bytes, size: int = 0, *, max_bytes: int = 65_536, max_fields: int = 500) -> tuple[ResponseHead, bytes]:
    """The head of `data`, fed in pieces of `size`, and what followed."""
    reader = HeadReader(max_bytes, max_fields)
    size = size or len(data)
    for start in range(0, len(data), size):
        head = reader.feed(data[start : start + size])
        if head is not None:
            return head, bytes(reader.rest) + data[start + size :]
    raise AssertionError("not complete")


@given(st.sampled_from(["200 OK", "404 Not Found", "599 Unknown", "204"]), fields, st.binary(), st.integers(0, 50))
def test_what_we_write_is_read(status: str, written: list[tuple[str, str]], body: bytes, size: int) -> None:
    head, rest = read(encode_head(status, written) + body, size)
    assert (str(head.status), head.reason.decode()) == (status[:3], status[4:])
    assert head.headers == [(name.encode("latin-1"), value.encode("latin-1")) for name, value in written]
    assert rest == body


@given(
    st.lists(st.sampled_from([b"A: b", b"\r\n", b"\n", b" ", b":", b"Status: 200", b"\0", b"HTTP/1.1 "]) | st.binary())
)
def test_anything_is_a_head_or_an_error(parts: list[bytes]) -> None:
    data = b"".join(parts)
    outcomes = []
    for size in (1, 3, len(data) + 1):
        reader = HeadReader(100, 4)
        found: object = None
        position = 0
        while position < len(data) and found is None:
            try:
                found = reader.feed(data[position : position + size])
            except ResponseHeadError as error:
                found = str(error)
            position += size
        outcomes.append(found)
        if isinstance(found, ResponseHead):
            assert data.endswith(bytes(reader.rest) + data[position:])
    # In pieces a line may be found too long before it is found wrong.
    assert outcomes[0] == outcomes[1] == outcomes[2] or all(isinstance(outcome, str) for outcome in outcomes)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("lines", "status", "reason", "names"),
    [
        ([b"Content-Type: text/plain"], 200, b"", [b"Content-Type"]),
        ([b"Location: /x"], 302, b"", [b"Location"]),
        ([b"Status: 404 Not Found", b"A: b"], 404, b"Not Found", [b"A"]),
        ([b"A: b", b"STATUS:404"], 404, b"", [b"A"]),
        ([b"Location: /x", b"Status: 201 Created"], 201, b"Created", [b"Location"]),
        ([b"HTTP/1.1 200 OK", b"A: b"], 200, b"OK", [b"A"]),
        ([b"HTTP/2 302"], 302, b"", []),
        ([b"HTTP/1.0 200 OK", b"Status: 500"], 500, b"", []),
        ([b"Status: 200", b"Status: 200"], 200, b"", []),
        ([b"Status: 999  A reason "], 999, b"A reason", []),
        ([b"Set-Cookie: a", b"Set-Cookie: b"], 200, b"", [b"Set-Cookie", b"Set-Cookie"]),
    ],
)
def test_heads(lines: list[bytes], status: int, reason: bytes, names: list[bytes], end: bytes, size: int) -> None:
    head, rest = read(end.join([*lines, b"", b"body"]), size)
    assert (head.status, head.reason, [name for name, _ in head.headers]) == (status, reason, names)
    assert rest == b"body"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\n", "has no field"),
        (b"\r\n\r\nbody", "has no field"),
        (b"<html>\n", "no header field, but b'<html>' came"),
        (b"A b: c\n\n", "no header field"),
        (b": c\n\n", "no header field"),
        (b"A: b\n folded\n\n", "continues the one before: b' folded'"),
        (b"\tA: b\n\n", "continues the one before"),
        (b"A: b\r\r\n\n", "CR or NUL"),
        (b"A: \0\n\n", "CR or NUL"),
        (b"A\rB: c\n\n", "CR or NUL"),
        (b"Status: OK\n\n", "Status: b'OK'"),
        (b"Status: 100 Continue\n\n", "none from 200 to 999"),
        (b"Status: 200OK\n\n", "Status: b'200OK'"),
        (b"Status:\n\n", "Status: b''"),
        (b"Status: 200\nStatus: 404\n\n", "status came several times"),
        (b"HTTP/1.1 20\n\n", "Status: b'20'"),
        (b"A: b\nHTTP/1.1 200 OK\n\n", "no header field"),
        (b"HTTP/1.1 200 OK\nHTTP/1.1 200 OK\n\n", "no header field"),
        (b"Content-Length: x\n\n", "Content-Length: b'x'"),
        (b"Content-Length: -1\n\n", "Content-Length"),
        (b"Content-Length: " + b"1" * 19 + b"\n\n", "Content-Length"),
        (b"Content-Length: 1\ncontent-length: 2\n\n", "content-length came several times"),
        (b"A" * 200 + b"\n\n", r"AAA\.\.\.' came"),
    ],
)
def test_what_is_no_head(data: bytes, told: str) -> None:
    assert issubclass(ResponseHeadError, ProtocolError)
    for size in (0, 1):
        with pytest.raises(ResponseHeadError, match=told):
            read(data, size)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_limits(size: int) -> None:
    data = b"A: b\nB: c\n\nbody"
    assert read(data, size, max_bytes=11, max_fields=2)[1] == b"body"
    with pytest.raises(ResponseHeadError, match=r"more than 10 bytes \(max_head_bytes\)"):
        read(data, size, max_bytes=10)
    with pytest.raises(ResponseHeadError, match=r"more than 1 fields \(max_head_fields\)"):
        read(data, size, max_fields=1)
    with pytest.raises(ResponseHeadError, match="max_head_bytes"):
        read(b"A" * 12, size, max_bytes=11)


def test_a_body_behind_the_head_is_not_copied() -> None:
    reader = HeadReader(65_536, 9)
    data = b"A: b\n" + b"C: " + b"d" * 9000 + b"\n\n" + b"x" * 50_000
    head = reader.feed(data)
    assert head is not None
    assert isinstance(reader.rest, memoryview)
    assert reader.rest.obj is data
    assert reader.rest == b"x" * 50_000
    assert head.get(b"c") == b"d" * 9000
    again = HeadReader(65_536, 9)
    assert again.feed(memoryview(data)) == head
    assert again.rest == reader.rest


def test_begun() -> None:
    reader = HeadReader(100, 9)
    assert not reader.begun
    assert reader.feed(b"A") is None
    assert reader.begun
    assert reader.feed(b": b\n") is None
    assert reader.begun


def test_redirects() -> None:
    local, _ = read(encode_redirect("/path?query"))
    assert (local.status, local.local_redirect) == (302, b"/path?query")
    other, _ = read(encode_redirect("https://example.com/"))
    assert (other.status, other.local_redirect) == (302, None)
    other, _ = read(encode_redirect("/path?query", "Apache"))
    assert (other.status, other.local_redirect) == (302, None)
    for data in (b"Location: /x\nA: b\n\n", b"Status: 302 Found\nLocation: /x\n\n", b"Location: //x\n\n", b"A: /\n\n"):
        assert read(data)[0].local_redirect is None


def test_a_head() -> None:
    head, _ = read(encode_document_head(200, "text/plain", ["Content-Length: 7", ("X", "y")]))
    assert head.content_length == 7
    assert head.get(b"content-type") == b"text/plain"
    assert head.get(b"missing") is None
    assert read(b"A: b\n\n")[0].content_length is None
    assert repr(ResponseHead(200, [(b"A", b"b")])) == "ResponseHead(200, [(b'A', b'b')], b'')"
    assert ResponseHead(200, []) == ResponseHead(200, [])
    assert ResponseHead(200, []) != ResponseHead(200, [], b"OK")
    assert ResponseHead(200, []) != 200
    assert len({ResponseHead(200, []), ResponseHead(200, [])}) == 1


@pytest.mark.parametrize(
    ("data", "status", "size", "ended"),
    [
        (b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nbody\n\n", 404, 51, True),
        (b"Content-Type: text/plain\nstatus:418\n\nbody\r\n\r\n", 418, 37, True),
        (b"Content-Type: text/plain\r\n\r\nStatus: 500", 200, 28, True),
        (b"Location: /elsewhere\r\n\r\n", 302, 24, True),
        (b"Location: /\r\nStatus: 301 Moved\r\n\r\n", 301, 34, True),
        (b"Status: 20", 200, 10, False),
        (b"Status: 999 is one, too", 999, 23, False),
        (b"Status: 500 Oops\r\n", 500, 18, False),
        (b"", 200, 0, False),
    ],
)
def test_a_glance_at_a_head(data: bytes, status: int, size: int, ended: bool) -> None:
    assert glance(data) == glance(memoryview(data)) == (status, size, ended)


@given(st.binary(), st.sampled_from((b"\r\n", b"\n")), st.integers(200, 999))
def test_a_glance_tells_what_is_read(body: bytes, end: bytes, status: int) -> None:
    head = b"Content-Type: text/plain" + end + b"Status: %d Well" % status + end + end
    reader = HeadReader(1024, 10)
    read = reader.feed(head + body)
    assert read is not None
    assert glance(head + body) == (read.status, len(head), True)
    assert reader.rest == body
