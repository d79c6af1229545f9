"""`send_response` and `send_redirect` of both mixins."""

from __future__ import annotations

import array
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST, FCGI_STDOUT
from tests.servers.support import SYNC, Flag
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.support import Handler, Log, Serve
    from tests.support.webserver import Response


class Responses:
    """What `send_response` writes, by the name of a case; all on one connection."""

    def __init__(self, serve: Serve, cases: dict[str, tuple[Any, ...]]) -> None:
        async def body(h: Handler) -> None:
            *arguments, last = cases[h.environ["PATH_INFO"]]
            if isinstance(last, Options):
                await h.send_response(*arguments, **last)
            else:
                await h.send_response(*arguments, last)

        self._web = serve(body).connect()

    def __getitem__(self, case: str) -> Response:
        return self._web.request(params_for(case))


class Options(dict[str, Any]):
    """Keyword arguments, at the end of a case's."""


def respond(serve: Serve, *arguments: Any, **keywords: Any) -> Response:
    """What one call writes."""
    return Responses(serve, {"": (*arguments, Options(keywords))})[""]


# ------------------------------------------------------------------------------------------ heads


STATUSES = {
    200: "200 OK",
    204: "204 No Content",
    301: "301 Moved Permanently",
    404: "404 Not Found",
    418: "418 I'm a Teapot",
    503: "503 Service Unavailable",
    299: "299 Unknown",
    599: "599 Unknown",
}


def test_status(serve: Serve) -> None:
    """Reason phrases come from the standard library."""
    responses = Responses(serve, {str(code): (code,) for code in STATUSES})
    for code, line in STATUSES.items():
        assert responses[str(code)].stdout == f"Status: {line}\r\nContent-Type: text/plain\r\n\r\n".encode()


def test_content_type(serve: Serve) -> None:
    cases = {"html": (200, "text/html; charset=utf-8"), "png": (200, Options(mime_type="image/png")), "none": (304, "")}
    responses = Responses(serve, cases)
    assert responses["html"].head["content-type"] == "text/html; charset=utf-8"
    assert responses["png"].head["content-type"] == "image/png"
    # None is wanted: none is written.
    assert responses["none"].stdout == b"Status: 304 Not Modified\r\n\r\n"


def test_a_content_type_among_the_extra_headers(serve: Serve) -> None:
    """It is the only one, as RFC 3875, 6.3 wants it; two that contradict each other are a mistake."""
    response = respond(serve, 200, data="<b>", extra_headers=[("Content-Type", "text/html; charset=utf-8")])
    assert response.stdout == b"Status: 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>"


def test_extra_headers(serve: Serve) -> None:
    """Pairs and strings, mixed, in turn, and more than once."""
    headers = [
        ("X-Pair", "one"),
        "X-String: two",
        "X-Narrow:three",
        "X-Wide: \t four \t",
        ["X-List", "five"],
        ("Set-Cookie", "a=1"),
        "Set-Cookie: b=2",
        ("X-Empty", ""),
        "X-Colons: a:b:c",
        ("X-Latin", "\xe9"),
    ]
    for given in (headers, tuple(headers), iter(headers)):
        head = respond(serve, 200, data="x", extra_headers=given).stdout.partition(b"\r\n\r\n")[0]
        assert head.decode("latin-1").split("\r\n")[2:] == [
            "X-Pair: one",
            "X-String: two",
            "X-Narrow: three",
            "X-Wide: four",
            "X-List: five",
            "Set-Cookie: a=1",
            "Set-Cookie: b=2",
            "X-Empty: ",
            "X-Colons: a:b:c",
            "X-Latin: \xe9",
        ]


def test_there_is_never_a_content_length(serve: Serve) -> None:
    """Unless the handler gives one: only it knows what it will write."""
    assert b"content-length" not in respond(serve, 200, data="x" * 1000).stdout.lower()
    assert respond(serve, 200, data="xyz", extra_headers=["Content-Length: 3"]).head["content-length"] == "3"


# ------------------------------------------------------------------------------------------ data

JSON = "application/json"


DATA: list[tuple[str, Any, bytes]] = [
    ("text/plain", None, b""),
    ("text/plain", "", b""),
    ("text/plain", "grüße 🐍", "grüße 🐍".encode()),
    ("text/plain", "caf\udce9", b"caf\xe9"),
    ("text/plain", b"\0\xff", b"\0\xff"),
    ("text/plain", bytearray(b"bytearray"), b"bytearray"),
    ("text/plain", memoryview(b"m-e-m")[::2], b"mem"),
    ("text/plain", array.array("H", [0]), b"\0\0"),
    (JSON, {"a": [1, None, "é"]}, b'{"a": [1, null, "\\u00e9"]}'),
    (JSON, [], b"[]"),
    (JSON, "text", b'"text"'),
    (JSON, 5, b"5"),
    (JSON, False, b"false"),
    (JSON, b'{"ready": "made"}', b'{"ready": "made"}'),
    (JSON, bytearray(b"[1]"), b"[1]"),
    (JSON, memoryview(b"[2]"), b"[2]"),
    (JSON, None, b""),
    ("application/problem+json; charset=utf-8", {"a": "caf\udce9"}, b'{"a": "caf\\udce9"}'),
    ("application/x-ndjson", {"a": 1}, b'{"a": 1}'),
]


def test_data(serve: Serve) -> None:
    responses = Responses(serve, {str(i): (200, mime_type, data) for i, (mime_type, data, _) in enumerate(DATA)})
    for i, (mime_type, data, body) in enumerate(DATA):
        response = responses[str(i)]
        assert response.body == body, data
        assert response.head["content-type"] == mime_type


def test_arguments_by_name(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        with pytest.raises(TypeError):
            await h.send_response(code=200)
        with pytest.raises(TypeError):
            await h.send_response(200, "text/plain", "data", [], True)
        await h.send_response(201, data={"a": 1}, mime_type=JSON, flush=False, extra_headers=())

    response = serve(body).request()
    assert (response.status, response.body) == (201, b'{"a": 1}')


def test_write_may_follow(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.send_response(200, data="head ")
        await h.write(b"and ")
        await h.write(b"tail", flush=True)

    assert serve(body).request().body == b"head and tail"


# ------------------------------------------------------------------------------------------ generators


def test_a_generator_function_is_called_for_chunks(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        chunks = ("text é ", b"bytes ", bytearray(b"bytearray "), memoryview(b"view"), "", b"")
        await h.send_response(200, data=h.generator(*chunks))
        await h.write(b", and more")

    assert serve(body).request().body == "text é bytes bytearray view, and more".encode()


def test_chunks_are_never_encoded_as_json(serve: Serve) -> None:
    """They are pieces of what the generator makes: lines of JSON, for example."""

    async def body(h: Handler) -> None:
        await h.send_response(200, "application/x-ndjson", h.generator('{"a": 1}\n', b'{"a": 2}\n'))

    lines = serve(body).request().body.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": 2}]


def test_a_generator_of_nothing(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.send_response(200, data=h.generator())

    response = serve(body).request()
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize("flush", [None, True])
def test_each_chunk_is_flushed(serve: Serve, flush: bool | None) -> None:
    """By default too: the web server has one before the next is made."""
    seen = [Flag(), Flag(), Flag()]
    options = {} if flush is None else {"flush": flush}

    async def body(h: Handler) -> None:
        turn = iter(seen)

        async def between() -> None:
            await h.wait(next(turn))

        await h.send_response(200, data=h.generator("one", "two", "three", between=between), **options)

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    for expected, taken in zip((b"one", b"two", b"three"), seen, strict=True):
        arrived = b""
        while not arrived.endswith(expected):
            record = web.record()
            assert record.type == FCGI_STDOUT
            arrived += record.content
        taken.set()
    assert web.response().ended


def test_chunks_without_flush_leave_together(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.send_response(200, data=h.generator("one", "two", "three"), flush=False)

    response = serve(body).request()
    assert response.body == b"onetwothree"
    assert [record.type for record in response.records] == [FCGI_STDOUT, FCGI_STDOUT, FCGI_END_REQUEST]


def test_other_callables_are_taken_for_generator_functions(serve: Serve) -> None:
    """Whatever gives something to iterate over: methods, lambdas, objects that can be called."""

    class Source:
        def __init__(self, make: Callable[[], Any]) -> None:
            self.make = make

        def __call__(self) -> Any:
            return self.make()

    async def body(h: Handler) -> None:
        make = h.generator("a", "b")
        callables = (Source(make), Source(make).make, Source(make).__call__, lambda: make(), partial(make))
        await h.send_response(200, "", callables[int(h.environ["QUERY_STRING"])])

    web = serve(body).connect()
    for number in range(5):
        assert web.request(params_for(f"/?{number}")).stdout == b"Status: 200 OK\r\n\r\nab"


@pytest.mark.parametrize("flush", [True, False])
def test_a_generator_that_fails(serve: Serve, log: Log, flush: bool) -> None:
    """Before anything was sent: a plain 500. Later: a response that is visibly cut."""

    async def body(h: Handler) -> None:
        async def between() -> None:
            raise LookupError("of the generator")

        await h.send_response(200, data=h.generator("one", "two", between=between), flush=flush)

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    if flush:
        assert web.record().content.endswith(b"\r\n\r\none")
        while (record := web.record()).id == 1:
            assert record.type != FCGI_END_REQUEST
        web.eof()
    else:
        assert web.response().status == 500
    assert "of the generator" in log.claim_failure("GET / failed")


def test_a_function_that_gives_no_body(serve: Serve) -> None:
    """Nothing is written, so that the handler may say what is wrong: here in a response of its own."""

    def failing() -> Any:
        raise LookupError("no such row")

    async def body(h: Handler) -> None:
        async def asynchronous() -> Any:
            yield "x"

        def synchronous() -> Any:
            yield "x"

        def no_chunks() -> int:
            return 5

        other = synchronous if h.running.kind.is_async else asynchronous
        for data in (other, no_chunks, h.generator(5, "x"), h.generator(None)):
            with pytest.raises(TypeError):
                await h.send_response(200, data=data)
        with pytest.raises(LookupError):
            await h.send_response(200, data=failing)
        await h.send_response(404, data="nothing was written")

    assert serve(body).request().stdout == (
        b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nnothing was written"
    )


def test_an_empty_first_chunk_sends_the_head(serve: Serve) -> None:
    """Where the first real one takes long."""
    seen = Flag()

    async def body(h: Handler) -> None:
        async def between() -> None:
            await h.wait(seen)

        await h.send_response(200, data=h.generator(b"", "late", between=between))

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    assert web.record().content == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    seen.set()
    assert web.response().stdout == b"late"


def test_a_chunk_that_cannot_be_sent(serve: Serve, log: Log) -> None:
    chunks: list[Any] = [5, None, ["x"], {"a": 1}, object()]

    async def body(h: Handler) -> None:
        await h.send_response(200, JSON, h.generator(chunks[int(h.environ["PATH_INFO"])]))

    web = serve(body).connect()
    for i in range(len(chunks)):
        assert web.request(params_for(str(i))).status == 500
        assert "TypeError: bytes are wanted here" in log.claim_failure("failed")


# ------------------------------------------------------------------------------------------ what is refused

BAD_CODES = [0, 100, 101, 199, 600, 1000, -200, True, "200", 200.0, None, b"200"]
BAD_HEADERS = [
    "no colon",
    "",
    ": value",
    ("", "value"),
    ("Name",),
    ("Name", "value", "more"),
    ("Name", 5),
    (5, "value"),
    (b"Name", b"value"),
    b"Name: value",
    5,
    None,
    {"Name": "value"},
    "Na me: value",
    " Name: value",
    "Name : value",
    ("Name:", "value"),
    ("Näme", "value"),
    ("Name\r\nX", "value"),
    ("Name", "value\r\nX: y"),
    ("Name", "value\n"),
    ("Name", "\rvalue"),
    ("Name", "va\0lue"),
    "Name: value\r\n\r\nbody",
    "Name\n: value",
    ("Name", "\u20ac"),
    ("Status", "200 OK"),
    "status: 200 OK",
]
BAD_TYPES = ["text/plain\r\nX: y", "text/plain\n", "text\0/plain", "text/\u20ac"]
BAD_DATA = [5, 1.5, ["x"], {"a": 1}, object()]


def test_bad_status_codes(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        for code in BAD_CODES:
            with pytest.raises(ValueError, match="status code"):
                await h.send_response(code)
            with pytest.raises(ValueError, match="status code"):
                await h.send_response(code, data=h.generator("never asked for"))
        await h.send_response(200, data="nothing was written")

    response = serve(body).request()
    assert response.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nnothing was written"


def test_bad_headers_and_types(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        for header in BAD_HEADERS:
            with pytest.raises(ValueError):
                await h.send_response(200, data="x", extra_headers=[("X-Good", "1"), header])
        for mime_type in BAD_TYPES:
            with pytest.raises(ValueError):
                await h.send_response(200, mime_type, data="x")
        await h.send_response(200, data="nothing was written")

    response = serve(body).request()
    assert response.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nnothing was written"


def test_data_that_cannot_be_sent(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        for data in BAD_DATA:
            with pytest.raises(TypeError, match="bytes are wanted here"):
                await h.send_response(200, data=data)
        with pytest.raises(TypeError, match="JSON"):
            await h.send_response(200, JSON, {"a": object()})
        await h.send_response(200, data="nothing was written")

    response = serve(body).request()
    assert response.stdout == b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nnothing was written"


@pytest.mark.parametrize("mime_type", ["text/plain", JSON])
def test_a_generator_in_place_of_its_function(serve: Serve, mime_type: str) -> None:
    async def body(h: Handler) -> None:
        function = h.generator("chunk")
        with pytest.raises(TypeError, match=rf"give the generator function itself, not what {function.__name__}\(\)"):
            await h.send_response(200, mime_type, function())
        await h.send_response(200, data=function)

    assert serve(body).request().body == b"chunk"


def test_a_function_that_writes_by_itself(serve: Serve) -> None:
    """Behind the head, also before its first chunk: a visitor's text must not become a header field."""

    async def body(h: Handler) -> None:
        async def write_async() -> Any:
            await h.real.write(b"Set-Cookie: a=b\r\n")
            yield b"chunk"

        def write() -> Any:
            h.real.write(b"Set-Cookie: a=b\r\n")
            yield b"chunk"

        await h.send_response(200, data=write_async if h.running.kind.is_async else write)
        await h.write(b", and more")

    response = serve(body).request()
    assert response.head == {"status": "200 OK", "content-type": "text/plain"}
    assert response.body == b"Set-Cookie: a=b\r\nchunk, and more"


@SYNC
def test_a_function_that_writes_and_gives_nothing(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        def write() -> Any:
            h.real.write(b"written")
            return 5 if h.environ["PATH_INFO"] == "/wrong" else ()

        if h.environ["PATH_INFO"] == "/wrong":
            with pytest.raises(TypeError):
                await h.send_response(200, data=write)
            with pytest.raises(RuntimeError, match="has its head already"):
                await h.send_response(500)
        else:
            await h.send_response(200, data=write)

    running = serve(body)
    for path in ("/", "/wrong"):
        response = running.request(path)
        assert (response.status, response.body) == (200, b"written")


@SYNC
def test_a_generator_ends_where_a_later_chunk_is_none(serve: Serve) -> None:
    """Not when whoever keeps the exception lets go of it."""

    async def body(h: Handler) -> None:
        ended = Flag()

        def chunks() -> Any:
            try:
                yield b"one"
                yield 5
            finally:
                ended.set()

        with pytest.raises(TypeError) as kept:
            await h.send_response(200, data=chunks)
        assert ended.is_set
        del kept

    assert serve(body).request().body == b"one"


def test_a_response_has_one_head(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        first = h.environ["PATH_INFO"]
        if first == "/redirect":
            await h.send_redirect("/")
        else:
            await h.send_response(200, data=h.generator("one") if first == "/function" else "one")
        await h.write(b"two")
        for data in ("again", h.generator("again")):
            with pytest.raises(RuntimeError, match="the response has its head already"):
                await h.send_response(500, data=data)
        with pytest.raises(RuntimeError, match="the response has its head already"):
            await h.send_redirect("/")

    web = serve(body).connect()
    assert web.request(params_for("/")).body == b"onetwo"
    assert web.request(params_for("/function")).body == b"onetwo"
    assert web.request(params_for("/redirect")).stdout == b"Location: /\r\n\r\ntwo"


# ------------------------------------------------------------------------------------------ redirects


REDIRECTS = {
    "/": "/",
    "/path?query=1&b=%20": "/path?query=1&b=%20",
    "/a//b": "/a//b",
    "/grüße": "/gr%C3%BC%C3%9Fe",
    "/with blank": "/with%20blank",
    "https://example.org": "https://example.org",
    "https://example.org:8080/p?q#f": "https://example.org:8080/p?q#f",
    "http://[::1]/": "http://[::1]/",
    "mailto:someone@example.org": "mailto:someone@example.org",
    "urn:isbn:123": "urn:isbn:123",
}


def test_redirects(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.send_redirect(h.environ["TARGET"])

    web = serve(body).connect()
    for target, location in REDIRECTS.items():
        params = params_for(TARGET=target.encode().decode("latin-1"))
        # The web server makes the response of it (RFC 3875, 6.2.2 and 6.2.3), unless it is one that cannot.
        assert web.request(params).stdout == f"Location: {location}\r\n\r\n".encode()
        params["SERVER_SOFTWARE"] = "Apache/2.4.71 (Debian)"
        assert web.request(params).stdout == f"Location: {location}\r\nStatus: 302 Found\r\n\r\n".encode()


BAD_TARGETS = [
    "",
    "path",
    "../path",
    "?query",
    "#fragment",
    "//example.org/path",
    "https:",
    ":no-scheme",
    "1http://example.org",
    "ht tp://example.org",
    "hüp://example.org",
    "/path\r\nX: y",
    "/path\n",
    "/pa\0th",
    "https://example.org/\r\n",
    b"/path",
    None,
    5,
]


def test_bad_redirects(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        for target in BAD_TARGETS:
            with pytest.raises(ValueError, match="redirect to"):
                await h.send_redirect(target)
        await h.send_redirect("/nothing-was-written")

    assert serve(body).request().stdout == b"Location: /nothing-was-written\r\n\r\n"
