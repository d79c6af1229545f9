"""Requests that are there as a whole, but perhaps for their body: their records are understood at once.

So nearly all requests come, and to go from one record to the next would take three times as long.
"""

from __future__ import annotations

from ..errors import ProtocolError
from .constants import FCGI_HEADER_LEN
from .records import BEGIN_REQUEST_BODY, OPENING_LEN, unpack_sizes
from .requests import Requests
from .streams import NO_INPUT, InputStream, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .events import Event

# Bound once, as are the functions that are taken from attributes below before they are called: Python is faster so.
_ENDS_LEN = 2 * FCGI_HEADER_LEN


class WholeRequests(Requests):
    """What is received on one connection, where it is a whole request."""

    __slots__ = ()

    def _whole_request(self, data: bytes, position: int, events: list[Event]) -> int:
        """A request of which all records but those of a body are there at `position`; where the next record begins.

        0 if there is none.
        """
        params = position + OPENING_LEN
        terms = self.terms
        opening = terms.openings[data[position:params]]
        if opening is None:
            return 0
        request_id, role, keep_conn, size, padded_size, ends, is_plain = opening
        end = params + padded_size
        # Of FCGI_PARAMS, and mostly of FCGI_STDIN, too.
        if data.startswith(ends, end):
            stdin = NO_INPUT
            stop = end + _ENDS_LEN
        elif data.startswith(ends[:FCGI_HEADER_LEN], end):
            stdin = InputStream(self._count_unread())
            stop = end + FCGI_HEADER_LEN
        else:
            return 0
        if is_plain and self.at_rest:
            # The only one, as nearly always: nothing is to be decided.
            request = Request()
            request.start(request_id, role, keep_conn, stdin)
            self.requests = {request_id: request}
        else:
            admitted = self._admit_whole(request_id, role, stdin, keep_conn=keep_conn, params_size=size)
            if admitted is None:
                # The rest is passed over record by record.
                return position + FCGI_HEADER_LEN + BEGIN_REQUEST_BODY.size
            request = admitted
        try:
            block = data[params : params + size]
            request.params, request.repeated, request.layout = terms.decode(block, terms.limits.max_params)
        except ProtocolError:
            self._forget(request)
            raise
        event = terms.begun()
        event.request = request
        events.append(event)
        if stdin is not NO_INPUT and stdin is request.stdin:
            stop = _take_body(data, stop, stdin, ends[FCGI_HEADER_LEN:])
        return stop

    def _admit_whole(
        self, request_id: int, role: int, stdin: InputStream, *, keep_conn: bool, params_size: int
    ) -> Request | None:
        request = self._admit(request_id, role, stdin, keep_conn=keep_conn)
        if request is not None:
            try:
                self._check_params_size(params_size)
            except ProtocolError:
                self._forget(request)
                raise
        return request


def _take_body(data: bytes, position: int, stdin: InputStream, end_of_stdin: bytes) -> int:
    """Feed `stdin`, of which nobody knows yet, its records that are whole at `position`.

    Where the next record begins. A body mostly comes together with its request, and in few records.
    """
    lead, end = end_of_stdin[:4], len(data)
    # That it does not end at once has been seen.
    while True:
        start = position + FCGI_HEADER_LEN
        if start > end or not data.startswith(lead, position):
            return position
        size, padding = unpack_sizes(data, position + 4)
        stop = start + size
        if not size or stop + padding > end:
            return position
        stdin.feed(data[start:stop])
        position = stop + padding
        if data.startswith(end_of_stdin, position):
            stdin.ended = True
            return position + FCGI_HEADER_LEN
