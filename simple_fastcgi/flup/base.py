"""What the servers with flup's arguments have in common."""

from __future__ import annotations

import signal
import threading

from ..errors import ConfigurationError
from ..log import log_to_stderr, logger
from ..protocol.constants import FCGI_RESPONDER
from ..serving.origin import name_of
from ..serving.run import serve
from ..serving.touch import with_file_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import FrameType
    from typing import Any

    from ..net.allow import AllowFrom
    from ..serving.touch import ReloadOnTouch

    WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
    BindAddress = str | Sequence[Any] | None

_SPARE = "threads are started when they are needed, and kept"
_PROCESSES = "this is one process: simple-fastcgi serve MODULE:ATTR --workers N has several"
# What flup knows and means nothing here, and why.
_NEEDLESS = {
    "minSpare": _SPARE,
    "maxSpare": _SPARE,
    "maxChildren": _PROCESSES,
    "maxRequests": f"{_PROCESSES}, and gunicorn has max_requests",
    "sockTimeout": "write_timeout and others are always on, see the documentation of Limits",
    "timeout": "a web server has a time limit of its own, and so have gunicorn's workers",
    "jobClass": "flup itself passes them over",
    "jobArgs": "flup itself passes them over",
    "forceCGI": "what descriptor 0 is decides that, and the CGI variables in the environment",
}


class BaseServer:
    """A server for a WSGI application, with flup's arguments; the classes below say how many requests run at once."""

    def __init__(
        self,
        application: WsgiApplication,
        environ: Mapping[str, Any] | None,
        *,
        threads: int,
        multiprocess: bool,
        bindAddress: BindAddress,  # noqa: N803
        umask: int | None,
        debug: bool,
        roles: Sequence[int],
        scriptName: str | None,  # noqa: N803
        allow_from: AllowFrom | None,
        reload_on_touch: ReloadOnTouch,
        others: Mapping[str, object],
    ) -> None:
        self.application = application
        self.environ = dict(environ or {})
        self.multithreaded = threads != 1
        self.multiprocess = multiprocess
        self._threads = threads
        self._root_path = self.environ.pop("SCRIPT_NAME", scriptName)
        self._bind = _bind_string(bindAddress)
        self._mode = None
        if umask is not None:
            if not isinstance(umask, int) or not 0 <= umask <= 0o777:
                raise ConfigurationError(f"umask={umask!r}: give an octal number from 0 to 0o777")
            if (self._bind or "").startswith("unix:"):
                self._mode = 0o777 & ~umask
        self._allow_from = allow_from
        self._reload_on_touch = reload_on_touch
        self._stop = threading.Event()
        self._hung_up = False
        log_to_stderr()
        self._warn(debug, roles, others)

    def _warn(self, debug: bool, roles: Sequence[int], others: Mapping[str, object]) -> None:
        warn = logger().warning
        for name in others:
            warn("flup's %s is passed over: %s", name, _NEEDLESS.get(name, "it is neither flup's nor known here"))
        if debug:
            warn("flup's debug is passed over: tracebacks are in the web server's error log, visitors never see them")
        if list(roles) != [FCGI_RESPONDER]:
            warn("flup's roles=%r is passed over: WSGI is for responders; other roles have FcgiHandler", roles)
        for name in ("error", "handler"):
            if hasattr(self, name):
                warn("%s.%s() is never called: what fails is answered with a plain 500", type(self).__name__, name)

    def run(self) -> bool:
        """Serve until SIGTERM, SIGINT, SIGUSR1 or SIGHUP; requests under way end first.

        Whether it was SIGHUP, by which flup's users ask for the script to be begun anew. Raises as
        :func:`simple_fastcgi.serve`.
        """
        self._stop.clear()
        self._hung_up = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGHUP, self._hang_up) if in_main_thread else None
        try:
            serve(
                self._call,
                self._bind,
                interface="wsgi",
                threads=self._threads,
                root_path=self._root_path,
                stop=self._stop,
                allow_from=self._allow_from,
                socket_mode=self._mode,
                reload_on_touch=self._reload_on_touch and with_file_of(self.application, self._reload_on_touch),
                name=name_of(self.application),
            )
        finally:
            if in_main_thread:
                signal.signal(signal.SIGHUP, before)
        return self._hung_up

    def _call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ |= {name: value for name, value in self.environ.items() if not name.startswith("wsgi.")}
        if self.multiprocess:
            environ["wsgi.multiprocess"] = True
        return self.application(environ, start_response)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True
        self._stop.set()


def _bind_string(address: BindAddress) -> str | None:
    if address is None:
        return None
    if isinstance(address, str) and address:
        return f"unix:{address}"
    if isinstance(address, tuple) and len(address) in (2, 4) and isinstance(address[0], str):
        host, port = address[0] or ("0.0.0.0" if len(address) == 2 else "::"), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise ConfigurationError(
        f'bindAddress={address!r}: give the path of a unix socket, a pair such as ("127.0.0.1", 9000), or None for the '
        "socket that the web server leaves on descriptor 0"
    )
