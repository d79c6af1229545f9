"""`AsyncFcgiHandler`: the base class of asynchronous handlers, one instance for each request."""

from __future__ import annotations

from ..cgi.handler import BaseHandler
from ..cgi.response import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from .request import AsyncFcgiRequest
    from .server import AsyncFcgiServer


class AsyncFcgiHandler(BaseHandler):
    """Serves one FastCGI request: subclass it and override :meth:`handle`.

    The members are those of :class:`~simple_fastcgi.FcgiHandler`, as coroutines where they may have to wait; so is
    what happens when `handle` returns or raises.
    """

    _is_async = True
    request: AsyncFcgiRequest

    def __init__(self, request: AsyncFcgiRequest, client_address: object, server: AsyncFcgiServer) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        """The server that made this handler."""

    @classmethod
    def lifespan(cls, server: AsyncFcgiServer) -> AbstractAsyncContextManager[object]:
        """What is entered before `server` accepts its first connection, and left behind its last request.

        Override it for what handlers share and what needs the event loop, a pool of database connections for example.
        """
        return _NOTHING

    async def handle(self) -> None:
        """Do all the work of serving the request; override it."""

    def _handled(self) -> None:
        """`handle` has returned, and the request has not ended yet, or was aborted: end it."""
        self.request.end()

    def aborted(self) -> bool:
        """Whether the web server has aborted the request: FCGI_ABORT_REQUEST came, or the connection is gone.

        Records come in turn: while so much input is unread that no more is received (``max_buffered_input``), an abort
        behind it is not seen until the handler reads on.
        """
        return self.request.core.aborted

    async def read(self, sz: int = -1) -> bytes:
        """Up to `sz` bytes of the input stream, waiting for the first; all until EOF if `sz` < 0; b"" at EOF.

        Raises ConnectionAbortedError if the request is aborted before all of its input was read, TimeoutError if
        none arrives for ``read_timeout`` seconds.
        """
        return await self.request.read(sz)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into `buffer`, waiting for the first byte; returns the count of bytes read, 0 at EOF."""
        return await self.request.readinto(buffer)

    async def readall(self) -> bytes:
        """Everything until EOF."""
        return await self.request.read()

    async def read_data(self, sz: int = -1) -> bytes:
        """Read from a Filter's second input stream (FCGI_DATA, section 6.4): the file that is to be filtered.

        As :meth:`read`, which is to reach the end of the first one before: web servers send one behind the other.
        RuntimeError if unread FCGI_STDIN leaves no room. In other roles there is no such stream: b"".
        """
        data = self.request.core.data
        return b"" if data is None else await self.request.read(sz, data)

    async def readinto_data(self, buffer: bytearray | memoryview) -> int:
        """As :meth:`read_data`, into `buffer`; returns the count of bytes read, 0 at EOF."""
        data = self.request.core.data
        return 0 if data is None else await self.request.readinto(buffer, data)

    async def write(self, data: bytes | bytearray | memoryview, *, flush: bool = False) -> None:
        """Append `data` to the output stream (FCGI_STDOUT); with `flush` it goes to the socket now.

        Without it, data leaves when ``max_buffered_output`` bytes have gathered and when `handle` returns. Waits while
        the web server is slow. Raises ConnectionAbortedError when the request is aborted.
        """
        await self.request.write(as_bytes(data), flush=flush)

    async def write_err(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the error stream (FCGI_STDERR), which ends up in the web server's error log."""
        await self.request.write_err(as_bytes(data))


class _Nothing:
    """No lifespan at all."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


_NOTHING = _Nothing()
