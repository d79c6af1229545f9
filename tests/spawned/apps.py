"""A WSGI and an ASGI application that do the same; the tests copy this file into the folder in which programs run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

lifespan: list[str] = []
print("a print while it is imported")


def tell_of_begin() -> None:
    print("began", os.getpid(), file=sys.stderr, flush=True)


def stdin() -> str:
    """What is there to be read."""
    try:
        return sys.stdin.read()
    except OSError:
        return "unreadable"


def facts(**more: object) -> bytes:
    """What a process knows about how it was started."""
    activation = sorted(name for name in os.environ if name.startswith("LISTEN_"))
    return json.dumps({"pid": os.getpid(), "activation": activation, "lifespan": lifespan, **more}).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes]:
    path = environ["PATH_INFO"]
    if path == "/wait":
        tell_of_begin()
        while not os.path.exists("release"):
            time.sleep(0.01)
    if path == "/early":
        raise LookupError("too early")
    start_response("200 OK", [("Content-Type", "application/json")])
    if path == "/echo":
        tell_of_begin()
        for line in environ["wsgi.input"]:
            yield line.upper()
    elif path == "/large":
        for _ in range(int(environ["QUERY_STRING"])):
            yield bytes(65536)
    elif path == "/late":
        yield b"a part"
        raise LookupError("too late")
    else:
        print("a print into nobody's response")
        told = {name: environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")}
        proxies = [name for name in (*environ, *os.environ) if name == "HTTP_PROXY"]
        body = environ["wsgi.input"].read()
        yield facts(body=len(body), proxies=proxies, stdin=stdin(), **told)


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            if os.path.exists("refuse"):
                await send({"type": f"{kind}.failed", "message": "no database"})
                return
            lifespan.append(kind)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                print("lifespan:", *lifespan, file=sys.stderr)
                return
    path = scope["path"].removeprefix(scope["root_path"])
    if path == "/wait":
        tell_of_begin()
        while not os.path.exists("release"):
            await asyncio.sleep(0.01)
    if path == "/early":
        raise LookupError("too early")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    if path == "/echo":
        tell_of_begin()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                print("disconnected", file=sys.stderr, flush=True)
                return
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": more})
        return
    if path == "/large":
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body"})
    elif path == "/late":
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        raise LookupError("too late")
    else:
        print("a print into nobody's response")
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.body", "body": facts(body=len(body), stdin=stdin())})
