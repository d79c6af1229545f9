"""`AsyncFcgiTransport`: httpx's asynchronous clients speak FastCGI, on asyncio and trio."""

from __future__ import annotations

from typing import cast

import httpx
from anyio import to_thread

from ..cgi.reply import ResponseHead
from ..protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from .async_call import AsyncCall
from .async_pool import AsyncPool
from .connection_pool import PoolTimeoutError
from .exchange import Exchange
from .mapping import PIECE, SPOOL_MEMORY, Body, Settings, Timeouts, finish, log_stderr, new_spool, response_of
from .pool import may_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import IO, Self

    from ..cgi.params import Extra, Params
    from ..limits import ClientLimits
    from .async_connection import AsyncConnection


class AsyncFcgiTransport(httpx.AsyncBaseTransport):
    """A transport for httpx.AsyncClient that calls the FastCGI application at `address`, on asyncio or trio.

    Arguments, extensions and errors are those of :class:`.FcgiTransport`. A request may be cancelled at any point: it
    is aborted, and its connection closed or kept, as it then can be. Not thread-safe; kept connections belong to no
    event loop, and may be used by the next one.
    """

    def __init__(
        self,
        address: str,
        *,
        document_root: str | None = None,
        script: str | None = None,
        root_path: str | None = None,
        index: str = "index.php",
        split: str = ".php",
        params: Extra | None = None,
        client: tuple[str, int] | None = ("127.0.0.1", 0),
        limits: ClientLimits | httpx.Limits | None = None,
        keep_conn: bool | None = None,
        request_buffering: bool | None = None,
    ) -> None:
        self._settings = Settings(
            address,
            document_root=document_root,
            script=script,
            root_path=root_path,
            index=index,
            split=split,
            params=params,
            client=client,
            limits=limits,
            keep_conn=keep_conn,
            request_buffering=request_buffering,
        )
        self._pool = AsyncPool(self._settings.target, self._settings.limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.target}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response, whose body is still to be read. For httpx."""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise RuntimeError("a request with a blocking body needs FcgiTransport and httpx.Client")
        return await _Attempts(self._settings, self._pool, request).response()

    async def aclose(self) -> None:
        """Close all kept connections, and those in use when their response ends."""
        self._pool.close()


class _Attempts:
    """One request, until there is a response."""

    def __init__(self, settings: Settings, pool: AsyncPool, request: httpx.Request) -> None:
        self.settings = settings
        self.pool = pool
        self.request = request
        self.timeouts = Timeouts(request, settings.limits)
        self.body = Body(request)
        self.spool: IO[bytes] | None = None

    async def response(self) -> httpx.Response:
        settings, body = self.settings, self.body
        params = settings.params_of(self.request, body.content_length)
        body.check(self.request)
        try:
            if body.content is None and body.content_length is None and settings.request_buffering:
                await self._fill_spool()
                params = settings.params_of(self.request, body.content_length)
            while True:
                response = await self._attempt(params)
                if response is not None:
                    return response
        except BaseException:
            if self.spool is not None:
                self.spool.close()
            raise

    async def _fill_spool(self) -> None:
        self.spool = new_spool()
        async for piece in cast("httpx.AsyncByteStream", self.request.stream):
            size = self.spool.tell() + len(piece)
            self.body.check_spooled(size, self.settings.limits, self.request)
            if size <= SPOOL_MEMORY:
                self.spool.write(piece)
            else:
                # A disk may be slow.
                await to_thread.run_sync(self.spool.write, piece)
        self.body.content_length = self.spool.tell()

    async def _attempt(self, params: Params) -> httpx.Response | None:
        """The response; None if the request is to be sent once more."""
        settings, request, timeouts = self.settings, self.request, self.timeouts
        connection = await self._connection()
        try:
            exchange = Exchange(connection.core, params, keep_conn=settings.keep_conn, limits=settings.limits)
            call = AsyncCall(
                connection,
                exchange,
                self._body_pieces(exchange),
                content_length=self.body.content_length,
                read_timeout=timeouts.read,
                write_timeout=timeouts.write,
            )
        except BaseException:
            # What the iterator of a body raises, too.
            self.pool.release(connection, reusable=False)
            raise
        stream = _ResponseStream(self, call)
        try:
            head = await stream.head()
        except Exception as error:
            stream.give_back()
            replayable = self.body.content is not None or self.spool is not None
            if may_retry(exchange, error, kept=connection.kept, sent=connection.sent > 0, replayable=replayable):
                return None
            mapped = settings.error_of(error, request)
            if mapped is error:
                raise
            raise mapped from error
        except BaseException:
            stream.give_back()
            raise
        stream.response = response_of(head, exchange, stream)
        return stream.response

    async def _connection(self) -> AsyncConnection:
        timeouts = self.timeouts
        try:
            return await self.pool.acquire(connect_timeout=timeouts.connect, pool_timeout=timeouts.pool)
        except PoolTimeoutError as error:
            raise self.settings.error_of(error, self.request) from error
        except OSError as error:
            raise self.settings.connect_error_of(error, timeouts, self.request) from error

    def _body_pieces(self, exchange: Exchange) -> AsyncIterator[bytes] | None:
        if self.spool is not None:
            return _Pieces(self.spool)
        if self.body.content is None:
            return aiter(cast("httpx.AsyncByteStream", self.request.stream))
        if self.body.content:
            exchange.send_body(self.body.content)
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


class _ResponseStream(httpx.AsyncByteStream):
    """The body of a response, and the end of its exchange."""

    def __init__(self, attempts: _Attempts, call: AsyncCall) -> None:
        self._request = attempts.request
        self._settings = attempts.settings
        self._pool = attempts.pool
        self._spool = attempts.spool
        self._call: AsyncCall | None = call
        self.response: httpx.Response | None = None

    async def head(self) -> ResponseHead:
        """Wait for the head of the response."""
        assert self._call is not None
        while True:
            event = await self._call.next_event()
            if isinstance(event, ResponseHead):
                return event
            if isinstance(event, StderrReceived):
                log_stderr(self._request, event.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        if call is None:
            raise httpx.StreamClosed
        try:
            while True:
                event = await call.next_event()
                if isinstance(event, StdoutReceived):
                    yield bytes(event.data)
                elif isinstance(event, StderrReceived):
                    log_stderr(self._request, event.data)
                elif isinstance(event, RequestEnded):
                    break
        except Exception as error:
            mapped = self._settings.error_of(error, self._request)
            if mapped is error:
                raise
            raise mapped from error
        finally:
            # Nothing in it waits: it is done where the task was cancelled, too.
            await self.aclose()

    async def aclose(self) -> None:
        """Give the connection back; a response that has not ended is aborted."""
        call = self._call
        if call is not None:
            self.give_back()
            if self._spool is not None:
                self._spool.close()
            if self.response is not None:
                finish(self.response, call.exchange)

    def give_back(self) -> None:
        """The connection, once."""
        call, self._call = self._call, None
        if call is not None:
            reusable = call.reusable
            if not reusable:
                call.abort()
            self._pool.release(call.connection, reusable=reusable)
