"""Plain ASGI applications; every contestant serves these same ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HELLO = b"Hello, World!"
HELLO_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))],
}
HELLO_BODY = {"type": "http.response.body", "body": HELLO}
CHUNK = bytes(65536)
EVENTS_PER_SECOND = 4


async def hello(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    await send(HELLO_START)
    await send(HELLO_BODY)


async def varied(scope: Message, receive: Receive, send: Send) -> None:
    """An answer that depends on path, query and a header."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    marks = [value for name, value in scope["headers"] if name == b"x-request-id"]
    body = b"%s?%s %s" % (scope["path"].encode(), scope["query_string"], b"".join(marks))
    await _answer(send, body)


async def slow(scope: Message, receive: Receive, send: Send) -> None:
    """Waits as a call to a database does."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    await asyncio.sleep(0.005)
    await send(HELLO_START)
    await send(HELLO_BODY)


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"".join(parts))


async def upload(scope: Message, receive: Receive, send: Send) -> None:
    """Counts what comes."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    total = 0
    more = True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"%d" % total)


async def download(scope: Message, receive: Receive, send: Send) -> None:
    """As many times 64 KB as the query says."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    count = int(scope["query_string"])
    await send(_start(b"%d" % (count * len(CHUNK))))
    for _ in range(count):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body"})


async def file(scope: Message, receive: Receive, send: Send) -> None:
    """The file that the query names, sent as the server sends files best."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    path = scope["query_string"].decode()
    await send(_start(b"%d" % os.stat(path).st_size))
    if "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": path})
        return
    with open(path, "rb") as opened:  # noqa: ASYNC230, what frameworks do without pathsend is no faster
        while data := opened.read(65536):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body"})


async def events(scope: Message, receive: Receive, send: Send) -> None:
    """Server-sent events until the client goes."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")],
        }
    )
    gone = asyncio.ensure_future(_gone(receive))
    try:
        number = 0
        while not gone.done():
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            number += 1
            await asyncio.sleep(1 / EVENTS_PER_SECOND)
    except OSError:
        pass  # how some servers say that the client has gone
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, body: bytes) -> None:
    await send(_start(b"%d" % len(body), b"text/plain"))
    await send({"type": "http.response.body", "body": body})


def _start(length: bytes, type_: bytes = b"application/octet-stream") -> Message:
    headers = [(b"content-type", type_), (b"content-length", length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
