"""The application's side of one connection (sections 3 to 6): what every server shell drives.

A shell gives bytes to :meth:`ApplicationConnection.receive_data` and acts upon the events; it tells
what handlers write and where they end; after each call it sends :meth:`~ApplicationConnection.data_to_send`, and when
:attr:`~ApplicationConnection.finished` is true it closes. The answers that the protocol itself owes
(FCGI_GET_VALUES_RESULT, FCGI_UNKNOWN_TYPE, refusals) are queued in here.
"""

from __future__ import annotations

from ..errors import ProtocolError
from .constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_DATA,
    FCGI_GET_VALUES,
    FCGI_HEADER_LEN,
    FCGI_PARAMS,
    FCGI_STDIN,
    FCGI_VERSION_1,
)
from .events import RequestAborted, RequestBegun
from .records import HEADER, LARGE, parts_of
from .requests import check_begin_size, told
from .responses import NO_BUFFERS, NOTHING_OWED
from .scatter import Scatter
from .streams import NO_REQUESTS, NOBODY, NOTHING_UNREAD, removed
from .terms import LEFTOVER, OTHERS
from .whole import WholeRequests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import Event
    from .records import Buffer
    from .streams import Request
    from .terms import Terms

# Streams are taken in pieces; of what else means something a record is needed whole.
_STREAMS = frozenset({FCGI_PARAMS, FCGI_STDIN, FCGI_DATA})
_WHOLE = frozenset({FCGI_BEGIN_REQUEST, FCGI_GET_VALUES})


class ApplicationConnection(WholeRequests):
    """One connection from a web server, on the application's `terms`.

    Not thread-safe: a shell with threads calls it under a lock.
    """

    __slots__ = (
        "_alike",
        "_failed",
        "_left",
        "_padding",
        "_part",
        "_record_id",
        "_record_type",
        "_untold",
        "body_lead",
        "scatter",
    )

    # A header (or a record that is needed whole) in part, and what is left of the current record, with its padding.
    _part: bytes | bytearray
    _left: int
    # Set while any of that is left.
    _padding: int
    _record_type: int
    _record_id: int
    body_lead: bytes
    """In the midst of a long body: what the headers of its records begin with. Empty elsewhere."""
    # Set with it: the header that the latest records had in common, if they did.
    _alike: bytes
    scatter: Scatter | None
    """Tells where to read what follows of a long body, see :meth:`begin_scatter`.

    What is read as it expects counts as received; anything else is to be told to :meth:`receive_data`, and ends it.
    """
    # The violation that was met; and, set with it, what receive_eof is to tell.
    _failed: ProtocolError | None
    _untold: tuple[Event, ...]

    def __init__(self, terms: Terms) -> None:
        # What the classes below have, too: a constructor of each one would be a call with every connection.
        self.terms = terms
        self.requests = NO_REQUESTS
        self.out = NO_BUFFERS
        self.refused = 0
        # So it mostly is, and cheaply told.
        self.at_rest = True
        self._out_size = 0
        self._leaving = NOBODY
        self.closing = self._gone = False
        self._cut_id = 0
        self.owed = NOTHING_OWED
        self._incomplete = self._fed = NOBODY
        self._params_bytes = 0
        self._unread = NOTHING_UNREAD
        self._shared = False
        self._part = self.body_lead = b""
        self._left = 0
        self._failed = self.scatter = None

    # What is received

    def receive_data(self, data: Buffer) -> list[Event]:
        """What `data`, the next bytes from the web server in any slicing, means.

        In the midst of a body (`body_lead`) it may also be a view of a buffer, from its start on. What handlers get of
        the body are parts of that, so the buffer must stay as it is while anything refers to it.

        Raises ProtocolError for a violation, and from then on: the connection must be closed, and
        :meth:`receive_eof` tells which requests that aborts.
        """
        events: list[Event] = []
        try:
            position = 0
            if self.at_rest and not self.requests:
                # No view, for it is in no body.
                position = self._whole_request(data, 0, events)  # type: ignore[arg-type]
                if position == len(data):
                    return events
            elif self.body_lead and not (self._shared or self._gone):
                # In the midst of a body, which nothing that must be looked at has to do with.
                self.at_rest = False
                position = self._body(data, 0, events)
                if position == len(data):
                    return events
            if not isinstance(data, bytes):
                data, position = bytes(data[position:]), 0
            self._receive_any(data, position, events)
        except ProtocolError as error:
            self._failed = error
            self.body_lead = b""
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
        if self._shared and self._unread.in_memory >= self.terms.limits.max_buffered_input:
            self._spool_input()
        self.at_rest = not (
            self._part or self._left or self.body_lead or self._shared or self.closing or self._leaving or self.owed
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
                self._leaving = removed(self._leaving, event.request)
            elif isinstance(event, RequestAborted) and event.request not in begun:
                # receive_eof tells it.
                self._untold += (event,)

    def receive_eof(self, *, half_closed: bool = False) -> list[Event]:
        """The web server closed the connection: every request is aborted.

        With `half_closed` it only ended its own sending and still reads: requests whose input is complete go on.
        """
        events: list[Event] = []
        # Nothing more is read.
        self.body_lead, self.scatter = b"", None
        if self._failed is not None:
            events += self._untold
            self._untold = ()
        if self.requests:
            for request in list(self.requests.values()):
                if request.receiver is not None:
                    self._forget_params(request, request.receiver)
                    self._forget(request)
                elif not half_closed or not request.input_ended:
                    self._abort(request, events)
        self.owed = NOTHING_OWED
        self.closing = True
        self.at_rest = False
        if half_closed:
            self._queue_cut()
        else:
            self._gone = True
            self._cut_id = 0
            self.data_to_send()
        return events

    def cut_off(self, replacement: bytes, tell: Callable[[Request], object] | None) -> list[Event]:
        """End whatever is under way as failed, and have nothing follow: what that aborts.

        Each request gets `replacement` if nothing of its response has left, and is cut otherwise. Before that `tell` is
        called with it, if given, and with those that were aborted and whose handlers have not ended.
        """
        events: list[Event] = []
        begun = [request for request in self.requests.values() if request.receiver is None]
        if tell is not None:
            for request in (*self._leaving, *begun):
                tell(request)
        for request in begun:
            if not request.aborted:
                events.append(told(RequestAborted(), request))
            self.fail(request, replacement, b"")
            request.aborted = True
        # Those whose parameters are not complete must not keep back the sign that an answer is cut.
        return events + self.receive_eof(half_closed=True)

    @property
    def buffered_input(self) -> int:
        """Bytes of input that arrived and no handler has taken."""
        return self._unread.in_memory + self._unread.in_files

    @property
    def wants_input(self) -> bool:
        """False while no more should be received: handlers are behind with input, or the peer with our answers."""
        limits, unread = self.terms.limits, self._unread
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
            or self.closing
            or (
                unread is not NOTHING_UNREAD
                and (unread.in_files or unread.in_memory >= self.terms.limits.max_buffered_input)
            )
        )

    @property
    def awaited(self) -> object:
        """What the web server has begun and is to complete in time; None if there is nothing.

        That is the oldest request whose parameters are not complete, or, while no request is under way, the
        connection with a record that has come in part, or LEFTOVER if that can begin none. What is not to be received
        cannot become complete, either. But first comes what we owe ourselves: OTHERS while a response is to be cut.
        """
        if self._cut_id:
            return OTHERS
        if self._incomplete:
            return next(iter(self._incomplete)) if self.wants_input else None
        if self.requests or not (self._part or self._misses_content()) or not self.wants_input:
            return None
        # A record in part is kept only if it means something as a whole.
        is_input = not self._part and (self._record_type == FCGI_STDIN or self._record_type == FCGI_DATA)
        return LEFTOVER if is_input else self

    @property
    def idle(self) -> bool:
        """No request is under way and none has begun to arrive."""
        return not self.requests and not self._part and not self._misses_content()

    def _misses_content(self) -> bool:
        left = self._left if self.scatter is None else self.scatter.left
        return left > 0 and left > self._padding

    # Bytes become records

    def _receive(self, data: bytes, position: int, events: list[Event]) -> None:
        """Record by record (3.3), but for requests that are there as a whole."""
        end = len(data)
        if self.body_lead:
            position = self._body(data, position, events)
        elif self._part or self._left:
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
            if size >= LARGE and request_id and (type_ == FCGI_STDIN or type_ == FCGI_DATA):
                self._begin_body(type_, request_id, size, padding)
                position = self._body(data, position, events)
                continue
            if stop > end:
                self._begin_partial(type_, request_id, size, padding)
                self._partial_content(data, position, end, events)
                return
            self._record(type_, request_id, data[position:stop], events)
            position = stop + padding
            if position > end:
                self._left, self._padding = position - end, padding
                return
        if position < end:
            self._part = data[position:]
            # Looked at now rather than when eight bytes are there: other protocols may never send that many.
            if self._part[0] != FCGI_VERSION_1:
                raise ProtocolError(_wrong_version(data, position))

    def _resume(self, data: bytes, events: list[Event]) -> int:
        """Go on in the middle of a record; where in `data` the next one begins."""
        position = 0
        if not self._left:
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
                self._left = self._padding = padding
            elif size >= LARGE and request_id and (type_ == FCGI_STDIN or type_ == FCGI_DATA):
                self._begin_body(type_, request_id, size, padding)
                return self._body(data, position, events)
            else:
                self._begin_partial(type_, request_id, size, padding)
        if self._left > self._padding:
            start, position = position, min(position + self._left - self._padding, len(data))
            self._partial_content(data, start, position, events)
        if self._left <= self._padding:
            skipped = min(self._left, len(data) - position)
            self._left -= skipped
            position += skipped
        return position

    def _begin_body(self, type_: int, request_id: int, size: int, padding: int) -> None:
        """A large record of FCGI_STDIN or FCGI_DATA, behind whose header :meth:`_body` goes on."""
        self._record_type, self._record_id = type_, request_id
        self._left, self._padding = size + padding, padding
        self.body_lead = bytes((FCGI_VERSION_1, type_, request_id >> 8, request_id & 0xFF))
        self._alike = b""

    def _body(self, data: Buffer, position: int, events: list[Event]) -> int:
        """What `data` has of a stream's large record and of those right behind it; where the next record begins."""
        if self.scatter is not None:
            self._left, self.scatter = self.scatter.left, None
        parts, position, self._padding, self._alike = parts_of(
            data, position, self._left, self._padding, self.body_lead
        )
        if parts:
            self._input(self._record_type, self._record_id, parts, events)
        missing = position - len(data)
        if missing < 0:
            # Something else follows.
            self._left, self.body_lead = 0, b""
            return position
        self._left = missing
        return len(data)

    def is_in_body(self, request: Request) -> bool:
        """Whether a long FCGI_STDIN of `request` is under way, and no other request is."""
        return (
            bool(self.body_lead)
            and self._record_type == FCGI_STDIN
            and self.requests.get(self._record_id) is request
            and len(self.requests) == 1
        )

    def begin_scatter(self, request: Request) -> Scatter | None:
        """Have :attr:`scatter`, where the long FCGI_STDIN under way may go on like that, and none of it is buffered."""
        if not self.body_lead or not self._alike or self._padding or self._record_type != FCGI_STDIN or self._shared:
            return None
        if self.requests.get(self._record_id) is not request or request.stdin.ended or request.stdin.buffered:
            return None
        self.scatter = Scatter(self._alike, self._left)
        # If it turns out wrong, it is not tried again until they are alike.
        self._alike = b""
        return self.scatter

    def _begin_partial(self, type_: int, request_id: int, size: int, padding: int) -> None:
        """A record of which not all has come: its claims are checked before the rest is waited for."""
        self._record_type, self._record_id = type_, request_id
        self._left, self._padding = size + padding, padding
        if type_ == FCGI_PARAMS:
            request = self.requests.get(request_id)
            if request is not None and request.receiver is not None:
                self._check_params_size(size)
        elif type_ == FCGI_BEGIN_REQUEST:
            check_begin_size(size)

    def _partial_content(self, data: bytes, start: int, stop: int, events: list[Event]) -> None:
        """What `data` has of a record's content, if anything, from `start` to `stop`."""
        if start == stop:
            return
        self._left -= stop - start
        type_, request_id = self._record_type, self._record_id
        content = data[start:stop]
        if type_ in _STREAMS:
            self._record(type_, request_id, content, events)
            return
        if type_ in _WHOLE:
            # At most 65,535 bytes, and one at a time.
            if not self._part:
                self._part = bytearray()
            self._part += content
        if self._left <= self._padding:
            content, self._part = bytes(self._part), b""
            self._record(type_, request_id, content, events)


def _wrong_version(data: bytes, position: int) -> str:
    start = data[position : position + FCGI_HEADER_LEN]
    if start[:1].isalpha():
        return f"not FastCGI: {start!r} came; does the web server speak HTTP (proxy_pass instead of fastcgi_pass)?"
    return f"FastCGI version {start[0]}, this is version {FCGI_VERSION_1}"
