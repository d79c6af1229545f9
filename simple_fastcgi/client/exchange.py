"""One request and its response, without any input or output: what all shells of the client drive.

It joins the web server's side of a connection (:mod:`simple_fastcgi.protocol.webserver`) and the reader of a CGI
response (:mod:`simple_fastcgi.cgi.reply`).
"""

from __future__ import annotations

from collections import deque

from ..cgi.reply import HeadReader
from ..errors import BrokenResponseError, ProtocolError, RequestRefusedError, ResponseHeadError
from ..limits import ClientLimits
from ..protocol.constants import FCGI_DATA, FCGI_REQUEST_COMPLETE, FCGI_RESPONDER, FCGI_STDIN, ROLE_STREAMS
from ..protocol.webserver_events import RequestBroken, RequestEnded, StderrReceived, StdoutReceived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..cgi.reply import ResponseHead
    from ..protocol.records import Buffer
    from ..protocol.webserver import WebServerConnection
    from ..protocol.webserver_events import WebServerEvent

    ExchangeEvent = ResponseHead | StdoutReceived | StderrReceived | RequestEnded

_REFUSALS = {
    1: "FCGI_CANT_MPX_CONN: it serves one request at a time of a connection",
    2: "FCGI_OVERLOADED: it has no room for another request",
    3: "FCGI_UNKNOWN_ROLE: it does not serve this role",
}
_WITHOUT_BODY = (204, 304)


class Exchange:
    """One request on `connection`, begun at once, and its response.

    `params`, `role` and `keep_conn` are those of :meth:`.WebServerConnection.begin`, which raises RuntimeError unless
    the connection's `can_begin`. REQUEST_METHOD tells whether the response has a body. `limits`: those of the response
    head and of FCGI_STDERR.

    The shell moves bytes: it sends :meth:`data_to_send` after each call, and asks :meth:`next_event`; where that
    returns None it receives, and hands what came to :meth:`receive_data`. Input may be sent meanwhile, as long as
    :attr:`wants_input`. Not thread-safe.
    """

    __slots__ = (
        "_bodyless",
        "_error",
        "_events",
        "_expected",
        "_reader",
        "_streams",
        "aborted",
        "connection",
        "end",
        "head",
        "limits",
        "method",
        "received",
        "request_id",
        "stderr",
        "stderr_dropped",
    )

    request_id: int
    method: str
    """REQUEST_METHOD."""
    head: ResponseHead | None
    """The response's head, as soon as it is complete."""
    end: RequestEnded | None
    """FCGI_END_REQUEST, when it has come: the connection is no longer used by this exchange."""
    received: bool
    """Anything of the response has come, be it FCGI_STDERR."""
    aborted: bool
    stderr: bytearray
    """FCGI_STDERR so far, up to `max_stderr_bytes`."""
    stderr_dropped: int
    """How many bytes of it came beyond."""

    def __init__(
        self,
        connection: WebServerConnection,
        params: Mapping[str, str],
        *,
        role: int = FCGI_RESPONDER,
        keep_conn: bool = True,
        limits: ClientLimits | None = None,
    ) -> None:
        self.connection = connection
        self.limits = ClientLimits() if limits is None else limits
        self.request_id = connection.begin(params, role=role, keep_conn=keep_conn)
        self.method = params.get("REQUEST_METHOD", "")
        self.head = None
        self.end = None
        self.received = self.aborted = False
        self.stderr = bytearray()
        self.stderr_dropped = 0
        self._streams = list(ROLE_STREAMS[role][1:])
        self._reader = HeadReader(self.limits.max_head_bytes, self.limits.max_head_fields)
        self._events: deque[ExchangeEvent] = deque()
        self._error: Exception | None = None
        # Of the body: what is still to come if its length was announced, and whether it is passed over.
        self._expected: int | None = None
        self._bodyless = False

    # The request

    @property
    def wants_input(self) -> bool:
        """Whether more of the request's body is of any use; input that comes later is passed over."""
        return bool(self._streams) and self.end is None and self._error is None and not self.aborted

    def send_body(self, data: Buffer | bytearray) -> None:
        """Queue `data` of the request's body (FCGI_STDIN); it is not copied if it is large, and must not change."""
        self._send(FCGI_STDIN, data)

    def end_body(self) -> None:
        """Queue the end of the body. It belongs to every request of a Responder or Filter, with or without a body."""
        self._end(FCGI_STDIN)

    def send_data(self, data: Buffer | bytearray) -> None:
        """Queue `data` for a Filter's FCGI_DATA, behind the end of the body; as :meth:`send_body`."""
        self._send(FCGI_DATA, data)

    def end_data(self) -> None:
        """Queue the end of FCGI_DATA."""
        self._end(FCGI_DATA)

    def abort(self) -> None:
        """Queue FCGI_ABORT_REQUEST (5.4): nobody wants the rest of the response.

        No more of the response is told. Until :attr:`end` is there, for which one may wait a while, the application is
        at it; nothing else can begin on the connection. Does nothing behind the end.
        """
        if self.end is None and not self.aborted and self._error is None:
            self.aborted = True
            self._events.clear()
            self.connection.abort(self.request_id)

    def data_to_send(self) -> list[Buffer]:
        """The buffers that are to be sent now, in turn; they are handed out once."""
        return self.connection.data_to_send()

    def _send(self, type_: int, data: Buffer | bytearray) -> None:
        if not self.wants_input:
            return
        if type_ == FCGI_STDIN:
            self.connection.send_stdin(self.request_id, data)
        else:
            self.connection.send_data(self.request_id, data)

    def _end(self, type_: int) -> None:
        if not self.wants_input:
            return
        if type_ == FCGI_STDIN:
            self.connection.end_stdin(self.request_id)
        else:
            self.connection.end_data(self.request_id)
        self._streams.remove(type_)

    # The response

    def receive_data(self, data: bytes) -> None:
        """Take what was received, in any slicing; b"" is the end of the connection. Raises nothing.

        For a connection with this exchange alone on it: else the shell shares out the connection's events by
        :meth:`handle`.
        """
        connection = self.connection
        try:
            events = connection.receive_data(data) if data else connection.receive_eof()
        except ProtocolError as error:
            self.fail(error)
            return
        for event in events:
            self.handle(event)
        if connection.failed is not None:
            self.fail(connection.failed)

    def next_event(self) -> ExchangeEvent | None:
        """What comes next of the response; None if more must be received first.

        A :class:`~simple_fastcgi.cgi.reply.ResponseHead`, then StdoutReceived for pieces of the body, which are never
        empty, with StderrReceived anywhere, at last RequestEnded, again and again. For an aborted request only the
        last. Behind what came before it, raises what is wrong, again and again:

        ProtocolError: the application violated FastCGI; its subclass ResponseHeadError: the response has no proper
        head; BrokenResponseError: the connection ended first, or the body has not the length that was announced;
        RequestRefusedError: the application refused the request. The connection is of no use behind the first three.
        """
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return self.end

    @property
    def reusable(self) -> bool:
        """The exchange is over, another one may begin on the connection, and nothing has come behind it there."""
        return self.end is not None and self.connection.can_begin and self.connection.idle

    def where(self) -> str:
        """How far the response has come, for a message: "within the response's head", for example."""
        if self.head is not None:
            return "within the response's body" if self._expected != 0 else "before the response's end"
        return "within the response's head" if self._reader.begun else "before any response"

    def handle(self, event: WebServerEvent) -> None:
        """Take an event of the connection that is about this request."""
        if isinstance(event, StdoutReceived):
            self._stdout(event)
        elif isinstance(event, StderrReceived):
            self._stderr(event)
        elif isinstance(event, RequestEnded):
            self._ended(event)
        elif isinstance(event, RequestBroken):
            self.received = self.received or event.received
            self.fail(
                BrokenResponseError(
                    f"the application closed the connection {self.where()}",
                    received=self.received,
                )
            )

    def fail(self, error: Exception) -> None:
        """Let :meth:`next_event` raise `error` behind what has come, unless the exchange is over.

        For the shell, where the connection broke under it: a BrokenResponseError with this exchange's `received`.
        """
        if self.end is None and self._error is None:
            self._error = error

    def _stdout(self, event: StdoutReceived) -> None:
        self.received = True
        if self._error is not None:
            return
        data = event.data
        if self.head is None:
            try:
                self.head = self._reader.feed(data)
            except ResponseHeadError as error:
                self._error = error
            if self.head is None:
                return
            self._begin_body(self.head)
            data = self._reader.rest
            self._reader.rest = b""
            if not data:
                return
            event = StdoutReceived(event.request_id, data)
        if self._bodyless:
            return
        if self._expected is not None:
            self._expected -= len(data)
            if self._expected < 0:
                within = data[: self._expected]
                if within:
                    self._events.append(StdoutReceived(event.request_id, within))
                self._error = BrokenResponseError(
                    f"the response's body is longer than its Content-Length, by at least {-self._expected} bytes",
                    received=True,
                )
                return
        self._events.append(event)

    def _begin_body(self, head: ResponseHead) -> None:
        self._events.append(head)
        # RFC 3875, 4.3.3: what a script sends in answer to HEAD is thrown away.
        self._bodyless = self.method == "HEAD" or head.status in _WITHOUT_BODY
        if not self._bodyless:
            self._expected = head.content_length

    def _stderr(self, event: StderrReceived) -> None:
        self.received = True
        size = len(event.data)
        kept = min(size, self.limits.max_stderr_bytes - len(self.stderr))
        self.stderr += event.data[:kept]
        self.stderr_dropped += size - kept
        if self._error is None:
            self._events.append(event)

    def _tells_failure(self) -> bool:
        """Whether a response says itself that the request was not served, for whoever heeds no protocol status."""
        return self.head is not None and self.head.status >= 500 and not self._expected

    def _ended(self, event: RequestEnded) -> None:
        self.received = True
        if self._error is None and not self.aborted:
            if event.protocol_status != FCGI_REQUEST_COMPLETE and not self._tells_failure():
                self._error = RequestRefusedError(
                    f"the application refused the request: {_REFUSALS[event.protocol_status]}",
                    protocol_status=event.protocol_status,
                )
            elif self.head is None:
                what = "within its head" if self._reader.begun else "without a response"
                self._error = ResponseHeadError(f"the request ended {what}, application status {event.app_status}")
            elif self._expected:
                self._error = BrokenResponseError(
                    f"the response's body is {self._expected} bytes shorter than its Content-Length", received=True
                )
        self.end = event
