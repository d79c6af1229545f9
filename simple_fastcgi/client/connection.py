"""A connection to an application: a socket that never blocks, and the protocol's state (blocking shell)."""

from __future__ import annotations

import math
import select
import socket
import time
from collections import deque
from itertools import islice

from ..errors import ProtocolError
from ..protocol.webserver import WebServerConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from ..net.address import BindAddress
    from ..protocol.records import Buffer

READABLE = select.POLLIN
WRITABLE = select.POLLOUT

_RECEIVE_BYTES = 65536
# What one system call takes (IOV_MAX) is more.
_BUFFERS_AT_ONCE = 64
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)
# How long a full listen queue of a unix socket is left alone: nothing tells when it has room again.
FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.05
_SHORTEST = 0.001
MOST_MILLISECONDS = 2**31 - 1
"""What poll() takes."""


def open_socket(target: BindAddress, timeout: float | None = None) -> socket.socket:
    """A socket that is connected to `target`, in non-blocking mode.

    `timeout`: seconds for all of it, name resolution left out; None waits for ever. Raises TimeoutError, and OSError
    for whatever else prevents it (:func:`.target.explain` tells of it).
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    if target.kind != "tcp":
        return _open_unix(target.path if target.kind == "unix" else f"\0{target.path}", deadline)
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    while True:
        family, _, protocol, _, address = found.pop(0)
        try:
            return _open_tcp(family, protocol, address, deadline)
        except OSError:
            # A name may have several addresses, of which the application has one.
            if not found or time.monotonic() >= deadline:
                raise


def _open_tcp(family: int, protocol: int, address: Any, deadline: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.settimeout(None if deadline == math.inf else max(deadline - time.monotonic(), _SHORTEST))
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: str, deadline: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        pause = FIRST_PAUSE
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # The listen queue is full. That is no attempt under way: it has to be made again.
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the listen queue is full") from None
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


class Connection:
    """`sock`, which is connected, and the web server's side of what is spoken on it. Not thread-safe."""

    __slots__ = ("_poller", "broken", "core", "error", "kept", "sent", "sock", "unsent")

    core: WebServerConnection
    error: OSError | None
    """What ended the connection, if :meth:`receive` has found that it broke."""
    kept: bool
    """An earlier request has used it: the application may have closed it meanwhile."""
    broken: bool
    """It takes no more: of what was sent the end may be missing."""
    unsent: deque[memoryview]
    """What is to be sent."""
    sent: int
    """Bytes that were sent since :meth:`take`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.core = WebServerConnection()
        self.error = None
        self.kept = self.broken = False
        self.unsent = deque()
        self.sent = 0
        self._poller = select.poll()
        self._poller.register(sock, READABLE)

    @classmethod
    def open(cls, target: BindAddress, timeout: float | None = None) -> Self:
        """A new connection; see :func:`open_socket`."""
        return cls(open_socket(target, timeout))

    def take(self) -> bool:
        """Whether this connection, which was kept, can be used once more, as far as can be told from here."""
        self.kept = True
        self.sent = 0
        data = self.receive()
        if data is None:
            return True
        # Late padding is no harm; the end of the connection is, as is anything else that nobody asked for.
        try:
            return bool(data) and not self.core.receive_data(data) and self.core.idle and self.core.can_begin
        except ProtocolError:
            return False

    def wait(self, events: int, timeout: float | None) -> int:
        """Wait until the socket is READABLE or WRITABLE, as `events` says; which it is, 0 after `timeout` seconds."""
        self._poller.modify(self.sock, events)
        ready = self._poller.poll(None if timeout is None else min(max(timeout, 0) * 1000, MOST_MILLISECONDS))
        if not ready:
            return 0
        told = ready[0][1]
        # An end or an error shows when it is read.
        return told & WRITABLE | (READABLE if told & ~WRITABLE else 0)

    def receive(self) -> bytes | None:
        """What has come: b"" when the connection has ended in any way, None if nothing is there yet."""
        try:
            return self.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            # Its traceback would hold this connection.
            self.error = error.with_traceback(None)
            return b""

    def queue(self, buffers: list[Buffer]) -> None:
        """Take what is to be sent."""
        self.unsent.extend(memoryview(buffer) for buffer in buffers if buffer)

    def send(self) -> None:
        """Send as much of :attr:`unsent` as the socket takes now; OSError when it takes no more for ever."""
        unsent = self.unsent
        while unsent:
            try:
                count = self.sock.sendmsg(islice(unsent, _BUFFERS_AT_ONCE), (), _FLAGS)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
                raise
            self.sent += count
            while count and count >= len(unsent[0]):
                count -= len(unsent.popleft())
            if count:
                unsent[0] = unsent[0][count:]

    def close(self) -> None:
        """Close the socket; the application hears of it."""
        self.unsent.clear()
        self.sock.close()
