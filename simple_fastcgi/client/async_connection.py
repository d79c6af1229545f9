"""One connection to an application, on anyio: asyncio and trio.

The socket is used directly, not through a stream: what is sent leaves in one system call without a copy, reading and
sending go on beside each other, and giving up never has to wait. No task but the caller's is at it, so nothing is left
behind when that one is cancelled.
"""

from __future__ import annotations

import errno
import os
import socket

import anyio

from ..errors import ProtocolError
from ..protocol.webserver import WebServerConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from ..net.address import BindAddress
    from ..protocol.records import Buffer

    Phase = Literal["pool", "connect", "write", "read"]

RECEIVE_SIZE = 65536
# As many buffers go into one system call; IOV_MAX is 1024 or 16.
_MOST_BUFFERS = 16
# Between two looks whether a unix socket's full listen queue has room again, in seconds: no event tells of it.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


class PhaseTimeoutError(TimeoutError):
    """A wait took too long; `phase` tells which one: "pool", "connect", "write" or "read"."""

    def __init__(self, phase: Phase, seconds: float) -> None:
        super().__init__(f"{_WAITS[phase]} within {seconds:g} seconds ({phase}_timeout)")
        self.phase = phase


_WAITS = {
    "pool": "no connection became free",
    "connect": "no connection was accepted",
    "write": "nothing more of the request was taken",
    "read": "nothing of the response came",
}


class AsyncConnection:
    """A connected, non-blocking socket and the protocol's state on it. All times are in seconds, None is no bound.

    One task may send while another one receives. :meth:`close` is for when nobody waits for the socket any more.
    """

    __slots__ = ("_pending", "_sock", "kept", "protocol", "sent")

    kept: bool
    """It was used for an earlier request."""
    sent: int
    """Bytes that went out since the shell last set it to 0."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pending: list[Buffer] = []
        self.protocol = WebServerConnection()
        self.kept = False
        self.sent = 0

    @property
    def stale(self) -> bool:
        """Whether nothing can begin on it, since the application has closed it or said what it should not."""
        try:
            while (data := self.receive_now()) is not None:
                if not data or self.protocol.receive_data(data):
                    return True
        except ProtocolError:
            return True
        return not self.protocol.can_begin

    # Sending

    def send_now(self) -> bool:
        """Send what the protocol has for the application; whether nothing is left that must wait.

        When the application takes nothing any more the rest is dropped: what it said before must still be received,
        and the end that comes then is the verdict.
        """
        pending = self._pending
        pending += self.protocol.data_to_send()
        while pending:
            try:
                sent = self._sock.sendmsg(pending[:_MOST_BUFFERS])
            except BlockingIOError:
                return False
            except OSError:
                pending.clear()
                return True
            self.sent += sent
            _drop(pending, sent)
        return True

    async def send(self, timeout: float | None) -> None:
        """Send all of it. `timeout` is for each wait until more is taken; PhaseTimeoutError beyond."""
        while not self.send_now():
            await self.writable(timeout)

    async def writable(self, timeout: float | None) -> None:
        """Wait until more can be sent."""
        with anyio.move_on_after(timeout) as scope:
            await anyio.wait_writable(self._sock)
            return
        if scope.cancelled_caught:
            raise PhaseTimeoutError("write", timeout or 0)

    # Receiving

    def receive_now(self) -> bytes | None:
        """What has come; b"" at the connection's end, however it came about; None if nothing has come."""
        try:
            return self._sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    async def readable(self) -> None:
        """Wait until something has come, without a bound."""
        await anyio.wait_readable(self._sock)

    async def receive(self, timeout: float | None) -> bytes:
        """What comes next; b"" at the end. PhaseTimeoutError if nothing does within `timeout`."""
        while True:
            with anyio.move_on_after(timeout) as scope:
                await self.readable()
            if scope.cancelled_caught:
                raise PhaseTimeoutError("read", timeout or 0)
            data = self.receive_now()
            if data is not None:
                return data

    async def readable_or_writable(self, timeout: float | None) -> None:
        """Wait until something has come, or more can be sent; PhaseTimeoutError for "write" if neither happens."""
        with anyio.move_on_after(timeout) as scope:
            async with anyio.create_task_group() as tasks:

                async def wait_readable() -> None:
                    await self.readable()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(wait_readable)
                await anyio.wait_writable(self._sock)
                tasks.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise PhaseTimeoutError("write", timeout or 0)

    # The end

    def close(self) -> None:
        """Close it at once; what is still to be sent, as an FCGI_ABORT_REQUEST, leaves if the socket has room."""
        try:
            self.send_now()
        finally:
            self._sock.close()


def _drop(buffers: list[Buffer], size: int) -> None:
    """Take `size` bytes off the front of `buffers`."""
    whole = 0
    for buffer in buffers:
        if len(buffer) > size:
            break
        size -= len(buffer)
        whole += 1
    del buffers[:whole]
    if size:
        buffers[0] = memoryview(buffers[0])[size:]


async def connect(address: BindAddress, timeout: float | None) -> AsyncConnection:
    """A new connection to `address`. OSError if there is none to be had, PhaseTimeoutError if that takes too long."""
    with anyio.move_on_after(timeout) as scope:
        if address.kind != "tcp":
            return AsyncConnection(await _connect_unix(address))
        return AsyncConnection(await _connect_tcp(address.host, address.port))
    assert scope.cancelled_caught
    raise PhaseTimeoutError("connect", timeout or 0)


async def _connect_unix(address: BindAddress) -> socket.socket:
    path = address.path if address.kind == "unix" else "\0" + address.path
    pause = _FIRST_PAUSE
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(path)
            return sock
        except BlockingIOError:
            # The application's listen queue is full.
            sock.close()
        except BaseException:
            sock.close()
            raise
        await anyio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _connect_tcp(host: str, port: int) -> socket.socket:
    errors: list[OSError] = []
    for family, kind, protocol, _, sockaddr in await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(sockaddr)
            if code == errno.EINPROGRESS:
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            return sock
        except OSError as error:
            sock.close()
            errors.append(error)
        except BaseException:
            sock.close()
            raise
    raise errors[0] if errors else OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
