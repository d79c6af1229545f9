"""The head of an application's response, and the bytes that it promised."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.gateways import response
from simple_fastcgi.gateways.response import BodyCounter, BodyLengthError, encode_application_head

TEXT = ("Content-Type", "text/plain")


@pytest.fixture(autouse=True)
def _not_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "_warned", set())


@pytest.mark.parametrize(
    ("fields", "head", "length"),
    (
        ([], b"", None),
        ([TEXT, ("X-One", "")], b"Content-Type: text/plain\r\nX-One: \r\n", None),
        ([("content-length", "007")], b"content-length: 007\r\n", 7),
        ([("Content-Length", "0")], b"Content-Length: 0\r\n", 0),
        ([("Content-Length", "9" * 18)], b"Content-Length: " + b"9" * 18 + b"\r\n", 10**18 - 1),
        ([("Content-Length", "7"), ("CONTENT-LENGTH", "07")], b"Content-Length: 7\r\n", 7),
        ([("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")], b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n", None),
        ([("X-One", "\xff\t x")], b"X-One: \xff\t x\r\n", None),
        ([("TRANSFER-ENCODING", "chunked"), ("sTATUS", "404 x")], b"", None),
    ),
)
def test_head(fields: list[tuple[str, str]], head: bytes, length: int | None) -> None:
    for _ in range(3):
        assert encode_application_head("200 OK", fields) == (b"Status: 200 OK\r\n" + head + b"\r\n", length)


def test_what_an_application_makes_up_is_forgotten() -> None:
    """Names, statuses and lengths; those that are in use come again."""
    for number in range(1100):
        status, fields = f"200 {number}", [(f"X-{number}", "a"), ("Content-Length", str(10**6 + number))]
        encode_application_head(status, fields)
        encode_application_head(status, fields)
        tables = (response._known_names, response._status_lines, response._known_lengths)
        assert all(len(table) <= 1024 for table in tables)
    fields = [("Server-Timing", "a"), ("Content-Length", "12345")]
    for _ in range(2):
        head = b"Status: 200 Fine\r\nServer-Timing: a\r\nContent-Length: 12345\r\n\r\n"
        assert encode_application_head("200 Fine", fields) == (head, 12345)
    assert "Server-Timing" in response._known_names
    assert "200 Fine" in response._status_lines
    assert "12345" in response._known_lengths


def test_short_heads_are_known_again() -> None:
    """Such as hold a type and a length, as long as there are not too many of them."""
    for number in (*range(3000), *range(5)):
        fields = [("Content-Type", "text/plain"), ("Content-Length", str(number))]
        head, length = encode_application_head("200 OK", fields)
        assert head == b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % number
        assert length == number
    assert encode_application_head("200 OK", fields) is encode_application_head("200 OK", fields)
    assert len(response._heads) <= 1024
    assert not any("Set-Cookie" in str(known) for known in response._heads)


def test_dropped_fields_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        encode_application_head("200 OK", [("Transfer-Encoding", "chunked"), ("status", "404"), ("Status", "404")])
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.partition(" header is dropped")[0] for message in told] == [
        "the application's Transfer-Encoding",
        "the application's status",
    ]


class Asked:
    """A request, of which only the parameters count."""

    def __init__(self, software: str, script: str) -> None:
        self.params = {"SERVER_SOFTWARE": software, "SCRIPT_FILENAME": script}
        self.params |= {"REQUEST_METHOD": "POST", "REQUEST_URI": "/items"}


FCGID = Asked("Apache/2.4.71 (Debian) mod_fcgid/2.3.9", "/srv/shop/index.fcgi")
PROXY_FCGI = Asked("Apache/2.4.71 (Debian) mod_fcgid/2.3.9", "proxy:fcgi://shop/items")
LOCATION = ("Location", "/items/1")


def test_a_location_that_apache_would_follow_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        head, _ = encode_application_head("200 OK", [TEXT, LOCATION, ("X-One", "1")], request=FCGID)
        assert head == b"Status: 200 OK\r\nContent-Type: text/plain\r\nX-One: 1\r\n\r\n"
    assert caplog.messages == [
        "POST /items: the Location header of a 200 is dropped: Apache would answer with what it leads to (told once)"
    ]


@pytest.mark.parametrize("status", ("201 Created", "202 Accepted", "206 Partial Content", "303 See Other"))
def test_of_other_statuses_a_location_stays(status: str) -> None:
    head, _ = encode_application_head(status, [LOCATION], request=FCGID)
    assert head == f"Location: /items/1\r\nStatus: {status}\r\n\r\n".encode()


@pytest.mark.parametrize("asked", (PROXY_FCGI, Asked("nginx/1.22.1", "/srv/shop/index.fcgi"), None))
def test_elsewhere_a_location_stays(asked: Asked | None) -> None:
    head, _ = encode_application_head("200 OK", [LOCATION], request=asked)
    assert head == b"Location: /items/1\r\nStatus: 200 OK\r\n\r\n"


@given(st.text(), st.lists(st.tuples(st.text(), st.text())))
def test_a_head_is_refused_or_one_line_for_each_field(status: str, fields: list[tuple[str, str]]) -> None:
    try:
        head, _ = encode_application_head("200 " + status, fields)
    except ValueError:
        return
    dropped = sum(name.lower() in ("status", "transfer-encoding", "content-length") for name, _ in fields)
    lines = head.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(fields) - dropped <= len(lines) - 3 <= len(fields) + 1
    assert head.count(b"\n") == head.count(b"\r") == len(lines) - 1


def test_counting() -> None:
    counter = BodyCounter(5, suppressed=False)
    assert [counter.take(b"abc"), counter.complete, counter.excess] == [b"abc", False, False]
    with pytest.raises(BodyLengthError, match="2 bytes shorter"):
        counter.check_end()
    assert [counter.take(b"de"), counter.complete, counter.excess] == [b"de", True, False]
    counter.check_end()
    assert [counter.take(b"f"), counter.complete, counter.excess] == [b"", True, True]
    counter.check_end()


def test_counting_without_a_promise() -> None:
    counter = BodyCounter(None, suppressed=False)
    assert [counter.take(b"abc"), counter.complete, counter.excess] == [b"abc", False, False]
    counter.check_end()


@pytest.mark.parametrize("length", (None, 0, 2, 5))
def test_counting_what_is_thrown_away(length: int | None) -> None:
    counter = BodyCounter(length, suppressed=True)
    assert [counter.take(b""), counter.complete] == [b"", False]
    for data in (b"abc", b"", b"def"):
        assert [counter.take(data), counter.complete, counter.excess] == [b"", True, False]
        counter.check_end()


@given(st.integers(0, 50), st.lists(st.binary(max_size=20)))
def test_never_more_than_promised(length: int, blocks: list[bytes]) -> None:
    counter = BodyCounter(length, suppressed=False)
    whole = b"".join(blocks)
    assert b"".join(map(counter.take, blocks)) == whole[:length]
    assert counter.excess == (len(whole) > length)
    assert counter.complete == (len(whole) >= length)


class Odd(str):
    """What some subclasses make of themselves; without a hash, since it has an idea of its own of what equals it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __format__(self, spec: str) -> str:
        return "1\r\nX-Evil: 1"

    def __str__(self) -> str:
        return "2\r\nX-Evil: 2"

    def __int__(self) -> int:
        return 7


@pytest.mark.parametrize("kind", (Odd, str))
def test_what_is_in_a_text_counts(kind: type[str]) -> None:
    for text in (kind, str, kind):
        head, length = encode_application_head(text("200 Odd"), [(text("X-Odd"), text("a")), TEXT])
        assert (head, length) == (b"Status: 200 Odd\r\nX-Odd: a\r\nContent-Type: text/plain\r\n\r\n", None)
        head, length = encode_application_head(text("200 Odd"), [(text("Content-Length"), text("6"))])
        assert (head, length) == (b"Status: 200 Odd\r\nContent-Length: 6\r\n\r\n", 6)
