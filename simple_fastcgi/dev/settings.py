"""What the development server can be told; it imports nothing that may not be installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..serving.run import DEFAULT_THREADS

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_HTTP = "127.0.0.1:8000"
DEFAULT_GRACEFUL_TIMEOUT = 5.0


@dataclass(frozen=True)
class Settings:
    """What ``simple-fastcgi dev`` is told.

    ``app``, ``interface``, ``factory`` and ``threads`` are as in ``serve``. ``http`` is where HTTP is answered, and
    ``root_path`` the path there below which the application is mounted. ``reload_dirs`` (default: the current
    directory) are watched for changes of code and templates, and of files whose names match ``reload_include``;
    requests under way then have ``graceful_timeout`` seconds to end.
    """

    app: str
    http: str = DEFAULT_HTTP
    interface: Literal["auto", "wsgi", "asgi"] = "auto"
    factory: bool = False
    root_path: str | None = None
    threads: int = DEFAULT_THREADS
    debug: bool = False
    reload: bool = True
    reload_dirs: Sequence[str] = ()
    reload_include: Sequence[str] = ()
    open_browser: bool = False
    graceful_timeout: float = DEFAULT_GRACEFUL_TIMEOUT
