"""`HttpResponseMixin` and `AuthorizerMixin`: CGI responses for synchronous handlers."""

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

    from .handler import FcgiHandler

    _Handler = FcgiHandler
else:
    _Handler = object


class HttpResponseMixin(_Handler):
    """Adds responses to a :class:`FcgiHandler`; name it before the handler among the bases."""

    _is_async = False

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
        a ``(name, value)`` pair or a ``"Name: value"`` string; a Content-Type among them stands in place of the
        default `mime_type`. `data`: a function is taken for a generator function and called for chunks (bytes or str),
        each followed by a flush if `flush`; a str is encoded as UTF-8; if "json" appears in `mime_type` and `data` is
        not bytes-like, it is encoded as JSON; bytes are appended as they are; None adds nothing. More can be written
        afterwards. No Content-Length is added.

        Raises ValueError for a bad status or field (also for a Content-Type beside another `mime_type`, and a second
        Content-Type, Content-Length or Location), TypeError for data that cannot be sent, RuntimeError for a second
        response to the request; nothing is written then, nor where a function given as `data` fails before its first
        chunk, so that another response can be sent. A later chunk that is none breaks the response off.
        """
        _write_document(self, encode_document_head(code, mime_type, extra_headers), mime_type, data, flush=flush)

    def send_redirect(self, target: str) -> None:
        """Write a redirect response (RFC 3875, 6.2.2 to 6.2.4), 302 to the visitor.

        `target` is a local-Location (``/path?query``), which a web server may also process itself, or a client-Location
        (an absolute URI). Raises ValueError for anything else, RuntimeError for a second response to the request;
        nothing is written then.
        """
        head = encode_redirect(target, self.request.params.get("SERVER_SOFTWARE", ""))
        self._begin_response()
        self.write(head)


class AuthorizerMixin(_Handler):
    """Makes a :class:`FcgiHandler` an Authorizer (FastCGI 1.0, section 6.3); name it before the handler.

    `handle` calls :meth:`allow` or :meth:`deny`. One that writes nothing at all has denied; one that raises has too,
    with a 500. An Authorizer gets no body: the web server keeps it for whoever serves the request.
    """

    _is_async = False
    roles = ROLES

    def allow(
        self,
        variables: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        extra_headers: Iterable[tuple[str, str] | str] = (),
    ) -> None:
        """Grant access: the web server goes on with the request.

        `variables`, a mapping or ``(name, value)`` pairs, become variables of the request, for whoever serves it then
        (sent as ``Variable-NAME: value``). Values are encoded the way `environ` decodes them. Other fields and any
        content are ignored by a web server that asks an Authorizer, but `extra_headers`, as in
        :meth:`HttpResponseMixin.send_response <simple_fastcgi.HttpResponseMixin.send_response>`, reach one that asks
        in the role of a Responder (nginx's ``auth_request``).

        Raises ValueError for a bad name or value (an empty name; anything but letters, digits and some punctuation in
        a name; CR, LF or NUL in a value), RuntimeError for a second response to the request; nothing is written then.
        """
        head = encode_allow(variables, extra_headers)
        self._begin_response()
        self.write(head)

    def deny(
        self,
        code: int = 403,
        mime_type: str = "text/plain",
        data: object = None,
        *,
        extra_headers: Iterable[tuple[str, str] | str] = (),
    ) -> None:
        """Refuse access; the answer goes to the client.

        `code` is any status but 200, for example 401 with a ``WWW-Authenticate`` among `extra_headers`, or 302 with a
        ``Location``; nginx's ``auth_request`` takes every 2xx for a grant, and passes on only 401 and 403. The other
        arguments are those of :meth:`HttpResponseMixin.send_response <simple_fastcgi.HttpResponseMixin.send_response>`.

        Raises ValueError for a bad status or field, TypeError for data that cannot be sent, RuntimeError for a second
        response to the request, as `send_response` does; nothing is written then.
        """
        _write_document(self, encode_denial(code, mime_type, extra_headers), mime_type, data)


def _write_document(handler: FcgiHandler, head: bytes, mime_type: str, data: object, *, flush: bool = True) -> None:
    if not callable(data):
        body = encode_body(mime_type, data)
        handler._begin_response()
        handler.write(head)
        handler.write(body)
        return
    # Before the head: what keeps the body from beginning does not keep the handler from sending another response.
    handler._begin_response()
    lead = _Lead(handler, head)
    chunks = None
    try:
        try:
            chunks = iter(data())
            first = encode_first_chunk(next(chunks, NO_CHUNK))
        except BaseException:
            lead.retract()
            raise
        lead.write_head()
        if first is not None:
            handler.write(first, flush=flush)
        for chunk in chunks:
            handler.write(encode_chunk(chunk), flush=flush)
    finally:
        # A generator ends now, and not with the traceback that keeps this frame.
        del chunks


class _Lead(PendingHead):
    """What the function writes by itself before its first chunk comes behind the head."""

    __slots__ = ()

    def write_head(self) -> None:
        if (head := self.take()) is not None:
            self._handler.write(head)

    def write(self, data: bytes | bytearray | memoryview, *, flush: bool = False) -> None:
        self.write_head()
        self._handler.write(data, flush=flush)
