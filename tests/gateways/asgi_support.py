"""What the ASGI specification says, read from asgiref's types, and applications that are told nothing else."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import uvloop
from asgiref.typing import (
    HTTPDisconnectEvent,
    HTTPRequestEvent,
    HTTPScope,
    LifespanScope,
    LifespanShutdownEvent,
    LifespanStartupEvent,
)

from simple_fastcgi.gateways import AsgiHandler
from tests.gateways.support import LIMITS, async_server
from tests.support.webserver import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, MutableMapping

    from simple_fastcgi.limits import Limits

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Coroutine[Any, Any, dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]
    App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
    LoopFactory = Callable[[], asyncio.AbstractEventLoop]

# libuv keeps a pipe for signals from the first loop of a process on: no test has left it behind.
uvloop.new_event_loop().close()

LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def conforms(value: object, hint: Any, where: str = "value") -> None:
    """Fail unless `value` is exactly what the type `hint` describes: no key more, no key less, no subclass."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return
    if is_typeddict(hint):
        assert type(value) is dict, where
        assert hint.__required_keys__ <= value.keys() <= hint.__annotations__.keys(), (where, value.keys())
        for name, inner in get_type_hints(hint).items():
            if name in value:
                conforms(value[name], inner, f"{where}.{name}")
    elif origin is Union or origin is types.UnionType:
        assert any(_is(value, inner) for inner in arguments), (where, value)
    elif origin is Literal:
        assert value in arguments, (where, value)
    elif origin is tuple:
        assert type(value) is tuple, where
        assert len(value) == len(arguments), (where, value)
        for number, (part, inner) in enumerate(zip(value, arguments, strict=True)):
            conforms(part, inner, f"{where}[{number}]")
    elif origin is Iterable:
        assert isinstance(value, Iterable), where
        for part in value:
            conforms(part, arguments[0], f"{where}[]")
    elif origin is dict:
        assert type(value) is dict, where
        for key, part in value.items():
            conforms(key, arguments[0], f"{where} key")
            conforms(part, arguments[1], f"{where}[{key!r}]")
    else:
        assert type(value) is (hint or type(None)), (where, value)


def _is(value: object, hint: Any) -> bool:
    try:
        conforms(value, hint)
    except AssertionError:
        return False
    return True


def check_http_scope(scope: Scope) -> None:
    """The HTTP connection scope, in what the types do not say."""
    conforms(scope, HTTPScope, "scope")
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] in ("2.3", "2.4", "2.5")
    assert scope["http_version"] in ("1.0", "1.1", "2", "3")
    assert scope["method"] == scope["method"].upper()
    assert scope["scheme"] in ("http", "https")
    assert scope["path"].startswith(scope["root_path"])
    assert not scope["root_path"].endswith("/")
    assert scope["raw_path"].startswith(b"/")
    assert b"?" not in scope["raw_path"] + scope["query_string"][:1]
    for name, _ in scope["headers"]:
        assert name == name.lower()
        assert not name.startswith(b":")
        assert b"_" not in name


class Checked:
    """An application that is told what the specification promises, or else `found` is not empty."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.found: list[AssertionError] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        disconnected = False

        async def checked_receive() -> dict[str, Any]:
            nonlocal disconnected
            message = await receive()
            with self._noting():
                if scope["type"] == "lifespan":
                    conforms(message, LifespanStartupEvent | LifespanShutdownEvent)
                else:
                    conforms(message, HTTPRequestEvent | HTTPDisconnectEvent)
                    assert not disconnected or message["type"] == "http.disconnect"
                    disconnected = message["type"] == "http.disconnect"
            return message

        with self._noting():
            if scope["type"] == "lifespan":
                conforms(scope, LifespanScope)
            else:
                check_http_scope(scope)
        await self._app(scope, checked_receive, send)

    def _noting(self) -> _Noting:
        return _Noting(self.found)


class _Noting:
    def __init__(self, found: list[AssertionError]) -> None:
        self._found = found

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AssertionError):
            self._found.append(error)


class Host:
    """A server that runs an ASGI application, and one connection to it."""

    def __init__(
        self,
        app: App,
        loop: LoopFactory,
        *,
        handler: type[AsgiHandler] = AsgiHandler,
        limits: Limits = LIMITS,
        **settings: Any,
    ) -> None:
        self.checked = Checked(app)
        self._server = async_server(
            handler.for_app(self.checked, **{"lifespan": "off", **settings}), loop, limits=limits
        )

    def __enter__(self) -> WebServer:
        self.address = self._server.__enter__()
        self.web = WebServer(self.address)
        return self.web

    def __exit__(self, *exc_info: Any) -> None:
        self.web.close()
        self._server.__exit__(*exc_info)
        assert not self.checked.found


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Send, data: bytes | bytearray | memoryview = b"", *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def respond(send: Send, data: bytes = b"", *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await start(send, *headers, status=status)
    await body(send, data)
