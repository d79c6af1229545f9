"""What a monitor is told of the bodies that applications receive and send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import BYTES_IN, BYTES_OUT, ENDED, own_process
from tests.gateways.support import async_server, sync_server
from tests.support.webserver import WebServer, params_for

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.mark.parametrize("is_promised", [False, True])
@pytest.mark.parametrize(
    "blocks", [[b"first", b"6"], [b"first", b"", b"6", bytes(300_000)], [*([bytes(65_536)] * 4), bytes(65_535), b"6"]]
)
def test_bytes_of_blocks_are_counted(blocks: list[bytes], is_promised: bool) -> None:
    """Each once, however it leaves: with the head, by itself, or, if the length was promised, with the end."""
    whole = b"".join(blocks)

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        fields = [("Content-Length", str(len(whole)))] if is_promised else []
        start_response("200 OK", [("Content-Type", "text/plain"), *fields])
        yield from blocks

    board, seat = own_process()
    with sync_server(WsgiHandler.for_app(app), monitor=Monitor([seat])) as path, WebServer(path) as web:
        assert web.request(params_for("/")).body == whole
    sums = board.sums()
    assert (sums[ENDED], sums[BYTES_OUT]) == (1, len(whole))
