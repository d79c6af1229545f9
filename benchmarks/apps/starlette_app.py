"""Starlette, as small as it gets."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello, World!")


async def item(request: Request) -> PlainTextResponse:
    return PlainTextResponse(
        f"{request.url.path}?{request.url.query} {request.headers.get('x-request-id', '')}"
    )


app = Starlette(routes=[Route("/", hello), Route("/item/{number:int}", item)])
