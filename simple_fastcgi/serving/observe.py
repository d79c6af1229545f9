"""The settings of what an operator sees of a server, and what is made of them."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..log import info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..limits import Limits
    from ..monitor.access_log import AccessLog
    from ..monitor.monitor import Monitor, Page
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
            formats = ", ".join(_FORMATS)
            raise ConfigurationError(f"access_log_format={self.access_log_format!r}: give one of {formats}")
        if self.access_log_format != "combined" and self.access_log is None:
            raise ConfigurationError("access_log_format: there is no access log; give access_log, too")

    @property
    def counts(self) -> bool:
        """Whether requests are to be counted, and watched."""
        return bool(
            self.ping_path or self.status_path or self.status_bind or self.slowlog_timeout or self.request_timeout
        )

    def pages_of(self, board: Scoreboard, facts: Facts, *, always: bool = False) -> dict[str, Page]:
        """What answers a ping and shows the status, by its path; `always`: at the usual paths, too."""
        from ..monitor.pages import ping_page, status_page

        page = status_page(board, facts)
        pages: dict[str | None, Page] = {self.ping_path: ping_page, self.status_path: page}
        if always:
            pages |= {DEFAULT_PING_PATH: ping_page, DEFAULT_STATUS_PATH: page}
        return {path: each for path, each in pages.items() if path is not None}

    def open_access_log(self) -> AccessLog | None:
        """The access log, if there is one; OSError when it cannot be opened."""
        if self.access_log is None:
            return None
        from ..monitor.access_log import AccessLog

        return AccessLog(self.access_log, self.access_log_format)


NOT_FOUND = b"Status: 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nNot Found\n"
_FORMATS = ("combined", "json")


class Observed(ExitStack):
    """What sees the requests of this one process, which it serves on `listening`; :attr:`monitor` is for its server.

    OSError when the access log cannot be opened, or the status socket not be bound.
    """

    def __init__(self, observing: Observing, facts: Facts, listening: ListeningSocket) -> None:
        super().__init__()
        self.monitor: Monitor | None = None
        self.stop_serving: Callable[[], object] = _nothing
        """Asks the server to end gracefully; whoever runs it says so."""
        try:
            self._begin(observing, facts, listening)
        except BaseException:
            self.close()
            raise

    def _begin(self, observing: Observing, facts: Facts, listening: ListeningSocket) -> None:
        access_log = observing.open_access_log()
        if access_log is None and not observing.counts:
            return
        from ..monitor.monitor import Monitor

        if access_log is not None:
            self.enter_context(access_log)
        observers = [access_log] if access_log is not None else []
        if not observing.counts:
            self.monitor = Monitor(observers)
            return
        from ..monitor.scoreboard import own_process
        from ..monitor.watch import Watch
        from .leave import Leave

        board, seat = own_process()
        self.monitor = Monitor(observers, seat)
        self.monitor.pages.update(observing.pages_of(board, facts))
        watch = Watch(
            self.monitor,
            board=board,
            slowlog_timeout=observing.slowlog_timeout,
            request_timeout=observing.request_timeout,
            give_up=Leave(self.monitor, self._stop, listening.close),
        )
        if observing.status_bind is not None:
            self.enter_context(StatusServer(observing, board, facts))
        self.enter_context(watch)

    def _stop(self) -> None:
        self.stop_serving()


def observed_by(
    observing: Observing,
    listening: ListeningSocket,
    limits: Limits,
    *,
    name: str,
    threads: int,
    interface: str,
) -> Observed:
    """What sees the requests of a server without worker processes."""
    from ..monitor.status import Facts
    from ..net.backlog import listen_queue

    facts = Facts(
        pool=name,
        threads=threads if interface == "wsgi" else 0,
        limits=dict(limits),
        queue=lambda: listen_queue(listening.socket),
    )
    return Observed(observing, facts, listening)


def _nothing() -> None:
    """No server runs yet."""


class StatusServer:
    """While entered, answers pings and the status on a socket of its own, in a thread: also when all others are busy.

    OSError when it cannot listen there.
    """

    def __init__(self, observing: Observing, board: Scoreboard, facts: Facts) -> None:
        from ..monitor.monitor import find_page
        from ..net import bind_socket
        from ..sync.handler import FcgiHandler
        from ..sync.server import FcgiServer

        assert observing.status_bind is not None
        self._pid = os.getpid()
        pages = observing.pages_of(board, facts, always=True)

        class Pages(FcgiHandler):
            def handle(self) -> None:
                params = self.request.params
                page = find_page(pages, params)
                self.write(NOT_FOUND if page is None else page(params))

        self._listening = bind_socket(observing.status_bind)
        try:
            self._server = FcgiServer(Pages, self._listening.socket)
        except BaseException:
            self._listening.close()
            raise
        self._thread = threading.Thread(target=self._server.serve_forever, name="fcgi-status", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        info("the status is at %s", self._listening)

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:
            # A worker that ends comes by here, too; the thread was never its.
            return
        self._listening.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
