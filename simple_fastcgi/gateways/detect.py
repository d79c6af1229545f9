"""WSGI or ASGI? Decided by the shape of the application, without calling it."""

from __future__ import annotations

import functools
import inspect
import types

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal

    Interface = Literal["wsgi", "asgi", "asgi2"]

_WSGI = ("environ", "start_response")
_ASGI = ("scope", "receive", "send")
_BY_COUNT: dict[int, Interface] = {len(_WSGI): "wsgi", len(_ASGI): "asgi"}
_WSGI_DECORATORS = ("werkzeug.wrappers.request",)
"""Modules of decorators whose WSGI applications hide their arguments: werkzeug's ``@Request.application``."""

_MOST_LAYERS = 100
_FUNCTIONS_AND_CLASSES = (
    type,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
)


def detect_interface(app: object) -> Interface:
    """The interface that ``app``, any callable, was written for.

    ``"asgi"``
        A coroutine function that takes three arguments (scope, receive, send), or any callable that requires three.
    ``"wsgi"``
        A callable that requires two arguments (environ, start_response); also a class whose instances are responses,
        as PEP 3333 shows it.
    ``"asgi2"``
        The older double callable: made or called with the scope alone, then called with receive and send.

    Wrappings are looked at from outside in, and the first one with a shape of its own decides: a decorator that
    turns ASGI into WSGI makes a WSGI application, whatever ``functools.wraps`` tells about its inside. What passes
    all arguments on (``*args``) has no shape. Arguments bound by ``functools.partial`` do not count.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` if the shape is none of these.
    """
    if not callable(app):
        raise ConfigurationError(f"{_name(app)} cannot be called, so it is no application: give a callable")
    for layer in _layers(app):
        found = _interface_of(layer)
        if found is not None:
            return found
    raise ConfigurationError(
        f"cannot tell whether {_name(app)} is WSGI or ASGI{_hint(app)}: say it with --interface (interface=)"
    )


def _layers(app: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    waiting = [app]
    # Proxies that answer every attribute would be unwrapped for ever.
    for _ in range(_MOST_LAYERS):
        if not waiting:
            return
        layer = waiting.pop()
        if not _is_plain_object(layer):
            yield layer
        waiting.extend(reversed(_within(layer)))


def _within(layer: Any) -> list[Callable[..., Any]]:
    """What is called in place of ``layer``, with the same arguments; the likeliest first."""
    if isinstance(layer, functools.partial):
        return [functools.partial(inner, *layer.args, **layer.keywords) for inner in _within(layer.func)]
    if isinstance(layer, types.MethodType):
        return [types.MethodType(inner, layer.__self__) for inner in _within(layer.__func__)]
    wrapped = getattr(layer, "__wrapped__", None)
    inner = [wrapped] if callable(wrapped) else []
    return [layer.__call__, *inner] if _is_plain_object(layer) else inner


def _is_plain_object(layer: object) -> bool:
    """Whether only its ``__call__`` has a signature; ``inspect`` would misread one that is a static method."""
    if isinstance(layer, functools.partial):
        return _is_plain_object(layer.func)
    return not isinstance(layer, _FUNCTIONS_AND_CLASSES)


def _interface_of(layer: Callable[..., Any]) -> Interface | None:
    signature = _signature(layer)
    if signature is None:
        return None
    if inspect.iscoroutinefunction(layer):
        return "asgi" if _takes(signature, _ASGI) else None
    if _written_in(layer) in _WSGI_DECORATORS:
        return "wsgi"
    required = _required(signature)
    if not _takes(signature, required):
        return None
    if isinstance(layer, type):
        return _interface_of_class(layer, required)
    if required == ["scope"]:
        return "asgi2"
    return _BY_COUNT.get(len(required))


def _interface_of_class(cls: type, required: list[str]) -> Interface | None:
    """Only what an instance can do tells an application from a class given in place of its instance."""
    needed = {len(_WSGI): "__iter__", len(_ASGI): "__await__"}.get(len(required))
    if needed is not None:
        return _BY_COUNT[len(required)] if hasattr(cls, needed) else None
    if len(required) == 1:
        call = inspect.getattr_static(cls, "__call__", None)
        signature = _signature(call) if inspect.iscoroutinefunction(call) else None
        double = signature is not None and _takes(signature, ("self", "receive", "send"))
        return "asgi2" if double or required == ["scope"] else None
    return None


def _signature(function: object) -> inspect.Signature | None:
    try:
        return inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError):
        return None


def _written_in(function: object) -> object:
    """The module that a function's code stands in, where ``functools.wraps`` has written another into it."""
    if isinstance(function, functools.partial):
        return _written_in(function.func)
    return getattr(function, "__globals__", {}).get("__name__")


def _required(signature: inspect.Signature) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in positional and parameter.default is parameter.empty
    ]


def _takes(signature: inspect.Signature, arguments: tuple[str, ...] | list[str]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _name(app: object) -> str:
    named = app if hasattr(app, "__qualname__") else type(app)
    name = f"{getattr(named, '__module__', None)}.{getattr(named, '__qualname__', None)}"
    return name if named is app else f"an object of {name}"


def _hint(app: Callable[..., Any]) -> str:
    if isinstance(app, type):
        return " (it is a class; is an instance of it meant?)"
    signature = next(map(_signature, _layers(app)), None)
    if signature is None:
        return ""
    if not signature.parameters:
        return " (it takes no arguments; does it make the application? then add --factory)"
    return f" from its arguments {signature}"
