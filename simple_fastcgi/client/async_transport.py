"""`AsyncFcgiTransport`: httpx's asynchronous clients speak FastCGI, on asyncio and trio."""

from __future__ import annotations

from typing import cast

import httpx
from anyio import to_thread

from ..cgi.reply import ResponseHead
from ..protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from .async_call import AsyncCall
from .async_pool import AsyncPool
from .attempts import AttemptsState, ResponseState, TransportState
from .connection_pool import PoolTimeoutError
from .mapping import PIECE, SPOOL_MEMORY, response_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import IO, Self

    from .async_connection import AsyncConnection
    from .mapping import Settings


class AsyncFcgiTransport(TransportState, httpx.AsyncBaseTransport):
    """A transport for httpx.AsyncClient that calls the FastCGI application at `address`, on asyncio or trio.

    Arguments, extensions and errors are those of :class:`.FcgiTransport`. A request may be cancelled at any point: it
    is aborted, and its connection closed or kept, as it then can be. Not thread-safe; kept connections belong to no
    event loop, and may be used by the next one.
    """

    _pool: AsyncPool

    def _open_pool(self) -> None:
        self._pool = AsyncPool(self._settings.target, self._settings.limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response, whose body is still to be read. For httpx."""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise RuntimeError("a request with a blocking body needs FcgiTransport and httpx.Client")
        return await _Attempts(self._settings, self._pool, request).response()

    async def aclose(self) -> None:
        """Close all kept connections, and those in use when their response ends."""
        self._pool.close()


class _Attempts(AttemptsState):
    """One request, until there is a response."""

    def __init__(self, settings: Settings, pool: AsyncPool, request: httpx.Request) -> None:
        super().__init__(settings, request)
        self.pool = pool

    async def response(self) -> httpx.Response:
        try:
            if self.needs_spool:
                await self._fill(self.begin_spool())
            while True:
                response = await self._attempt()
                if response is not None:
                    return response
        except BaseException:
            self.close_spool()
            raise

    async def _fill(self, spool: IO[bytes]) -> None:
        async for piece in cast("httpx.AsyncByteStream", self.request.stream):
            size = spool.tell() + len(piece)
            self.check_spooled(size)
            if size <= SPOOL_MEMORY:
                spool.write(piece)
            else:
                # A disk may be slow.
                await to_thread.run_sync(spool.write, piece)
        self.end_spool(spool)

    async def _attempt(self) -> httpx.Response | None:
        """The response; None if the request is to be sent once more."""
        connection = await self._connection()
        try:
            call = AsyncCall(
                connection,
                self.begin(connection),
                self._pieces(),
                content_length=self.body.content_length,
                read_timeout=self.timeouts.read,
                write_timeout=self.timeouts.write,
            )
        except BaseException:
            # What the iterator of a body raises, too.
            self.pool.release(connection, reusable=False)
            raise
        stream = _ResponseStream(self, self.pool, call)
        with self.errors():
            try:
                head = await stream.head()
            except BaseException as error:
                stream.give_back()
                if isinstance(error, Exception) and self.may_repeat(error, call):
                    return None
                raise
        stream.response = response_of(head, call.exchange, stream)
        return stream.response

    async def _connection(self) -> AsyncConnection:
        timeouts = self.timeouts
        with self.errors():
            try:
                return await self.pool.acquire(connect_timeout=timeouts.connect, pool_timeout=timeouts.pool)
            except PoolTimeoutError:
                raise
            except OSError as error:
                raise self.settings.connect_error_of(error, timeouts, self.request) from error

    def _pieces(self) -> AsyncIterator[bytes] | None:
        """Those of a body that is not in memory."""
        if self.spool is not None:
            return _Pieces(self.spool)
        if self.body.content is None:
            return aiter(cast("httpx.AsyncByteStream", self.request.stream))
        return None


class _Pieces:
    """What is in a spool, from its beginning. No generator, which somebody would have to close."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool
        self._in_file = spool.seek(0, 2) > SPOOL_MEMORY
        spool.seek(0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        read = self._spool.read
        piece = await to_thread.run_sync(read, PIECE) if self._in_file else read(PIECE)
        if not piece:
            raise StopAsyncIteration
        return piece


class _ResponseStream(ResponseState, httpx.AsyncByteStream):
    """The body of a response, and the end of its exchange."""

    _call: AsyncCall | None

    async def head(self) -> ResponseHead:
        """Wait for the head of the response."""
        assert self._call is not None
        while True:
            event = await self._call.next_event()
            if isinstance(event, ResponseHead):
                return event
            if isinstance(event, StderrReceived):
                self.log(event.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        if call is None:
            raise httpx.StreamClosed
        try:
            with self.attempts.errors():
                while not isinstance(event := await call.next_event(), RequestEnded):
                    if isinstance(event, StdoutReceived):
                        yield bytes(event.data)
                    elif isinstance(event, StderrReceived):
                        self.log(event.data)
        finally:
            # Nothing in it waits: it is done where the task was cancelled, too.
            self.finish()

    async def aclose(self) -> None:
        """Give the connection back; a response that has not ended is aborted."""
        self.finish()
