"""A connection to an application, on anyio: asyncio and trio.

The socket is used directly, not through a stream: what is sent leaves in one system call without a copy, reading and
sending go on beside each other, and giving up never has to wait. No task but the caller's is at it, so nothing is left
behind when that one is cancelled.
"""

from __future__ import annotations

import errno
import os
import socket

import anyio

from .call import ReadTimeoutError, WriteTimeoutError
from .connection import FIRST_PAUSE, LONGEST_PAUSE, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..net.address import BindAddress


class AsyncConnection(Connection):
    """A :class:`.Connection` for whose socket is waited in an event loop. Times are in seconds, None is no bound.

    One task may send while another one receives. Close it only when none waits any more.
    """

    __slots__ = ()

    async def send_all(self, timeout: float | None) -> None:
        """Send what is queued, here or in the core. `timeout`: of each wait; WriteTimeoutError beyond.

        When the application takes nothing any more the rest is dropped: what it said before must still be received,
        and the end that comes then is the verdict.
        """
        while not self.send_or_drop():
            with anyio.move_on_after(timeout) as scope:
                await anyio.wait_writable(self.sock)
            if scope.cancelled_caught:
                raise WriteTimeoutError(timeout or 0)

    def send_or_drop(self) -> bool:
        """Send what can be sent now, as :meth:`send_all`; whether nothing is left that must wait."""
        self.queue(self.core.data_to_send())
        try:
            self.send()
        except OSError:
            self.unsent.clear()
        return not self.unsent

    async def readable(self, timeout: float | None = None) -> None:
        """Wait until something has come, be it the end. ReadTimeoutError if nothing does within `timeout`."""
        with anyio.move_on_after(timeout) as scope:
            await anyio.wait_readable(self.sock)
        if scope.cancelled_caught:
            raise ReadTimeoutError(timeout or 0)

    async def readable_or_writable(self, timeout: float | None) -> None:
        """Wait until something has come or more can be sent. WriteTimeoutError if neither happens."""
        with anyio.move_on_after(timeout) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel_when_readable, tasks.cancel_scope)
                await anyio.wait_writable(self.sock)
                tasks.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise WriteTimeoutError(timeout or 0)

    async def _cancel_when_readable(self, waiting: anyio.CancelScope) -> None:
        await anyio.wait_readable(self.sock)
        waiting.cancel()


async def connect(target: BindAddress, timeout: float | None) -> AsyncConnection:
    """A new connection. `timeout`: seconds for all of it, None is no bound.

    Raises TimeoutError, and OSError for whatever else prevents it (:func:`.target.explain` tells of it).
    """
    with anyio.fail_after(timeout):
        if target.kind == "tcp":
            return AsyncConnection(await _connect_tcp(target.host, target.port))
        return AsyncConnection(await _connect_unix(target.path if target.kind == "unix" else f"\0{target.path}"))


async def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        pause = FIRST_PAUSE
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                # The listen queue is full. That is no attempt under way: it has to be made again.
                await anyio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _connect_tcp(host: str, port: int) -> socket.socket:
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        # A name, for which somebody has to be asked.
        found = list(await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    while True:
        family, _, protocol, _, address = found.pop(0)
        try:
            return await _connect_address(family, protocol, address)
        except OSError:
            # A name may have several addresses, of which the application has one.
            if not found:
                raise


async def _connect_address(family: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
