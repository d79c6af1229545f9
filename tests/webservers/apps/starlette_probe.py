"""The Starlette example, and what only tests want of an application."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.starlette_app.app import app as example

from .recursion import descend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

SECONDS = 60.0
released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
closed: Counter[str] = Counter()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Say in the log that a request is under way, and raise what no framework catches."""
    if scope["type"] == "http" and scope["path"].endswith("/slow"):
        print("began", scope["path"], file=sys.stderr, flush=True)
    if scope["type"] == "http" and scope["path"] == "/probe/exit":
        raise SystemExit("this application called for its end")
    await example(scope, receive, send)


async def handshake(request: Request) -> Response:
    """Send a line; the next one only after /probe/release."""

    async def lines() -> AsyncIterator[str]:
        yield "first\n"
        async with asyncio.timeout(SECONDS):
            await released[request.path_params["key"]].wait()
        yield "second\n"

    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Accel-Buffering": "no"})


async def release(request: Request) -> Response:
    released[request.path_params["key"]].set()
    return JSONResponse("released")


async def endless(request: Request) -> Response:
    """Send lines until the client leaves."""

    async def lines() -> AsyncIterator[str]:
        try:
            while True:
                yield "another line\n"
                await asyncio.sleep(0.05)
        finally:
            closed[request.path_params["key"]] += 1

    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Accel-Buffering": "no"})


async def show_closed(request: Request) -> Response:
    return JSONResponse(closed[request.path_params["key"]])


async def deep(_: Request) -> Response:
    """Fail at the bottom of a deep recursion."""
    descend(100)
    raise AssertionError("never reached")


async def short(_: Request) -> Response:
    """Fail in the middle of an answer whose length was promised."""

    async def lines() -> AsyncIterator[str]:
        yield "This answer begins well.\n"
        raise RuntimeError("this application failed in the middle of its answer")

    return StreamingResponse(lines(), media_type="text/plain", headers={"Content-Length": "100000"})


async def answer_with_file(request: Request) -> Response:
    """The file that the query names, as Starlette sends files."""
    return FileResponse(request.query_params["path"])


example.router.routes.extend(
    (
        Route("/probe/handshake/{key}", handshake),
        Route("/probe/release/{key}", release),
        Route("/probe/endless/{key}", endless),
        Route("/probe/closed/{key}", show_closed),
        Route("/probe/deep", deep),
        Route("/probe/file", answer_with_file),
        Route("/probe/short", short),
    )
)
