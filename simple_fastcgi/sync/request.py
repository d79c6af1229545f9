"""One request of a synchronous server, with blocking streams."""

from __future__ import annotations

from operator import index

from ..cgi.begun import BegunRequest
from ..net.files import SourceFile
from ..protocol.streams import InputStream
from .poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..monitor.info import RequestInfo
    from ..protocol.spool import Chunk
    from .connection import Connection
    from .connections import ConnectionServer


class FcgiRequest(BegunRequest):
    """What `socketserver` calls the request; used by any thread."""

    __slots__ = ("_server", "connection", "failed")

    info: RequestInfo
    """Of a server with a monitor: what is known of this request."""

    def begin(self, server: ConnectionServer, connection: Connection) -> None:
        """It came to `server` by `connection`."""
        self._server = server
        self.connection = connection
        # The handler raised.
        self.failed = False

    def read(self, size: int = -1, stream: InputStream | None = None, *, fully: bool = False) -> bytes:
        """Up to `size` bytes of `stream` (default: FCGI_STDIN), waiting for the first; b"" at the end.

        All until the end if `size` < 0; with `fully`, fewer than `size` only there. Raises ConnectionAbortedError when
        the request is aborted, or its response ended, before all of its input was read, TimeoutError when none comes
        for `read_timeout` seconds, and RuntimeError when none can come because the request's other stream is full.
        Whatever it raises, what was read comes once more.
        """
        size = index(size)
        if size == 0:
            return b""
        if stream is None:
            stream = self.core.stdin
        server, connection = self._server, self.connection
        in_loop = server.in_loop()
        chunks = connection.read(self.core, stream, size, in_loop=in_loop)
        server.input_taken(connection)
        if (size < 0 or fully) and (left := size - sum(map(len, chunks))):
            try:
                self._read_on(stream, left, chunks, in_loop=in_loop)
            except BaseException:
                connection.put_back(self.core, stream, chunks)
                raise
        return b"".join(chunks)

    def fill(self, view: memoryview, *, comes: bool) -> int:
        """Fill `view` with what comes next of FCGI_STDIN, waiting for all of it; the count of bytes, fewer at its end.

        With `comes`, so many bytes are known to come, and there is room for MOST of them, at most. Raises as
        :meth:`read`; nothing is lost then.
        """
        core, connection = self.core, self.connection
        if comes and not core.stdin.buffered and connection.read_right_into(core, view):
            return len(view)
        server, stdin, size, filled = self._server, core.stdin, len(view), 0
        in_loop = server.in_loop()
        receives = in_loop or connection.is_lent_here()
        try:
            while filled < size:
                rest = view[filled:]
                # Behind the end of what was read before; at first it has just been tried.
                if filled and comes and not stdin.buffered and connection.read_right_into(core, rest):
                    return size
                # That end is no reason to read more of its kind.
                wanted = 1 if comes and receives and stdin.buffered else size - filled
                taken = connection.readinto(core, stdin, rest, wanted=wanted, in_loop=in_loop)
                server.input_taken(connection)
                filled += taken
                if not taken:
                    break
        except BaseException:
            connection.put_back(core, stdin, [bytes(view[:filled])])
            raise
        return filled

    def put_back(self, data: bytes) -> None:
        """What was read last of FCGI_STDIN, and nobody got, is read once more, as long as anything of it is."""
        core = self.core
        self.connection.put_back(core, core.stdin, [data])

    def take_whole(self) -> bytes | None:
        """All that is left of FCGI_STDIN, if its end has come and nothing of it lies in a file; else None."""
        connection = self.connection
        with connection.lock:
            data = self.core.stdin.take_whole()
        if not connection.watched & READ:
            self._server.input_taken(connection)
        return data

    def _read_on(self, stream: InputStream, left: int, chunks: list[Chunk], *, in_loop: bool) -> None:
        """Add up to `left` bytes to `chunks`, all until the end if that is negative."""
        server, connection = self._server, self.connection
        # Small ones would cost many times their content.
        gathered: InputStream | None = None
        try:
            while left and not (stream.ended and not stream.buffered):
                more = connection.read(self.core, stream, left, in_loop=in_loop)
                server.input_taken(connection)
                left -= sum(map(len, more))
                chunks += more
                if len(chunks) > _FEW:
                    gathered = gathered or InputStream()
                    for chunk in chunks:
                        gathered.feed(chunk)
                    chunks.clear()
        finally:
            if gathered is not None:
                chunks[:0] = gathered.take_chunks()

    def readinto(self, buffer: bytearray | memoryview, stream: InputStream | None = None) -> int:
        """Read into `buffer`, waiting for the first byte; the count of bytes, 0 at the end. Raises as :meth:`read`."""
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        if stream is None:
            stream = self.core.stdin
        server = self._server
        size = self.connection.readinto(self.core, stream, view, in_loop=server.in_loop())
        server.input_taken(self.connection)
        return size

    def write(self, data: bytes, *, flush: bool = False) -> None:
        """To FCGI_STDOUT; raises ConnectionAbortedError when the request is aborted."""
        self.connection.write(self.core, data, flush=flush, in_loop=self._server.in_loop())

    def write_blocks(self, blocks: Iterator[bytes], room: int | None) -> tuple[bytes | None, int | None]:
        """To FCGI_STDOUT: each of `blocks` at once, while they are less than `room` bytes in all; None bounds nothing.

        The first one that is too long, or is no bytes, and is not written, or None behind the last one; and what is
        left of `room`. Raises ConnectionAbortedError when the request is aborted, and whatever `blocks` does.
        """
        return self.connection.write_blocks(self.core, blocks, room, in_loop=self._server.in_loop)

    def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """To FCGI_STDOUT, behind the output written before: a regular file from `start` to `stop`, at once.

        Raises ConnectionAbortedError when the request is aborted, OSError when the file cannot be read so far.
        """
        file = SourceFile(descriptor)
        self.connection.send_file(self.core, file, start, stop, in_loop=self._server.in_loop())

    def write_err(self, data: bytes) -> None:
        """To FCGI_STDERR, behind the output written before."""
        self.connection.write(self.core, data, stderr=True, in_loop=self._server.in_loop())

    def aborted(self) -> bool:
        """Whether the web server has aborted the request or is gone, as far as can be told without waiting.

        An abort behind input that is not received, since so much is unread, cannot be told.
        """
        core = self.core
        if not core.aborted:
            if self._server.in_loop():
                # Nobody else looks at the socket while this thread is busy with the handler.
                self.connection.look()
            elif self.connection.is_lent_here():
                # Nor while it does something else: from now on the loop does.
                self.connection.reclaim()
        return core.aborted

    def end(self, app_status: int = 0, data: bytes = b"", head: bytes = b"") -> None:
        """End the request on the wire, if it has not ended yet, behind `data`; it is forgotten from then on.

        `head` comes before `data`, of which a copy is saved so.

        `app_status`, of which the lowest 32 bits count, is what a CGI program's exit status would be (5.5).
        """
        core, server = self.core, self._server
        # Otherwise the connection tells by itself whether the request has ended.
        if server.stopping and core.ended and not core.aborted:
            return
        if not self.connection.end(core, data, app_status, head) or server.stopping:
            server.request_ended(self.connection)

    def fail(self, error: bytes) -> None:
        """End the request on the wire as failed, if it has not ended yet: with a 500, or visibly cut short."""
        if not self.core.ended or self.core.aborted:
            self.connection.fail(self.core, error)
            self._server.request_ended(self.connection)


_FEW = 64
