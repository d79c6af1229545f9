"""The Starlette example, and what only tests want of an application."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.starlette_app.app import app as example

from .recursion import descend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Say in the log that a request is under way, and raise what no framework catches."""
    if scope["type"] == "http" and scope["path"].endswith("/slow"):
        print("began", scope["path"], file=sys.stderr, flush=True)
    if scope["type"] == "http" and scope["path"] == "/probe/exit":
        raise SystemExit("this application called for its end")
    await example(scope, receive, send)


# Files tell what one process knows to the next, and to the test.


async def handshake(request: Request) -> Response:
    """Send a line; the next one, or a failure, only after the file `seen` is there."""
    seen = Path(request.query_params["seen"])

    async def lines() -> AsyncIterator[str]:
        yield "first\n"
        for _ in range(6000):
            if seen.exists():
                if "fails" in request.query_params:
                    raise RuntimeError("this application failed in the middle of its answer")
                yield "second\n"
                break
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Accel-Buffering": "no"})


async def endless(request: Request) -> Response:
    """Send lines until the client leaves; then make the file `closed`."""
    closed = Path(request.query_params["closed"])

    async def lines() -> AsyncIterator[str]:
        try:
            while True:
                yield "another line\n"
                await asyncio.sleep(0.05)
        finally:
            closed.touch()

    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Accel-Buffering": "no"})


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


class WholeFile(FileResponse):
    """Ranges are left to the web server."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


async def answer_with_file(request: Request) -> Response:
    """The file that the query names, as Starlette sends files; with `whole` as :class:`WholeFile`."""
    return (WholeFile if "whole" in request.query_params else FileResponse)(request.query_params["path"])


async def located(request: Request) -> Response:
    """An answer of the status that the query says, and a Location beside it."""
    asked = request.query_params
    return Response("the answer\n", int(asked["code"]), {"Location": asked["to"]})


example.router.routes.extend(
    (
        Route("/probe/location", located, methods=["GET", "POST"]),
        Route("/probe/handshake", handshake),
        Route("/probe/endless", endless),
        Route("/probe/deep", deep),
        Route("/probe/file", answer_with_file),
        Route("/probe/short", short),
    )
)
