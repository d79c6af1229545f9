"""Asks a FastCGI application, as a web server does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ... import __version__
from ...cgi.params import ParamsBuilder
from ...errors import BrokenResponseError
from ...protocol.constants import FCGI_RESPONDER
from ...protocol.webserver_events import StderrReceived, StdoutReceived
from ..call.body import Body
from ..call.response import reason
from ..call.transfer import Link, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...client.exchange import ExchangeEvent
    from ...net.address import BindAddress

MAX_PAGE = 1 << 20
"""Bytes of a response that are read."""
_MAX_STDERR = 4096


@dataclass
class Reply:
    """A response: its `seconds`, and whether the connection can take another request."""

    status: int = 0
    reason: str = ""
    body: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    reusable: bool = False


class Application:
    """Asks the application at `address` for `target`, a path with query as it is sent.

    ``root_path``, ``script``, ``document_root``
        As :class:`.ParamsBuilder` takes them, which raises ConfigurationError, or ValueError for `target`.
    ``timeout``
        Seconds for each question, connecting included.
    """

    def __init__(
        self,
        address: BindAddress,
        target: bytes,
        *,
        root_path: str | None = None,
        script: str | None,
        document_root: str | None = None,
        timeout: float,
    ) -> None:
        self.address = address
        self.timeout = timeout
        builder = ParamsBuilder(
            root_path=root_path,
            script=script,
            document_root=document_root,
            software=f"simple_fastcgi/{__version__}",
        )
        fields = [(b"Host", b"localhost"), (b"User-Agent", f"simple-fastcgi/{__version__} check".encode("ascii"))]
        self.params = builder.build("GET", target, fields, client=("127.0.0.1", 0))

    def connect(self) -> Link:
        """A connection, to be closed; CallError if there is none."""
        return Link(self.address, self.timeout, time.monotonic() + self.timeout)

    def get(self, link: Link) -> Reply:
        """The response on `link`; CallError if there is none."""
        begin = time.monotonic()
        transfer = Transfer(
            link, self.params, Body(), role=FCGI_RESPONDER, keep_conn=True, deadline=begin + self.timeout
        )
        reply = Reply()

        def receive(event: ExchangeEvent) -> bool:
            if isinstance(event, StdoutReceived):
                reply.body += bytes(event.data)
            elif isinstance(event, StderrReceived):
                reply.stderr = (reply.stderr + bytes(event.data))[:_MAX_STDERR]
            return len(reply.body) <= MAX_PAGE

        try:
            transfer.run(receive)
        except Exception as error:
            raise transfer.explain(_as_end(error, received=transfer.exchange.received)) from None
        head = transfer.exchange.head
        assert head is not None
        reply.status, reply.reason = head.status, reason(head)
        reply.seconds = time.monotonic() - begin
        reply.reusable = transfer.reusable
        return reply


def _as_end(error: Exception, *, received: bool) -> Exception:
    """A reset before anything came as the end that it is: which of the two a client sees that is refused is chance."""
    if isinstance(error, ConnectionError) and not received:
        return BrokenResponseError("the application closed the connection before any response", received=False)
    return error
