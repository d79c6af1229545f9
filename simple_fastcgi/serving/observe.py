"""The settings of what an operator sees of a server, and what is made of them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from ..errors import ConfigurationError
from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..limits import Limits
    from ..monitor.access_log import AccessLog
    from ..monitor.monitor import Monitor, Page
    from ..monitor.scoreboard import Scoreboard
    from ..monitor.status import Facts
    from ..net import ListeningSocket
    from .leave import Leave
    from .status_server import StatusServer

DEFAULT_PING_PATH = "/fcgi-ping"
DEFAULT_STATUS_PATH = "/fcgi-status"
NAMES = (
    *("access_log", "access_log_format", "ping_path", "status_path", "status_bind"),
    *("slowlog_timeout", "request_timeout"),
)
"""The settings, as :func:`simple_fastcgi.serve` takes them."""


@dataclass(frozen=True, kw_only=True)
class Observing:
    """The settings, checked. Relative paths count from the directory in which this is made.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for those that cannot be.
    """

    access_log: str | None = None
    access_log_format: str = "combined"
    ping_path: str | None = None
    status_path: str | None = None
    status_bind: str | None = None
    slowlog_timeout: float = 0.0
    request_timeout: float = 0.0

    access_log_file: str = field(init=False, default="")
    """Where the access log is, also behind an application that changes directory."""
    status_address: str = field(init=False, default="")
    """The same of the status, as a bind string."""

    def __post_init__(self) -> None:
        for name in ("ping_path", "status_path"):
            path = getattr(self, name)
            if path is not None and (not isinstance(path, str) or not path.startswith("/") or "?" in path):
                raise ConfigurationError(f"{name}={path!r}: give a path that begins with a slash, as /fcgi-{name[:-5]}")
        if self.ping_path is not None and self.ping_path == self.status_path:
            raise ConfigurationError(f"ping_path and status_path are both {self.ping_path}: give two paths")
        for name in ("slowlog_timeout", "request_timeout"):
            if not _is_time(getattr(self, name)):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: give seconds, or 0 for none")
        if 0 < self.request_timeout < self.slowlog_timeout:
            raise ConfigurationError(
                f"slowlog_timeout={self.slowlog_timeout:g} is beyond request_timeout={self.request_timeout:g}, where "
                "requests are given up: none would be told as slow; lower the one, or raise the other"
            )
        if self.access_log_format not in _FORMATS:
            formats = ", ".join(_FORMATS)
            raise ConfigurationError(f"access_log_format={self.access_log_format!r}: give one of {formats}")
        if self.access_log_format != "combined" and self.access_log is None:
            raise ConfigurationError("access_log_format: there is no access log; give access_log, too")
        if self.access_log == "":
            raise ConfigurationError(
                "access_log='': it names no file: give one, \"-\" for standard output, or leave it out for none"
            )
        if self.access_log is not None:
            if not isinstance(self.access_log, str | os.PathLike):
                raise ConfigurationError(f'access_log={self.access_log!r}: give a file, or "-" for standard output')
            object.__setattr__(self, "access_log_file", _kept_path(self.access_log))
        if self.status_bind is not None:
            if not isinstance(self.status_bind, str):
                raise ConfigurationError(f'status_bind={self.status_bind!r}: give a str, as "unix:/run/status.sock"')
            from ..net.address import keep_place

            object.__setattr__(self, "status_address", keep_place(self.status_bind))

    @property
    def counts(self) -> bool:
        """Whether requests are to be counted, and watched."""
        return bool(
            self.ping_path or self.status_path or self.status_bind or self.slowlog_timeout or self.request_timeout
        )

    def without_a_socket(self) -> Observing:
        """The same for a process that is there for one request alone: nobody has the time to ask for its status."""
        if self.status_bind is None:
            return self
        logger().warning(
            "status_bind: not by plain CGI, where each request is a process of its own that ends with it: leave it out"
        )
        return replace(self, status_bind=None)

    def pages_of(self, board: Scoreboard, facts: Facts, *, always: bool = False) -> dict[str, Page]:
        """What answers a ping and shows the status, by its path; `always`: at the usual paths, too."""
        from ..monitor.pages import ping_page, status_page

        page = status_page(board, facts)
        pages: dict[str | None, Page] = {self.ping_path: ping_page, self.status_path: page}
        if always:
            pages |= {DEFAULT_PING_PATH: ping_page, DEFAULT_STATUS_PATH: page}
        return {path: each for path, each in pages.items() if path is not None}

    def check_apart(self, bind: str | None) -> None:
        """Raise ConfigurationError if the status is to listen where the application does, at `bind`."""
        if bind is None or self.status_bind is None:
            return
        from ..net.address import parse_bind

        try:
            address, of_status = parse_bind(bind), parse_bind(self.status_bind)
        except ConfigurationError:
            # Whoever binds them tells which one it is.
            return
        if address.kind == "tcp" and address.port == 0:
            # Two such ports are two.
            return
        if address.kind == of_status.kind == "unix":
            is_one = os.path.realpath(address.path) == os.path.realpath(of_status.path)
        else:
            is_one = address == of_status
        if is_one:
            raise ConfigurationError(
                f"bind and status_bind (--bind, --status-bind) are both {address}: "
                "give the status an address of its own"
            )

    def open_access_log(self) -> AccessLog | None:
        """The access log, if there is one; OSError when it cannot be opened."""
        if self.access_log is None:
            return None
        from ..monitor.access_log import AccessLog

        try:
            return AccessLog(self.access_log_file, self.access_log_format, name=self.access_log)
        except OSError as error:
            raise OSError(
                error.errno,
                f"access_log (--access-log) {self.access_log!r}: {error.strerror}: give a file in a folder that "
                'exists, where the user who runs this may write; or "-" for standard output',
            ) from error

    def status_server(self, board: Scoreboard, facts: Facts, **of_status: Any) -> StatusServer:
        """What answers at `status_bind`, which is not None; `of_status`, and what is raised, are its own."""
        from .status_server import StatusServer

        assert self.status_bind is not None
        pages = self.pages_of(board, facts, always=True)
        return StatusServer(self.status_bind, self.status_address, pages, **of_status)


def _is_time(value: object) -> bool:
    """Whether `value` is a number of seconds, or 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _kept_path(path: str) -> str:
    """`path` of a log, as it is found from any directory."""
    try:
        return path if path == "-" else os.path.abspath(path)
    except OSError:
        # The current directory has been deleted; that is told when the file is opened.
        return path


_FORMATS = ("combined", "json")


class Observed(ExitStack):
    """What sees the requests of this one process, which it serves on `listening`; :attr:`monitor` is for its server.

    `of_status` are settings of :class:`~simple_fastcgi.serving.status_server.StatusServer`.
    OSError when the access log cannot be opened, or the status socket not be bound.
    """

    def __init__(self, observing: Observing, facts: Facts, listening: ListeningSocket, **of_status: Any) -> None:
        super().__init__()
        self.monitor: Monitor | None = None
        self.stop_serving: Callable[[], object] = _nothing
        """Asks the server to end gracefully; whoever runs it says so."""
        self._leave: Leave | None = None
        self._status: StatusServer | None = None
        try:
            self._begin(observing, facts, listening, **of_status)
        except BaseException:
            self.close()
            raise

    def _begin(self, observing: Observing, facts: Facts, listening: ListeningSocket, **of_status: Any) -> None:
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
        self._leave = Leave(
            *(self.monitor, self._stop, lambda: self._close_sockets(listening)),
            threads=facts.threads,
            graceful_timeout=facts.limits["graceful_timeout"],
        )
        watch = Watch(
            self.monitor,
            board=board,
            slowlog_timeout=observing.slowlog_timeout,
            request_timeout=observing.request_timeout,
            give_up=self._leave,
            queue=facts.queue if facts.threads == 1 else None,
        )
        if observing.status_bind is not None:
            self._status = observing.status_server(board, facts, allow=listening.allow, **of_status)
            self.enter_context(self._status)
        self.enter_context(watch)

    def server_ended(self) -> bool:
        """To be called when the server has ended by itself; whether it has because of a request that was given up.

        Does not return if the handler of that still runs: the process ends here, then.
        """
        return self._leave is not None and self._leave.server_ended()

    def _stop(self) -> None:
        self.stop_serving()

    def _close_sockets(self, listening: ListeningSocket) -> None:
        """Leave no socket file behind, where nothing else can be closed in good order."""
        listening.close()
        if self._status is not None:
            self._status.stop_listening()


def observed_by(
    observing: Observing,
    listening: ListeningSocket,
    limits: Limits,
    *,
    name: str,
    threads: int,
    interface: str,
    access: Mapping[str, int | str | None],
    is_shared: bool,
) -> Observed:
    """What sees the requests of a server without worker processes.

    `access`: who may connect to the socket file of the status; `is_shared`: others may serve beside it.
    """
    from ..monitor.status import Facts
    from ..net.backlog import listen_queue

    facts = Facts(
        pool=name,
        threads=threads if interface == "wsgi" else 0,
        limits=dict(limits),
        queue=lambda: listen_queue(listening.socket),
    )
    return Observed(observing, facts, listening, access=access, is_shared=is_shared)


def _nothing() -> None:
    """No server runs yet."""
