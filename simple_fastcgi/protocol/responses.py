"""How the requests under way on a connection are answered, and how each one ends (sections 3.3, 5.3 and 5.5).

What handlers write becomes records, which wait here, together with what the protocol itself owes, until the shell sends
them. With the last of them the connection may have to be closed.
"""

from __future__ import annotations

from .constants import (
    FCGI_DATA,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    ROLE_STREAMS,
)
from .records import (
    COPY_LIMIT,
    chunk_frames,
    cut_mark,
    encode_chunk,
    encode_end_request,
    encode_header,
    encode_record,
    encode_stderr,
    encode_stdout_end_and_end_request,
    encode_stream,
    known_frame,
    make_frame,
    pack_sizes,
)
from .streams import NO_INPUT, NO_OUTPUT, NO_REQUESTS, removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import Limits
    from .records import Buffer, ChunkFrame
    from .streams import Request
    from .terms import Terms

_NO_BOUND = 1 << 63
# Under the id that web servers use as long as a connection has one request at a time.
_PARTING = encode_record(FCGI_STDERR, 1)

NO_BUFFERS: list[Buffer] = []
"""What all connections share that have nothing to send; never written to."""
NOTHING_OWED: dict[int, int] = {}
"""What those share to which no input is owed; never written to."""


class Responses:
    """What is sent on one connection. The attributes are set by ``ApplicationConnection``, which stands on this."""

    __slots__ = (
        "_cut_id",
        "_gone",
        "_leaving",
        "_out_size",
        "at_rest",
        "closing",
        "out",
        "owed",
        "refused",
        "requests",
        "terms",
    )

    terms: Terms
    """What this connection has in common with others."""
    at_rest: bool
    """What comes next begins a record, and nothing is told by what came before; False whenever that is not sure.

    One request is under way at most then, which has not been aborted, and nobody waits for its end; all others have
    come to the end of their input.
    While no request is under way, either, and nothing is to be sent, it is
    :meth:`~simple_fastcgi.protocol.application.ApplicationConnection.is_calm`, too.
    """
    requests: dict[int, Request]
    """The requests under way, by id."""
    out: list[Buffer]
    """What :meth:`data_to_send` will hand out; empty if nothing is to be sent."""
    refused: int
    """Requests that were answered with another protocol status than FCGI_REQUEST_COMPLETE (5.5), never accepted."""
    # Of `out`, in bytes.
    _out_size: int
    # Requests that were aborted and answered, and whose handlers have not ended yet.
    _leaving: dict[Request, None]
    closing: bool
    """Behind the requests under way the connection closes: see :attr:`finished`."""
    # Nobody is there any more to send to.
    _gone: bool
    owed: dict[int, int]
    """Of requests that ended before their input: the stream whose end is its end, by id. See :attr:`lingering`."""
    # The id that nobody uses of the record which tells that a response is cut, 0 if none is.
    _cut_id: int

    @property
    def limits(self) -> Limits:
        """All bounds."""
        return self.terms.limits

    # What handlers write

    def write(self, request: Request, data: bytes) -> bool:
        """Take `data` for FCGI_STDOUT; True when so much has gathered that it should be flushed and sent."""
        if request.ended or request.aborted or not data:
            return False
        if request.stdout is NO_OUTPUT:
            request.stdout = [data]
        else:
            request.stdout.append(data)
        request.unsent += len(data)
        return request.unsent >= self.terms.limits.max_buffered_output

    def write_err(self, request: Request, data: bytes) -> bool:
        """Take `data` for FCGI_STDERR; as :meth:`write`."""
        if request.ended or request.aborted or not data:
            return False
        if request.stderr is None:
            request.stderr = []
            request.stderr_begun = False
        request.stderr.append(data)
        request.unsent += len(data)
        return request.unsent >= self.terms.limits.max_buffered_output

    def write_through(self, request: Request, data: bytes) -> list[Buffer]:
        """As :meth:`write`, :meth:`flush` and :meth:`data_to_send`: the shell sends these buffers at once."""
        if request.unsent or self.out or request.ended or request.aborted or not data:
            self.write(request, data)
            self.flush(request)
            return self.data_to_send()
        request.stdout_begun = True
        return encode_chunk(FCGI_STDOUT, request.id, data)

    def write_at_once(self, request: Request, data: bytes) -> bytes | None:
        """As :meth:`write_through`, of what is at most COPY_LIMIT long: the one buffer to be sent for it.

        So the parts of a stream leave, of events for one. None if it takes more; nothing has been done then.
        """
        if request.unsent or self.out or request.ended or request.aborted or not 0 < len(data) <= COPY_LIMIT:
            return None
        request.stdout_begun = True
        return encode_record(FCGI_STDOUT, request.id, data)

    def announce_chunks(self, request: Request, size: int) -> ChunkFrame:
        """What stands around chunks of FCGI_STDOUT that the core never sees, of `size` bytes each, above COPY_LIMIT.

        The shell may send any number of them in this frame, but none while `out` or the request's `unsent` tell of
        something that comes first, nor when the request has ended or was aborted: :meth:`write_through` is for that.
        """
        request.stdout_begun = True
        return chunk_frames[FCGI_STDOUT, request.id, size]

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

    # How requests end

    def end(self, request: Request, app_status: int = 0, data: bytes = b"") -> None:
        """Queue what is left of the response, `data`, and its end (5.5), and forget the request.

        It is forgotten before FCGI_END_REQUEST can be seen: web servers use the id again at once. Of `app_status`
        the lowest 32 bits count.
        """
        if request.ended:
            self._leaving = removed(self._leaving, request)
            return
        whole = self.end_at_once(request, app_status, data)
        if whole is not None:
            self._queue([whole])
            return
        app_status &= 0xFFFFFFFF
        self.write(request, data)
        self.flush(request)
        tail: list[Buffer]
        if request.stdout_begun or not request.aborted:
            tail = [encode_stdout_end_and_end_request(request.id, app_status)]
        else:
            tail = [encode_end_request(request.id, app_status, FCGI_REQUEST_COMPLETE)]
        if request.stderr is not None and request.stderr_begun:
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
        if size > COPY_LIMIT or request.stderr is not None:
            return None
        at_rest = self.at_rest
        if not at_rest and (request.aborted or self._cut_id):
            return None
        if request.unsent:
            head = b"".join((*request.stdout, head))
            request.stdout.clear()
            request.unsent = 0
        lead, ends = (not app_status and known_frame(request.id)) or make_frame(request.id, app_status)
        if size:
            padding = -size & 7
            # To join `head` and `data` out there would copy them twice.
            whole = b"".join((lead, pack_sizes(size, padding), head, data, ends[padding]))
        else:
            whole = ends[0]
        stdin = request.stdin
        if at_rest and (stdin is NO_INPUT or (stdin.ended and not stdin.buffered and request.data is None)):
            # Nothing of it is left, nor any other one.
            request.ended = True
            self.requests = NO_REQUESTS
            if not request.keep_conn:
                self.closing = True
                self.at_rest = False
        else:
            self._finish(request, keep_conn=request.keep_conn)
        return whole

    def cut(self, request: Request) -> None:
        """End a response that broke off behind its head, so that the web server can tell it from a whole one.

        FCGI_END_REQUEST with any status counts as a good end, and a bare close does with some. A record with an id
        that nobody uses, then closing, makes nginx, Apache, lighttpd and HAProxy cut their client's connection. Other
        requests on this connection end first, and no further one is accepted; the shell is to see in time that they do
        (`awaited`), and cut them off otherwise.
        """
        if request.ended or request.aborted:
            self.end(request, 1)
            return
        self.flush(request)
        self._finish(request, keep_conn=False)
        self._cut_id = cut_mark(request.id)
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
            self.closing = True
            self.at_rest = False
        # Whoever aborts, or is gone, sends no more.
        if not (request.input_ended or request.aborted or self._gone):
            is_data_next = request.data is not None and not request.data.ended
            self._owe(request.id, FCGI_DATA if is_data_next else FCGI_STDIN)
        self._forget(request)

    def _owe(self, request_id: int, type_: int) -> None:
        """Nobody wants the rest of this request's input; the end of the stream `type_` is its end.

        Whether the connection closes may be told only by a later request. Of more requests than may be under way at
        once the oldest is forgotten.
        """
        owed = self.owed = self.owed or {}
        if len(owed) >= self.terms.limits.max_requests_per_connection:
            del owed[next(iter(owed))]
        owed[request_id] = type_
        self.at_rest = False

    def _owe_no_more(self, request_id: int) -> None:
        """All of it has come, or the id is another request's."""
        self.owed.pop(request_id, None)
        self.owed = self.owed or NOTHING_OWED

    def _forget(self, request: Request) -> None:
        self.requests.pop(request.id, None)
        if not self.requests:
            self.requests = NO_REQUESTS
        if request.stdin.buffered or request.data is not None:
            for stream in request.streams:
                stream.count_alone()

    def _refuse(self, request_id: int, role: int, protocol_status: int, *, keep_conn: bool) -> None:
        """Answer a request that was never accepted (5.5); the rest of it is passed over."""
        self.refused += 1
        answer = encode_end_request(request_id, 0, protocol_status)
        terms = self.terms
        refusal = terms.unserved(role) if protocol_status == FCGI_UNKNOWN_ROLE else terms.refusal
        # A peer that begins thousands at once is no web server, and shall not make us grow.
        if refusal and self._out_size <= terms.limits.max_buffered_output:
            end_of_stream = encode_record(FCGI_STDOUT, request_id)
            answer = encode_record(FCGI_STDOUT, request_id, refusal) + end_of_stream + answer
        self._queue([answer])
        if not keep_conn:
            self.closing = True
        self._owe(request_id, ROLE_STREAMS.get(role, ROLE_STREAMS[FCGI_RESPONDER])[-1])

    def _queue_cut(self) -> None:
        if self._cut_id and not self.requests:
            self._queue([encode_record(FCGI_STDOUT, self._cut_id)])
            self._cut_id = 0

    # What is to be sent

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
            self.out = NO_BUFFERS
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
        if not self.closing:
            self._queue([_PARTING])

    @property
    def finished(self) -> bool:
        """Nothing will follow :meth:`data_to_send`: send it, then close."""
        return self.closing and not self.requests

    @property
    def lingering(self) -> bool:
        """When finished: the web server is still sending input, which must be read before the close.

        Closing with unread data makes the kernel send a reset, which may overtake the response.
        """
        return self.closing and bool(self.owed)


def _take_last_byte(buffers: list[bytes]) -> bytes:
    last = buffers.pop()
    if len(last) > 1:
        buffers.append(last[:-1])
    return last[-1:]
