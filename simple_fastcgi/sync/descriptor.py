"""The descriptor of a connection's socket, for which several threads may wait, and which one closes."""

from __future__ import annotations

import select
from os import close
from socket import SHUT_RDWR, SOCK_STREAM, SocketType

from ..net import has_hung_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Lock


class Descriptor:
    """One end of a socket. The attributes are set by ``Connection``, which stands on this, and which closes it."""

    __slots__ = ("_polling", "_sock", "fd", "lock")

    lock: Lock
    """Between the threads that have to do with the connection; it guards the core as well."""
    fd: int
    """-1 from its closing on, since the number may be another's then."""
    # As an object, once it is needed: most connections never need it.
    _sock: SocketType | None
    # Threads that wait for the socket.
    _polling: int

    def _socket(self) -> SocketType:
        """What `fd` stands for, as an object; all of whose methods fail from the closing on. The lock is held."""
        if self._sock is None:
            try:
                self._sock = SocketType(-1, SOCK_STREAM, 0, self.fd)
                # Whatever the program has said by socket.setdefaulttimeout().
                self._sock.setblocking(False)
            except (OSError, ValueError):
                # It is closed, or has gone, on systems which tell that here.
                self._sock = SocketType.__new__(SocketType)
        return self._sock

    def has_hung_up(self) -> bool:
        """Whether the peer has gone, of a connection that is not read for a while."""
        with self.lock:
            return has_hung_up(self._socket())

    def _wait(self, timeout: float, *, reading: bool, sending: bool) -> bool:
        """Wait until the socket takes something if `sending`, or has something if `reading`.

        Whether it is to be read then, which it is, too, when it has failed or the peer has hung up.
        """
        with self.lock:
            fd = self.fd
            if fd < 0:
                # Closed by the server, which has given up waiting for this handler.
                return False
            self._polling += 1
        poll = select.poll()
        poll.register(fd, (select.POLLIN if reading else 0) | (select.POLLOUT if sending else 0))
        try:
            ready = poll.poll(timeout * 1000)
        finally:
            with self.lock:
                self._polling -= 1
                if self.fd < 0 and not self._polling:
                    close(fd)
        return reading and bool(ready) and ready[0][1] & ~select.POLLOUT != 0

    def _shut_down(self) -> None:
        try:
            # Ends the waits of other threads, the last of which closes.
            self._socket().shutdown(SHUT_RDWR)
        except OSError:
            pass
