"""The development server as a whole: binds, starts all parts, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn

from ..cgi.paths import normalize_root_path
from ..client.proxy import FcgiProxy
from ..errors import ConfigurationError
from ..limits import MAX_SECONDS, ClientLimits
from ..log import log_to_stderr
from ..net.address import UNIX_PATH_LIMIT, format_tcp, is_loopback, parse_bind
from ..net.listen import bind_socket, listen_tcp, name_socket
from .front import Front
from .messages import Orders
from .settings import DEFAULT_HTTP
from .supervisor import Supervisor
from .terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .messages import Report
    from .settings import Settings
    from .watch import Watcher

# For an application that does not end by itself: it may have much to do at its end, or a busy machine.
_PATIENCE = 10.0
_MAX_REQUESTS = 1000
_LONGEST_BELOW = "/simple-fastcgi-12345678/app.sock"
_NO_ANSWER = (
    b"502 Bad Gateway: the application's process has ended, or hung up, before it had answered; the terminal may tell "
    b"more\n"
)
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def develop(settings: Settings) -> str:
    """Run the development server until a signal ends it: "" then, else "failed" or "refused", which has been said.

    Raises ConfigurationError for settings that cannot work, and OSError when the address is taken or forbidden.
    """
    if not 0 <= settings.graceful_timeout <= MAX_SECONDS:
        raise ConfigurationError(
            f"--graceful-timeout {settings.graceful_timeout:g}: give a number of seconds from 0 to {MAX_SECONDS}"
        )
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_bind(settings.http))
        private = is_loopback(sock.getsockname()[0])
        if settings.debug and not private:
            raise ConfigurationError(
                f"--debug lets whoever knows its PIN run code: it needs an address that only this machine can reach, "
                f"not --http {settings.http}"
            )
        watcher = _watcher(settings) if settings.reload else None
        # Only its owner can enter the folder.
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="simple-fastcgi-", dir=_place(), ignore_cleanup_errors=True)
        )
        listening = stack.enter_context(bind_socket(f"unix:{folder}/app.sock", socket_mode=0o600))
        orders = Orders(
            app=settings.app,
            factory=settings.factory,
            interface=settings.interface,
            threads=settings.threads,
            debug=settings.debug,
            listening=listening.fileno(),
            folder=folder,
            patience=_PATIENCE,
            argv=sys.argv,
        )
        return asyncio.run(_Development(settings, orders, sock, watcher, private=private).run())


def _place() -> str:
    """Where temporary files go; a socket's path must be short."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) < UNIX_PATH_LIMIT - len(_LONGEST_BELOW) else "/tmp"  # noqa: S108 (mkdtemp)


def _bind(http: str) -> socket.socket:
    try:
        address = parse_bind(http)
    except ConfigurationError:
        address = None
    if address is None or address.kind != "tcp":
        raise ConfigurationError(f'--http {http!r}: give an address and a port, for example "{DEFAULT_HTTP}"')
    try:
        sock = listen_tcp(address, guarded=True)
    except OSError as error:
        raise OSError(error.errno, f"--http {error.strerror}") from error
    # Connections inherit it; else the body of an answer waits 40 ms for its head to be acknowledged.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _watcher(settings: Settings) -> Watcher:
    from .watch import PATTERNS, Watcher

    folders = [Path(folder).resolve() for folder in settings.reload_dirs or ["."]]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(f"--reload-dir {str(folder)!r} is no directory: give one that exists")
    return Watcher(folders, [*PATTERNS, *settings.reload_include])


class _Development:
    def __init__(
        self, settings: Settings, orders: Orders, sock: socket.socket, watcher: Watcher | None, *, private: bool
    ) -> None:
        self._settings = settings
        self._sock = sock
        self._watcher = watcher
        self._private = private
        self._terminal = Terminal()
        self._root_path = normalize_root_path(settings.root_path or "")
        proxy = _Proxy(
            f"unix:{orders.folder}/app.sock",
            root_path=settings.root_path,
            params={"SERVER_SOFTWARE": "simple_fastcgi (development server)"},
            # A request that goes out on a kept connection is sent once more if that breaks: to a process that is not
            # there, and then to the next one, though the last may have died of it.
            keep_conn=False,
            # What waits for the developer is not to be cut off.
            limits=ClientLimits(
                max_connections=_MAX_REQUESTS,
                read_timeout=MAX_SECONDS,
                write_timeout=MAX_SECONDS,
                pool_timeout=MAX_SECONDS,
            ),
        )
        proxy.terminal = self._terminal
        self._proxy = proxy
        self._front = Front(
            proxy,
            self._terminal,
            root_path=self._root_path,
            private=private,
            reloads=watcher is not None,
            debug=settings.debug,
        )
        self._supervisor = Supervisor(
            orders,
            self._front,
            self._terminal,
            watcher,
            self._greet,
            graceful_timeout=settings.graceful_timeout,
        )
        self._stop = asyncio.Event()

    @property
    def _url(self) -> str:
        host, port = self._sock.getsockname()[:2]
        # From everywhere means from here, too.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{format_tcp(host, port)}{quote(self._root_path, encoding='latin-1')}/"

    def _greet(self, report: Report) -> None:
        say = self._terminal.say
        say(f"{report.text} answers over FastCGI")
        if report.note:
            say(report.note, "yellow")
        if not self._private:
            say(
                f"{name_socket(self._sock)} can be reached from other machines: this server is for development, and "
                "must not face the internet",
                "yellow",
            )
        watched = ", changes of its code restart it" if self._watcher is not None else ""
        say(f"open {self._url} \N{EM DASH} Ctrl+C ends{watched}", "bold")
        if self._settings.open_browser:
            # A browser may run in the foreground.
            threading.Thread(target=webbrowser.open, args=(self._url,), daemon=True).start()

    async def run(self) -> str:
        log_to_stderr("WARNING")
        with _signals(self._ask_to_stop):
            server = _Server(
                uvicorn.Config(
                    self._front,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    ws="none",
                    server_header=False,
                    proxy_headers=False,
                    limit_concurrency=_MAX_REQUESTS,
                )
            )
            serving = asyncio.create_task(server.serve(sockets=[self._sock]))
            stopping = asyncio.create_task(self._stop.wait())
            watching = asyncio.create_task(self._watch())
            # The watcher is at work before the application reads its code.
            await asyncio.sleep(0)
            supervising = asyncio.create_task(self._supervisor.run())
            try:
                await asyncio.wait([supervising, stopping, serving], return_when=asyncio.FIRST_COMPLETED)
                return supervising.result() if supervising.done() else ""
            finally:
                self._front.end()
                server.should_exit = server.force_exit = True
                supervising.cancel()
                stopping.cancel()
                if self._watcher is not None:
                    self._watcher.stop()
                await asyncio.gather(supervising, serving, watching, return_exceptions=True)
                await self._proxy.aclose()
                if self._stop.is_set():
                    self._terminal.say("stopped")

    def _ask_to_stop(self) -> None:
        if self._stop.is_set():
            self._supervisor.kill()
        self._stop.set()

    async def _watch(self) -> None:
        if self._watcher is not None:
            try:
                await self._watcher.run()
            except OSError as error:
                self._terminal.say(f"changes are not noticed: {error}", "yellow")


class _Proxy(FcgiProxy):
    """Shows what the application says of its failures as it stands."""

    terminal: Terminal

    def refusal(self, status: int) -> bytes:
        return _NO_ANSWER if status == 502 else super().refusal(status)

    def log_stderr(self, request: str, lines: list[str]) -> None:
        self.terminal.say("\n".join(lines), "red")


class _Server(uvicorn.Server):
    """Leaves signals alone; says nothing of responses that are cut, which have their line."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        logger = logging.getLogger("uvicorn.error")
        logger.addFilter(_is_news)
        try:
            yield
        finally:
            logger.removeFilter(_is_news)


# A response that is cut has its line; a library for WebSockets would not help.
_NO_NEWS = ("ASGI callable returned without", "No supported WebSocket library")


def _is_news(record: logging.LogRecord) -> bool:
    if record.getMessage() == "Unsupported upgrade request.":
        record.msg = "an upgrade of the protocol was asked for: FastCGI carries no WebSockets"
    return record.levelno >= logging.WARNING and not record.getMessage().startswith(_NO_NEWS)


@contextlib.contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
