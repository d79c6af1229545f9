"""The same requests through transport, server and framework, and in-process: the same results."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from simple_fastcgi.testing import FcgiTestClient
from tests.client.apps import flask_app, starlette_app
from tests.client.cases import CASES, IN_FULL, NOT_LIKE_WSGI_TRANSPORT, as_expected, outcome
from tests.gateways.support import Flag

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have another client than httpx
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.client.cases import Ask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def starlette(folder: Path) -> Iterator[FcgiTestClient]:
    with FcgiTestClient(starlette_app(folder), raise_app_exceptions=False, loop="asyncio") as client:
        yield client


@pytest.fixture
def flask(folder: Path) -> Iterator[FcgiTestClient]:
    with FcgiTestClient(flask_app(folder), raise_app_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("asks", CASES.values(), ids=CASES)
def test_starlette(starlette: FcgiTestClient, folder: Path, asks: list[Ask]) -> None:
    with TestClient(starlette_app(folder), raise_server_exceptions=False, follow_redirects=False) as direct:
        for ask in asks:
            assert outcome(ask.send(starlette)) == outcome(ask.send(direct))


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_LIKE_WSGI_TRANSPORT])
def test_flask(flask: FcgiTestClient, folder: Path, name: str) -> None:
    transport = httpx.WSGITransport(flask_app(folder), raise_app_exceptions=False)
    with httpx.Client(transport=transport, base_url="http://testserver") as direct:
        for ask in CASES[name]:
            assert outcome(ask.send(flask)) == outcome(ask.send(direct))


@pytest.mark.parametrize(("ask", "expected"), IN_FULL.values(), ids=IN_FULL)
def test_what_in_process_clients_do_not_do(
    starlette: FcgiTestClient, flask: FcgiTestClient, ask: Ask, expected: Any
) -> None:
    assert as_expected(ask.send(starlette), expected)
    assert as_expected(ask.send(flask), expected)


@pytest.mark.parametrize("framework", ("starlette", "flask"))
def test_errors_of_the_application_are_raised(folder: Path, framework: str) -> None:
    app: Any
    if framework == "starlette":
        app = starlette_app(folder)
    else:
        app = flask_app(folder)
        app.config["PROPAGATE_EXCEPTIONS"] = True
    with FcgiTestClient(app, loop="asyncio") as client:
        with pytest.raises(ValueError, match="it fails") as caught:
            client.get("/failing")
        assert caught.traceback[-1].name == "failing"
        assert client.get("/facts").status_code == 200


# ---------------------------------------------------------------------- disconnects


def leave(client: httpx.Client, begun: Flag) -> None:
    """Leave once in the middle of a response, and once in the middle of a request's body."""

    def pieces() -> Iterator[bytes]:
        yield b"a part"
        # What is aborted before the application has begun never reaches it.
        begun.wait()
        raise InterruptedError("the client leaves")

    with client.stream("GET", "/") as response:
        assert next(response.iter_raw()) == b"a part"
    with pytest.raises(InterruptedError):
        client.post("/", content=pieces())


def test_starlette_hears_of_a_client_that_leaves() -> None:
    begun, response_left, request_left = Flag(), Flag(), Flag()

    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"a part"
                await asyncio.sleep(0.001)

        return StreamingResponse(pieces())

    async def upload(request: Request) -> Response:
        begun.set()
        try:
            await request.body()
        except ClientDisconnect:
            request_left.set()
            raise
        return Response()

    app = Starlette(routes=[Route("/", endless), Route("/", upload, methods=["POST"])])

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ClientDisconnect:
            response_left.set()
            raise

    with FcgiTestClient(watched, lifespan="off", loop="asyncio", raise_app_exceptions=False) as client:
        leave(client, begun)
        response_left.wait()
        request_left.wait()


def test_flask_hears_of_a_client_that_leaves() -> None:
    begun, response_left, request_left = Flag(), Flag(), Flag()
    app = Flask(__name__)

    @app.get("/")
    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"a part"
        finally:
            response_left.set()

    @app.post("/")
    def upload() -> str:
        begun.set()
        try:
            request.get_data()
        except Exception:
            request_left.set()
            raise
        return ""

    with FcgiTestClient(app, raise_app_exceptions=False) as client:
        leave(client, begun)
        response_left.wait()
        request_left.wait()
