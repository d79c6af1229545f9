"""`HttpResponseMixin`: CGI responses for synchronous handlers."""

from __future__ import annotations

from ..cgi.response import encode_body, encode_chunk, encode_document_head, encode_redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .handler import FcgiHandler

    _Handler = FcgiHandler
else:
    _Handler = object


class HttpResponseMixin(_Handler):
    """Adds responses to a :class:`FcgiHandler`; name it before the handler among the bases."""

    def send_response(
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

        `code` is the HTTP status (200 to 599), `mime_type` the Content-Type. `extra_headers` are further fields, each
        a ``(name, value)`` pair or a ``"Name: value"`` string. `data`: a function is taken for a generator function
        and called for chunks (bytes or str), each followed by a flush if `flush`; a str is encoded as UTF-8; if
        "json" appears in `mime_type` and `data` is not bytes-like, it is encoded as JSON; bytes are appended as they
        are; None adds nothing. More can be written afterwards. No Content-Length is added.

        Raises ValueError for a bad status or field, TypeError for data that cannot be sent; nothing is written then.
        """
        head = encode_document_head(code, mime_type, extra_headers)
        if not callable(data):
            body = encode_body(mime_type, data)
            self.write(head)
            self.write(body)
            return
        self.write(head)
        for chunk in data():
            self.write(encode_chunk(chunk), flush=flush)

    def send_redirect(self, target: str) -> None:
        """Write a redirect response (RFC 3875, 6.2.2 and 6.2.3).

        `target` is a local-Location (``/path?query``) or a client-Location (an absolute URI). Raises ValueError for
        anything else; nothing is written then.
        """
        self.write(encode_redirect(target))
