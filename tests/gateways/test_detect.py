"""The shapes that applications come in, from frameworks and from plain Python."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import pytest
from asgiref.wsgi import WsgiToAsgi
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from werkzeug.debug import DebuggedApplication
from werkzeug.local import LocalProxy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Request, Response

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways import detect
from simple_fastcgi.gateways.detect import detect_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

flask_app = Flask(__name__)
starlette_app = Starlette()


def wsgi(environ: object, start_response: object) -> Any:
    raise NotImplementedError


async def asgi(scope: object, receive: object, send: object) -> None:
    raise NotImplementedError


def plain_asgi(scope: object, receive: object, send: object) -> object:
    return asgi(scope, receive, send)


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def passing_on_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def to_wsgi(app: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(app)
    def wrapper(environ: object, start_response: object) -> None:
        raise NotImplementedError

    return wrapper


def to_asgi(app: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(app)
    async def wrapper(scope: object, receive: object, send: object) -> None:
        raise NotImplementedError

    return wrapper


class WsgiObject:
    def __call__(self, environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError

    def method(self, environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError

    @classmethod
    def on_class(cls, environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError

    @staticmethod
    def static(environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError

    decorated = passing_on(method)


class WsgiDecorated:
    @passing_on
    def __call__(self, environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError


class WsgiStatic:
    @staticmethod
    def __call__(environ: object, start_response: object) -> list[bytes]:
        raise NotImplementedError


class WsgiClass:
    """As PEP 3333 shows it: the instance is the response."""

    def __init__(self, environ: object, start_response: object) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes]:
        raise NotImplementedError


class WsgiSlotted:
    """Attributes are looked up dynamically, as proxies do."""

    def __getattr__(self, name: str) -> object:
        return WsgiSlotted() if name == "__wrapped__" else super().__getattribute__(name)

    def __call__(self, environ: object, start_response: object, debug: bool = False) -> list[bytes]:
        raise NotImplementedError


class AsgiObject:
    async def __call__(self, scope: object, receive: object, send: object) -> None:
        raise NotImplementedError

    async def method(self, scope: object, receive: object, send: object) -> None:
        raise NotImplementedError

    async def optional(self, scope: object, receive: object = None, send: object = None) -> None:
        raise NotImplementedError


class AsgiPlain:
    def __call__(self, scope: object, receive: object, send: object) -> object:
        return asgi(scope, receive, send)


class AsgiStatic:
    @staticmethod
    def __call__(scope: object, receive: object, send: object) -> object:
        return asgi(scope, receive, send)


class AsgiDelegating:
    __call__ = AsgiPlain()


class Asgi2Class:
    def __init__(self, scope: object) -> None:
        raise NotImplementedError

    async def __call__(self, receive: object, send: object) -> None:
        raise NotImplementedError


class Asgi2OtherName:
    def __init__(self, connection: object) -> None:
        raise NotImplementedError

    async def __call__(self, receive: object, send: object) -> None:
        raise NotImplementedError


class Asgi2Object:
    def __call__(self, scope: object) -> object:
        raise NotImplementedError


class Endpoint(HTTPEndpoint):
    pass


@Request.application
def werkzeug_app(request: Request) -> Response:
    raise NotImplementedError


class WerkzeugObject:
    @Request.application  # type: ignore[arg-type]
    def method(self, request: Request) -> Response:  # type: ignore[misc]
        raise NotImplementedError


def bound_first(config: object, environ: object, start_response: object) -> list[bytes]:
    raise NotImplementedError


def bound_last(scope: object, receive: object, send: object, *, config: object) -> object:
    raise NotImplementedError


def with_option(environ: object, start_response: object, debug: bool) -> list[bytes]:
    raise NotImplementedError


def double(scope: object) -> object:
    raise NotImplementedError


WSGI = {
    "flask": flask_app,
    "flask method": flask_app.wsgi_app,
    "flask call": flask_app.__call__,
    "django": WSGIHandler.__new__(WSGIHandler),  # its __init__ would want settings
    "ProxyFix": ProxyFix(flask_app),
    "DebuggedApplication": DebuggedApplication(flask_app),
    "DispatcherMiddleware": DispatcherMiddleware(flask_app, {"/x": wsgi}),
    "werkzeug response": Response("hello"),
    "werkzeug": werkzeug_app,
    "werkzeug method": WerkzeugObject.__dict__["method"].__get__(WerkzeugObject()),
    "partial of werkzeug": functools.partial(werkzeug_app),
    "function": wsgi,
    "lambda": lambda environ, start_response: [],
    "lambda with other names": lambda e, s: [],
    "optional third": lambda environ, start_response, debug=False: [],
    "object": WsgiObject(),
    "bound method": WsgiObject().method,
    "class method": WsgiObject.on_class,
    "static method": WsgiObject.static,
    "static method object": WsgiObject.__dict__["static"],
    "decorated method": WsgiObject().decorated,
    "decorated call": WsgiDecorated(),
    "static call": WsgiStatic(),
    "answers every attribute": WsgiSlotted(),
    "class": WsgiClass,
    "wraps": passing_on(wsgi),
    "wraps twice": passing_on(passing_on(wsgi)),
    "wraps flask": passing_on(flask_app),
    "wraps that converts": to_wsgi(asgi),
    "wraps over wraps that converts": passing_on(to_wsgi(asgi)),
    "partial": functools.partial(bound_first, {}),
    "partial of a partial": functools.partial(functools.partial(bound_first), {}),
    "partial with a keyword": functools.partial(with_option, debug=True),
    "partial of wraps": functools.partial(passing_on(bound_first), {}),
    "partial of an object": functools.partial(WsgiObject()),
    "wraps of a partial": passing_on(functools.partial(bound_first, {})),
    "lru_cache": functools.lru_cache(wsgi),
    "autospec": mock.create_autospec(wsgi),
    "proxied wraps": LocalProxy(lambda: passing_on(wsgi)),
}

ASGI = {
    "starlette": starlette_app,
    "fastapi": FastAPI(),
    "starlette call": starlette_app.__call__,
    "starlette response": PlainTextResponse("hello"),
    "starlette endpoint": Endpoint,
    "starlette middleware": GZipMiddleware(starlette_app),
    "asgiref's WsgiToAsgi": WsgiToAsgi(flask_app),
    "django": ASGIHandler.__new__(ASGIHandler),
    "async def": asgi,
    "def that returns a coroutine": plain_asgi,
    "lambda": lambda scope, receive, send: asgi(scope, receive, send),
    "object": AsgiObject(),
    "bound method": AsgiObject().method,
    "optional arguments": AsgiObject().optional,
    "plain call": AsgiPlain(),
    "static call": AsgiStatic(),
    "call by an object": AsgiDelegating(),
    "wraps": passing_on(asgi),
    "wraps, async": passing_on_async(asgi),
    "wraps of a def": passing_on(plain_asgi),
    "wraps starlette": passing_on(starlette_app),
    "wraps that converts": to_asgi(wsgi),
    "partial": functools.partial(asgi),
    "partial with a keyword": functools.partial(bound_last, config={}),
    "partial of wraps": functools.partial(passing_on(asgi)),
    "partial of a static call": functools.partial(AsgiStatic()),
    "partial of starlette": functools.partial(starlette_app),
    "async *args": passing_on_async(len),
}

ASGI2 = {
    "class": Asgi2Class,
    "class with another name": Asgi2OtherName,
    "object": Asgi2Object(),
    "function": double,
    "partial": functools.partial(double),
}

UNDECIDED = {
    "mock": (mock.Mock(), "Mock"),
    "magic mock": (mock.MagicMock(), "MagicMock"),
    "factory": (lambda: wsgi, "--factory"),
    "passing on nothing known": (lambda *args: None, r"\(\*args\)"),
    "one argument": (lambda request: None, r"\(request\)"),
    "four arguments": (lambda a, b, c, d: None, r"\(a, b, c, d\)"),
    "needs a keyword": (bound_last, "config"),
    "async with one argument": (passing_on_async, "function"),
    "flask's class": (Flask, "is an instance of it meant"),
    "starlette's class": (Starlette, "is an instance of it meant"),
    "middleware's class": (GZipMiddleware, "is an instance of it meant"),
    "ProxyFix's class": (ProxyFix, "is an instance of it meant"),
    "built-in class": (dict, "is an instance of it meant"),
    "built-in function": (print, "builtins.print"),
    "without a signature": (max, "builtins.max is WSGI or ASGI: say"),
    "proxied flask": (LocalProxy(lambda: flask_app), "LocalProxy"),
}


@pytest.mark.parametrize("shape", tuple(WSGI))
def test_wsgi(shape: str) -> None:
    assert detect_interface(WSGI[shape]) == "wsgi"


@pytest.mark.parametrize("shape", tuple(ASGI))
def test_asgi(shape: str) -> None:
    assert detect_interface(ASGI[shape]) == "asgi"


@pytest.mark.parametrize("shape", tuple(ASGI2))
def test_asgi2(shape: str) -> None:
    assert detect_interface(ASGI2[shape]) == "asgi2"


@pytest.mark.parametrize("shape", tuple(UNDECIDED))
def test_undecided(shape: str) -> None:
    app, hint = UNDECIDED[shape]
    with pytest.raises(ConfigurationError, match=hint) as caught:
        detect_interface(app)
    message = str(caught.value)
    assert message.endswith("say it with --interface (interface=)")
    assert len(message.splitlines()) == 1


async def coroutine_view(request: object, response: object) -> None:
    raise NotImplementedError


def test_coroutine_function_of_two_arguments_is_neither() -> None:
    with pytest.raises(ConfigurationError, match=r"test_detect.coroutine_view .*\(request"):
        detect_interface(coroutine_view)


@pytest.mark.parametrize("thing", [None, "app:app", 5, classmethod(wsgi)])
def test_what_cannot_be_called_is_no_application(thing: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be called"):
        detect_interface(thing)


class Endless:
    """Answers every attribute with another of its kind."""

    def __getattr__(self, name: str) -> Self:
        return type(self)()

    def __call__(self, *args: object) -> None:
        raise NotImplementedError


def test_endless_wrapping_ends() -> None:
    with pytest.raises(ConfigurationError):
        detect_interface(Endless())
    with pytest.raises(ConfigurationError):
        detect_interface(functools.partial(Endless(), 1))


class Methods:
    def method(self, environ: object, start_response: object) -> None: ...

    def any_method(*args: object) -> None: ...

    @classmethod
    def of_class(cls, scope: object, *, flag: bool) -> None: ...

    @staticmethod
    def static(scope: object, /, receive: object, send: object = None, *more: object, **named: object) -> None: ...


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    wsgi,
    asgi,
    lambda: None,
    lambda *args, **kwargs: None,
    lambda a, b=1, /, c=2, *, d=3: None,
    lambda a, *, b, c=1: None,
    lambda a, *, b=2, c=1: None,
    Methods().method,
    types.MethodType(lambda a=1, b=2: None, object()),
    Methods.method,
    Methods.of_class,
    Methods().static,
    types.MethodType(asgi, object()),
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_a_code_object_tells_what_inspect_tells(function: Callable[..., Any]) -> None:
    plain = detect._plain_function(function)
    assert plain is not None
    quick = detect._shape_of_code(plain, bound=plain is not function)
    thorough = detect._shape_of_signature(inspect.signature(function))
    for attribute in quick.__slots__:
        assert getattr(quick, attribute) == getattr(thorough, attribute)
    assert detect._is_coroutine_function(function) == inspect.iscoroutinefunction(function)


def test_what_is_no_plain_function_is_inspected() -> None:
    @functools.wraps(wsgi)
    def wrapping(*args: object) -> None: ...

    for function in (wrapping, functools.partial(wsgi, 1), Methods, Methods().any_method, len, "text"):
        assert detect._plain_function(function) is None
