"""FastCGI for Python: native handlers, WSGI and ASGI applications behind any web server.

Names are imported on first use, so that a program loads only what it needs.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aio.handler import AsyncFcgiHandler
    from .aio.mixin import AsyncAuthorizerMixin, AsyncHttpResponseMixin
    from .aio.server import AsyncFcgiServer
    from .errors import ProtocolError
    from .serving.run import serve
    from .sync.handler import FcgiHandler
    from .sync.mixin import AuthorizerMixin, HttpResponseMixin
    from .sync.server import FcgiServer
    from .sync.threading_server import FcgiThreadingServer

__all__ = [
    "AsyncAuthorizerMixin",
    "AsyncFcgiHandler",
    "AsyncFcgiServer",
    "AsyncHttpResponseMixin",
    "AuthorizerMixin",
    "FcgiHandler",
    "FcgiServer",
    "FcgiThreadingServer",
    "HttpResponseMixin",
    "ProtocolError",
    "serve",
]

_HOMES = {
    "AsyncAuthorizerMixin": ".aio.mixin",
    "AsyncFcgiHandler": ".aio.handler",
    "AsyncFcgiServer": ".aio.server",
    "AsyncHttpResponseMixin": ".aio.mixin",
    "AuthorizerMixin": ".sync.mixin",
    "FcgiHandler": ".sync.handler",
    "FcgiServer": ".sync.server",
    "FcgiThreadingServer": ".sync.threading_server",
    "HttpResponseMixin": ".sync.mixin",
    "ProtocolError": ".errors",
    "serve": ".serving.run",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
