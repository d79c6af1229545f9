"""`simple_fastcgi.testing`: applications of every kind, their errors, their beginning and their end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from simple_fastcgi import (
    AsyncAuthorizerMixin,
    AsyncFcgiHandler,
    AsyncHttpResponseMixin,
    AuthorizerMixin,
    FcgiHandler,
    HttpResponseMixin,
)
from simple_fastcgi.client import AsyncFcgiTransport, FcgiTransport
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways.lifespan import LifespanError
from simple_fastcgi.limits import Limits
from simple_fastcgi.testing import AppServer, AppTransport, FcgiTestClient
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from starlette.requests import Request


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("of WSGI")
    start_response("200 OK", [("Content-Type", "application/json")])
    if environ["PATH_INFO"] == "/fail-late":
        return _fail_late()
    return [json.dumps([environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["wsgi.multithread"]]).encode()]


def _fail_late() -> Iterable[bytes]:
    yield b"begun"
    raise ValueError("in the middle")


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    assert scope["type"] == "http", "no lifespan"
    if scope["path"] == "/fail":
        raise ValueError("of ASGI")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps([scope["root_path"], scope["path"]]).encode()})
    if scope["path"] == "/background":
        raise ValueError("behind the response")


class Native(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        if self.environ["PATH_INFO"] == "/fail":
            raise ValueError("of a handler")
        self.send_response(200, "application/json", [self.environ["SCRIPT_NAME"], self.environ["PATH_INFO"]])


class AsyncNative(AsyncHttpResponseMixin, AsyncFcgiHandler):
    async def handle(self) -> None:
        if self.environ["PATH_INFO"] == "/fail":
            raise ValueError("of an async handler")
        await self.send_response(200, "application/json", [self.environ["SCRIPT_NAME"], self.environ["PATH_INFO"]])


def dump_wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]


async def dump_asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    assert scope["type"] == "http", "no lifespan"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(repr(scope)).encode()})


class DumpNative(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        self.send_response(200, "application/json", self.environ)


APPS: list[Any] = [wsgi, asgi, Native, AsyncNative]


@pytest.mark.parametrize("app", APPS)
def test_every_kind_of_application(app: Any) -> None:
    with FcgiTestClient(app, loop="asyncio") as client:
        assert client.get("/a").json()[:2] == ["", "/a"]
        with pytest.raises(ValueError, match="of "):
            client.get("/fail")
        assert client.get("/b").json()[:2] == ["", "/b"]
        assert client.server.errors == []


@pytest.mark.parametrize("app", APPS)
def test_errors_are_only_kept(app: Any) -> None:
    with FcgiTestClient(app, loop="asyncio", raise_app_exceptions=False) as client:
        answer = client.get("/fail")
        assert answer.status_code == 500
        assert b"ValueError: of " in answer.extensions["fastcgi_stderr"]
        (error,) = client.server.errors
        assert isinstance(error, ValueError)


@pytest.mark.parametrize("app", APPS)
def test_below_a_mount_point(app: Any) -> None:
    with FcgiTestClient(app, loop="asyncio", root_path="/app") as client:
        mount, path = client.get("/app/a").json()[:2]
        # ASGI's path includes it.
        assert (mount, path.removeprefix("/app")) == ("/app", "/a")


def test_an_error_in_the_middle() -> None:
    with FcgiTestClient(wsgi) as client:
        with pytest.raises(ValueError, match="in the middle"):
            client.get("/fail-late")
    with FcgiTestClient(wsgi, raise_app_exceptions=False) as client:
        with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", "/fail-late") as answer:
            answer.read()


def test_an_error_of_close_is_raised_by_the_request_or_at_the_end() -> None:
    class Late:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"whole"])

        def close(self) -> None:
            raise ValueError("in close")

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Late:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Late()

    with pytest.raises(ValueError, match="in close"), FcgiTestClient(app) as client:
        assert client.get("/").text == "whole"
    with FcgiTestClient(app, raise_app_exceptions=False) as client:
        assert client.get("/").text == "whole"


def test_an_error_behind_the_response_is_raised_at_the_end() -> None:
    with pytest.raises(ValueError, match="behind the response"):
        with FcgiTestClient(asgi, loop="asyncio", lifespan="off") as client:
            assert client.get("/background").status_code == 200


def test_an_error_is_raised_by_its_own_request() -> None:
    """And not by another one for the same URL, which is answered meanwhile."""
    answered = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        fails = environ["wsgi.input"].read() == b"fails"
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        if fails:
            failed.set()
            assert answered.wait(TIMEOUT)
            raise ValueError("in the middle")

    failed = threading.Event()
    with FcgiTestClient(app) as client:
        with client.stream("POST", "/same", content=b"fails") as failing:
            assert failed.wait(TIMEOUT)
            assert client.post("/same").text == "begun"
            answered.set()
            while not client.server.errors:
                time.sleep(0.001)
            assert client.post("/same").text == "begun"
            with pytest.raises(ValueError, match="in the middle"):
                failing.read()
        assert client.server.errors == []


def test_an_error_behind_the_response_is_not_raised_by_the_next_request() -> None:
    async def mail(number: int) -> None:
        if number == 1:
            await asyncio.to_thread(answered.wait, TIMEOUT)
            raise OSError("the mail of order 1 could not be sent")

    async def order(_: Request) -> PlainTextResponse:
        orders.append(len(orders) + 1)
        return PlainTextResponse(str(orders[-1]), background=BackgroundTask(mail, orders[-1]))

    orders: list[int] = []
    answered = threading.Event()
    client = FcgiTestClient(Starlette(routes=[Route("/orders", order, methods=["POST"])]), loop="asyncio")
    try:
        assert client.post("/orders").text == "1"
        answered.set()
        while not client.server.errors:
            time.sleep(0.001)
        assert client.post("/orders").text == "2"
    finally:
        with pytest.raises(OSError, match="order 1"):
            client.close()


@pytest.mark.parametrize("app", [dump_wsgi, dump_asgi, DumpNative])
def test_applications_see_what_a_client_sends(app: Any) -> None:
    extensions = {"fastcgi_params": {"REMOTE_USER": "ada"}}
    with AppServer(app, loop="asyncio") as server:
        with httpx.Client(transport=FcgiTransport(server.address), base_url="http://testserver") as plain:
            expected = plain.get("/a?b", extensions=extensions).json()
    with FcgiTestClient(app, loop="asyncio") as client:
        assert client.get("/a?b", extensions=extensions).json() == expected
        for wrong in ("A=1", {"A": 1}):
            with pytest.raises(TypeError, match="fastcgi_params"):
                client.get("/", extensions={"fastcgi_params": wrong})


def test_lifespan() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[dict[str, object]]:
        told.append("begun")
        yield {"made": "here"}
        told.append("ended")

    def state(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.made)

    with FcgiTestClient(Starlette(lifespan=lifespan, routes=[Route("/", state)]), loop="asyncio") as client:
        assert told == ["begun"]
        assert client.get("/").text == "here"
    assert told == ["begun", "ended"]


def test_an_application_that_does_not_start() -> None:
    with pytest.raises(LifespanError, match="no lifespan"):
        FcgiTestClient(asgi, loop="asyncio", lifespan="on")


async def raises(send: Callable[..., Any]) -> None:
    raise KeyError("the pool could not be closed")


async def tells(send: Callable[..., Any]) -> None:
    await send({"type": "lifespan.shutdown.failed", "message": "the pool could not be closed"})


async def tells_nothing(send: Callable[..., Any]) -> None:
    await send({"type": "lifespan.shutdown.failed"})


async def tells_and_raises(send: Callable[..., Any]) -> None:
    await tells(send)
    await raises(send)


@pytest.mark.parametrize(
    ("end", "error", "told"),
    [
        (raises, KeyError, "the pool could not be closed"),
        (tells, LifespanError, "the application failed to shut down: the pool could not be closed"),
        (tells_nothing, LifespanError, "the application failed to shut down: it gives no reason"),
        (tells_and_raises, KeyError, "the pool could not be closed"),
    ],
)
def test_a_shutdown_that_fails(end: Any, error: type[Exception], told: str) -> None:
    async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await end(send)
        else:
            await asgi(scope, receive, send)

    client = FcgiTestClient(app, loop="asyncio")
    assert client.get("/a").status_code == 200
    with pytest.raises(error, match=told):
        client.close()
    assert client.server.errors == []
    with FcgiTestClient(app, loop="asyncio", raise_app_exceptions=False) as client:
        assert client.get("/a").status_code == 200
    (kept,) = client.server.errors
    assert isinstance(kept, error)


def test_a_lifespan_of_handlers_that_fails_at_its_end() -> None:
    class Failing(AsyncNative):
        @classmethod
        @asynccontextmanager
        async def lifespan(cls, server: object) -> AsyncIterator[None]:
            yield
            raise KeyError("at the end")

    with pytest.raises(KeyError, match="at the end"), FcgiTestClient(Failing, loop="asyncio") as client:
        assert client.get("/a").status_code == 200


NOT_FOR_AUTHORIZERS = ("CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME")


class Guard(AuthorizerMixin, FcgiHandler):
    def handle(self) -> None:
        told = [name for name in NOT_FOR_AUTHORIZERS if name in self.environ]
        if self.environ["REQUEST_URI"] == "/private":
            self.deny(401, data="Who are you?")
        else:
            self.allow({"TOLD": " ".join(told), "BODY": str(len(self.read()))})


class AsyncGuard(AsyncAuthorizerMixin, AsyncFcgiHandler):
    async def handle(self) -> None:
        told = [name for name in NOT_FOR_AUTHORIZERS if name in self.environ]
        if self.environ["REQUEST_URI"] == "/private":
            await self.deny(401, data="Who are you?")
        else:
            await self.allow({"TOLD": " ".join(told), "BODY": str(len(await self.read()))})


class Both(HttpResponseMixin, AuthorizerMixin, FcgiHandler):
    roles = (1, 2)

    def handle(self) -> None:
        if "PATH_INFO" in self.environ:
            self.send_response(204)
        else:
            self.allow()


@pytest.mark.parametrize("guard", [Guard, AsyncGuard])
def test_authorizers(guard: Any) -> None:
    """It is asked as one, without the body, and its connection is kept."""
    with FcgiTestClient(guard, loop="asyncio") as client:
        denied = client.get("/private")
        assert (denied.status_code, denied.text) == (401, "Who are you?")
        for body in (b"", b"body", iter([b"bo", b"dy"]), bytes(1 << 20)):
            allowed = client.post("/open", content=body)
            assert allowed.status_code == 200
            assert (allowed.headers["Variable-TOLD"], allowed.headers["Variable-BODY"]) == ("", "0")
        extra = {"SCRIPT_NAME": "/app", "CONTENT_LENGTH": "4"}
        told = client.post("/open", content=b"body", extensions={"fastcgi_params": extra})
        assert told.headers["Variable-TOLD"] == "CONTENT_LENGTH SCRIPT_NAME"
        assert client._transport.idle_connections == 1  # type: ignore[attr-defined]


def test_the_role_can_be_chosen() -> None:
    with FcgiTestClient(Both) as client:
        assert client.get("/").status_code == 204
    with FcgiTestClient(Both, role=2) as client:
        assert client.get("/").status_code == 200
    with FcgiTestClient(Guard, role=1) as client:
        assert client.get("/").status_code == 500


def test_an_authorizer_asked_asynchronously() -> None:
    async def ask(address: str) -> list[str]:
        transport = AsyncFcgiTransport(address, role=2)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            allowed = await client.post("/open", content=b"body")
            return [allowed.headers["Variable-TOLD"], allowed.headers["Variable-BODY"]]

    with AppServer(Guard) as server:
        assert asyncio.run(ask(server.address)) == ["", "0"]


def test_settings_that_cannot_work() -> None:
    for role in (0, 3, "authorizer"):
        with pytest.raises(ConfigurationError, match="role="):
            AppTransport(wsgi, role=role)  # type: ignore[arg-type]
    for wrong in ({"threads": 0}, {"interface": "cgi"}, {"loop": "trio"}):
        with pytest.raises(ConfigurationError):
            AppServer(wsgi, **wrong)
    with pytest.raises(ConfigurationError, match="give it to the transport"):
        AppServer(Native, root_path="/app")
    with pytest.raises(ConfigurationError):
        AppTransport(wsgi, limits=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no_such"):
        FcgiTestClient(wsgi, no_such=1)


def test_one_thread_and_own_limits() -> None:
    with FcgiTestClient(wsgi, threads=1) as client:
        assert client.get("/").json()[2] is False
    with AppServer(wsgi, limits=Limits(max_params=5)) as server:
        with httpx.Client(transport=FcgiTransport(server.address), base_url="http://app", timeout=TIMEOUT) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/")


def test_a_long_temporary_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with FcgiTestClient(wsgi) as client:
        assert client.get("/").status_code == 200


def test_the_end_waits_for_requests_under_way() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(_: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        begun.set()
        go.wait()
        start_response("200 OK", [])
        return [b"done"]

    got: list[str] = []
    server = AppServer(slow, limits=Limits(graceful_timeout=TIMEOUT))
    with httpx.Client(transport=FcgiTransport(server.address), base_url="http://app", timeout=TIMEOUT) as client:
        asking = threading.Thread(target=lambda: got.append(client.get("/").text))
        asking.start()
        begun.wait()
        closing = threading.Thread(target=server.close)
        closing.start()
        go.set()
        closing.join()
        asking.join()
    assert got == ["done"]
