"""`FcgiHandler`: the base class of synchronous handlers, one instance for each request."""

from __future__ import annotations

from socketserver import BaseRequestHandler

from ..cgi.handler import BaseHandler
from ..cgi.response import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .request import FcgiRequest
    from .server import FcgiServer


class FcgiHandler(BaseHandler, BaseRequestHandler):
    """Serves one FastCGI request: subclass it and override :meth:`handle`.

    When `handle` returns, the response is complete; of one in which nothing was written a web server makes what it
    likes, nginx a 502. When it raises, the web server gets a plain 500 if nothing was sent yet, and a response that is
    visibly cut short otherwise; the traceback goes to the web server's error log (FCGI_STDERR) and to the logger
    ``simple_fastcgi``.
    """

    _is_async = False
    request: FcgiRequest
    server: FcgiServer
    """The server that made this handler."""

    def handle(self) -> None:
        """Do all the work of serving the request; override it."""

    def aborted(self) -> bool:
        """Whether the web server has aborted the request: FCGI_ABORT_REQUEST came, or the connection is gone.

        Records come in turn: while so much input is unread that no more is received (``max_buffered_input``), an abort
        behind it is not seen until the handler reads on.
        """
        return self.request.aborted()

    def read(self, sz: int = -1) -> bytes:
        """Up to `sz` bytes of the input stream, waiting for the first; all until EOF if `sz` < 0; b"" at EOF.

        Raises ConnectionAbortedError if the request is aborted before all of its input was read, TimeoutError if
        none arrives for ``read_timeout`` seconds.
        """
        return self.request.read(sz)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into `buffer`, waiting for the first byte; returns the count of bytes read, 0 at EOF."""
        return self.request.readinto(buffer)

    def readall(self) -> bytes:
        """Everything until EOF."""
        return self.request.read()

    def read_data(self, sz: int = -1) -> bytes:
        """Read from a Filter's second input stream (FCGI_DATA, section 6.4): the file that is to be filtered.

        As :meth:`read`, which is to reach the end of the first one before: web servers send one behind the other.
        RuntimeError if unread FCGI_STDIN leaves no room. In other roles there is no such stream: b"".
        """
        data = self.request.core.data
        return b"" if data is None else self.request.read(sz, data)

    def readinto_data(self, buffer: bytearray | memoryview) -> int:
        """As :meth:`read_data`, into `buffer`; returns the count of bytes read, 0 at EOF."""
        data = self.request.core.data
        return 0 if data is None else self.request.readinto(buffer, data)

    def write(self, data: bytes | bytearray | memoryview, *, flush: bool = False) -> None:
        """Append `data` to the output stream (FCGI_STDOUT); with `flush` it goes to the socket now.

        Without it, data leaves when ``max_buffered_output`` bytes have gathered and when `handle` returns. Waits while
        the web server is slow. Raises ConnectionAbortedError when the request is aborted.
        """
        self.request.write(data if type(data) is bytes else as_bytes(data), flush=flush)

    def write_err(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the error stream (FCGI_STDERR), which ends up in the web server's error log."""
        self.request.write_err(as_bytes(data))


def is_plain(handler: type[FcgiHandler]) -> bool:
    """Whether to make one is to keep the arguments and call ``handle()``: none of the other steps is overridden."""
    return (
        type(handler).__call__ is type.__call__
        and handler.__new__ is object.__new__
        and handler.__init__ is BaseRequestHandler.__init__
        and handler.setup is BaseRequestHandler.setup
        and handler.finish is BaseRequestHandler.finish
    )
