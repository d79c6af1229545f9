"""The application's side of one connection (sections 3 to 6): what every server shell drives.

A shell gives bytes to :meth:`ApplicationConnection.receive_data` and acts upon the events; it tells
what handlers write and where they end; after each call it sends :meth:`data_to_send`, and when
:attr:`~ApplicationConnection.finished` is true it closes. The answers that the protocol itself owes
(FCGI_GET_VALUES_RESULT, FCGI_UNKNOWN_TYPE, refusals) are queued in here.
"""

from __future__ import annotations

from struct import error as StructError  # noqa: N812

from ..errors import ProtocolError
from ..limits import Limits
from .constants import (
    FCGI_ABORT_REQUEST,
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_HEADER_LEN,
    FCGI_KEEP_CONN,
    FCGI_MAX_CONNS,
    FCGI_MAX_LENGTH,
    FCGI_MAX_REQS,
    FCGI_MAXTYPE,
    FCGI_MPXS_CONNS,
    FCGI_NULL_REQUEST_ID,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    FCGI_VERSION_1,
    ROLE_STREAMS,
)
from .events import InputReceived, RequestAborted, RequestBegun
from .pairs import PairsReceiver, decode_pairs, encode_pairs
from .records import (
    BEGIN_REQUEST_BODY,
    COPY_LIMIT,
    HEADER,
    LARGE,
    OPENING_LEN,
    SIZES,
    encode_chunk,
    encode_end_request,
    encode_header,
    encode_record,
    encode_stderr,
    encode_stdout_end_and_end_request,
    encode_stream,
    encode_unknown_type,
    encode_whole_response,
    known_opening,
    learn_opening,
    part_of,
    parts_of,
    unpack_sizes,
)
from .runs import decode_alone
from .streams import NO_INPUT, NO_OUTPUT, InputStream, Request, UnreadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .events import Event
    from .records import Buffer
    from .runs import Decode
    from .spool import SpoolFile

    MakeEvent = Callable[[], RequestBegun]
    OpenSpool = Callable[[], SpoolFile]
    MakeSpool = Callable[[], OpenSpool]

# Record types that only an application may send (section 8), or that a web server sends whole.
_WRONG_WAY = frozenset({FCGI_END_REQUEST, FCGI_STDOUT, FCGI_STDERR})
_STREAMS = frozenset({FCGI_PARAMS, FCGI_STDIN, FCGI_DATA})
_WHOLE = frozenset({FCGI_BEGIN_REQUEST, FCGI_GET_VALUES})
_NO_BOUND = 1 << 63
# Bound once, as are the functions that are taken from attributes below before they are called: Python is faster so.
_SIZES_LEN = SIZES.size
# Never written to: most connections are idle, and a dict of their own, above all one that has held something, is a
# large part of one; as is a list.
_NO_BUFFERS: list[Buffer] = []
_NO_REQUESTS: dict[int, Request] = {}
_NOBODY: dict[Request, None] = {}
_NOTHING_UNREAD = UnreadInput()
# Under the id that web servers use as long as a connection has one request at a time.
_PARTING = encode_record(FCGI_STDERR, 1)


class ApplicationConnection:
    """One connection from a web server. Not thread-safe: a shell with threads calls it under a lock.

    `limits`: all bounds. `roles`: those that are served. `concurrent`: whether requests of one connection are served
    at the same time, as FCGI_MPXS_CONNS tells. `make_spool` is called once there is input that memory has
    no room for, while several requests share the connection: what it gives opens a file, or raises OSError. `decode`
    reads parameters: that of a ``PairDecoder``, which the connections of a server share, does it faster. `refusal` goes
    out on FCGI_STDOUT before a request is refused for want of room: no common web server heeds the protocol status, and
    HAProxy waits for a response until its own timeout. `begun` makes the event of a request that has begun: a shell's
    own kind may be what it serves the request with.
    """

    _record_type: int
    _record_id: int
    _linger_type: int
    _open_spool: OpenSpool | None
    _untold: tuple[Event, ...]

    __slots__ = (
        "_begun",
        "_closing",
        "_concurrent",
        "_content_left",
        "_cut_id",
        "_decode",
        "_failed",
        "_fed",
        "_gone",
        "_incomplete",
        "_leaving",
        "_linger_id",
        "_linger_type",
        "_make_spool",
        "_open_spool",
        "_out_size",
        "_padding_left",
        "_params_bytes",
        "_part",
        "_record_id",
        "_record_type",
        "_refusal",
        "_roles",
        "_shared",
        "_unread",
        "_untold",
        "at_rest",
        "limits",
        "out",
        "refused",
        "requests",
    )

    at_rest: bool
    """What comes next begins a record, and nothing is told by what came before; False whenever that is not sure.

    While no request is under way, either, and nothing is to be sent, it is :meth:`is_calm`, too.
    """
    requests: dict[int, Request]
    """The requests under way, by id."""
    out: list[Buffer]
    """What :meth:`data_to_send` will hand out; empty if nothing is to be sent."""
    refused: int
    """Requests that were answered with another protocol status than FCGI_REQUEST_COMPLETE (5.5), never accepted."""

    def __init__(
        self,
        limits: Limits | None = None,
        roles: Collection[int] = (FCGI_RESPONDER,),
        concurrent: bool = True,
        make_spool: MakeSpool | None = None,
        decode: Decode | None = None,
        refusal: bytes = b"",
        begun: MakeEvent = RequestBegun,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self.requests = _NO_REQUESTS
        self._roles = roles
        self._concurrent = concurrent
        self._make_spool = make_spool
        self._decode = decode or decode_alone
        self._refusal = refusal
        self._begun = begun
        # Receiving: a header (or a record that is needed whole) in part, and what is left of the current record.
        self._part: bytes | bytearray = b""
        # While any is, `_record_type` and `_record_id` are set.
        self._content_left = self._padding_left = 0
        # Requests whose parameters are not complete, the oldest first; their bytes; those whose claims are unchecked.
        self._incomplete = _NOBODY
        self._params_bytes = 0
        self._fed = _NOBODY
        # Requests that were aborted and answered, and whose handlers have not ended yet.
        self._leaving = _NOBODY
        # Several requests were under way at once; `_open_spool` is set then.
        self._shared = False
        # Of the requests under way.
        self._unread = _NOTHING_UNREAD
        # When it is set, `_untold` is, too.
        self._failed: ProtocolError | None = None
        # So it mostly is, and cheaply told.
        self.at_rest = True
        # Sending and closing.
        self.out = _NO_BUFFERS
        self.refused = 0
        self._out_size = 0
        self._closing = self._gone = False
        # While the former is not 0, `_linger_type` is set.
        self._linger_id = self._cut_id = 0

    # Receiving

    def receive_data(self, data: bytes) -> list[Event]:
        """What `data`, the next bytes from the web server in any slicing, means.

        Raises ProtocolError for a violation, and from then on: the connection must be closed, and
        :meth:`receive_eof` tells which requests that aborts.
        """
        events: list[Event] = []
        try:
            position = 0
            if self.at_rest and not self.requests:
                position = self._whole_request(data, 0, events)
                if position == len(data):
                    return events
            self._receive_any(data, position, events)
        except ProtocolError as error:
            self._failed = error
            self.at_rest = False
            self._untold = ()
            self._take_back(events)
            raise
        return events

    def _receive_any(self, data: bytes, position: int, events: list[Event]) -> None:
        """What `data` has from `position` on, whatever came before."""
        self.at_rest = False
        if self._failed is not None:
            raise self._failed
        if self._gone:
            return
        self._receive(data, position, events)
        if self._fed:
            self._check_claims()
        # Once for all that came, since it looks at every request.
        if self._shared and self._unread.in_memory >= self.limits.max_buffered_input:
            self._spool_input()
        self.at_rest = not (
            self._part or self._content_left or self._padding_left or self._shared or self._closing or self._leaving
        )

    def _take_back(self, events: list[Event]) -> None:
        """The shell never hears of `events`."""
        begun = set()
        for event in events:
            if isinstance(event, RequestBegun):
                begun.add(event.request)
                # One that was aborted is forgotten already, and its id may be another's by now.
                if not event.request.ended:
                    self._forget(event.request)
                self._leaving = _removed(self._leaving, event.request)
            elif isinstance(event, RequestAborted) and event.request not in begun:
                # receive_eof tells it.
                self._untold += (event,)

    def receive_eof(self, *, half_closed: bool = False) -> list[Event]:
        """The web server closed the connection: every request is aborted.

        With `half_closed` it only ended its own sending and still reads: requests whose input is complete go on.
        """
        events: list[Event] = []
        if self._failed is not None:
            events += self._untold
            self._untold = ()
        if self.requests:
            for request in list(self.requests.values()):
                if request.receiver is not None:
                    self._forget(request)
                elif not half_closed or not request.input_ended:
                    self._abort(request, events)
        self._linger_id = 0
        self._closing = True
        self.at_rest = False
        if half_closed:
            self._queue_cut()
        else:
            self._gone = True
            self._cut_id = 0
            self.data_to_send()
        return events

    @property
    def buffered_input(self) -> int:
        """Bytes of input that arrived and no handler has taken."""
        return self._unread.in_memory + self._unread.in_files

    @property
    def wants_input(self) -> bool:
        """False while no more should be received: handlers are behind with input, or the peer with our answers."""
        limits, unread = self.limits, self._unread
        return (
            self._out_size <= limits.max_buffered_output
            and unread.in_memory < limits.max_buffered_input
            and unread.in_files < limits.max_spooled_input
        )

    def is_calm(self) -> bool:
        """Cheaply told: more input is wanted, nothing waits to be sent, and nothing is about to be closed."""
        unread = self._unread
        return not (
            self._out_size
            or self._closing
            or (
                unread is not _NOTHING_UNREAD
                and (unread.in_files or unread.in_memory >= self.limits.max_buffered_input)
            )
        )

    @property
    def awaited(self) -> object:
        """What the web server has begun and is to complete in time; None if there is nothing.

        That is the oldest request whose parameters are not complete, or, while no request is under way, the
        connection with a record that has come in part.
        """
        if self._incomplete:
            return next(iter(self._incomplete))
        return self if not self.requests and (self._part or self._content_left) else None

    def _receive(self, data: bytes, position: int, events: list[Event]) -> None:
        end = len(data)
        if self._part or self._content_left or self._padding_left:
            position = self._resume(data, events)
        while end - position >= FCGI_HEADER_LEN:
            if data[position + 1] == FCGI_BEGIN_REQUEST and (stop := self._whole_request(data, position, events)):
                if stop == end:
                    return
                position = stop
                continue
            version, type_, request_id, size, padding = HEADER.unpack_from(data, position)
            if version != FCGI_VERSION_1:
                raise ProtocolError(_wrong_version(data, position))
            position += FCGI_HEADER_LEN
            stop = position + size
            if stop > end:
                self._begin_partial(type_, request_id, size, padding)
                self._partial_content(data, position, end, events)
                return
            if size >= LARGE and request_id and (type_ == FCGI_STDIN or type_ == FCGI_DATA):
                parts = parts_of(data, position, size, padding)
                self._input(type_, request_id, parts, events)
                stop += (len(parts) - 1) * (FCGI_HEADER_LEN + size + padding)
            else:
                self._record(type_, request_id, data[position:stop], events)
            position = stop + padding
            if position > end:
                self._padding_left = position - end
                return
        if position < end:
            self._part = data[position:]
            # Looked at now rather than when eight bytes are there: other protocols may never send that many.
            if self._part[0] != FCGI_VERSION_1:
                raise ProtocolError(_wrong_version(data, position))

    def _whole_request(self, data: bytes, position: int, events: list[Event]) -> int:
        """A request of which all records but those of a body are there at `position`; where the next record begins.

        So nearly all requests come, and understanding them at once takes a third of the time. 0 if it is another one.
        """
        opening = known_opening(data[position : position + OPENING_LEN]) or learn_opening(data, position)
        if opening is None:
            return 0
        request_id, role, keep_conn, ends = opening
        position += OPENING_LEN
        try:
            size, padding = unpack_sizes(data, position)
        except StructError:
            return 0
        params = position + _SIZES_LEN
        end: int = params + size + padding
        # Of FCGI_PARAMS, and mostly of FCGI_STDIN, too.
        if data.startswith(ends, end):
            stdin = NO_INPUT
            stop = end + len(ends)
        elif data.startswith(ends[:FCGI_HEADER_LEN], end):
            stdin = InputStream(self._count_unread())
            stop = end + FCGI_HEADER_LEN
        else:
            return 0
        if not size:
            return 0
        if not self.at_rest or role not in self._roles:
            admitted = self._admit(request_id, role, stdin, keep_conn=keep_conn)
            if admitted is None:
                # The rest is passed over record by record.
                return position - OPENING_LEN + FCGI_HEADER_LEN + BEGIN_REQUEST_BODY.size
            request = admitted
        else:
            # The only one, as nearly always: nothing is to be decided.
            request = Request()
            request.start(request_id, role, keep_conn, stdin)
            self.requests = {request_id: request}
        try:
            limits = self.limits
            if self._params_bytes or size > limits.max_params_bytes:
                self._check_params_size(size)
            decode = self._decode
            request.params, request.repeated, request.layout = decode(data[params : params + size], limits.max_params)
        except ProtocolError:
            self._forget(request)
            raise
        event = self._begun()
        event.request = request
        events.append(event)
        if stdin is not NO_INPUT and stdin is request.stdin:
            stop = _take_body(data, stop, stdin, ends[FCGI_HEADER_LEN:])
        return stop

    def _resume(self, data: bytes, events: list[Event]) -> int:
        """Go on in the middle of a record; where in `data` the next one begins."""
        position = 0
        if not self._content_left and not self._padding_left:
            # A header in part.
            position = FCGI_HEADER_LEN - len(self._part)
            header = self._part + data[:position]
            if len(header) < FCGI_HEADER_LEN:
                self._part = header
                return len(data)
            self._part = b""
            _, type_, request_id, size, padding = HEADER.unpack(header)
            if size == 0:
                self._record(type_, request_id, b"", events)
                self._padding_left = padding
            else:
                self._begin_partial(type_, request_id, size, padding)
        if self._content_left:
            start, position = position, min(position + self._content_left, len(data))
            self._partial_content(data, start, position, events)
        if not self._content_left and self._padding_left:
            skipped = min(self._padding_left, len(data) - position)
            self._padding_left -= skipped
            position += skipped
        return position

    def _begin_partial(self, type_: int, request_id: int, size: int, padding: int) -> None:
        """A record of which not all has come: its claims are checked before the rest is waited for."""
        self._record_type, self._record_id = type_, request_id
        self._content_left, self._padding_left = size, padding
        if type_ == FCGI_PARAMS:
            request = self.requests.get(request_id)
            if request is not None and request.receiver is not None:
                self._check_params_size(size)
        elif type_ == FCGI_BEGIN_REQUEST:
            _check_begin_size(size)

    def _partial_content(self, data: bytes, start: int, stop: int, events: list[Event]) -> None:
        """What `data` has of a record's content, if anything, from `start` to `stop`."""
        if start == stop:
            return
        self._content_left -= stop - start
        type_, request_id = self._record_type, self._record_id
        if request_id and (type_ == FCGI_STDIN or type_ == FCGI_DATA):
            self._input(type_, request_id, (part_of(data, start, stop),), events)
            return
        content = data[start:stop]
        if type_ in _STREAMS:
            self._record(type_, request_id, content, events)
            return
        if type_ in _WHOLE:
            # At most 65,535 bytes, and one at a time.
            if not self._part:
                self._part = bytearray()
            self._part += content
        if not self._content_left:
            content, self._part = bytes(self._part), b""
            self._record(type_, request_id, content, events)

    def _record(self, type_: int, request_id: int, content: bytes, events: list[Event]) -> None:
        """A whole record, or a piece of a stream's; `content` is b"" only at a stream's end."""
        if request_id == FCGI_NULL_REQUEST_ID:
            self._management_record(type_, content)
        elif type_ == FCGI_PARAMS:
            self._params(request_id, content, events)
        elif type_ == FCGI_STDIN or type_ == FCGI_DATA:
            self._input(type_, request_id, (content,) if content else (), events)
        elif type_ == FCGI_BEGIN_REQUEST:
            self._begin_request(request_id, content)
        elif type_ == FCGI_ABORT_REQUEST:
            self._abort_request(request_id, events)
        elif type_ in _WRONG_WAY:
            raise ProtocolError(f"a record of type {type_}, which only an application sends, came from the web server")
        # Anything else under a request's id has no meaning in FastCGI 1.0 and is passed over.

    def _management_record(self, type_: int, content: bytes) -> None:
        """Records with id 0 (section 4)."""
        if type_ == FCGI_GET_VALUES:
            asked, _ = decode_pairs(content, FCGI_MAX_LENGTH)
            pairs = [(name, value) for name, value in self._values() if name in asked]
            self._answer(encode_record(FCGI_GET_VALUES_RESULT, FCGI_NULL_REQUEST_ID, encode_pairs(pairs)))
        elif FCGI_BEGIN_REQUEST <= type_ <= FCGI_DATA:
            raise ProtocolError(f"a record of type {type_} needs a request id, it came with 0")
        elif type_ < FCGI_BEGIN_REQUEST or type_ > FCGI_MAXTYPE:
            self._answer(encode_unknown_type(type_))
        else:
            raise ProtocolError(f"a record of type {type_}, which only an application sends, came from the web server")

    def _answer(self, record: bytes) -> None:
        """Answer a management record, unless the web server was told that this connection closes."""
        if not self.finished:
            self._queue([record])

    def _values(self) -> tuple[tuple[str, str], ...]:
        """The answers to FCGI_GET_VALUES (4.1)."""
        # HAProxy takes FCGI_MAX_REQS for a connection's, and so it is meant here.
        requests = self.limits.max_requests_per_connection
        return (
            (FCGI_MAX_CONNS, str(self.limits.max_connections)),
            (FCGI_MAX_REQS, str(requests)),
            (FCGI_MPXS_CONNS, "1" if requests > 1 and self._concurrent else "0"),
        )

    def _begin_request(self, request_id: int, content: bytes) -> None:
        """FCGI_BEGIN_REQUEST (5.1)."""
        _check_begin_size(len(content))
        role, flags = BEGIN_REQUEST_BODY.unpack(content)
        keep_conn = flags & FCGI_KEEP_CONN != 0
        request = self._admit(request_id, role, InputStream(self._count_unread()), keep_conn=keep_conn)
        if request is not None:
            request.receiver = PairsReceiver(self.limits.max_params_bytes, self.limits.max_params)
            self._incomplete = _added(self._incomplete, request)

    def _admit(self, request_id: int, role: int, stdin: InputStream, *, keep_conn: bool) -> Request | None:
        """A new request, or None when it is refused or must be passed over."""
        requests = self.requests
        if requests or self._closing or self._leaving:
            if request_id in requests:
                raise ProtocolError(f"request {request_id} began a second time before its end")
            if self.finished:
                # The web server was told that this connection closes; nothing can be answered any more.
                return None
            if request_id == self._linger_id:
                self._linger_id = 0
            most = self.limits.max_requests_per_connection
            if role in self._roles and (len(requests) + len(self._leaving) >= most or self._cut_id):
                status = FCGI_OVERLOADED if most > 1 else FCGI_CANT_MPX_CONN
                self._refuse(request_id, role, status, keep_conn=keep_conn)
                return None
            if requests and not self._shared:
                self._shared, self._open_spool = True, None
        if role not in self._roles:
            self._refuse(request_id, role, FCGI_UNKNOWN_ROLE, keep_conn=keep_conn)
            return None
        if not requests:
            requests = self.requests = {}
        request = requests[request_id] = Request()
        request.start(request_id, role, keep_conn, stdin)
        return request

    def _count_unread(self) -> UnreadInput:
        if self._unread is _NOTHING_UNREAD:
            self._unread = UnreadInput()
        return self._unread

    def _refuse(self, request_id: int, role: int, protocol_status: int, *, keep_conn: bool) -> None:
        """Answer a request that was never accepted (5.5); the rest of it is passed over."""
        self.refused += 1
        answer = encode_end_request(request_id, 0, protocol_status)
        # A peer that begins thousands at once is no web server, and shall not make us grow.
        if protocol_status != FCGI_UNKNOWN_ROLE and self._refusal and self._out_size <= self.limits.max_buffered_output:
            end_of_stream = encode_record(FCGI_STDOUT, request_id)
            answer = encode_record(FCGI_STDOUT, request_id, self._refusal) + end_of_stream + answer
        self._queue([answer])
        if not keep_conn:
            self._closing = True
            self._linger(request_id, ROLE_STREAMS.get(role, ROLE_STREAMS[FCGI_RESPONDER])[-1])

    def _params(self, request_id: int, content: bytes, events: list[Event]) -> None:
        """FCGI_PARAMS (5.2)."""
        request = self.requests.get(request_id)
        if request is None:
            self._passed_over(FCGI_PARAMS, request_id, ended=not content)
            return
        receiver = request.receiver
        if receiver is None:
            raise ProtocolError(f"FCGI_PARAMS of request {request_id} after their end")
        if content:
            self._check_params_size(len(content))
            self._params_bytes += len(content)
            receiver.feed(content)
            self._fed = _added(self._fed, request)
            return
        request.params, request.repeated, request.layout = receiver.decode(self._decode)
        self._params_bytes -= len(receiver)
        self._incomplete = _removed(self._incomplete, request)
        request.receiver = None
        events.append(_told(self._begun(), request))

    def _check_params_size(self, size: int) -> None:
        if self._params_bytes + size > self.limits.max_params_bytes:
            raise ProtocolError(f"more than {self.limits.max_params_bytes} bytes of parameters (max_params_bytes)")

    def _check_claims(self) -> None:
        """Look at what has come of parameters that are not complete, before the rest is waited for."""
        if self._incomplete:
            for request in self._fed:
                if request.receiver is not None:
                    request.receiver.check_claims()
        self._fed = _NOBODY

    def _input(self, type_: int, request_id: int, parts: Sequence[Buffer], events: list[Event]) -> None:
        """FCGI_STDIN and FCGI_DATA (5.3): the stream's next parts, or its end if there are none."""
        request = self.requests.get(request_id)
        if request is None:
            self._passed_over(type_, request_id, ended=not parts)
            return
        if request.receiver is not None:
            raise ProtocolError(f"input of request {request_id} before the end of its parameters")
        stream: InputStream | None = request.stdin if type_ == FCGI_STDIN else request.data
        if stream is None or stream.ended:
            # Not a stream of this role, or past its end: nothing that a handler could be given.
            return
        if not parts:
            stream.ended = True
        elif not request.aborted:
            if len(parts) == 1:
                stream.feed(parts[0])
            else:
                stream.feed_several(parts)
        if not events or events[-1].request is not request:
            events.append(_told(InputReceived(), request))

    def _spool_input(self) -> None:
        """Bring the input in memory below its bound, so that a handler which is behind holds up nobody else's."""
        streams = [stream for request in self.requests.values() for stream in request.streams]
        streams = [stream for stream in streams if stream.buffered and stream.in_memory]
        streams.sort(key=_size)
        if self._open_spool is None and self._make_spool is not None:
            self._open_spool = self._make_spool()
        while streams and self._unread.in_memory >= self.limits.max_buffered_input and self._open_spool is not None:
            try:
                streams.pop().spool(self._open_spool())
            except OSError:
                # No file to be had: the connection waits for its handlers instead.
                break

    def _abort_request(self, request_id: int, events: list[Event]) -> None:
        """FCGI_ABORT_REQUEST (5.4): answered at once, since a handler may take its time to notice."""
        request = self.requests.get(request_id)
        if request is None:
            if request_id == self._linger_id:
                self._linger_id = 0
            return
        if request.receiver is not None:
            # No handler knows of it yet.
            request.receiver.check_claims()
            request.aborted = True
        else:
            self._abort(request, events)
            self._leaving = _added(self._leaving, request)
        self.end(request)

    def _abort(self, request: Request, events: list[Event]) -> None:
        if request.aborted:
            return
        request.aborted = True
        for stream in request.streams:
            stream.clear()
        request.stdout.clear()
        request.stderr = None
        request.unsent = 0
        events.append(_told(RequestAborted(), request))

    # Sending

    def write(self, request: Request, data: bytes) -> bool:
        """Take `data` for FCGI_STDOUT; True when so much has gathered that it should be flushed and sent."""
        if request.ended or request.aborted or not data:
            return False
        if request.stdout is NO_OUTPUT:
            request.stdout = [data]
        else:
            request.stdout.append(data)
        request.unsent += len(data)
        return request.unsent >= self.limits.max_buffered_output

    def write_err(self, request: Request, data: bytes) -> bool:
        """Take `data` for FCGI_STDERR; as :meth:`write`."""
        if request.ended or request.aborted or not data:
            return False
        if request.stderr is None:
            request.stderr = []
        request.stderr.append(data)
        request.unsent += len(data)
        return request.unsent >= self.limits.max_buffered_output

    def write_through(self, request: Request, data: bytes) -> list[Buffer]:
        """As :meth:`write`, :meth:`flush` and :meth:`data_to_send`: the shell sends these buffers at once."""
        if request.unsent or self.out or request.ended or request.aborted or not data:
            self.write(request, data)
            self.flush(request)
            return self.data_to_send()
        request.stdout_begun = True
        return encode_chunk(FCGI_STDOUT, request.id, data)

    def flush(self, request: Request) -> None:
        """Queue the records of all that was written.

        FCGI_STDERR leaves behind FCGI_STDOUT: some web servers take errors before the head for a broken response. It
        leaves before the last byte of it: lighttpd reads nothing behind a body that is as long as its head has said.
        """
        if not request.unsent or request.ended:
            return
        last: Buffer = b""
        if request.stdout:
            request.stdout_begun = True
            if request.stderr:
                last = _take_last_byte(request.stdout)
            self._queue(encode_stream(FCGI_STDOUT, request.id, request.stdout))
            request.stdout.clear()
        if request.stderr:
            request.stderr_begun = True
            self._queue(encode_stderr(request.id, b"".join(request.stderr)))
            request.stderr.clear()
            if last:
                self._queue(encode_stream(FCGI_STDOUT, request.id, [last]))
        request.unsent = 0

    def announce(self, request: Request, size: int) -> list[Buffer]:
        """What leads to `size` bytes of FCGI_STDOUT that the core never sees: all that was due, and a record's header.

        The shell sends these buffers, `size` bytes from elsewhere (at most 65,535, at least one), and only then what
        :meth:`data_to_send` has. The request has neither ended nor been aborted.
        """
        self.flush(request)
        request.stdout_begun = True
        return [*self.data_to_send(), encode_header(FCGI_STDOUT, request.id, size)]

    def discard_output(self, request: Request) -> bool:
        """Forget FCGI_STDOUT not flushed yet; whether none was flushed before, so that another response may follow."""
        request.unsent -= sum(map(len, request.stdout))
        request.stdout.clear()
        return not request.stdout_begun and not request.ended

    def end(self, request: Request, app_status: int = 0, data: bytes = b"") -> None:
        """Queue what is left of the response, `data`, and its end (5.5), and forget the request.

        It is forgotten before FCGI_END_REQUEST can be seen: web servers use the id again at once. Of `app_status`
        the lowest 32 bits count.
        """
        if request.ended:
            self._leaving = _removed(self._leaving, request)
            return
        whole = self.end_at_once(request, app_status, data)
        if whole is not None:
            self._queue([whole])
            return
        app_status &= 0xFFFFFFFF
        self.write(request, data)
        self.flush(request)
        tail: list[Buffer]
        if request.stdout_begun or (not request.aborted and request.receiver is None):
            tail = [encode_stdout_end_and_end_request(request.id, app_status)]
        else:
            tail = [encode_end_request(request.id, app_status, FCGI_REQUEST_COMPLETE)]
        if request.stderr_begun:
            tail.insert(0, encode_record(FCGI_STDERR, request.id))
        self._finish(request, keep_conn=request.keep_conn)
        self._queue(tail)
        self._queue_cut()

    def end_at_once(self, request: Request, app_status: int, data: bytes, head: bytes = b"") -> bytes | None:
        """As :meth:`end`, of a request that has not ended; the one buffer to be sent for it, behind what is queued.

        So nearly all responses end: one buffer, one system call. None if it takes more; nothing has been done then.
        `head` comes before `data`.
        """
        size = request.unsent + len(head) + len(data)
        if size > COPY_LIMIT or request.stderr is not None or request.aborted or self._cut_id:
            return None
        if request.stdout:
            head = b"".join((*request.stdout, head))
            request.stdout.clear()
            request.unsent = 0
        whole = encode_whole_response(request.id, head, data, size, app_status & 0xFFFFFFFF)
        stdin = request.stdin
        if (stdin is NO_INPUT or (stdin.ended and not stdin.buffered and request.data is None)) and (
            len(self.requests) == 1
        ):
            # Nothing of it is left, nor any other one.
            request.ended = True
            self.requests = _NO_REQUESTS
            if not request.keep_conn:
                self._closing = True
                self.at_rest = False
        else:
            self._finish(request, keep_conn=request.keep_conn)
        return whole

    def cut(self, request: Request) -> None:
        """End a response that broke off behind its head, so that the web server can tell it from a whole one.

        FCGI_END_REQUEST with any status counts as a good end, and a bare close does with some. A record with an id
        that nobody uses, then closing, makes nginx, Apache, lighttpd and HAProxy cut their client's connection. Other
        requests on this connection end first.
        """
        if request.ended or request.aborted:
            self.end(request, 1)
            return
        self.flush(request)
        self._finish(request, keep_conn=False)
        self._cut_id = request.id ^ 0xFFFF or 1
        self._queue_cut()

    def fail(self, request: Request, replacement: bytes, error: bytes) -> None:
        """End a request whose handler failed: with `replacement` if nothing of its response has left, else cut.

        `error` goes to FCGI_STDERR.
        """
        if request.aborted:
            self.end(request, 1)
        elif self.discard_output(request):
            self.write(request, replacement)
            self.write_err(request, error)
            self.end(request)
        else:
            self.write_err(request, error)
            self.cut(request)

    def _finish(self, request: Request, *, keep_conn: bool) -> None:
        request.ended = True
        if not keep_conn:
            self._closing = True
            self.at_rest = False
            # Whoever aborts sends no more.
            if not request.input_ended and not request.aborted:
                is_data_next = request.data is not None and not request.data.ended
                self._linger(request.id, FCGI_DATA if is_data_next else FCGI_STDIN)
        self._forget(request)

    def _linger(self, request_id: int, type_: int) -> None:
        """Nobody wants the rest of this request's input; the end of the stream `type_` is its end. We are closing."""
        self._linger_id, self._linger_type = request_id, type_

    def _passed_over(self, type_: int, request_id: int, *, ended: bool) -> None:
        """Input of a request that is not, or no longer, under way; whether the stream's end."""
        if ended and request_id == self._linger_id and type_ == self._linger_type:
            self._linger_id = 0

    def _queue_cut(self) -> None:
        if self._cut_id and not self.requests:
            self._queue([encode_record(FCGI_STDOUT, self._cut_id)])
            self._cut_id = 0

    def _forget(self, request: Request) -> None:
        if request.receiver is not None:
            self._incomplete = _removed(self._incomplete, request)
            self._params_bytes -= len(request.receiver)
            request.receiver = None
        self._drop(request)

    def _drop(self, request: Request) -> None:
        self.requests.pop(request.id, None)
        if not self.requests:
            self.requests = _NO_REQUESTS
        if request.stdin.buffered or request.data is not None:
            for stream in request.streams:
                stream.count_alone()

    def _queue(self, buffers: list[Buffer] | list[bytes]) -> None:
        if not self._gone:
            if self.out:
                self.out.extend(buffers)
            else:
                self.out = [*buffers]
            self._out_size += sum(map(len, buffers))

    def data_to_send(self, size: int = _NO_BOUND) -> list[Buffer]:
        """The buffers that are to be sent now, in turn; they are handed out once.

        Of more than `size` bytes the first buffers that hold as many; the next ones follow when it is asked again.
        """
        out = self.out
        if out:
            if self._out_size > size:
                return self._first_to_send(size)
            self.out = _NO_BUFFERS
            self._out_size = 0
        return out

    def _first_to_send(self, size: int) -> list[Buffer]:
        count = taken = 0
        while taken < size:
            taken += len(self.out[count])
            count += 1
        first, self.out = self.out[:count], self.out[count:]
        self._out_size -= taken
        return first

    # Closing

    def part(self) -> None:
        """Queue an empty FCGI_STDERR record, while no request is under way: see ``simple_fastcgi.cgi.parting``."""
        if not self._closing:
            self._queue([_PARTING])

    @property
    def idle(self) -> bool:
        """No request is under way and none has begun to arrive."""
        return not self.requests and not self._part and not self._content_left

    @property
    def finished(self) -> bool:
        """Nothing will follow :meth:`data_to_send`: send it, then close."""
        return self._closing and not self.requests

    def is_over(self) -> bool:
        """Whether it is :attr:`finished`, and not :attr:`lingering`; told faster."""
        return self._closing and not self.requests and not self._linger_id

    @property
    def lingering(self) -> bool:
        """When finished: the web server is still sending input, which must be read before the close.

        Closing with unread data makes the kernel send a reset, which may overtake the response.
        """
        return self._linger_id != 0


def _take_body(data: bytes, position: int, stdin: InputStream, end_of_stdin: bytes) -> int:
    """Feed `stdin`, of which nobody knows yet, its records that are whole at `position`.

    Where the next record begins. A body mostly comes together with its request, and in few records.
    """
    lead, end = end_of_stdin[:4], len(data)
    while not data.startswith(end_of_stdin, position):
        start = position + FCGI_HEADER_LEN
        if start > end or not data.startswith(lead, position):
            return position
        size, padding = unpack_sizes(data, position + 4)
        stop = start + size
        if not size or stop + padding > end:
            return position
        stdin.feed(data[start:stop])
        position = stop + padding
    stdin.ended = True
    return position + FCGI_HEADER_LEN


def _told(event: Event, request: Request) -> Event:
    event.request = request
    return event


def _added(requests: dict[Request, None], request: Request) -> dict[Request, None]:
    if requests is _NOBODY:
        requests = {}
    requests[request] = None
    return requests


def _removed(requests: dict[Request, None], request: Request) -> dict[Request, None]:
    requests.pop(request, None)
    return requests or _NOBODY


def _check_begin_size(size: int) -> None:
    if size != BEGIN_REQUEST_BODY.size:
        raise ProtocolError(f"FCGI_BEGIN_REQUEST with {size} bytes instead of {BEGIN_REQUEST_BODY.size}")


def _take_last_byte(buffers: list[bytes]) -> bytes:
    last = buffers.pop()
    if len(last) > 1:
        buffers.append(last[:-1])
    return last[-1:]


def _wrong_version(data: bytes, position: int) -> str:
    start = data[position : position + FCGI_HEADER_LEN]
    if start[:1].isalpha():
        return f"not FastCGI: {start!r} came; does the web server speak HTTP (proxy_pass instead of fastcgi_pass)?"
    return f"FastCGI version {start[0]}, this is version {FCGI_VERSION_1}"


def _size(stream: InputStream) -> int:
    return stream.buffered
