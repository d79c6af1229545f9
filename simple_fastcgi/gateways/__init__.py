"""Handlers that run the applications of other interfaces: WSGI and ASGI."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .asgi import AsgiHandler
    from .wsgi import WsgiHandler

__all__ = ["AsgiHandler", "WsgiHandler"]


def __getattr__(name: str) -> object:
    # On first use: who runs a WSGI application needs no ASGI.
    if name == "WsgiHandler":
        from .wsgi import WsgiHandler

        return WsgiHandler
    if name == "AsgiHandler":
        from .asgi import AsgiHandler

        return AsgiHandler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
