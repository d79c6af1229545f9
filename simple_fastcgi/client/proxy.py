"""An ASGI application that forwards HTTP to a FastCGI server: what a web server's FastCGI module is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio

from ..cgi.params import ParamsBuilder, end_to_end, tells_length
from ..cgi.reply import ResponseHead
from ..errors import BrokenResponseError, ProtocolError, RequestRefusedError
from ..limits import ClientLimits, given_limits
from ..log import lines_of, logger
from ..protocol.constants import FCGI_OVERLOADED
from ..protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from .async_pool import AsyncPool
from .call import ReadTimeoutError, WriteTimeoutError
from .connection_pool import PoolTimeoutError
from .exchange import Exchange
from .pool import may_retry
from .proxy_body import BodyTooLargeError, ClientGoneError, RequestBody
from .settings import given_params
from .target import explain, explain_timeout, parse_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from typing import Self

    from .async_connection import AsyncConnection

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

# The characters of a path that stand for themselves (RFC 3986, 3.3).
_IN_PATHS = "/!$&'()*+,;=:@-._~"
# HTTP's own end there; servers know no others.
_LAST_STATUS = 599
# A line of FCGI_STDERR without an end, in bytes.
_LONGEST_LINE = 16384
_TEXTS = {
    400: b"400 Bad Request\n",
    413: b"413 Content Too Large\n",
    502: b"502 Bad Gateway\n",
    503: b"503 Service Unavailable\n",
    504: b"504 Gateway Timeout\n",
}
_NO_WEBSOCKETS = b"501 Not Implemented: FastCGI carries no WebSockets\n"


class FcgiProxy:
    """An ASGI 3 application that hands each HTTP request to the FastCGI application at `address`.

    `address`
        ``"unix:/run/php/php-fpm.sock"``, ``"unix:@name"``, ``"127.0.0.1:9000"`` or ``"[::1]:9000"``.
    `document_root`, `script`, `index`, `params`
        What answers a request, as with :class:`~simple_fastcgi.cgi.params.ParamsBuilder`: a script below
        `document_root`, one `script` for everything, or, with neither, the application itself. Paths are those that the
        FastCGI server sees.
    `root_path`
        Where this is mounted, if it is not where the scope's ``root_path`` says. Scripts are named by what follows it,
        as files are below a mounted ``StaticFiles``.
    `limits`
        A :class:`~simple_fastcgi.limits.ClientLimits`.
    `keep_conn`
        Whether connections are kept open behind a request. Default: for applications, but not for scripts, since
        PHP-FPM gives each open connection one of its few processes (``pm.max_children``).

    Use it as an asynchronous context manager, or call :meth:`aclose`, where the server's lifespan events do not reach
    it: frameworks do not hand them on to what is mounted. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for settings that contradict each other.
    """

    def __init__(
        self,
        address: str,
        *,
        document_root: str | None = None,
        script: str | None = None,
        root_path: str | None = None,
        index: str = "index.php",
        params: Mapping[str, str | bytes | None] | None = None,
        limits: ClientLimits | None = None,
        keep_conn: bool | None = None,
    ) -> None:
        self.target = parse_target(address)
        self.limits = given_limits(limits, ClientLimits)
        self.root_path = root_path
        self.for_scripts = document_root is not None or script is not None
        self.keep_conn = not self.for_scripts if keep_conn is None else keep_conn
        self.builder = ParamsBuilder(
            document_root=document_root, script=script, index=index, params=given_params(params)
        )
        if root_path is not None:
            # Told now if it is none.
            ParamsBuilder(root_path=root_path)
        self.pool = AsyncPool(self.target, self.limits)
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._forward(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await _refuse_websocket(scope, receive, send)
        else:
            raise ValueError(f"FcgiProxy serves HTTP, not {kind!r}")

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that are kept; those in use follow when their requests end. None begins any more."""
        self._closed = True
        self.pool.close()

    def _open(self) -> None:
        if self._closed:
            self.pool = AsyncPool(self.target, self.limits)
            self._closed = False

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._open()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = RequestBody(receive)
        request = _Forwarding(self, scope, body, send)
        try:
            await request.run()
        except ClientGoneError:
            logger().debug("%s: the client has gone", request.name)
        finally:
            body.close()

    def log_stderr(self, request: str, lines: list[str]) -> None:
        """Log whole lines that the application wrote to FCGI_STDERR for `request`; subclasses may change it."""
        # Indented, so that none can be taken for a line of the log's own.
        logger().warning("%s: FCGI_STDERR: %s", request, "\n    ".join(lines))

    def refusal(self, status: int) -> bytes:
        """What is told a client whose request got no answer, and `status` for it; subclasses may change it."""
        return _TEXTS[status]

    def request_params(self, scope: Scope, content_length: int | None) -> dict[str, str]:
        """The parameters of a request; ValueError for what cannot be one."""
        root_path = scope.get("root_path", "") if self.root_path is None else self.root_path
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_IN_PATHS).encode("ascii")
        path = scope["path"]
        if self.root_path is None and root_path and path != root_path and not path.startswith(root_path + "/"):
            # Some servers leave it out of the path.
            raw_path = quote(root_path, safe=_IN_PATHS).encode("ascii") + raw_path
        query = scope.get("query_string", b"")
        return self.builder.build(
            scope["method"],
            raw_path + b"?" + query if query else raw_path,
            scope["headers"],
            scheme=scope.get("scheme", "http"),
            http_version=scope.get("http_version", "1.1"),
            client=_pair(scope.get("client")),
            server=_pair(scope.get("server")),
            content_length=content_length,
            root_path=root_path,
        )


class _Forwarding:
    """One request on its way."""

    def __init__(self, proxy: FcgiProxy, scope: Scope, body: RequestBody, send: Send) -> None:
        self.proxy = proxy
        self.limits = proxy.limits
        self.scope = scope
        self.body = body
        self.say = send
        self.name = f"{scope['method']} {scope['path']!r}"
        self.started = False
        # Until the application has the whole body it need not answer.
        self.sent_all = False
        self._waiting: anyio.CancelScope | None = None
        self._stderr = b""

    async def run(self) -> None:
        """Forward it. Raises ClientGoneError, and what must be raised for the response to be cut."""
        body, limits = self.body, self.limits
        content_length = None
        try:
            # Before a connection is taken: a client that is slow to say anything occupies none.
            await body.begin()
            if self.proxy.for_scripts and not tells_length(self.scope["headers"]):
                # PHP reads nothing of a body whose length it is not told.
                content_length = await body.spool(limits.max_spooled_bytes) or None
            params = self.proxy.request_params(self.scope, content_length)
        except BodyTooLargeError:
            most = f"{limits.max_spooled_bytes} bytes (max_spooled_bytes)"
            await self._refuse(413, f"its body, whose length it did not tell, has more than {most}")
            return
        except ValueError as error:
            await self._refuse(400, str(error))
            return
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            if body.whole:
                # What waits for a connection, or for an answer, is given up when nobody wants it any more.
                tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                await self._exchange(params, tasks.cancel_scope)
            except Exception as error:
                # Not out of the group, which would wrap it.
                failure = error
            tasks.cancel_scope.cancel()
        if body.gone:
            raise ClientGoneError("the client has gone")
        if failure is not None:
            raise failure

    async def _watch(self, request: anyio.CancelScope) -> None:
        await self.body.disconnected()
        request.cancel()

    async def _exchange(self, params: dict[str, str], request: anyio.CancelScope) -> None:
        # Asked now: what comes in pieces is gone when they were sent, and then seems to be an empty body.
        replayable = self.body.in_memory
        while True:
            connection = await self._acquire()
            if connection is None:
                return
            exchange = Exchange(connection.core, params, keep_conn=self.proxy.keep_conn, limits=self.limits)
            try:
                if replayable:
                    error = await self._send_and_receive(connection, exchange)
                else:
                    error = await self._send_beside_receiving(connection, exchange, request)
            finally:
                if exchange.end is None:
                    exchange.abort()
                    connection.send_or_drop()
                whole = not (connection.unsent or connection.broken)
                self.proxy.pool.release(connection, reusable=exchange.reusable and whole)
                self._log_stderr(b"", end=True)
            if error is None:
                return
            if not may_retry(exchange, error, kept=connection.kept, sent=connection.sent > 0, replayable=replayable):
                await self._fail(error)
                return

    async def _acquire(self) -> AsyncConnection | None:
        limits = self.limits
        try:
            return await self.proxy.pool.acquire(
                pool_timeout=limits.pool_timeout, connect_timeout=limits.connect_timeout
            )
        except PoolTimeoutError as error:
            await self._refuse(503, str(error))
        except TimeoutError:
            why = explain_timeout(limits.connect_timeout, self.proxy.target)
            await self._refuse(504 if self.proxy.target.kind == "tcp" else 503, why)
        except OSError as error:
            await self._refuse(502, explain(error, self.proxy.target))
        except RuntimeError:
            await self._refuse(503, "the proxy was closed (aclose, or the lifespan's shutdown)")
        return None

    async def _send_and_receive(self, connection: AsyncConnection, exchange: Exchange) -> Exception | None:
        """With a body that is here; what went wrong, if anything did."""
        if self.body.first:
            exchange.send_body(self.body.first)
        exchange.end_body()
        if connection.send_or_drop():
            self.sent_all = True
            return await self._receive(connection, exchange)
        return await self._send_beside_receiving(connection, exchange, None)

    async def _send_beside_receiving(
        self, connection: AsyncConnection, exchange: Exchange, request: anyio.CancelScope | None
    ) -> Exception | None:
        """The application may answer before it has read everything, and stop reading until it is listened to."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, connection, exchange, request)
            error = await self._receive(connection, exchange)
            tasks.cancel_scope.cancel()
        return error

    async def _send(self, connection: AsyncConnection, exchange: Exchange, request: anyio.CancelScope | None) -> None:
        """Send the body, then look out for the client's end, which cancels `request`; without it, what is begun."""
        timeout = self.limits.write_timeout
        try:
            if request is not None:
                while exchange.wants_input and (piece := await self.body.piece()) is not None:
                    if piece:
                        exchange.send_body(piece)
                        await connection.send_all(timeout)
                exchange.end_body()
            await connection.send_all(timeout)
        except WriteTimeoutError as error:
            exchange.fail(error)
            if self._waiting is not None:
                self._waiting.cancel()
            return
        except ClientGoneError:
            assert request is not None
            request.cancel()
            return
        self.sent_all = True
        if self._waiting is not None:
            self._waiting.deadline = anyio.current_time() + self.limits.read_timeout
        if request is not None:
            await self._watch(request)

    async def _receive(self, connection: AsyncConnection, exchange: Exchange) -> Exception | None:
        """Hand on the response; what went wrong with it, if anything did."""
        try:
            await self._hand_on(connection, exchange)
        except (BrokenResponseError, ProtocolError, RequestRefusedError, ReadTimeoutError, WriteTimeoutError) as error:
            return error
        return None

    async def _hand_on(self, connection: AsyncConnection, exchange: Exchange) -> None:
        gathered: list[bytes | memoryview] = []
        while True:
            event = exchange.next_event()
            if event is None:
                if gathered:
                    await self._send_piece(gathered, more=True)
                await self._more(connection, exchange)
            elif isinstance(event, StdoutReceived):
                gathered.append(event.data)
            elif isinstance(event, ResponseHead):
                if event.status > _LAST_STATUS:
                    raise ProtocolError(f"Status: {event.status} came, which HTTP does not have")
                headers = [(name.lower(), value) for name, value in end_to_end(event.headers)]
                self.started = True
                await self._say({"type": "http.response.start", "status": event.status, "headers": headers})
            elif isinstance(event, StderrReceived):
                self._log_stderr(event.data)
            elif isinstance(event, RequestEnded):
                self._log_stderr(b"", end=True)
                await self._send_piece(gathered, more=False)
                return

    async def _send_piece(self, gathered: list[bytes | memoryview], *, more: bool) -> None:
        data = b"".join(gathered)
        gathered.clear()
        await self._say({"type": "http.response.body", "body": data, "more_body": more})

    async def _say(self, message: Message) -> None:
        try:
            await self.say(message)
        except OSError as error:
            # As ASGI 2.4 has it.
            self.body.gone = True
            raise ClientGoneError("the client has gone") from error

    async def _more(self, connection: AsyncConnection, exchange: Exchange) -> None:
        """Receive something."""
        timeout = self.limits.read_timeout
        deadline = anyio.current_time() + timeout if self.sent_all else math.inf
        with anyio.CancelScope(deadline=deadline) as self._waiting:
            await anyio.wait_readable(connection.sock)
        if self._waiting.cancelled_caught:
            exchange.fail(ReadTimeoutError(timeout))
        self._waiting = None
        data = connection.receive()
        if data is not None:
            exchange.receive_data(data)

    async def _fail(self, error: Exception) -> None:
        """The application did not answer as it should: a status of our own, or a response that is visibly cut."""
        where = f"{self.proxy.target}: {error}"
        if self.started:
            logger().error("%s: the response was cut: %s", self.name, where)
            # Only so will whatever serves this cut the response, instead of ending it as if it were whole.
            raise error
        if isinstance(error, TimeoutError):
            how = "_timeout: raise it, or see why the application is slow or hangs"
            await self._refuse(504, f"{where} ({'read' if isinstance(error, ReadTimeoutError) else 'write'}{how})")
        elif isinstance(error, RequestRefusedError) and error.protocol_status == FCGI_OVERLOADED:
            await self._refuse(503, where)
        else:
            await self._refuse(502, where)

    async def _refuse(self, status: int, why: str) -> None:
        if status < 500:
            logger().warning("%s: %d: %s", self.name, status, why)
        else:
            logger().error("%s: %d: %s", self.name, status, why)
        await _plain(self._say, status, self.proxy.refusal(status))

    def _log_stderr(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Log whole lines; at the end, what is left."""
        self._stderr += data
        whole = len(self._stderr) if end or len(self._stderr) > _LONGEST_LINE else self._stderr.rfind(b"\n") + 1
        text, self._stderr = self._stderr[:whole], self._stderr[whole:]
        if lines := lines_of(text):
            self.proxy.log_stderr(self.name, lines)


async def _plain(send: Send, status: int, text: bytes, prefix: str = "http") -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": text, "more_body": False})


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    logger().warning("%r: a WebSocket was refused: FastCGI carries none", scope["path"])
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await _plain(send, 501, _NO_WEBSOCKETS, "websocket.http")
    else:
        # Before it was accepted: the client sees 403.
        await send({"type": "websocket.close", "code": 1003, "reason": "FastCGI carries no WebSockets"})


def _pair(pair: Any) -> Any:
    """`client` and `server` of a scope: tuples, lists or None."""
    return None if pair is None else (pair[0], pair[1])
