"""One application twice, as WSGI and as ASGI: the path says what it does, the query how much of it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT = [("Content-Type", "text/plain")]
PIECE = 65536
READ = 262144


# ------------------------------------------------------------------------------------------ WSGI


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    amount = int(environ["QUERY_STRING"] or 0)
    path = environ["PATH_INFO"]
    if path.startswith(MISBEHAVE):
        return misbehave(path.removeprefix(MISBEHAVE), start_response)
    if path == "/download":
        start_response("200 OK", TEXT)
        return (b"%65536d" % number for number in range(amount // PIECE))
    if path == "/count":
        body = b"%d" % sum(map(len, pieces(environ["wsgi.input"])))
    elif path == "/slow":
        body = b"%d" % sum(map(len, slowly(pieces(environ["wsgi.input"]), amount)))
    else:
        body = b"hello"
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(READ):
        yield piece


def slowly(pieces: Iterable[bytes], rate: int) -> Iterator[bytes]:
    for piece in pieces:
        time.sleep(len(piece) / rate)
        yield piece


# ------------------------------------------------------------------------------------------ ASGI


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    amount = int(scope["query_string"] or 0)
    path = scope["path"]
    if path.startswith(MISBEHAVE):
        await misbehave_async(path.removeprefix(MISBEHAVE), send)
        return
    if path == "/download":
        await start(send)
        for number in range(amount // PIECE):
            await send({"type": "http.response.body", "body": b"%65536d" % number, "more_body": True})
        await send({"type": "http.response.body"})
        return
    body = b"hello"
    if path in {"/count", "/slow"}:
        size = 0
        while (message := await receive())["type"] == "http.request":
            size += len(message["body"])
            if path == "/slow":
                await asyncio.sleep(len(message["body"]) / amount)
            if not message["more_body"]:
                break
        body = b"%d" % size
    await start(send)
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, *more: tuple[str, str]) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in (*TEXT, *more)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


# ------------------------------------------------------------------------------------------ misbehaviour

MISBEHAVE = "/misbehave/"
MISBEHAVIOURS = (
    "says-nothing",
    "raises",
    "exits",
    "interrupts",
    "recurses",
    "splits-a-field",
    "splits-the-status",
    "promises-more",
    "promises-less",
    "promises-nonsense",
    "sends-no-bytes",
    "raises-in-the-middle",
    "exits-in-the-middle",
    "raises-behind-the-end",
    "exits-behind-the-end",
)
FIELDS = {
    "splits-a-field": ("X-Field", "a\r\nSet-Cookie: b"),
    "promises-more": ("Content-Length", "1000"),
    "promises-less": ("Content-Length", "3"),
    "promises-nonsense": ("Content-Length", "many"),
}


def fail(how: str) -> None:
    """Raise what `how` says, if it says so."""
    if how.startswith("raises"):
        raise LookupError("on purpose")
    if how.startswith("exits"):
        sys.exit("on purpose")
    if how == "interrupts":
        raise KeyboardInterrupt
    if how == "recurses":
        fail(how)


class Blocks:
    """A body whose close() fails."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"hello"])

    def close(self) -> None:
        fail(self.how)


def misbehave(how: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    if how in {"raises", "exits", "interrupts", "recurses"}:
        fail(how)
    if how != "says-nothing":
        status = "200 OK\r\nX: y" if how == "splits-the-status" else "200 OK"
        start_response(status, [*TEXT, *([FIELDS[how]] if how in FIELDS else [])])
    if how.endswith("behind-the-end"):
        return Blocks(how)
    if how == "sends-no-bytes":
        return ["hello"]  # type: ignore[list-item]
    return blocks(how)


def blocks(how: str) -> Iterator[bytes]:
    yield b"hello"
    fail(how)
    if how == "goes-on":
        for number in range(1000):
            yield b"%65536d" % number
    elif how == "waits-on":
        time.sleep(0.02)
        yield b"goodbye"


async def misbehave_async(how: str, send: Send) -> None:
    if how in {"raises", "exits", "interrupts", "recurses"}:
        fail(how)
    if how == "says-nothing":
        return
    await start(send, *([FIELDS[how]] if how in FIELDS else []))
    await send(
        {"type": "http.response.body", "body": "hello" if how == "sends-no-bytes" else b"hello", "more_body": True}
    )
    if how.endswith("in-the-middle"):
        fail(how)
    for number in range(100 if how == "goes-on" else 0):
        try:
            await send({"type": "http.response.body", "body": b"%65536d" % number, "more_body": True})
        except OSError:
            # It was told that nobody listens.
            await asyncio.sleep(0)
    if how == "waits-on":
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body"})
    fail(how)
