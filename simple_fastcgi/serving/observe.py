"""The settings of what an operator sees of a server, and what is made of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..limits import Limits
    from ..monitor.access_log import AccessLog
    from ..monitor.info import RequestInfo
    from ..monitor.monitor import Monitor
    from ..monitor.scoreboard import Scoreboard
    from ..monitor.status import Facts
    from ..net import ListeningSocket

DEFAULT_PING_PATH = "/fcgi-ping"
DEFAULT_STATUS_PATH = "/fcgi-status"
NAMES = (
    *("access_log", "access_log_format", "ping_path", "status_path", "status_bind"),
    *("slowlog_timeout", "request_timeout"),
)
"""The settings, as :func:`simple_fastcgi.serve` takes them."""


@dataclass(frozen=True, kw_only=True)
class Observing:
    """The settings, checked.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for those that cannot be.
    """

    access_log: str | None = None
    access_log_format: str = "combined"
    ping_path: str | None = None
    status_path: str | None = None
    status_bind: str | None = None
    slowlog_timeout: float = 0.0
    request_timeout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ping_path", "status_path"):
            path = getattr(self, name)
            if path is not None and (not path.startswith("/") or "?" in path):
                raise ConfigurationError(f"{name}={path!r}: give a path that begins with a slash, as /fcgi-{name[:-5]}")
        if self.ping_path is not None and self.ping_path == self.status_path:
            raise ConfigurationError(f"ping_path and status_path are both {self.ping_path}: give two paths")
        for name in ("slowlog_timeout", "request_timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give seconds, or 0 for none")
        if self.access_log_format not in _FORMATS:
            raise ConfigurationError(
                f"access_log_format={self.access_log_format!r}: give one of {', '.join(_FORMATS)}"
            )

    @property
    def counts(self) -> bool:
        """Whether requests are to be counted, and watched."""
        return bool(
            self.ping_path or self.status_path or self.status_bind or self.slowlog_timeout or self.request_timeout
        )

    @property
    def pages(self) -> tuple[str | None, str | None]:
        """Where a ping and the status are answered by whoever serves the application."""
        return self.ping_path, self.status_path

    def open_access_log(self) -> AccessLog | None:
        """The access log, if there is one; OSError when it cannot be opened."""
        if self.access_log is None:
            return None
        from ..monitor.access_log import AccessLog

        return AccessLog(self.access_log, self.access_log_format)


_FORMATS = ("combined", "json")


class Observed(ExitStack):
    """What sees the requests of this one process, while entered; :attr:`monitor` is for its server."""

    def __init__(self, observing: Observing, facts: Facts, give_up: Callable[[RequestInfo], object]) -> None:
        super().__init__()
        self.monitor: Monitor | None = None
        access_log = observing.open_access_log()
        if access_log is not None:
            self.enter_context(access_log)
        if not observing.counts:
            if access_log is not None:
                from ..monitor.monitor import Monitor

                self.monitor = Monitor([access_log])
            return
        from ..monitor.monitor import Monitor
        from ..monitor.scoreboard import own_process
        from ..monitor.watch import Watch

        board, seat = own_process()
        self.monitor = Monitor([access_log] if access_log is not None else [], seat)
        add_pages(self.monitor, board, facts, observing.pages)
        watch = Watch(
            self.monitor,
            slowlog_timeout=observing.slowlog_timeout,
            request_timeout=observing.request_timeout,
            give_up=give_up,
        )
        self.enter_context(watch)
        self.enter_context(TellAll(watch))
        if observing.status_bind is not None:
            self.enter_context(StatusServer(observing, board, facts))
