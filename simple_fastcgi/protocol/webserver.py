"""The web server's side of one connection (sections 3 to 6): what every client shell drives.

A shell begins requests and hands over their input, sends :meth:`WebServerConnection.data_to_send` after each call,
gives what it received to :meth:`~WebServerConnection.receive_data` and acts upon the events. The application's side
is :mod:`.application`.
"""

from __future__ import annotations

from ..errors import ProtocolError
from .constants import (
    FCGI_ABORT_REQUEST,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_HEADER_LEN,
    FCGI_KEEP_CONN,
    FCGI_MAX_CONNS,
    FCGI_MAX_LENGTH,
    FCGI_MAX_REQS,
    FCGI_MPXS_CONNS,
    FCGI_NULL_REQUEST_ID,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    FCGI_UNKNOWN_TYPE,
    FCGI_VERSION_1,
    ROLE_STREAMS,
    record_name,
)
from .pairs import decode_pairs, encode_blocks, encode_pairs
from .records import (
    END_REQUEST_BODY,
    HEADER,
    cut_mark,
    encode_begin_request,
    encode_record,
    encode_stream,
    part_of,
)
from .webserver_events import (
    RequestBroken,
    RequestEnded,
    StderrReceived,
    StdoutReceived,
    TypeUnknown,
    ValuesReceived,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .records import Buffer
    from .webserver_events import WebServerEvent

ALL_VALUES = (FCGI_MAX_CONNS, FCGI_MAX_REQS, FCGI_MPXS_CONNS)
"""The names that FastCGI 1.0 defines for FCGI_GET_VALUES (4.1)."""

# What answers in HTTP begins so: it is looked for even where not all of it has come.
_HTTP = b"HTTP/1."
_UNKNOWN_TYPE_LEN = 8


class _Request:
    """What is known of a request under way."""

    __slots__ = ("aborted", "keep_conn", "received", "stderr_ended", "stdout_ended", "streams")

    def __init__(self, role: int, *, keep_conn: bool) -> None:
        self.keep_conn = keep_conn
        # Those of the role that have not ended yet, in their order.
        self.streams = list(ROLE_STREAMS[role][1:])
        self.aborted = self.received = self.stdout_ended = self.stderr_ended = False


class WebServerConnection:
    """One connection to an application. Not thread-safe: a shell with threads calls it under a lock.

    `max_requests`: how many requests may be under way at once (1 to 65535). Most applications serve one at a time of a
    connection and refuse or break otherwise (PHP-FPM, flup); FCGI_GET_VALUES asks for FCGI_MPXS_CONNS.
    """

    __slots__ = (
        "_aborted",
        "_asked",
        "_body",
        "_closing",
        "_content_left",
        "_padding_left",
        "_part",
        "_record_id",
        "_record_type",
        "_requests",
        "eof",
        "failed",
        "max_requests",
        "out",
    )

    max_requests: int
    """How many requests may be under way at once."""
    out: list[Buffer]
    """What :meth:`data_to_send` will hand out; empty if nothing is to be sent."""
    eof: bool
    """The application has closed the connection, or told that it is about to."""
    failed: ProtocolError | None
    """The application's violation of the protocol, if any: the connection must be closed."""

    def __init__(self, max_requests: int = 1) -> None:
        if not 1 <= max_requests <= 65535:
            raise ValueError(f"max_requests={max_requests!r}: give a number from 1 to 65535")
        self.max_requests = max_requests
        self.out = []
        self.eof = False
        self.failed = None
        self._requests: dict[int, _Request] = {}
        # Aborted requests that have ended.
        self._aborted: set[int] = set()
        # The names of each FCGI_GET_VALUES that is not answered yet.
        self._asked: list[frozenset[str]] = []
        self._closing = False
        # Receiving: a header in part, what is left of the current record, and its body if that is needed whole.
        self._part = b""
        self._record_type = self._record_id = 0
        self._content_left = self._padding_left = 0
        self._body = bytearray()

    # State

    @property
    def request_ids(self) -> list[int]:
        """The requests under way, aborted ones too."""
        return list(self._requests)

    @property
    def idle(self) -> bool:
        """No request is under way, no question is open, and no record has come in part."""
        return not (self._requests or self._asked or self._part or self._content_left)

    @property
    def can_begin(self) -> bool:
        """Whether :meth:`begin` is possible now.

        No more on a connection behind a request without FCGI_KEEP_CONN, one that was aborted (Go's package answers
        twice, PHP-FPM closes), and one that ended before its input had: not every application passes over the rest.
        """
        return not self._closing and len(self._requests) < self.max_requests

    # Sending

    def begin(
        self,
        params: Mapping[str, str] | Iterable[tuple[str, str]],
        *,
        role: int = FCGI_RESPONDER,
        keep_conn: bool = True,
    ) -> int:
        """Queue FCGI_BEGIN_REQUEST and FCGI_PARAMS (5.1, 5.2); the request's id, the smallest that is free.

        `params` are names and values in latin-1 text, one character per byte. `keep_conn`: whether the application
        keeps the connection open behind this request. The input follows by :meth:`send_stdin`, :meth:`send_data` and
        their ends, which the application waits for. Raises RuntimeError unless :attr:`can_begin`, ValueError for a
        role that FastCGI 1.0 does not know and for a character above U+00FF.
        """
        if not self.can_begin:
            why = "nothing can begin on it any more" if self._closing else "max_requests are under way"
            raise RuntimeError(f"no request can begin on this connection: {why}")
        if role not in ROLE_STREAMS:
            raise ValueError(f"role={role!r}: give 1 (Responder), 2 (Authorizer) or 3 (Filter)")
        pairs = params.items() if hasattr(params, "items") else params
        blocks = encode_blocks(pairs, FCGI_MAX_LENGTH)
        request_id = 1
        while request_id in self._requests:
            request_id += 1
        self._requests[request_id] = _Request(role, keep_conn=keep_conn)
        if not keep_conn:
            self._closing = True
        records = [encode_begin_request(request_id, role, FCGI_KEEP_CONN if keep_conn else 0)]
        records += [encode_record(FCGI_PARAMS, request_id, block) for block in blocks]
        records.append(encode_record(FCGI_PARAMS, request_id))
        self.out.append(b"".join(records))
        return request_id

    def send_stdin(self, request_id: int, data: Buffer | bytearray) -> None:
        """Queue `data` for FCGI_STDIN (5.3); what is large is not copied, and must not change until it is sent.

        Raises RuntimeError for a request that is not under way, was aborted, or whose FCGI_STDIN has ended.
        """
        self._send(FCGI_STDIN, request_id, data)

    def end_stdin(self, request_id: int) -> None:
        """Queue the end of FCGI_STDIN; as :meth:`send_stdin`."""
        self._end(FCGI_STDIN, request_id)

    def send_data(self, request_id: int, data: Buffer | bytearray) -> None:
        """Queue `data` for FCGI_DATA, which follows the end of a Filter's FCGI_STDIN (6.4); as :meth:`send_stdin`."""
        self._send(FCGI_DATA, request_id, data)

    def end_data(self, request_id: int) -> None:
        """Queue the end of FCGI_DATA; as :meth:`send_data`."""
        self._end(FCGI_DATA, request_id)

    def abort(self, request_id: int) -> None:
        """Queue FCGI_ABORT_REQUEST (5.4), once; RuntimeError for a request that is not under way.

        No more output of the request is told, but its RequestEnded is. :attr:`can_begin` is false from now on.
        """
        request = self._under_way(request_id)
        if not request.aborted:
            request.aborted = self._closing = True
            self.out.append(encode_record(FCGI_ABORT_REQUEST, request_id))

    def get_values(self, names: Iterable[str] = ALL_VALUES) -> None:
        """Queue FCGI_GET_VALUES (4.1), which ValuesReceived answers, or TypeUnknown.

        An application answers those that it knows: PHP-FPM FCGI_MPXS_CONNS alone. Raises ValueError for names that do
        not fit into one record, and RuntimeError on a connection that is closed.
        """
        if self.eof or self.failed is not None:
            raise RuntimeError("nothing can be asked on a connection that is closed")
        asked = tuple(dict.fromkeys(names))
        content = encode_pairs((name, "") for name in asked)
        if len(content) > FCGI_MAX_LENGTH:
            raise ValueError(f"the names are {len(content)} bytes: one record has 65,535")
        self._asked.append(frozenset(asked))
        self.out.append(encode_record(FCGI_GET_VALUES, FCGI_NULL_REQUEST_ID, content))

    def data_to_send(self) -> list[Buffer]:
        """The buffers that are to be sent now, in turn; they are handed out once."""
        out = self.out
        if out:
            self.out = []
        return out

    def _under_way(self, request_id: int) -> _Request:
        request = self._requests.get(request_id)
        if request is None:
            raise RuntimeError(f"request {request_id} is not under way")
        return request

    def _open(self, type_: int, request_id: int) -> _Request:
        request = self._under_way(request_id)
        if request.aborted:
            raise RuntimeError(f"request {request_id} was aborted: it takes no more input")
        if request.streams[:1] != [type_]:
            raise RuntimeError(f"{record_name(type_)} of request {request_id} is not the stream whose turn it is")
        return request

    def _send(self, type_: int, request_id: int, data: Buffer | bytearray) -> None:
        self._open(type_, request_id)
        if isinstance(data, memoryview):
            # Its length must be that of its bytes.
            data = data.cast("B")
        if data:
            self.out += encode_stream(type_, request_id, [data])

    def _end(self, type_: int, request_id: int) -> None:
        self._open(type_, request_id).streams.pop(0)
        self.out.append(encode_record(type_, request_id))

    # Receiving

    def receive_data(self, data: bytes) -> list[WebServerEvent]:
        """What `data`, the next bytes from the application in any slicing, means.

        Raises ProtocolError for a violation, and from then on. What came whole before it is told first: it is then the
        next call that raises, and :attr:`failed` holds the error meanwhile.
        """
        if self.failed is not None:
            raise self.failed
        events: list[WebServerEvent] = []
        if self.eof:
            # It has told so, and not done it yet.
            return events
        try:
            self._receive(data, events)
        except ProtocolError as error:
            self.failed = error
            self._closing = True
            self.out.clear()
            if not events:
                raise
        return events

    def receive_eof(self) -> list[WebServerEvent]:
        """The application closed the connection: a RequestBroken for each request under way.

        Raises ProtocolError if the application violated the protocol before.
        """
        if self.failed is not None:
            raise self.failed
        self.eof = self._closing = True
        self.out.clear()
        in_part = bool(self._part)
        events: list[WebServerEvent] = [
            RequestBroken(request_id, request.received or in_part) for request_id, request in self._requests.items()
        ]
        self._requests.clear()
        self._asked.clear()
        self._part = b""
        self._content_left = self._padding_left = 0
        return events

    def _receive(self, data: bytes, events: list[WebServerEvent]) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._content_left:
                start = position
                position = min(start + self._content_left, end)
                self._content_left -= position - start
                self._content(data, start, position, events)
            elif self._padding_left:
                skipped = min(self._padding_left, end - position)
                self._padding_left -= skipped
                position += skipped
            else:
                position = self._header(data, position, events)

    def _header(self, data: bytes, position: int, events: list[WebServerEvent]) -> int:
        """Take a header, or what has come of it; where its record's content begins."""
        header = self._part + data[position : position + FCGI_HEADER_LEN - len(self._part)]
        position += len(header) - len(self._part)
        if header[0] != FCGI_VERSION_1:
            _check_start(header)
        if len(header) < FCGI_HEADER_LEN:
            self._part = header
            return position
        self._part = b""
        _, type_, request_id, size, padding = HEADER.unpack(header)
        if request_id == FCGI_NULL_REQUEST_ID:
            self._check_management(type_, size)
        elif type_ == FCGI_STDOUT and not size and self._is_cut_mark(request_id):
            # Our own applications tell so that they are about to close: what follows is not looked at.
            events += self.receive_eof()
            return len(data)
        else:
            self._check_application(type_, request_id, size)
        self._record_type, self._record_id = type_, request_id
        self._content_left, self._padding_left = size, padding
        if size == 0:
            self._empty(type_, request_id, events)
        return position

    def _check_management(self, type_: int, size: int) -> None:
        """Records with id 0 (section 4): answers to what was asked."""
        if type_ != FCGI_GET_VALUES_RESULT and type_ != FCGI_UNKNOWN_TYPE:
            raise _misplaced(type_, FCGI_NULL_REQUEST_ID)
        if not self._asked:
            raise ProtocolError(f"{record_name(type_)} came, and nothing was asked")
        if type_ == FCGI_UNKNOWN_TYPE and size != _UNKNOWN_TYPE_LEN:
            raise ProtocolError(f"{record_name(type_)} with {size} bytes instead of {_UNKNOWN_TYPE_LEN}")

    def _check_application(self, type_: int, request_id: int, size: int) -> None:
        """Records of a request (section 5)."""
        if type_ != FCGI_STDOUT and type_ != FCGI_STDERR and type_ != FCGI_END_REQUEST:
            raise _misplaced(type_, request_id)
        if type_ == FCGI_END_REQUEST and size != END_REQUEST_BODY.size:
            raise ProtocolError(
                f"{record_name(type_)} of request {request_id} with {size} bytes instead of {END_REQUEST_BODY.size}"
            )
        request = self._requests.get(request_id)
        if request is None:
            if request_id not in self._aborted:
                raise ProtocolError(f"{record_name(type_)} of request {request_id}, which is not under way")
            return
        request.received = True
        if request.stdout_ended if type_ == FCGI_STDOUT else request.stderr_ended and type_ == FCGI_STDERR:
            raise ProtocolError(f"{record_name(type_)} of request {request_id} behind the end of that stream")

    def _is_cut_mark(self, request_id: int) -> bool:
        """Whether no request has this id, and it tells that the response to one that is under way breaks off."""
        requests = self._requests
        return (
            request_id not in requests
            and request_id not in self._aborted
            and any(cut_mark(under_way) == request_id for under_way in requests)
        )

    def _empty(self, type_: int, request_id: int, events: list[WebServerEvent]) -> None:
        """A record without content: mostly the end of a stream."""
        request = self._requests.get(request_id)
        if type_ == FCGI_GET_VALUES_RESULT:
            self._values(b"", events)
        elif request is None:
            pass
        elif type_ == FCGI_STDOUT:
            request.stdout_ended = True
        else:
            request.stderr_ended = True

    def _content(self, data: bytes, start: int, stop: int, events: list[WebServerEvent]) -> None:
        """What `data` has of a record's content, from `start` to `stop`."""
        type_, request_id = self._record_type, self._record_id
        if type_ == FCGI_STDOUT or type_ == FCGI_STDERR:
            request = self._requests.get(request_id)
            if request is not None and not request.aborted:
                event = StdoutReceived if type_ == FCGI_STDOUT else StderrReceived
                events.append(event(request_id, part_of(data, start, stop)))
            return
        # At most 65,535 bytes.
        self._body += data[start:stop]
        if self._content_left:
            return
        body = bytes(self._body)
        self._body.clear()
        if type_ == FCGI_END_REQUEST:
            self._end_request(request_id, body, events)
        elif type_ == FCGI_GET_VALUES_RESULT:
            self._values(body, events)
        else:
            self._unknown_type(body[0], events)

    def _end_request(self, request_id: int, body: bytes, events: list[WebServerEvent]) -> None:
        app_status, protocol_status = END_REQUEST_BODY.unpack(body)
        if protocol_status > FCGI_UNKNOWN_ROLE:
            raise ProtocolError(
                f"{record_name(FCGI_END_REQUEST)} of request {request_id} with protocol status {protocol_status}"
            )
        request = self._requests.pop(request_id, None)
        if request is None:
            # Go's package ends an aborted request twice.
            return
        if request.aborted:
            self._aborted.add(request_id)
        if request.streams:
            self._closing = True
        events.append(RequestEnded(request_id, app_status, protocol_status))

    def _values(self, body: bytes, events: list[WebServerEvent]) -> None:
        values, _ = decode_pairs(body, FCGI_MAX_LENGTH)
        unasked = values.keys() - self._asked.pop(0)
        if unasked:
            names = sorted(unasked)
            raise ProtocolError(f"{record_name(FCGI_GET_VALUES_RESULT)} has {names!r}, which nobody asked for")
        events.append(ValuesReceived(values))

    def _unknown_type(self, type_: int, events: list[WebServerEvent]) -> None:
        if type_ != FCGI_GET_VALUES:
            raise ProtocolError(f"{record_name(FCGI_UNKNOWN_TYPE)} tells of type {type_}, which was never sent")
        del self._asked[0]
        events.append(TypeUnknown(type_))


def _check_start(header: bytes) -> None:
    """What came is no record of version 1; nothing is said as long as it may become HTTP."""
    # What some HTTP servers say to that is a page without a head.
    if header.startswith((_HTTP, b"<")):
        raise ProtocolError(f"not FastCGI: {header!r} came; this is an HTTP server")
    if not _HTTP.startswith(header):
        told = f", {header!r}" if header[:1].isalpha() else ""
        raise ProtocolError(f"FastCGI version {header[0]}{told} came instead of a record of version {FCGI_VERSION_1}")


def _misplaced(type_: int, request_id: int) -> ProtocolError:
    name = record_name(type_)
    return ProtocolError(f"{name} with id {request_id} came, which no application sends")
