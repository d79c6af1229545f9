"""The probe: an ASGI application that answers with what arrived of a request. ``simple-fastcgi check URL`` asks it.

It is served in place of the application that is to be checked, and only as long as that takes::

    simple-fastcgi serve simple_fastcgi.check:app --bind unix:/run/app.sock

At every path it answers with JSON: the request as an application sees it, a few parameters as the web server sent them
(those that tell no folder of the machine), the size and digest of the body, and which FastCGI connection it came on.
``?stream=NAME&hold=SECONDS`` answers in two pieces, the second when ``?release=NAME`` was asked or the time is over;
with ``&events`` as text/event-stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from . import __version__
from .aio.request import AsyncFcgiRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from .aio.connection import Connection

    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

MARK = "x-fastcgi-probe"
"""The header field of all answers; its value is the request's method."""
FORMAT = 1
"""Of the JSON; it changes when the meaning of a key does."""
PARAMS = (
    *("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "QUERY_STRING", "SERVER_SOFTWARE", "SERVER_NAME", "SERVER_PORT"),
    *("SERVER_PROTOCOL", "GATEWAY_INTERFACE", "REQUEST_SCHEME", "HTTPS", "CONTENT_LENGTH", "HTTP_HOST"),
)
"""The parameters that are told, if they were sent."""
MAX_HOLD = 10.0
"""Seconds for which a stream waits at most."""
MAX_STREAMS = 16
"""That wait at once; further ones get a 503."""
FIRST_PIECE = b"data: first\n\n"
RELEASED = b"data: released\n\n"
WAITED = b"data: waited\n\n"

_MAX_NAME = 64

_waiting: dict[str, asyncio.Event] = {}
_connections: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
_numbers = itertools.count(1)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        raise NotImplementedError(f"the probe knows no {scope['type']}")
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if "stream" in query:
        await _stream(scope, query, send)
    elif "release" in query:
        event = _waiting.get(query["release"][0])
        if event is not None:
            event.set()
        await _answer(scope, send, {"released": event is not None})
    else:
        await _answer(scope, send, await _seen(scope, receive))


async def _seen(scope: Scope, receive: Receive) -> dict[str, object]:
    """What arrived, its body read to the end."""
    size, digest = 0, hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionAbortedError("the web server went away within the request's body")
        size += len(message["body"])
        digest.update(message["body"])
        if not message["more_body"]:
            break
    params = scope.get("extensions", {}).get("fastcgi", {}).get("params", {})
    connection, keep_conn = _connection(receive)
    return {
        "version": __version__,
        "process": os.getpid(),
        "connection": connection,
        "keep_conn": keep_conn,
        "proxied": params.get("SCRIPT_FILENAME", "").startswith("proxy:"),
        "params": {name: params[name] for name in PARAMS if name in params},
        **{name: scope[name] for name in ("method", "scheme", "root_path", "path", "http_version", "client", "server")},
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query_string": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": {"size": size, "sha256": digest.hexdigest()},
    }


def _connection(receive: Receive) -> tuple[int | None, bool | None]:
    """The number of the FastCGI connection, none of which comes again, and whether it is to be kept.

    None behind other gateways, and middleware that wraps `receive`.
    """
    request = getattr(getattr(receive, "__self__", None), "request", None)
    if not isinstance(request, AsyncFcgiRequest):
        return None, None
    connection = request.connection
    if connection not in _connections:
        _connections[connection] = next(_numbers)
    return _connections[connection], request.core.keep_conn


async def _stream(scope: Scope, query: dict[str, list[str]], send: Send) -> None:
    name = query["stream"][0]
    try:
        hold = float(query.get("hold", ["1"])[0])
    except ValueError:
        hold = 1.0
    if not 0 <= hold <= MAX_HOLD:
        hold = MAX_HOLD
    if len(_waiting) >= MAX_STREAMS or name in _waiting or len(name) > _MAX_NAME:
        await _answer(scope, send, {"error": "too many streams"}, status=503)
        return
    event = _waiting[name] = asyncio.Event()
    try:
        await _start(scope, send, 200, "text/event-stream" if "events" in query else "text/plain")
        await send({"type": "http.response.body", "body": FIRST_PIECE, "more_body": True})
        try:
            async with asyncio.timeout(hold):
                await event.wait()
            last = RELEASED
        except TimeoutError:
            last = WAITED
        await send({"type": "http.response.body", "body": last})
    finally:
        del _waiting[name]


async def _answer(scope: Scope, send: Send, answer: dict[str, object], *, status: int = 200) -> None:
    body = json.dumps({"probe": FORMAT, **answer}, indent=1).encode("ascii") + b"\n"
    await _start(scope, send, status, "application/json", (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


async def _start(scope: Scope, send: Send, status: int, content_type: str, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", content_type.encode("ascii")),
        (b"cache-control", b"no-store"),
        (MARK.encode("ascii"), scope["method"].encode("latin-1")),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
