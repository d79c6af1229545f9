"""One request of an asynchronous server."""

from __future__ import annotations

from operator import index

from ..cgi.begun import BegunRequest
from ..cgi.response import FORBIDDEN
from ..protocol.constants import FCGI_AUTHORIZER
from ..protocol.streams import InputStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future, Task

    from ..monitor.info import RequestInfo
    from .connection import Connection

ABORTED = "the web server aborted the request"


class AsyncFcgiRequest(BegunRequest):
    """What a handler's streams stand on; used on the event loop only."""

    __slots__ = ("_whole", "connection", "task", "waiters")

    info: RequestInfo
    """Of a server with a monitor: what is known of this request."""

    def begin(self, connection: Connection) -> None:
        """It came by `connection`."""
        self.connection = connection
        # That of the handler, once it has had to wait.
        self.task: Task[None] | None = None
        # Of those who wait for a change.
        self.waiters: list[Future[None]] | None = None
        self._whole = False

    @property
    def replaceable(self) -> bool:
        """As that of `BegunRequest`; a response that is whole already stays as it is."""
        return not self._whole and super().replaceable

    async def read(self, size: int = -1, stream: InputStream | None = None) -> bytes:
        """Up to `size` bytes of `stream` (default: FCGI_STDIN), waiting for the first; b"" at the end.

        All until the end if `size` < 0. Raises ConnectionAbortedError when the request is aborted, or its response
        ended, before all of its input was read, TimeoutError when none comes for `read_timeout` seconds, and
        RuntimeError when none can come because the request's other stream is full. Whatever it raises, and when it is
        cancelled, what was read comes once more.
        """
        if stream is None:
            stream = self.core.stdin
        size = index(size)
        if size >= 0:
            if size and not stream.buffered:
                await self._wait_for_input(stream)
            data = stream.take(size)
            self.connection.input_taken()
            return data
        gathered = InputStream()
        try:
            while not stream.at_eof:
                if not stream.buffered:
                    await self._wait_for_input(stream)
                if data := stream.take():
                    gathered.feed(data)
                self.connection.input_taken()
        except BaseException:
            self.core.put_back(stream, gathered.take_chunks())
            raise
        return gathered.take()

    async def readinto(self, buffer: bytearray | memoryview, stream: InputStream | None = None) -> int:
        """Read into `buffer`, waiting for the first byte; the count of bytes, 0 at the end. Raises as :meth:`read`."""
        view = memoryview(buffer).cast("B")
        if stream is None:
            stream = self.core.stdin
        if len(view) and not stream.buffered:
            await self._wait_for_input(stream)
        size = stream.take_into(view)
        self.connection.input_taken()
        return size

    def take(self, size: int) -> bytes:
        """What has come of FCGI_STDIN, up to `size` bytes, without waiting; b"" if there is nothing."""
        stdin = self.core.stdin
        # Mostly all of it has come.
        data = stdin.take_whole() if stdin.buffered <= size else None
        if data is None:
            data = stdin.take(size)
        connection = self.connection
        if not connection.reading:
            connection.input_taken()
        return data

    async def _wait_for_input(self, stream: InputStream) -> None:
        core, limits = self.core, self.connection.core.limits
        while not stream.buffered and not stream.ended:
            if core.aborted:
                raise ConnectionAbortedError("the web server aborted the request before its input ended")
            if core.ended:
                raise ConnectionAbortedError("the response is complete: no more of the input comes")
            core.check_input_can_follow(limits)
            await self.wait_for_change(limits.read_timeout)

    async def wait_for_change(self, timeout: float | None = None) -> None:
        """Wait until input arrives or ends, or the request is aborted or ends; TimeoutError after `timeout` seconds."""
        loop = self.connection.loop
        waiter: Future[None] = loop.create_future()
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(waiter)
        alarm = None if timeout is None else loop.call_later(timeout, _time_out, waiter, timeout)
        try:
            await waiter
        finally:
            if alarm is not None:
                alarm.cancel()
            if self.waiters is not None and waiter in self.waiters:
                self.waiters.remove(waiter)

    def changed(self) -> None:
        """Wake whoever waits for a change."""
        if self.waiters is not None:
            waiters, self.waiters = self.waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def write(self, data: bytes, *, flush: bool = False) -> None:
        """To FCGI_STDOUT; raises ConnectionAbortedError when the request is aborted."""
        connection, core = self.connection, self.core
        if core.aborted:
            raise ConnectionAbortedError(ABORTED)
        if flush:
            connection.write_through(core, data)
        elif connection.core.write(core, data):
            connection.core.flush(core)
            connection.send_now()
        else:
            return
        if connection.paused is not None:
            await connection.drained()
        if core.aborted:
            raise ConnectionAbortedError(ABORTED)

    def write_now(self, data: bytes) -> bool:
        """To FCGI_STDOUT and to the socket, as :meth:`write` with `flush`, but without waiting for anybody.

        Whether there is something to wait for, or to be told of: by :meth:`flush`.
        """
        return self.connection.write_through(self.core, data)

    def put(self, data: bytes) -> None:
        """To FCGI_STDOUT, to leave together with what follows."""
        self.connection.core.write(self.core, data)

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """To FCGI_STDOUT, behind the output written before: a regular file from `start` to `stop`, at once.

        Raises ConnectionAbortedError when the request is aborted, OSError when the file cannot be read so far.
        """
        from ..net.files import SourceFile
        from .files import FileSender

        connection, core = self.connection, self.core
        if core.aborted:
            raise ConnectionAbortedError(ABORTED)
        file = SourceFile(descriptor)
        if connection.files is None:
            connection.files = FileSender(connection)
        await connection.files.send(core, file, start, stop)

    async def write_err(self, data: bytes) -> None:
        """To FCGI_STDERR, behind the output written before."""
        if self.connection.core.write_err(self.core, data):
            await self.flush()
        elif self.core.aborted:
            raise ConnectionAbortedError(ABORTED)

    async def flush(self) -> None:
        """Send what was written, and wait while the web server is slow; raises as :meth:`write`."""
        connection = self.connection
        connection.core.flush(self.core)
        await connection.send()
        if self.core.aborted:
            raise ConnectionAbortedError(ABORTED)

    def end(self, app_status: int = 0, *, data: bytes = b"") -> None:
        """End the request on the wire, if it has not ended yet, behind `data`; it is forgotten from then on.

        `app_status`, of which the lowest 32 bits count, is what a CGI program's exit status would be (5.5). An
        Authorizer that has said nothing has refused: some web servers take silence for consent.
        """
        core = self.core
        if not core.ended:
            if not data and core.role == FCGI_AUTHORIZER and core.silent:
                data = FORBIDDEN
            self.connection.end(self, app_status, data)
        elif core.aborted:
            self.connection.end_aborted(self)

    def end_with(self, data: bytes) -> None:
        """As :meth:`end`, of a Responder's request that has not ended yet."""
        self.connection.end(self, 0, data)

    def end_soon(self) -> None:
        """As :meth:`end`, in the loop's next turn: what fails until then can still be told on FCGI_STDERR."""
        self._whole = True
        self.connection.loop.call_soon(self.end)

    def dismiss(self) -> None:
        """Nobody waits for what the handler still does behind the request's end: to it that is an abort."""
        self.core.aborted = True

    def fail(self, error: bytes) -> None:
        """End the request on the wire as failed, if it has not ended yet: with a 500, or visibly cut short.

        A response that was whole already stays as it is.
        """
        if not self.core.ended or self.core.aborted:
            if self._whole:
                self.connection.core.write_err(self.core, error)
                self.end()
                return
            self.connection.fail(self, error)


def _time_out(waiter: Future[None], timeout: float) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError(f"no input for {timeout:g} s (read_timeout)"))
