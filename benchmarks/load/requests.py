"""What is asked, and what must be answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
# As much as a plain browser sends.
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-US,en;q=0.5",
}


@dataclass(frozen=True)
class Request:
    """One request of HTTP, whatever protocol carries it; the headers beside Host and Content-Length."""

    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)
    body: bytes = b""
    bare: bool = False
    """Whether only the variables that an application cannot do without go with it, in FastCGI."""

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


class Traffic:
    """An endless series of requests with the answers that are due: here, the same one over and over."""

    varied = False

    def __init__(self, request: Request = Request(), answer: bytes = b"Hello, World!") -> None:
        self._request = request
        self._answer = answer

    def request(self, number: int) -> Request:
        """The request with that number."""
        return self._request

    def answer(self, number: int) -> bytes:
        """The body that answers it."""
        return self._answer


class Varied(Traffic):
    """No two requests alike: path, query, cookie and another header differ. The application answers with three."""

    varied = True

    def request(self, number: int) -> Request:
        mark = number * 2654435761 % 2**32  # spread over all digits
        headers = {**HEADERS, "Cookie": f"session={mark:08x}; seen={number}", "X-Request-Id": f"{mark:08x}-{number}"}
        return Request(f"/item/{number}", f"q={mark}&page={number % 7}", headers)

    def answer(self, number: int) -> bytes:
        request = self.request(number)
        return f"{request.target} {request.headers['X-Request-Id']}".encode()


HELLO = Traffic()
VARIED = Varied()
HEADERS_40 = Traffic(Request(headers={**HEADERS, **{f"X-Header-{n:02}": f"{n:02}".ljust(147, "v") for n in range(36)}}))
POST_10K = Traffic(
    Request(headers={**HEADERS, "Content-Type": "application/octet-stream"}, body=b"0123456789" * 1024),
    b"0123456789" * 1024,
)


BARE = 10
"""The variables of a bare request."""


def parameters(count: int) -> Traffic:
    """A request with exactly `count` FastCGI parameters, at least :data:`BARE`."""
    return Traffic(
        Request(headers={f"X-P{number:04}": f"value{number:04}" for number in range(count - BARE)}, bare=True)
    )
