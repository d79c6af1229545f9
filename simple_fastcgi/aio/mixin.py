"""`AsyncHttpResponseMixin` and `AsyncAuthorizerMixin`: CGI responses for asynchronous handlers."""

from __future__ import annotations

from ..cgi.authorizer import ROLES, encode_allow, encode_denial
from ..cgi.handler import PendingHead
from ..cgi.response import (
    NO_CHUNK,
    encode_body,
    encode_chunk,
    encode_document_head,
    encode_first_chunk,
    encode_redirect,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .handler import AsyncFcgiHandler

    _Handler = AsyncFcgiHandler
else:
    _Handler = object


class AsyncHttpResponseMixin(_Handler):
    """Adds responses to an :class:`AsyncFcgiHandler`; name it before the handler among the bases."""

    _is_async = True

    async def send_response(
        self,
        code: int,
        /,
        mime_type: str = "text/plain",
        data: object = None,
        *,
        extra_headers: Iterable[tuple[str, str] | str] = (),
        flush: bool = True,
    ) -> None:
        """Write a document response (RFC 3875, 6.2.1).

        As :meth:`HttpResponseMixin.send_response <simple_fastcgi.HttpResponseMixin.send_response>`, but a function
        given as `data` is taken for an async generator function.
        """
        await _write_document(self, encode_document_head(code, mime_type, extra_headers), mime_type, data, flush=flush)

    async def send_redirect(self, target: str) -> None:
        """Write a redirect response (RFC 3875, 6.2.2 to 6.2.4), 302 to the visitor.

        `target` is a local-Location (``/path?query``), which a web server may also process itself, or a client-Location
        (an absolute URI). Raises ValueError for anything else, RuntimeError for a second response to the request;
        nothing is written then.
        """
        head = encode_redirect(target, self.request.params.get("SERVER_SOFTWARE", ""))
        self._begin_response()
        await self.write(head)


class AsyncAuthorizerMixin(_Handler):
    """Makes an :class:`AsyncFcgiHandler` an Authorizer (FastCGI 1.0, section 6.3); name it before the handler.

    As :class:`AuthorizerMixin <simple_fastcgi.AuthorizerMixin>`, with coroutines.
    """

    _is_async = True
    roles = ROLES

    async def allow(
        self,
        variables: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        extra_headers: Iterable[tuple[str, str] | str] = (),
    ) -> None:
        """Grant access, as :meth:`AuthorizerMixin.allow <simple_fastcgi.AuthorizerMixin.allow>`."""
        head = encode_allow(variables, extra_headers)
        self._begin_response()
        await self.write(head)

    async def deny(
        self,
        code: int = 403,
        mime_type: str = "text/plain",
        data: object = None,
        *,
        extra_headers: Iterable[tuple[str, str] | str] = (),
    ) -> None:
        """Refuse access, as :meth:`AuthorizerMixin.deny <simple_fastcgi.AuthorizerMixin.deny>`.

        A function given as `data` is taken for an async generator function.
        """
        await _write_document(self, encode_denial(code, mime_type, extra_headers), mime_type, data)


async def _write_document(
    handler: AsyncFcgiHandler, head: bytes, mime_type: str, data: object, *, flush: bool = True
) -> None:
    if not callable(data):
        body = encode_body(mime_type, data)
        handler._begin_response()
        await handler.write(head)
        await handler.write(body)
        return
    # Before the head: what keeps the body from beginning does not keep the handler from sending another response.
    handler._begin_response()
    lead = _Lead(handler, head)
    chunks = None
    try:
        try:
            chunks = aiter(data())
            first = encode_first_chunk(await anext(chunks, NO_CHUNK))
        except BaseException:
            lead.retract()
            raise
        await lead.write_head()
        if first is not None:
            await handler.write(first, flush=flush)
        async for chunk in chunks:
            await handler.write(encode_chunk(chunk), flush=flush)
    finally:
        # A generator ends soon, and not with the traceback that keeps this frame.
        del chunks


class _Lead(PendingHead):
    """What the function writes by itself before its first chunk comes behind the head."""

    __slots__ = ()

    async def write_head(self) -> None:
        if (head := self.take()) is not None:
            await self._handler.write(head)

    async def write(self, data: bytes | bytearray | memoryview, *, flush: bool = False) -> None:
        await self.write_head()
        await self._handler.write(data, flush=flush)
