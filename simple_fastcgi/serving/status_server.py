"""The socket on which the status is answered, also when all threads are busy."""

from __future__ import annotations

import os
import threading
from errno import EADDRINUSE

from ..errors import ConfigurationError
from ..log import info, logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from typing import Any

    from ..monitor.monitor import Page
    from ..net import ListeningSocket
    from ..sync.server import FcgiServer

NOT_FOUND = b"Status: 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nNot Found\n"
TURN_SECONDS = 5.0
"""How often a process that waits for its turn tries again."""


class StatusServer:
    """While entered, answers pings and the status on a socket of its own, in a thread: also when all others are busy.

    `name`: the socket, as the settings have it; `address`: the same, whatever the current directory; `pages`: what is
    shown, by its path. `allow`: who may connect over TCP; `access`: mode, owner and group of a socket file. OSError
    when it cannot listen there. But if others may serve the same application (`is_shared`), each with a status of its
    own, one of them has the socket; this one says so, and takes its turn when that ends.
    """

    def __init__(
        self,
        name: str,
        address: str,
        pages: Mapping[str, Page],
        *,
        allow: Container[str] | None = None,
        access: Mapping[str, int | str | None] | None = None,
        is_shared: bool = False,
    ) -> None:
        from ..monitor.monitor import find_page
        from ..sync.handler import FcgiHandler

        self._pid = os.getpid()
        self._name, self._bind = name, address
        self._allow, self._access = allow, access or {}
        at_work = self.at_work = threading.Lock()
        """Held while a page is made. Whoever forks takes it: in a child made amid an import nobody ends that import."""

        class Pages(FcgiHandler):
            def handle(self) -> None:
                params = self.request.params
                page = find_page(pages, params)
                with at_work:
                    answer = NOT_FOUND if page is None else page(params)
                self.write(answer)

        self._handler = Pages
        self._listening: ListeningSocket | None = None
        self._server: FcgiServer | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        try:
            self._listen()
        except OSError as error:
            if not is_shared or error.errno != EADDRINUSE:
                raise
            logger().warning(
                "the status is not at %s: %s has it, and tells of itself alone. This one serves on, and takes its turn "
                "there when that ends; --workers N in place of several processes has one status for all of them",
                *(self._name, _holder_of(self._bind)),
            )
        self._thread = threading.Thread(target=self._run, name="fcgi-status", daemon=True)

    def _listen(self) -> None:
        from ..net import bind_socket
        from ..net.address import parse_bind
        from ..sync.server import FcgiServer

        try:
            kind = parse_bind(self._bind).kind
            access: dict[str, Any] = dict(self._access) if kind == "unix" else {}
            listening = bind_socket(self._bind, allow_from=self._allow if kind == "tcp" else None, **access)
        except ConfigurationError as error:
            raise ConfigurationError(f"status_bind: {error}") from None
        try:
            self._server = FcgiServer(self._handler, listening.socket, allow_from=listening.allow)
        except BaseException:
            listening.close()
            raise
        self._listening = listening

    def _run(self) -> None:
        while self._server is None:
            if self._ending.wait(TURN_SECONDS):
                return
            with self._lock:
                if self._ending.is_set():
                    return
                try:
                    self._listen()
                except OSError:
                    # It is not free yet.
                    continue
        info("the status is at %s", self._listening)
        self._server.serve_forever()

    def __enter__(self) -> None:
        self._thread.start()

    def refuse(self) -> None:
        """In a forked child whose parent is gone: nobody answers any more, and the address is free for others."""
        from .refuse import refuse_more

        if self._listening is not None and self._listening.exclusive:
            refuse_more(self._listening.socket)

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:
            # A worker that ends comes by here, too; the thread was never its.
            return
        self.stop_listening()
        if self._server is not None:
            self._server.shutdown()
        self._thread.join()
        if self._server is not None:
            self._server.server_close()

    def stop_listening(self) -> None:
        """Remove the socket file, and take no turn any more; any thread may call this, and more than once."""
        with self._lock:
            self._ending.set()
            if self._listening is not None:
                self._listening.close()


def _holder_of(bind: str) -> str:
    """Which process listens there, as far as the system tells."""
    import socket
    from struct import unpack

    from ..net.address import parse_bind

    address = parse_bind(bind)
    if address.kind == "unix" and hasattr(socket, "SO_PEERCRED"):
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                probe.connect(address.path)
                pid, _, _ = unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                return f"process {pid}"
        except OSError:
            pass
    return "another process"
