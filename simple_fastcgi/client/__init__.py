"""Calling FastCGI applications: what a web server does, from Python.

The transports need httpx, which the extra ``client`` installs; everything else here does without. Names are imported on
first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .async_transport import AsyncFcgiTransport
    from .proxy import FcgiProxy
    from .transport import FcgiTransport

__all__ = ["AsyncFcgiTransport", "FcgiProxy", "FcgiTransport"]

_HOMES = {"AsyncFcgiTransport": ".async_transport", "FcgiProxy": ".proxy", "FcgiTransport": ".transport"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value: object = getattr(import_module(home, __name__), name)
    except ModuleNotFoundError as error:
        if error.name in _REQUIRED:
            raise ImportError(
                f"simple_fastcgi.client.{name} needs {error.name}, which is not installed: "
                "pip install 'simple_fastcgi[client]'",
                name=error.name,
            ) from None
        raise
    globals()[name] = value
    return value


_REQUIRED = ("httpx", "anyio")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
