"""WSGI or ASGI? Decided by the shape of the application, without calling it.

Ordinary functions and methods are read from their code objects: ``inspect``, and all that it imports, would be a
tenth of what a small application's start costs. It is imported for the others.
"""

from __future__ import annotations

import functools
import types

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterator
    from typing import Any, Literal

    Interface = Literal["wsgi", "asgi", "asgi2"]

_WSGI = ("environ", "start_response")
_ASGI = ("scope", "receive", "send")
_BY_COUNT: dict[int, Interface] = {len(_WSGI): "wsgi", len(_ASGI): "asgi"}
_WSGI_DECORATORS = ("werkzeug.wrappers.request",)
"""Modules of decorators whose WSGI applications hide their arguments: werkzeug's ``@Request.application``."""

_MOST_LAYERS = 100
# What inspect calls them.
_CO_VARARGS, _CO_COROUTINE = 0x04, 0x80
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


class _Shape:
    """How a callable can be called."""

    __slots__ = ("at_most", "required", "takes_positional")

    def __init__(self, required: tuple[str, ...], at_most: float, *, takes_positional: bool) -> None:
        # The positional parameters without a default, and how many positional arguments there can be.
        self.required = required
        self.at_most = at_most
        # No parameter has to be given by its name.
        self.takes_positional = takes_positional

    def takes(self, count: int) -> bool:
        """Whether `count` positional arguments are right."""
        return self.takes_positional and len(self.required) <= count <= self.at_most


def _interface_of(layer: Callable[..., Any]) -> Interface | None:
    shape = _shape(layer)
    if shape is None:
        return None
    if _is_coroutine_function(layer):
        return "asgi" if shape.takes(len(_ASGI)) else None
    if _written_in(layer) in _WSGI_DECORATORS:
        return "wsgi"
    required = shape.required
    if not shape.takes(len(required)):
        return None
    if isinstance(layer, type):
        return _interface_of_class(layer, required)
    if required == ("scope",):
        return "asgi2"
    return _BY_COUNT.get(len(required))


def _interface_of_class(cls: type, required: tuple[str, ...]) -> Interface | None:
    """Only what an instance can do tells an application from a class given in place of its instance."""
    needed = {len(_WSGI): "__iter__", len(_ASGI): "__await__"}.get(len(required))
    if needed is not None:
        return _BY_COUNT[len(required)] if hasattr(cls, needed) else None
    if len(required) == 1:
        import inspect

        call = inspect.getattr_static(cls, "__call__", None)
        shape = _shape(call) if _is_coroutine_function(call) else None
        double = shape is not None and shape.takes(len(("self", "receive", "send")))
        return "asgi2" if double or required == ("scope",) else None
    return None


def _shape(function: object) -> _Shape | None:
    plain = _plain_function(function)
    if plain is not None:
        return _shape_of_code(plain, bound=plain is not function)
    signature = _signature(function)
    return None if signature is None else _shape_of_signature(signature)


def _is_coroutine_function(function: object) -> bool:
    plain = _plain_function(function)
    if plain is not None:
        return bool(plain.__code__.co_flags & _CO_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function)


def _plain_function(function: object) -> types.FunctionType | None:
    """The function itself, or that of a method, if its code object is all that there is to know."""
    plain = function.__func__ if type(function) is types.MethodType else function
    # Attributes: what wraps another one, or says that it is something else than its code.
    if type(plain) is not types.FunctionType or plain.__dict__:
        return None
    if plain is not function and not plain.__code__.co_argcount:
        return None
    return plain


def _shape_of_code(function: types.FunctionType, *, bound: bool) -> _Shape:
    code = function.__code__
    count = code.co_argcount
    required = code.co_varnames[bound : count - len(function.__defaults__ or ())]
    by_name = code.co_varnames[count : count + code.co_kwonlyargcount]
    return _Shape(
        required,
        float("inf") if code.co_flags & _CO_VARARGS else count - bound,
        takes_positional=set(by_name) <= (function.__kwdefaults__ or {}).keys(),
    )


def _shape_of_signature(signature: inspect.Signature) -> _Shape:
    parameters = signature.parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    endless = any(one.kind == one.VAR_POSITIONAL for one in parameters)
    return _Shape(
        tuple(one.name for one in positional if one.default is one.empty),
        float("inf") if endless else len(positional),
        takes_positional=all(one.default is not one.empty for one in parameters if one.kind == one.KEYWORD_ONLY),
    )


def _signature(function: object) -> inspect.Signature | None:
    import inspect

    try:
        return inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError):
        return None


def _written_in(function: object) -> object:
    """The module that a function's code stands in, where ``functools.wraps`` has written another into it."""
    if isinstance(function, functools.partial):
        return _written_in(function.func)
    return getattr(function, "__globals__", {}).get("__name__")


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
