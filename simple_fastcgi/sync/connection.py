"""One connection of a synchronous server: a socket, the protocol core, and a lock between threads."""

from __future__ import annotations

import select
import threading
from socket import SHUT_RDWR, SHUT_WR

from ..cgi.response import INTERNAL_SERVER_ERROR
from ..errors import ProtocolError
from ..net import peer_is_gone
from ..protocol.application import ApplicationConnection
from ..protocol.events import RequestBegun

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from ..limits import Limits
    from ..protocol.events import Event
    from ..protocol.records import Buffer
    from ..protocol.streams import Request

_IDLE_READ = 16 * 1024
# Bodies are worth a larger buffer; for the usual request a small one is allocated faster.
_BODY_READ = 128 * 1024
_IOV_MAX = 64


class Connection:
    """Everything that touches the socket or the core, but no policy: that is the server's.

    The server's loop calls :meth:`receive`; handlers, in whichever thread, call the rest. `lock` guards the core.
    """

    __slots__ = (
        "_changed",
        "_unsent",
        "address",
        "core",
        "error",
        "fd",
        "gone",
        "last_active",
        "lock",
        "on_begun",
        "params_since",
        "sock",
        "watched",
    )

    def __init__(
        self,
        sock: socket.socket,
        address: object,
        limits: Limits,
        roles: Collection[int],
        on_begun: Callable[[Connection, list[Request]], None],
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self.core = ApplicationConnection(limits, roles)
        self.on_begun = on_begun
        self.error: Exception | None = None
        self.gone = False
        self.watched = 0
        self.last_active = 0.0
        self.params_since = 0.0
        self.lock = threading.Lock()
        self._changed: threading.Condition | None = None
        # Buffers that the kernel did not take.
        self._unsent: list[Buffer] = []

    # Receiving

    def receive(self) -> bool:
        """Read once, without waiting; False when there was nothing to read.

        Requests that have begun go to `on_begun`; handlers that wait for input are woken.
        """
        try:
            data = self.sock.recv(_BODY_READ if self.core.requests else _IDLE_READ)
        except BlockingIOError:
            return False
        except OSError as error:
            # A reset; and EBADF, when the server has closed the connection under a handler that outlived it.
            self.error = error
            self.lose()
            return True
        with self.lock:
            core = self.core
            try:
                events = core.receive_data(data) if data else self._receive_eof()
            except ProtocolError as error:
                self.error = error
                self.gone = True
                events = core.receive_eof()
            begun = [event.request for event in events if isinstance(event, RequestBegun)]
            if self._changed is not None:
                self._changed.notify_all()
            if core.has_data_to_send:
                self._send()
        if begun:
            self.on_begun(self, begun)
        return True

    def _receive_eof(self) -> list[Event]:
        half_closed = bool(self.core.requests) and not peer_is_gone(self.sock)
        self.gone = not half_closed
        return self.core.receive_eof(half_closed=half_closed)

    def lose(self) -> None:
        """The peer is gone: all requests of this connection are aborted."""
        with self.lock:
            self.gone = True
            self.core.receive_eof()
            self._unsent.clear()
            if self._changed is not None:
                self._changed.notify_all()

    def read(self, request: Request, size: int, *, in_loop: bool) -> bytes:
        """Up to `size` bytes of input, all that has arrived if `size` < 0, waiting for the first; b"" at the end."""
        self._lock_with_input(request, in_loop=in_loop)
        try:
            return request.stdin.take(size)
        finally:
            self.lock.release()

    def readinto(self, request: Request, view: memoryview, *, in_loop: bool) -> int:
        """As :meth:`read`, into `view`; the count of bytes."""
        self._lock_with_input(request, in_loop=in_loop)
        try:
            return request.stdin.take_into(view)
        finally:
            self.lock.release()

    def _lock_with_input(self, request: Request, *, in_loop: bool) -> None:
        """Take the lock once there is input, or its end.

        In the loop's own thread nobody else reads the socket, so this does. ConnectionAbortedError when the
        request is aborted before its input ended, TimeoutError after `read_timeout` without any.
        """
        stream = request.stdin
        timeout = self.core.limits.read_timeout
        self.lock.acquire()
        try:
            while not stream.buffered and not stream.ended:
                if request.aborted:
                    raise ConnectionAbortedError("the web server aborted the request before its input ended")
                if in_loop:
                    self.lock.release()
                    try:
                        moved = self._wait(select.POLLIN, timeout)
                        if moved:
                            self.receive()
                    finally:
                        self.lock.acquire()
                else:
                    if self._changed is None:
                        self._changed = threading.Condition(self.lock)
                    moved = self._changed.wait(timeout)
                if not moved:
                    raise TimeoutError(f"no input for {timeout:g} s (read_timeout)")
        except BaseException:
            self.lock.release()
            raise

    def _wait(self, events: int, timeout: float) -> bool:
        poll = select.poll()
        try:
            poll.register(self.sock, events)
        except ValueError:
            # Closed by the server, which has given up waiting for this handler.
            self.lose()
            return True
        return bool(poll.poll(timeout * 1000))

    # Sending

    def write(self, request: Request, data: bytes, *, stderr: bool = False, flush: bool = False, in_loop: bool) -> None:
        """Hand `data` to the core; sends when `flush`, or when enough has gathered.

        ConnectionAbortedError when the request is aborted.
        """
        with self.lock:
            core = self.core
            full = core.write_err(request, data) if stderr else core.write(request, data)
            if request.aborted:
                raise ConnectionAbortedError("the web server aborted the request")
            if not full and not flush:
                return
            core.flush(request)
            if self._send():
                return
        self._drain(in_loop=in_loop)
        if request.aborted:
            raise ConnectionAbortedError("the web server is gone")

    def end(self, request: Request, app_status: int = 0, *, in_loop: bool) -> None:
        """End the request on the wire."""
        with self.lock:
            self.core.end(request, app_status)
            if self._send():
                return
        self._drain(in_loop=in_loop)

    def fail(self, request: Request, error: bytes, *, in_loop: bool) -> None:
        """End the request, whose handler failed, on the wire; `error` goes to FCGI_STDERR."""
        with self.lock:
            self.core.fail(request, INTERNAL_SERVER_ERROR, error)
            if self._send():
                return
        self._drain(in_loop=in_loop)

    def _send(self) -> bool:
        """Send without waiting; the lock is held. Whether everything has left."""
        buffers = self._unsent
        if self.core.has_data_to_send:
            buffers = [*buffers, *self.core.data_to_send()] if buffers else self.core.data_to_send()
        try:
            while buffers:
                if len(buffers) == 1:
                    sent = self.sock.send(buffers[0])
                else:
                    sent = self.sock.sendmsg(buffers[:_IOV_MAX])
                buffers = _after(buffers, sent)
        except BlockingIOError:
            self._unsent = buffers
            return False
        except OSError as error:
            self.error = error
            self.gone = True
            self.core.receive_eof()
            buffers = []
        self._unsent = buffers
        return True

    def _drain(self, *, in_loop: bool) -> None:
        """Wait until what the kernel did not take has left; the lock is not held meanwhile.

        The connection is given up when nothing at all moves for `write_timeout`.
        """
        timeout = self.core.limits.write_timeout
        while True:
            # A web server may want to be rid of its input before it reads; the loop cannot help when it is us.
            reading = in_loop and self.wants_input() and not self.core.finished
            if not self._wait(select.POLLOUT | (select.POLLIN if reading else 0), timeout):
                self.error = TimeoutError(f"the web server took nothing for {timeout:g} s (write_timeout)")
                self.lose()
                return
            if reading:
                self.receive()
            with self.lock:
                if self._send():
                    return

    def wants_input(self) -> bool:
        """Whether more should be read; see :attr:`ApplicationConnection.wants_input`."""
        with self.lock:
            return self.core.wants_input

    def send_owed(self) -> None:
        """Send, without waiting, what is due: the loop calls it when the socket can take more again."""
        with self.lock:
            self._send()

    @property
    def unsent(self) -> bool:
        """Something waits until the peer reads."""
        return bool(self._unsent)

    # Closing

    def stop_sending(self) -> None:
        """Tell the peer that nothing follows, while its own input is still read."""
        try:
            self.sock.shutdown(SHUT_WR)
        except OSError:
            # Gone already.
            self.gone = True

    def close(self) -> None:
        """Close the socket; handlers that still use it see their requests aborted."""
        self.lose()
        with self.lock:
            if self.core.requests or self._changed is not None:
                self._shut_down()
            self.sock.close()

    def _shut_down(self) -> None:
        try:
            # Ends the waits of other threads on this descriptor, before its number can be used again.
            self.sock.shutdown(SHUT_RDWR)
        except OSError:
            pass


def _after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of `buffers` behind the first `sent` bytes."""
    for index, buffer in enumerate(buffers):
        size = len(buffer)
        if sent < size:
            rest = buffers[index:]
            if sent:
                rest[0] = memoryview(buffer)[sent:]
            return rest
        sent -= size
    return []
