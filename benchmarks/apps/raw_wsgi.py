"""Plain WSGI applications; every contestant serves these same ones."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse

Environ = dict[str, Any]

HELLO = b"Hello, World!"
HELLO_HEAD = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]
CHUNK = bytes(65536)


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", HELLO_HEAD)
    return [HELLO]


def varied(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """An answer that depends on path, query and a header."""
    text = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']} {environ.get('HTTP_X_REQUEST_ID', '')}"
    body = text.encode("latin-1")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def slow(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Blocks as a call to a database does."""
    time.sleep(0.005)
    start_response("200 OK", HELLO_HEAD)
    return [HELLO]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", _binary(len(body)))
    return [body]


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Counts what comes."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    total = 0
    while left and (data := environ["wsgi.input"].read(min(65536, left))):
        left -= len(data)
        total += len(data)
    body = b"%d" % total
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def download(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """As many times 64 KB as the query says."""
    count = int(environ["QUERY_STRING"])
    start_response("200 OK", _binary(count * len(CHUNK)))
    for _ in range(count):
        yield CHUNK


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The file that the query names, sent as the server sends files best."""
    opened = open(environ["QUERY_STRING"], "rb")  # noqa: SIM115, the server closes it
    start_response("200 OK", _binary(os.fstat(opened.fileno()).st_size))
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(opened, 65536) if wrapper else iter(lambda: opened.read(65536), b"")


def _binary(length: int) -> list[tuple[str, str]]:
    return [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))]
