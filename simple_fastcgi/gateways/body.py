"""A request's body that ends too early."""

from __future__ import annotations

from ..cgi.environ import describe_request, request_fields
from ..cgi.request import content_length
from ..log import about, logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.streams import InputStream, Request


class InputCounter:
    """Counts what is read of FCGI_STDIN, and tells once, at its end, if that is less than CONTENT_LENGTH."""

    __slots__ = ("_request", "_told", "received", "stdin")

    received: int
    """Bytes that were read."""
    stdin: InputStream
    """What they are read from."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.stdin = request.stdin
        self.received = 0
        self._told = False

    def check(self) -> None:
        """Something was read: see whether that was the last."""
        if self.stdin.ended and not self.stdin.buffered and not self._told:
            self._told = True
            report_short_body(self._request.params, self.received)


def report_short_body(params: Mapping[str, str], received: int) -> None:
    """Log a warning if `received`, the size of the whole body in bytes, is less than CONTENT_LENGTH.

    The end of FCGI_STDIN is the truth: the application reads what came, as if that were all.
    """
    length = content_length(params)
    if length is not None and received < length:
        logger().warning(
            "%s: the web server ended the body after %d of the %d bytes that CONTENT_LENGTH tells; "
            "the application reads a body cut short (look for a limit or an error in the web server's log)",
            describe_request(params),
            received,
            length,
            extra=about("body_too_short", request_fields(params)),
        )
