"""Requests like those of Starlette's and Flask's own test suites: a table, for blocking and async clients."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

PIECES = [b"first ", b"second ", b"x" * 100_000, b"last"]


@dataclass
class Ask:
    """One request: what httpx's `request()` takes. `pieces` is a body of unknown length."""

    method: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    pieces: list[bytes] | None = None

    def send(self, client: httpx.Client) -> httpx.Response:
        if self.pieces is None:
            return client.request(self.method, self.url, **self.options)
        return client.request(self.method, self.url, content=self._iterate(), **self.options)

    async def send_async(self, client: httpx.AsyncClient) -> httpx.Response:
        if self.pieces is None:
            return await client.request(self.method, self.url, **self.options)
        return await client.request(self.method, self.url, content=self._aiterate(), **self.options)

    def _iterate(self) -> Iterator[bytes]:
        yield from self.pieces or ()

    async def _aiterate(self) -> AsyncIterator[bytes]:
        for piece in self.pieces or ():
            yield piece


def ask(method: str, url: str, *, pieces: list[bytes] | None = None, **options: Any) -> Ask:
    return Ask(method, url, options, pieces)


CASES: dict[str, list[Ask]] = {
    "get": [ask("GET", "/facts")],
    "query": [ask("GET", "/facts?a=1&a=2&b=%C3%A4+b&c=")],
    "query-in-parameters": [ask("GET", "/facts", params={"q": ["ä", "&="], "r": ""})],
    "unicode-path": [ask("GET", "/unicode/gr%C3%BCn/a%20b%25/c;d=e")],
    "double-slash": [ask("GET", "/unicode//a//b/")],
    "host": [ask("GET", "/facts", headers={"Host": "example.org:8080"})],
    "https": [ask("GET", "https://example.org/url")],
    "port": [ask("GET", "http://example.org:8080/url")],
    **{method.lower(): [ask(method, "/facts")] for method in ("PUT", "PATCH", "DELETE", "OPTIONS")},
    "method-not-allowed": [ask("DELETE", "/echo")],
    "head": [ask("HEAD", "/facts"), ask("HEAD", "/file"), ask("HEAD", "/stream")],
    "not-found": [ask("GET", "/nowhere"), ask("HEAD", "/nowhere")],
    "form": [ask("POST", "/form", data={"name": "Grün & Söhne", "several": ["1", "2"], "empty": ""})],
    "multipart": [
        ask(
            "POST",
            "/form",
            data={"field": "value", "more": ["1", "2"]},
            files=[
                ("file", ("ä.txt", b"text", "text/plain")),
                ("file", ("large.bin", bytes(range(256)) * 4096, "application/octet-stream")),
                ("empty", ("empty", b"")),
            ],
            headers={"Content-Type": "multipart/form-data; boundary=limit"},
        )
    ],
    "json": [ask("POST", "/echo", json={"a": [1, None, "ä"]})],
    "raw": [ask("PUT", "/echo", content=b"\x00\xff" * 1000, headers={"Content-Type": "application/octet-stream"})],
    "empty-body": [ask("POST", "/facts", content=b"")],
    "large-body": [ask("POST", "/facts", content=b"0123456789" * 100_000)],
    "streamed-body": [ask("POST", "/echo", pieces=PIECES), ask("POST", "/facts", pieces=[])],
    "streamed-with-length": [
        ask("POST", "/facts", pieces=PIECES, headers={"Content-Length": str(sum(map(len, PIECES)))})
    ],
    "stream": [ask("GET", "/stream")],
    "cookies": [
        ask("GET", "/cookies/show"),
        ask("GET", "/cookies/set"),
        ask("GET", "/cookies/show"),
        ask("GET", "/cookies/show", headers={"Cookie": 'a=1; b="quoted; more"; flavour=other'}),
    ],
    **{
        f"redirect-{code}": [
            ask(method, f"/redirect/{code}", follow_redirects=follow)
            for method in ("GET", "POST")
            for follow in (False, True)
        ]
        for code in (301, 302, 303, 307, 308)
    },
    "redirect-with-body": [ask("POST", "/redirect/307", content=b"kept", follow_redirects=True)],
    "ranges": [
        ask("GET", "/file", headers={"Range": "bytes=0-0"}),
        ask("GET", "/file", headers={"Range": "bytes=100-199"}),
        ask("GET", "/file", headers={"Range": "bytes=-5"}),
        ask("GET", "/file", headers={"Range": "bytes=262143-"}),
        ask("GET", "/file", headers={"Range": "bytes=9999999-"}),
        ask("GET", "/file", headers={"Range": "bytes=0-9", "If-Range": '"one"'}),
        ask("GET", "/file", headers={"Range": "bytes=0-9", "If-Range": '"other"'}),
    ],
    "conditional": [ask("GET", "/file"), ask("GET", "/file", headers={"If-None-Match": '"one"'})],
    "statuses": [ask("GET", f"/status/{code}") for code in (200, 201, 204, 205, 304, 400, 418, 451, 500, 503, 599)],
    "several-values": [ask("GET", "/several")],
    "large-request-header": [ask("GET", "/facts", headers={"X-Large": "y" * 40_000})],
    "large-response-header": [ask("GET", "/large-head")],
    "credentials": [ask("GET", "/facts", auth=("user", "pass:word"))],
    "background": [ask("GET", "/later")],
    "failing": [ask("GET", "/failing"), ask("GET", "/facts")],
}

IN_FULL: dict[str, tuple[Ask, Any]] = {
    "large-echo": (ask("POST", "/echo-stream", content=b"0123456789" * 100_000), b"0123456789" * 100_000),
    "streamed-both": (ask("POST", "/echo-stream", pieces=PIECES), b"".join(PIECES)),
    "streamed-body": (ask("POST", "/echo", pieces=PIECES), b"".join(PIECES)),
    # FastCGI has one parameter for all values of a field (RFC 3875, 4.1.18).
    "one-header-twice": (ask("GET", "/facts", headers=[("X-Odd", "1"), ("X-Odd", "2")]), {"odd": "1, 2"}),
    "latin-1-header": (ask("GET", "/facts", headers={"X-Odd": "grün".encode("latin-1")}), {"odd": "grün"}),
    "unicode-path": (ask("GET", "/unicode/gr%C3%BCn"), {"name": "grün", "path": "/unicode/grün"}),
}
"""What in-process clients do otherwise or cannot do at all, each with what has to come of it.

Starlette's TestClient waits for ever where an application answers before it has read all of a body, and encodes header
fields twice; httpx.WSGITransport knows no body without a length, one value of a field, no path or field that is not
ASCII.
"""
NOT_LIKE_WSGI_TRANSPORT = ("streamed-body", "unicode-path")


def outcome(response: httpx.Response) -> dict[str, Any]:
    """What is compared of a response: status, headers but for the Date, body, and the redirects before it."""
    headers = sorted((name.lower(), value) for name, value in response.headers.multi_items() if name.lower() != "date")
    return {
        "status": response.status_code,
        "headers": headers,
        "body": _body(response),
        "url": str(response.url),
        "history": [(before.status_code, str(before.url)) for before in response.history],
    }


def as_expected(response: httpx.Response, expected: Any) -> bool:
    """Whether a response of :data:`IN_FULL` is what it has to be."""
    if isinstance(expected, bytes):
        return response.content == expected
    facts = response.json()
    return bool({name: facts[name] for name in expected} == expected)


def _body(response: httpx.Response) -> Any:
    if response.headers.get("content-type", "").startswith("application/json") and response.content:
        return json.loads(response.content)
    return response.content if len(response.content) < 5000 else (len(response.content), hash(response.content))
