"""httpx's requests, timeouts and exceptions, and what they are here: shared by the blocking and the async transport."""

from __future__ import annotations

import tempfile

import httpx

from ..cgi.params import ParamsBuilder
from ..errors import BrokenResponseError, ConfigurationError, ProtocolError, RequestRefusedError
from ..limits import MAX_SECONDS, MIB, ClientLimits
from ..log import lines_of, logger
from ..protocol.constants import FCGI_AUTHORIZER, FCGI_RESPONDER
from .call import ReadTimeoutError, RequestBodyError, WriteTimeoutError
from .connection_pool import PoolTimeoutError
from .settings import given_client, given_params, objection_to_params
from .target import explain, explain_timeout, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from ..cgi.params import Extra, Params
    from ..cgi.reply import ResponseHead
    from ..net.address import BindAddress
    from .exchange import Exchange

SPOOL_MEMORY = MIB
"""Bytes of a spooled body that stay in memory; what is larger goes to a file in TMPDIR."""
PIECE = 65536
"""Bytes of a spooled body that are sent at once."""

_MANY = 1_000_000
# Section 6.3.
_NOT_FOR_AUTHORIZERS = ("CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME")


class Settings:
    """What both transports are told, checked; the arguments are those of :class:`.FcgiTransport`."""

    def __init__(
        self,
        address: str,
        *,
        document_root: str | None,
        script: str | None,
        root_path: str | None,
        index: str,
        split: str,
        params: Extra | None,
        client: tuple[str, int] | None,
        limits: ClientLimits | httpx.Limits | None,
        keep_conn: bool | None,
        request_buffering: bool | None,
        role: int,
    ) -> None:
        if role not in (FCGI_RESPONDER, FCGI_AUTHORIZER):
            raise ConfigurationError(f"role={role!r}: give 1 (Responder) or 2 (Authorizer)")
        params = given_params(params)
        if role == FCGI_AUTHORIZER:
            params = {**dict.fromkeys(_NOT_FOR_AUTHORIZERS), **(params or {})}
        self.target: BindAddress = parse_target(address)
        self.builder = ParamsBuilder(
            document_root=document_root,
            script=script,
            root_path=root_path,
            index=index,
            split=split,
            params=params,
        )
        self.role = role
        self.client = given_client(client)
        self.limits, keeps = read_limits(limits)
        runs_script = document_root is not None or script is not None
        self.keep_conn = keeps and (not runs_script if keep_conn is None else keep_conn)
        self.request_buffering = runs_script if request_buffering is None else request_buffering

    def params_of(self, request: httpx.Request, content_length: int | None) -> Params:
        """The parameters of `request`; httpx.UnsupportedProtocol or httpx.LocalProtocolError if it cannot be sent."""
        url = request.url
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(
                f"{str(url)!r}: give an http:// or https:// URL; its host is what the application sees as its own, "
                f"whatever the address of the transport",
                request=request,
            )
        target = request.extensions.get("target", url.raw_path)
        extra = request.extensions.get("fastcgi_params")
        if objection := objection_to_params(extra):
            raise TypeError(f'extensions["fastcgi_params"]{objection}')
        try:
            return self.builder.build(
                request.method,
                target,
                request.headers.raw,
                scheme=url.scheme,
                client=self.client,
                content_length=content_length,
                params=extra,
            )
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error

    def error_of(self, error: Exception, request: httpx.Request) -> Exception:
        """The exception of httpx's that `error` of an exchange is; `error` itself if it is none of those."""
        text = f"{request.method} {request.url} ({self.target}): {error}"
        if isinstance(error, PoolTimeoutError):
            return httpx.PoolTimeout(str(error), request=request)
        if isinstance(error, ReadTimeoutError):
            return httpx.ReadTimeout(f"{text} (read timeout)", request=request)
        if isinstance(error, WriteTimeoutError):
            return httpx.WriteTimeout(f"{text} (write timeout)", request=request)
        if isinstance(error, BrokenResponseError):
            hint = "" if error.received else "; if that is not a restart, its error log tells more"
            return httpx.RemoteProtocolError(text + hint, request=request)
        if isinstance(error, ProtocolError | RequestRefusedError):
            return httpx.RemoteProtocolError(text, request=request)
        if isinstance(error, RequestBodyError):
            return httpx.LocalProtocolError(text, request=request)
        return error

    def connect_error_of(self, error: OSError, timeouts: Timeouts, request: httpx.Request) -> httpx.TransportError:
        """The exception of httpx's for an attempt to connect that failed."""
        if isinstance(error, TimeoutError):
            return httpx.ConnectTimeout(explain_timeout(timeouts.connect or 0, self.target), request=request)
        return httpx.ConnectError(explain(error, self.target), request=request)


class Timeouts:
    """Those of one request, in seconds; None for no bound."""

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(self, request: httpx.Request, limits: ClientLimits) -> None:
        told: dict[str, float | None] = request.extensions.get("timeout", {})
        # A request that no client of httpx's has made tells nothing.
        self.connect = told.get("connect", limits.connect_timeout)
        self.read = told.get("read", limits.read_timeout)
        self.write = told.get("write", limits.write_timeout)
        self.pool = told.get("pool", limits.pool_timeout)


def read_limits(limits: ClientLimits | httpx.Limits | None) -> tuple[ClientLimits, bool]:
    """`limits` as this package's, and whether any connection is kept. None of httpx's bounds is a very large one."""
    if limits is None:
        return ClientLimits(), True
    if isinstance(limits, ClientLimits):
        return limits, True
    if not isinstance(limits, httpx.Limits):
        raise ConfigurationError(f"limits={limits!r}: give httpx.Limits or simple_fastcgi.limits.ClientLimits")
    kept, expiry = limits.max_keepalive_connections, limits.keepalive_expiry
    keeps = kept != 0 and expiry != 0
    return ClientLimits(
        max_connections=_MANY if limits.max_connections is None else limits.max_connections,
        max_keepalive_connections=_MANY if kept is None else kept or 1,
        keepalive_expiry=MAX_SECONDS if expiry is None else expiry or 1,
    ), keeps


class Body:
    """A request's body, before its stream is read; nothing of it unless it `is_sent`.

    ``content``
        All of it, where it is in memory; else None.
    ``content_length``
        Its length in bytes as Content-Length tells it; None if it does not.
    """

    __slots__ = ("content", "content_length")

    def __init__(self, request: httpx.Request, *, is_sent: bool = True) -> None:
        self.content: bytes | None = None
        self.content_length: int | None = None
        if not is_sent:
            self.content = b""
            return
        told = request.headers.get("content-length")
        self.content_length = int(told) if told is not None and told.isdecimal() else None
        if isinstance(request.stream, httpx.ByteStream):
            self.content = b"".join(request.stream)
            if self.content_length is None and self.content:
                self.content_length = len(self.content)

    def check(self, request: httpx.Request) -> None:
        """httpx.LocalProtocolError if what is in memory has not the length that Content-Length tells."""
        told, content = self.content_length, self.content
        if content is not None and told is not None and len(content) != told:
            raise httpx.LocalProtocolError(
                f"the request's body has {len(content)} bytes, and its Content-Length is {told}", request=request
            )


def new_spool() -> IO[bytes]:
    """A file for a body whose length is not known: in memory, and in TMPDIR beyond SPOOL_MEMORY bytes."""
    return tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY)


def pieces_of(spool: IO[bytes]) -> Iterator[bytes]:
    """What is in a spool, from its beginning."""
    spool.seek(0)
    while piece := spool.read(PIECE):
        yield piece


def response_of(
    head: ResponseHead, exchange: Exchange, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Response:
    """The response that `head` begins; its extensions are complete behind :func:`finish`."""
    extensions: dict[str, Any] = {"fastcgi_app_status": None, "fastcgi_stderr": bytes(exchange.stderr)}
    if head.reason:
        extensions["reason_phrase"] = head.reason
    return httpx.Response(head.status, headers=head.headers, stream=stream, extensions=extensions)


def finish(response: httpx.Response, exchange: Exchange) -> None:
    """Note in the extensions of `response` what is known at its end."""
    response.extensions["fastcgi_stderr"] = bytes(exchange.stderr)
    if exchange.end is not None:
        response.extensions["fastcgi_app_status"] = exchange.end.app_status


def log_stderr(request: httpx.Request, data: bytes | memoryview) -> None:
    """What the application wrote to FCGI_STDERR, as a warning."""
    if lines := lines_of(data):
        # Indented, so that none can be taken for a line of the log's own.
        logger().warning("%s %s, stderr: %s", request.method, request.url, "\n    ".join(lines))
