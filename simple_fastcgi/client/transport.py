"""`FcgiTransport`: httpx's blocking clients speak FastCGI."""

from __future__ import annotations

from typing import cast

import httpx

from ..cgi.reply import ResponseHead
from ..protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from .call import Call
from .connection_pool import ConnectionPool, PoolTimeoutError
from .exchange import Exchange
from .mapping import Body, Settings, Timeouts, finish, log_stderr, new_spool, pieces_of, response_of
from .pool import may_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from ..cgi.params import Extra, Params
    from ..limits import ClientLimits
    from .connection import Connection


class FcgiTransport(httpx.BaseTransport):
    """A transport for httpx.Client that calls the FastCGI application at `address`.

    `address`
        ``"unix:/run/app.sock"``, ``"unix:@name"`` (abstract, Linux), ``"127.0.0.1:9000"`` or ``"[::1]:9000"``.
    `document_root`, `script`, `root_path`, `index` (default ``index.php``), `split` (default ``.php``)
        What answers a request. `document_root` alone: the script in that folder which the URL's path names; `script`:
        this one, whatever the path; neither: an application, mounted at `root_path`. See
        :class:`~simple_fastcgi.cgi.params.ParamsBuilder`.
    `params`
        Further parameters of every request, which win over those made here; None takes one away. For one request:
        ``extensions={"fastcgi_params": {...}}``.
    `client` (default ``("127.0.0.1", 0)``)
        REMOTE_ADDR and REMOTE_PORT; port 0 is left out.
    `limits`
        Of the pool and of responses: :class:`~simple_fastcgi.limits.ClientLimits`, or httpx.Limits. The timeouts in it
        count where a request comes without httpx's.
    `keep_conn` (default: for applications, not for scripts)
        Whether connections are kept open for further requests. PHP-FPM gives each of them a process, which serves
        nobody else meanwhile.
    `request_buffering` (default: for scripts, not for applications)
        Whether a body whose length is not known is first read to its end, into memory up to 1 MiB and into a temporary
        file beyond, at most ``max_spooled_bytes``: PHP reads nothing of a body without CONTENT_LENGTH. Otherwise it is
        sent as it comes.

    The response's extensions hold ``fastcgi_stderr`` (bytes, at most ``max_stderr_bytes``) and ``fastcgi_app_status``
    (int), both complete when the response was read to its end; the status is None before. FCGI_STDERR is logged, too.

    May be used by several threads at once, and behind a fork, where connections of the other process are not used.
    Raises :class:`~simple_fastcgi.errors.ConfigurationError`, a ValueError, for settings that cannot work.
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
        self._pool = ConnectionPool(self._settings.target, self._settings.limits)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.target}>"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response, whose body is still to be read. For httpx."""
        if not isinstance(request.stream, httpx.SyncByteStream):
            raise RuntimeError("a request with an async body needs AsyncFcgiTransport and httpx.AsyncClient")
        return _Attempts(self._settings, self._pool, request).response()

    @property
    def idle_connections(self) -> int:
        """Connections that are kept without a request."""
        return self._pool.idle

    @property
    def active_connections(self) -> int:
        """Connections with a request, or being opened."""
        return self._pool.in_use

    def close(self) -> None:
        """Close all kept connections, and those in use when their response ends."""
        self._pool.close()


class _Attempts:
    """One request, until there is a response."""

    def __init__(self, settings: Settings, pool: ConnectionPool, request: httpx.Request) -> None:
        self.settings = settings
        self.pool = pool
        self.request = request
        self.timeouts = Timeouts(request, settings.limits)
        self.body = Body(request)
        self.spool: IO[bytes] | None = None

    def response(self) -> httpx.Response:
        settings, body = self.settings, self.body
        params = settings.params_of(self.request, body.content_length)
        body.check(self.request)
        try:
            if body.content is None and body.content_length is None and settings.request_buffering:
                self._fill_spool()
                params = settings.params_of(self.request, body.content_length)
            while True:
                response = self._attempt(params)
                if response is not None:
                    return response
        except BaseException:
            if self.spool is not None:
                self.spool.close()
            raise

    def _fill_spool(self) -> None:
        self.spool = new_spool()
        for piece in cast("httpx.SyncByteStream", self.request.stream):
            self.body.check_spooled(self.spool.tell() + len(piece), self.settings.limits, self.request)
            self.spool.write(piece)
        self.body.content_length = self.spool.tell()

    def _attempt(self, params: Params) -> httpx.Response | None:
        """The response; None if the request is to be sent once more."""
        settings, request, timeouts = self.settings, self.request, self.timeouts
        connection = self._connection()
        try:
            exchange = Exchange(connection.core, params, keep_conn=settings.keep_conn, limits=settings.limits)
            call = Call(
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
            head = stream.head()
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

    def _connection(self) -> Connection:
        timeouts = self.timeouts
        try:
            return self.pool.acquire(connect_timeout=timeouts.connect, pool_timeout=timeouts.pool)
        except PoolTimeoutError as error:
            raise self.settings.error_of(error, self.request) from error
        except OSError as error:
            raise self.settings.connect_error_of(error, timeouts, self.request) from error

    def _body_pieces(self, exchange: Exchange) -> Iterator[bytes] | None:
        if self.spool is not None:
            return pieces_of(self.spool)
        if self.body.content is None:
            return iter(cast("httpx.SyncByteStream", self.request.stream))
        if self.body.content:
            exchange.send_body(self.body.content)
        return None


class _ResponseStream(httpx.SyncByteStream):
    """The body of a response, and the end of its exchange."""

    def __init__(self, attempts: _Attempts, call: Call) -> None:
        self._request = attempts.request
        self._settings = attempts.settings
        self._pool = attempts.pool
        self._spool = attempts.spool
        self._call: Call | None = call
        self.response: httpx.Response | None = None

    def head(self) -> ResponseHead:
        """Wait for the head of the response."""
        assert self._call is not None
        while True:
            event = self._call.next_event()
            if isinstance(event, ResponseHead):
                return event
            if isinstance(event, StderrReceived):
                log_stderr(self._request, event.data)

    def __iter__(self) -> Iterator[bytes]:
        call = self._call
        if call is None:
            raise httpx.StreamClosed
        try:
            while True:
                event = call.next_event()
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
            self.close()

    def close(self) -> None:
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
