"""`AsyncHttpResponseMixin`: CGI responses for asynchronous handlers."""

from __future__ import annotations

from ..cgi.response import encode_body, encode_chunk, encode_document_head, encode_redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .handler import AsyncFcgiHandler

    _Handler = AsyncFcgiHandler
else:
    _Handler = object


class AsyncHttpResponseMixin(_Handler):
    """Adds responses to an :class:`AsyncFcgiHandler`; name it before the handler among the bases."""

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
        head = encode_document_head(code, mime_type, extra_headers)
        if not callable(data):
            body = encode_body(mime_type, data)
            await self.write(head)
            await self.write(body)
            return
        await self.write(head)
        async for chunk in data():
            await self.write(encode_chunk(chunk), flush=flush)

    async def send_redirect(self, target: str) -> None:
        """Write a redirect response (RFC 3875, 6.2.2 and 6.2.3).

        `target` is a local-Location (``/path?query``) or a client-Location (an absolute URI). Raises ValueError for
        anything else; nothing is written then.
        """
        await self.write(encode_redirect(target))
