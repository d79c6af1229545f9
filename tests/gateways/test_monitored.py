"""What a monitor is told of the bodies that applications receive and send."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from simple_fastcgi.monitor.info import Observer
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import BYTES_IN, BYTES_OUT, ENDED, FAILED, own_process
from tests.gateways.support import TEXT, Flag, async_server, sync_server
from tests.support.webserver import WebServer, params_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simple_fastcgi.monitor.info import RequestInfo
    from simple_fastcgi.sync.request import FcgiRequest


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


class Ends(Observer):
    """Keeps what has ended."""

    def __init__(self) -> None:
        self.infos: list[RequestInfo] = []
        self.told = Flag()

    def ended(self, info: RequestInfo) -> None:
        self.infos.append(info)
        self.told.set()


def test_a_failure_behind_a_whole_answer_leaves_it_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """So do frameworks: what their page of an error has told the visitor is not ours."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"down"})
        raise LookupError("behind the answer")

    ends = Ends()
    handler = AsgiHandler.for_app(app, lifespan="off")
    with async_server(handler, asyncio.new_event_loop, monitor=Monitor([ends])) as path, WebServer(path) as web:
        answer = web.request(params_for("/err"))
    assert (answer.status, answer.body) == (503, b"down")
    (info,) = ends.infos
    assert (info.status, info.bytes_out, info.failed) == (503, 4, True)
    (record,) = caplog.records
    assert record.getMessage() == "GET /err failed"
    assert record.__dict__["fcgi"]["status"] == 503


class Late:
    """A body of one block, which fails when it is closed."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"whole"])

    def close(self) -> None:
        raise LookupError("behind the answer")


def fail_in_close(environ: dict[str, Any], start_response: Any) -> Late:
    start_response("200 OK", TEXT)
    return Late()


async def fail_in_background(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"whole"})
    raise LookupError("behind the answer")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_behind_the_end_is_counted_once(caplog: pytest.LogCaptureFixture, *, is_async: bool) -> None:
    board, seat = own_process()
    ends = Ends()
    monitor = Monitor([ends], seat)
    server = (
        async_server(AsgiHandler.for_app(fail_in_background, lifespan="off"), asyncio.new_event_loop, monitor=monitor)
        if is_async
        else sync_server(WsgiHandler.for_app(fail_in_close), monitor=monitor)
    )
    with server as path, WebServer(path) as web:
        assert web.request(params_for("/late")).body == b"whole"
    sums = board.sums()
    assert (sums[ENDED], sums[FAILED]) == (1, 1)
    # The end was told before.
    assert [info.status for info in ends.infos] == [200]
    (record,) = caplog.records
    assert record.getMessage() == "GET /late failed"
    assert record.__dict__["fcgi"]["status"] == 200


@pytest.mark.parametrize("way", ["whole", "blocks", "write"])
def test_nobody_has_got_what_is_written_behind_an_abort(way: str) -> None:
    begun, ends = Flag(), Ends()
    requests: list[FcgiRequest] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes] | Iterator[bytes]:
        begun.set()
        while not requests[0].aborted():
            time.sleep(0.001)
        write = start_response("200 OK", TEXT)
        if way == "write":
            write(b"nobody")
        return [b"nobody"] if way == "whole" else iter([b"no", b"body"])

    class Kept(WsgiHandler.for_app(app)):  # type: ignore[misc]
        def handle(self) -> None:
            requests.append(self.request)
            super().handle()

    with sync_server(Kept, threads=2, monitor=Monitor([ends])) as path, WebServer(path) as web:
        web.begin(params_for("/slow"))
        begun.wait()
        web.abort()
        ends.told.wait()
    (info,) = ends.infos
    assert (info.aborted, info.failed, info.status, info.bytes_out) == (True, False, 0, 0)
