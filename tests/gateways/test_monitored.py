"""What a monitor is told of the bodies that ASGI applications receive and send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simple_fastcgi.gateways import AsgiHandler
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import BYTES_IN, BYTES_OUT, ENDED, own_process
from tests.gateways.support import async_server
from tests.support.webserver import WebServer, params_for


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Once the head of its answer has left, in as many pieces as it receives."""
    status, more = int(scope["path"][1:]), True
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await asyncio.sleep(0)
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


@pytest.mark.parametrize(("status", "size"), [(200, 0), (200, 300_000), (500, 10)])
def test_bytes_of_bodies_are_counted(status: int, size: int) -> None:
    board, seat = own_process()
    handler = AsgiHandler.for_app(echo, lifespan="off")
    with async_server(handler, asyncio.new_event_loop, monitor=Monitor([seat])) as path, WebServer(path) as web:
        answer = web.request(params_for(f"/{status}", REQUEST_METHOD="POST", CONTENT_LENGTH=str(size)), bytes(size))
    assert (answer.status, answer.body) == (status, bytes(size))
    sums = board.sums()
    assert (sums[ENDED], sums[BYTES_IN], sums[BYTES_OUT]) == (1, size, size)
