"""A transport, its requests and the bodies of its responses, as far as nothing waits: half of both transports."""

from __future__ import annotations

from contextlib import contextmanager

import httpx

from ..protocol.constants import FCGI_RESPONDER
from .exchange import Exchange
from .mapping import Body, Settings, Timeouts, finish, log_stderr, new_spool
from .pool import may_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any, Protocol

    from ..cgi.params import Extra, Params
    from ..limits import ClientLimits
    from .call import CallState
    from .connection import Connection

    class Pool(Protocol):
        """What gave the connection."""

        def release(self, connection: Any, *, reusable: bool) -> None: ...


class TransportState:
    """What a transport is told; the arguments stand at :class:`.FcgiTransport`."""

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
        role: int = FCGI_RESPONDER,
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
            role=role,
        )
        self._open_pool()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.target}>"

    def _open_pool(self) -> None:
        raise NotImplementedError


class AttemptsState:
    """What is known of one request, which may be sent more than once."""

    def __init__(self, settings: Settings, request: httpx.Request) -> None:
        self.settings = settings
        self.request = request
        self.timeouts = Timeouts(request, settings.limits)
        self.body = Body(request, is_sent=settings.role == FCGI_RESPONDER)
        self.spool: IO[bytes] | None = None
        # It is refused before a piece of its body is asked for.
        self.params: Params = settings.params_of(request, self.body.content_length)
        self.body.check(request)

    @property
    def needs_spool(self) -> bool:
        """The body's length is not known, and has to be."""
        return self.settings.request_buffering and self.body.content is None and self.body.content_length is None

    def begin_spool(self) -> IO[bytes]:
        """The file for the body."""
        self.spool = new_spool()
        return self.spool

    def check_spooled(self, size: int) -> None:
        """httpx.LocalProtocolError if the `size` bytes that are to be spooled are more than is granted."""
        most = self.settings.limits.max_spooled_bytes
        if size > most:
            raise httpx.LocalProtocolError(
                f"the request's body, whose length is not told, has more than {most} bytes "
                "(max_spooled_bytes): give its Content-Length, or raise that limit",
                request=self.request,
            )

    def end_spool(self, spool: IO[bytes]) -> None:
        """All of the body is there: its length is told."""
        self.body.content_length = spool.tell()
        self.params = self.settings.params_of(self.request, self.body.content_length)

    def close_spool(self) -> None:
        """Nothing of the body is needed any more."""
        if self.spool is not None:
            self.spool.close()

    def begin(self, connection: Connection) -> Exchange:
        """The exchange on `connection`, with the body if that is in memory."""
        settings = self.settings
        exchange = Exchange(
            connection.core, self.params, role=settings.role, keep_conn=settings.keep_conn, limits=settings.limits
        )
        if self.body.content:
            exchange.send_body(self.body.content)
        return exchange

    def may_repeat(self, error: Exception, call: CallState) -> bool:
        """Whether the request is to be sent once more."""
        connection = call.connection
        replayable = self.body.content is not None or self.spool is not None
        return may_retry(call.exchange, error, kept=connection.kept, sent=connection.sent > 0, replayable=replayable)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise httpx's exceptions for those of the exchange."""
        try:
            yield
        except Exception as error:
            mapped = self.settings.error_of(error, self.request)
            if mapped is error:
                raise
            raise mapped from error


class ResponseState:
    """The rest of a response, from its head on, and what is done once at its end."""

    def __init__(self, attempts: AttemptsState, pool: Pool, call: CallState) -> None:
        self.attempts = attempts
        self._pool = pool
        self._call: CallState | None = call
        self.response: httpx.Response | None = None

    def log(self, data: bytes | memoryview) -> None:
        """Log what came of FCGI_STDERR."""
        log_stderr(self.attempts.request, data)

    def give_back(self) -> None:
        """The connection, once; a response that has not ended is aborted."""
        call, self._call = self._call, None
        if call is not None:
            reusable = call.reusable
            if not reusable:
                call.abort()
            self._pool.release(call.connection, reusable=reusable)

    def finish(self) -> None:
        """Give the connection back, and note in the response what is known at its end."""
        call = self._call
        if call is not None:
            self.give_back()
            self.attempts.close_spool()
            if self.response is not None:
                finish(self.response, call.exchange)
