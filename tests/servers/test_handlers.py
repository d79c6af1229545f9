"""Handler classes that a server refuses when it is made, since no request could be served with them."""

from __future__ import annotations

import socket
import types
from typing import Any

import pytest

from simple_fastcgi import (
    AsyncAuthorizerMixin,
    AsyncFcgiHandler,
    AsyncFcgiServer,
    AsyncHttpResponseMixin,
    AuthorizerMixin,
    FcgiHandler,
    FcgiServer,
    FcgiThreadingServer,
    HttpResponseMixin,
)
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from tests.servers.support import listening_socket


def handle(self: Any) -> None: ...
async def handle_async(self: Any) -> None: ...
def generate(self: Any) -> Any:
    yield b"x"


@types.coroutine
def generate_awaits(self: Any) -> Any:
    yield


async def generate_async(self: Any) -> Any:
    yield b"x"


def served(server: Any, *bases: type, **members: Any) -> None:
    """Make a server of the class Shop, which has these bases and members."""
    with listening_socket(socket.AF_INET) as (listening, _):
        made = server(type("Shop", bases, members), listening)
        if server is not AsyncFcgiServer:
            made.server_close()
        else:
            made.socket.close()


@pytest.mark.parametrize("server", [FcgiServer, FcgiThreadingServer])
@pytest.mark.parametrize(
    ("bases", "stranger"),
    [
        ((AsyncFcgiHandler,), "AsyncFcgiHandler"),
        ((AsyncHttpResponseMixin, AsyncFcgiHandler), "AsyncFcgiHandler"),
        ((AsyncHttpResponseMixin, FcgiHandler), "AsyncHttpResponseMixin"),
        ((AsyncAuthorizerMixin, FcgiHandler), "AsyncAuthorizerMixin"),
    ],
)
def test_what_is_written_for_the_asynchronous_server(server: Any, bases: tuple[type, ...], stranger: str) -> None:
    cure = (
        f"Shop has {stranger} among its bases: FcgiServer takes FcgiHandler, with HttpResponseMixin or "
        "AuthorizerMixin, and AsyncFcgiServer takes AsyncFcgiHandler and its mixins"
    )
    with pytest.raises(ConfigurationError) as caught:
        served(server, *bases)
    assert str(caught.value) == cure


@pytest.mark.parametrize(
    ("bases", "stranger"),
    [
        ((FcgiHandler,), "FcgiHandler"),
        ((HttpResponseMixin, AsyncFcgiHandler), "HttpResponseMixin"),
        ((AuthorizerMixin, AsyncFcgiHandler), "AuthorizerMixin"),
        ((WsgiHandler,), "FcgiHandler"),
    ],
)
def test_what_is_written_for_the_synchronous_server(bases: tuple[type, ...], stranger: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Shop has {stranger} among its bases: AsyncFcgiServer takes "):
        served(AsyncFcgiServer, *bases, app=handle)


@pytest.mark.parametrize("wrong", [handle_async, generate, generate_async, generate_awaits])
def test_a_handle_that_a_synchronous_server_would_not_run(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Shop.handle is a .*function, which would not be run: "):
        served(FcgiServer, FcgiHandler, handle=wrong)


@pytest.mark.parametrize("wrong", [generate, generate_async])
def test_a_handle_that_an_asynchronous_server_could_not_await(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Shop.handle is a generator function, "):
        served(AsyncFcgiServer, AsyncFcgiHandler, handle=wrong)


def test_what_runs_its_handle_itself() -> None:
    def make(self: Any, *arguments: Any) -> None: ...

    for name in ("__init__", "setup", "finish"):
        served(FcgiServer, FcgiHandler, handle=handle_async, **{name: make})

    class Server(FcgiServer):
        def finish_request(self, request: Any, client_address: object) -> None: ...

    served(Server, FcgiHandler, handle=handle_async)


@pytest.mark.parametrize("right", [handle, handle_async, generate_awaits, print])
def test_a_handle_that_may_give_something_to_await(right: Any) -> None:
    """Nothing is refused of which nobody can tell."""
    served(AsyncFcgiServer, AsyncFcgiHandler, handle=right)


@pytest.mark.parametrize(("server", "gateway"), [(FcgiServer, WsgiHandler), (AsyncFcgiServer, AsgiHandler)])
def test_a_gateway_without_an_application(server: Any, gateway: Any) -> None:
    name = gateway.__name__
    with listening_socket(socket.AF_INET) as (listening, _), pytest.raises(ConfigurationError) as caught:
        server(gateway, listening)
    assert str(caught.value) == f"{name} has no application: give the server {name}.for_app(app)"
    served(server, gateway.for_app(handle))
    served(server, gateway, app=handle)


def test_what_is_no_class() -> None:
    """Whatever makes handlers when it is called, and says in which roles."""

    def factory(*arguments: Any) -> FcgiHandler:
        return FcgiHandler(*arguments)

    factory.roles = (1,)  # type: ignore[attr-defined]
    with listening_socket(socket.AF_INET) as (listening, _):
        FcgiServer(factory, listening).server_close()  # type: ignore[arg-type]
