"""The probe by itself: what it tells, what it keeps to itself, and what bounds its streams."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from simple_fastcgi.check import FIRST_PIECE, MARK, MAX_STREAMS, RELEASED, WAITED, app
from simple_fastcgi.testing import FcgiTestClient


def query(text: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "root_path": "",
        "path": "/",
        "http_version": "1.1",
        "client": None,
        "server": None,
        "raw_path": b"/",
        "query_string": text.encode(),
        "headers": [],
    }


async def answer(text: str, *messages: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, header fields and body, asked without any FastCGI."""
    sent: list[dict[str, Any]] = []
    waiting = list(messages) or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(query(text), receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent)


def test_it_runs_behind_other_gateways_too() -> None:
    body = [{"type": "http.request", "body": b"a", "more_body": True}]
    body += [{"type": "http.request", "body": b"b", "more_body": False}]
    status, headers, page = asyncio.run(answer("", *body))
    told = json.loads(page)
    assert (status, headers[MARK.encode()], headers[b"content-type"]) == (200, b"GET", b"application/json")
    assert told["body"] == {"size": 2, "sha256": hashlib.sha256(b"ab").hexdigest()}
    assert (told["connection"], told["keep_conn"], told["params"]) == (None, None, {})


def test_what_it_tells_and_what_not() -> None:
    with FcgiTestClient(app, loop="asyncio", base_url="http://shop.example") as client:
        told = client.get("/x?y", headers={"Authorization": "Basic dTpw"}).json()
        assert client.get("/").json()["connection"] == told["connection"]
    assert told["params"]["REQUEST_URI"] == "/x?y"
    assert told["keep_conn"] is True
    assert ["authorization", "Basic dTpw"] in told["headers"]
    assert not {"DOCUMENT_ROOT", "SCRIPT_FILENAME", "PATH"} & told["params"].keys()


def test_a_stream_waits_for_its_release_and_no_longer_than_its_time() -> None:
    async def run() -> None:
        stream = asyncio.create_task(answer("stream=a&hold=10&events"))
        while json.loads((await answer("release=a"))[2]) != {"probe": 1, "released": True}:
            await asyncio.sleep(0)
        status, headers, body = await stream
        assert (status, headers[b"content-type"], body) == (200, b"text/event-stream", FIRST_PIECE + RELEASED)
        assert (await answer("stream=a&hold=0"))[2] == FIRST_PIECE + WAITED
        assert json.loads((await answer("release=a"))[2])["released"] is False

    asyncio.run(run())


@pytest.mark.parametrize("hold", ["nonsense", "nan", "-1", "1e9", "inf", ""])
def test_a_time_to_hold_that_is_none(hold: str) -> None:
    async def run() -> None:
        stream = asyncio.create_task(answer(f"stream=a&hold={hold}"))
        while not json.loads((await answer("release=a"))[2])["released"]:
            await asyncio.sleep(0)
        assert (await stream)[2] == FIRST_PIECE + RELEASED

    asyncio.run(run())


def test_streams_are_bounded_in_number_and_in_name() -> None:
    async def run() -> None:
        streams = [asyncio.create_task(answer(f"stream={number}&hold=10")) for number in range(MAX_STREAMS)]
        await asyncio.sleep(0)
        assert (await answer("stream=more"))[0] == 503
        for number in range(MAX_STREAMS):
            await answer(f"release={number}")
        assert [status for status, _, _ in await asyncio.gather(*streams)] == [200] * MAX_STREAMS
        assert (await answer(f"stream={'x' * 65}"))[0] == 503

    asyncio.run(run())


def test_a_body_that_breaks_off_and_a_scope_that_is_none_of_ours() -> None:
    with pytest.raises(ConnectionAbortedError):
        asyncio.run(answer("", {"type": "http.disconnect"}))
    with pytest.raises(NotImplementedError, match="websocket"):
        asyncio.run(app({"type": "websocket"}, asyncio.sleep, asyncio.sleep))  # type: ignore[arg-type]
