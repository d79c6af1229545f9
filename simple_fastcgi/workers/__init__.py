"""Worker processes, run by gunicorn: ``gunicorn -k simple_fastcgi.workers.WsgiWorker app:app --bind unix:app.sock``.

Needs the extra ``gunicorn``. The classes are imported on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .asgi import AsgiWorker
    from .wsgi import WsgiWorker

__all__ = ["AsgiWorker", "WsgiWorker"]


def __getattr__(name: str) -> object:
    if name == "WsgiWorker":
        from .wsgi import WsgiWorker

        return WsgiWorker
    if name == "AsgiWorker":
        from .asgi import AsgiWorker

        return AsgiWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
