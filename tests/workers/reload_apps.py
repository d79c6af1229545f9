"""Applications under whose requests workers come and go: each tells what it has received, and notes that it began."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

SLOW_SECONDS = 0.05
HEAD = [("Content-Type", "text/plain")]
_begun = os.open(os.environ["BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def begin(query: str) -> None:
    """Note which process has the request: what is lost behind this was cut."""
    os.write(_begun, f"{query} {os.getpid()}\n".encode())


def answer(query: str, size: int, checksum: int) -> bytes:
    return f"{query} {size} {checksum}\n".encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes]:
    query, path, stream = environ["QUERY_STRING"], environ["REQUEST_URI"].partition("?")[0], environ["wsgi.input"]
    begin(query)
    size = checksum = 0
    while data := stream.read(65536):
        size, checksum = size + len(data), zlib.crc32(data, checksum)
    start_response("200 OK", HEAD)
    if path == "/slow":
        yield b"slow "
        time.sleep(SLOW_SECONDS)
    yield answer(query, size, checksum)


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    query, path = scope["query_string"].decode(), scope["path"]
    begin(query)
    size = checksum = 0
    more = True
    while more:
        message = await receive()
        data = message.get("body", b"")
        size, checksum = size + len(data), zlib.crc32(data, checksum)
        more = message.get("more_body", False)
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/slow":
        await send({"type": "http.response.body", "body": b"slow ", "more_body": True})
        await asyncio.sleep(SLOW_SECONDS)
    await send({"type": "http.response.body", "body": answer(query, size, checksum)})
