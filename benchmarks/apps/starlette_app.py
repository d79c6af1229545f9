"""Starlette, as small as it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello, World!")


async def item(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.url.path}?{request.url.query} {request.headers.get('x-request-id', '')}")


app = Starlette(routes=[Route("/", hello), Route("/item/{number:int}", item)])
