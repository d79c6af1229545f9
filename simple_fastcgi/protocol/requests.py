"""What each record from the web server means for the requests of its connection (sections 3.3, 4 and 5.1 to 5.4)."""

from __future__ import annotations

from ..errors import ProtocolError
from .constants import (
    FCGI_ABORT_REQUEST,
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_KEEP_CONN,
    FCGI_MAX_CONNS,
    FCGI_MAX_LENGTH,
    FCGI_MAX_REQS,
    FCGI_MAXTYPE,
    FCGI_MPXS_CONNS,
    FCGI_NULL_REQUEST_ID,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
)
from .events import InputReceived, RequestAborted
from .pairs import PairsReceiver, decode_pairs, encode_pairs
from .records import BEGIN_REQUEST_BODY, encode_record, encode_unknown_type
from .responses import Responses
from .streams import NOBODY, NOTHING_UNREAD, InputStream, Request, UnreadInput, added, removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..limits import Limits
    from .events import Event
    from .records import Buffer
    from .terms import OpenSpool

# Record types that only an application may send (section 8).
_WRONG_WAY = frozenset({FCGI_END_REQUEST, FCGI_STDOUT, FCGI_STDERR})


class Requests(Responses):
    """What is received on one connection, from where records are told apart: requests begin, get input, are aborted."""

    __slots__ = (
        "_fed",
        "_incomplete",
        "_open_spool",
        "_params_bytes",
        "_shared",
        "_unread",
    )

    # Requests whose parameters are not complete, the oldest first; their bytes; those whose claims are unchecked.
    _incomplete: dict[Request, None]
    _params_bytes: int
    _fed: dict[Request, None]
    # Of the requests under way.
    _unread: UnreadInput
    # Several requests were under way at once; `_open_spool` is set then.
    _shared: bool
    _open_spool: OpenSpool | None

    # Records

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
        """Records with id 0 (section 4), which are not answered once the web server was told that we close."""
        answer = answer_to(type_, content, self.terms.limits, concurrent=self.terms.concurrent)
        if not self.finished:
            self._queue([answer])

    # Beginning

    def _begin_request(self, request_id: int, content: bytes) -> None:
        """FCGI_BEGIN_REQUEST (5.1)."""
        check_begin_size(len(content))
        role, flags = BEGIN_REQUEST_BODY.unpack(content)
        keep_conn = flags & FCGI_KEEP_CONN != 0
        request = self._admit(request_id, role, InputStream(self._count_unread()), keep_conn=keep_conn)
        if request is not None:
            request.receiver = PairsReceiver(self.terms.limits.max_params_bytes, self.terms.limits.max_params)
            self._incomplete = added(self._incomplete, request)

    def _admit(self, request_id: int, role: int, stdin: InputStream, *, keep_conn: bool) -> Request | None:
        """A new request, or None when it is refused or must be passed over."""
        requests = self.requests
        if requests or self.closing or self._leaving or self.owed:
            if request_id in requests:
                raise ProtocolError(f"request {request_id} began a second time before its end")
            if self.finished:
                # The web server was told that this connection closes; nothing can be answered any more.
                return None
            if self.owed:
                self._owe_no_more(request_id)
            most = self.terms.limits.max_requests_per_connection
            if role in self.terms.roles and (len(requests) + len(self._leaving) >= most or self._cut_id):
                status = FCGI_OVERLOADED if most > 1 else FCGI_CANT_MPX_CONN
                self._refuse(request_id, role, status, keep_conn=keep_conn)
                return None
            if requests and not self._shared:
                self._shared, self._open_spool = True, None
        if role not in self.terms.roles:
            self._refuse(request_id, role, FCGI_UNKNOWN_ROLE, keep_conn=keep_conn)
            return None
        if not requests:
            requests = self.requests = {}
        request = requests[request_id] = Request()
        request.start(request_id, role, keep_conn, stdin)
        if role != FCGI_RESPONDER:
            request.set_streams()
        return request

    def _count_unread(self) -> UnreadInput:
        if self._unread is NOTHING_UNREAD:
            self._unread = UnreadInput()
        return self._unread

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
            self._fed = added(self._fed, request)
            return
        request.params, request.repeated, request.layout = receiver.decode(self.terms.decode)
        self._params_bytes -= len(receiver)
        self._incomplete = removed(self._incomplete, request)
        request.receiver = None
        event = self.terms.begun()
        event.request = request
        events.append(event)

    def _check_params_size(self, size: int) -> None:
        if self._params_bytes + size > self.terms.limits.max_params_bytes:
            raise ProtocolError(
                f"more than {self.terms.limits.max_params_bytes} bytes of parameters (max_params_bytes)"
            )

    def _check_claims(self) -> None:
        """Look at what has come of parameters that are not complete, before the rest is waited for."""
        if self._incomplete:
            for request in self._fed:
                if request.receiver is not None:
                    request.receiver.check_claims()
        self._fed = NOBODY

    def _forget_params(self, request: Request, receiver: PairsReceiver) -> None:
        """They will never be complete."""
        self._params_bytes -= len(receiver)
        self._incomplete = removed(self._incomplete, request)
        request.receiver = None

    # Input

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
            events.append(told(InputReceived(), request))

    def _spool_input(self) -> None:
        """Bring the input in memory below its bound, so that a handler which is behind holds up nobody else's."""
        streams = [stream for request in self.requests.values() for stream in request.streams]
        streams = [stream for stream in streams if stream.buffered and stream.in_memory]
        streams.sort(key=_size)
        make_spool = self.terms.make_spool
        while streams and make_spool and self._unread.in_memory >= self.terms.limits.max_buffered_input:
            try:
                if self._open_spool is None:
                    self._open_spool = make_spool()
                streams.pop().spool(self._open_spool())
            except OSError:
                # No file to be had: the connection waits for its handlers instead.
                break

    def is_clogged_for(self, request: Request) -> bool:
        """Whether input of `request` cannot be received before others, whose input is in the way, have begun."""
        limits, unread = self.terms.limits, self._unread
        if unread.in_memory < limits.max_buffered_input and unread.in_files < limits.max_spooled_input:
            return False
        is_served = self.terms.is_served
        others = [other for other in self.requests.values() if other is not request and other.buffered_input]
        return bool(others) and not any(map(is_served, others))

    def _passed_over(self, type_: int, request_id: int, *, ended: bool) -> None:
        """Input of a request that is not, or no longer, under way; whether the stream's end."""
        if ended and self.owed.get(request_id) == type_:
            self._owe_no_more(request_id)

    # Aborts

    def _abort_request(self, request_id: int, events: list[Event]) -> None:
        """FCGI_ABORT_REQUEST (5.4): answered at once, since a handler may take its time to notice."""
        request = self.requests.get(request_id)
        if request is None:
            self._owe_no_more(request_id)
            return
        receiver = request.receiver
        if receiver is not None:
            # No handler knows of it yet.
            receiver.check_claims()
            self._forget_params(request, receiver)
            request.aborted = True
        else:
            self._abort(request, events)
            self._leaving = added(self._leaving, request)
        self.end(request)

    def _abort(self, request: Request, events: list[Event]) -> None:
        if request.aborted:
            return
        request.aborted = True
        for stream in request.streams:
            stream.clear()
        request.stdout.clear()
        if request.stderr is not None:
            request.stderr.clear()
        request.unsent = 0
        events.append(told(RequestAborted(), request))


def check_begin_size(size: int) -> None:
    """Raise ProtocolError if no FCGI_BEGIN_REQUEST has `size` bytes of content."""
    if size != BEGIN_REQUEST_BODY.size:
        raise ProtocolError(f"FCGI_BEGIN_REQUEST with {size} bytes instead of {BEGIN_REQUEST_BODY.size}")


def told(event: Event, request: Request) -> Event:
    """`event`, which is about `request`."""
    event.request = request
    return event


def _size(stream: InputStream) -> int:
    return stream.buffered


def answer_to(type_: int, content: bytes, limits: Limits, *, concurrent: bool) -> bytes:
    """The record that answers the one of `type_` with id 0 and `content`.

    That is FCGI_GET_VALUES_RESULT (4.1), or FCGI_UNKNOWN_TYPE (4.2) to a type that FastCGI 1.0 does not know. `limits`
    and `concurrent` are the connection's. Raises ProtocolError for a type that needs the id of a request, for one that
    only an application sends, and for FCGI_GET_VALUES with content that is no name-value pairs.
    """
    if type_ == FCGI_GET_VALUES:
        asked, _ = decode_pairs(content, FCGI_MAX_LENGTH)
        pairs = [(name, value) for name, value in values(limits, concurrent=concurrent) if name in asked]
        return encode_record(FCGI_GET_VALUES_RESULT, FCGI_NULL_REQUEST_ID, encode_pairs(pairs))
    if FCGI_BEGIN_REQUEST <= type_ <= FCGI_DATA:
        raise ProtocolError(f"a record of type {type_} needs a request id, it came with 0")
    if type_ < FCGI_BEGIN_REQUEST or type_ > FCGI_MAXTYPE:
        return encode_unknown_type(type_)
    raise ProtocolError(f"a record of type {type_}, which only an application sends, came from the web server")


def values(limits: Limits, *, concurrent: bool) -> tuple[tuple[str, str], ...]:
    """All that FCGI_GET_VALUES can ask for (4.1)."""
    # HAProxy takes FCGI_MAX_REQS for a connection's, and so it is meant here.
    requests = limits.max_requests_per_connection
    return (
        (FCGI_MAX_CONNS, str(limits.max_connections)),
        (FCGI_MAX_REQS, str(requests)),
        (FCGI_MPXS_CONNS, "1" if requests > 1 and concurrent else "0"),
    )
