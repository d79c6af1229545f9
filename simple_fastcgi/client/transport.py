"""`FcgiTransport`: httpx's blocking clients speak FastCGI."""

from __future__ import annotations

from typing import cast

import httpx

from ..cgi.reply import ResponseHead
from ..protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from .attempts import AttemptsState, ResponseState, TransportState
from .call import Call
from .connection_pool import ConnectionPool, PoolTimeoutError
from .mapping import pieces_of, response_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from .connection import Connection
    from .mapping import Settings


class FcgiTransport(TransportState, httpx.BaseTransport):
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
    `role` (default: 1, Responder)
        2 asks an Authorizer whether it grants the request (section 6.3): it gets neither the body nor CONTENT_LENGTH,
        SCRIPT_NAME, PATH_INFO and PATH_TRANSLATED.

    The response's extensions hold ``fastcgi_stderr`` (bytes, at most ``max_stderr_bytes``) and ``fastcgi_app_status``
    (int), both complete when the response was read to its end; the status is None before. FCGI_STDERR is logged, too.

    May be used by several threads at once, and behind a fork, where connections of the other process are not used.
    Raises :class:`~simple_fastcgi.errors.ConfigurationError`, a ValueError, for settings that cannot work.
    """

    _pool: ConnectionPool

    def _open_pool(self) -> None:
        self._pool = ConnectionPool(self._settings.target, self._settings.limits)

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


class _Attempts(AttemptsState):
    """One request, until there is a response."""

    def __init__(self, settings: Settings, pool: ConnectionPool, request: httpx.Request) -> None:
        super().__init__(settings, request)
        self.pool = pool

    def response(self) -> httpx.Response:
        try:
            if self.needs_spool:
                self._fill(self.begin_spool())
            while True:
                response = self._attempt()
                if response is not None:
                    return response
        except BaseException:
            self.close_spool()
            raise

    def _fill(self, spool: IO[bytes]) -> None:
        for piece in cast("httpx.SyncByteStream", self.request.stream):
            self.check_spooled(spool.tell() + len(piece))
            spool.write(piece)
        self.end_spool(spool)

    def _attempt(self) -> httpx.Response | None:
        """The response; None if the request is to be sent once more."""
        connection = self._connection()
        try:
            call = Call(
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
                head = stream.head()
            except BaseException as error:
                stream.give_back()
                if isinstance(error, Exception) and self.may_repeat(error, call):
                    return None
                raise
        stream.response = response_of(head, call.exchange, stream)
        return stream.response

    def _connection(self) -> Connection:
        timeouts = self.timeouts
        with self.errors():
            try:
                return self.pool.acquire(connect_timeout=timeouts.connect, pool_timeout=timeouts.pool)
            except PoolTimeoutError:
                raise
            except OSError as error:
                raise self.settings.connect_error_of(error, timeouts, self.request) from error

    def _pieces(self) -> Iterator[bytes] | None:
        """Those of a body that is not in memory."""
        if self.spool is not None:
            return pieces_of(self.spool)
        if self.body.content is None:
            return iter(cast("httpx.SyncByteStream", self.request.stream))
        return None


class _ResponseStream(ResponseState, httpx.SyncByteStream):
    """The body of a response, and the end of its exchange."""

    _call: Call | None

    def head(self) -> ResponseHead:
        """Wait for the head of the response."""
        assert self._call is not None
        while True:
            event = self._call.next_event()
            if isinstance(event, ResponseHead):
                return event
            if isinstance(event, StderrReceived):
                self.log(event.data)

    def __iter__(self) -> Iterator[bytes]:
        call = self._call
        if call is None:
            raise httpx.StreamClosed
        try:
            with self.attempts.errors():
                while not isinstance(event := call.next_event(), RequestEnded):
                    if isinstance(event, StdoutReceived):
                        yield bytes(event.data)
                    elif isinstance(event, StderrReceived):
                        self.log(event.data)
        finally:
            self.finish()

    def close(self) -> None:
        """Give the connection back; a response that has not ended is aborted."""
        self.finish()
