"""Whatever comes, in any slices: events or ProtocolError, one whole end per request, and all of it within the limits.

In full, for each case, with a shell that acts at random between the pieces of what it receives:

- nothing but events and ProtocolError leaves the core;
- each request that began is ended exactly once on the wire, unless its connection is closed, and nothing follows under
  an id behind its FCGI_END_REQUEST;
- what is sent is well-formed FastCGI: whole records, aligned, streams that end once and before their request does;
- what is buffered stays within the limits, and what is answered within a factor of what was received;
- once everything is taken and sent the core wants input again;
- the same bytes in other slices give the same requests, input and answers;
- when the web server is gone and the handlers have ended, nothing is left.

The web server's own book (:class:`Peer`) is kept from the specification, by :mod:`tests.protocol.wire`.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import InputReceived, RequestAborted, RequestBegun
from simple_fastcgi.protocol.terms import Terms
from tests.fuzz.case import Act
from tests.protocol import wire
from tests.protocol.wire import (
    ABORT,
    BEGIN,
    COMPLETE,
    END,
    GET_VALUES_RESULT,
    ROLES,
    STDERR,
    STDOUT,
    UNKNOWN_ROLE,
    UNKNOWN_TYPE,
)
from tests.support.spool import LimitedSpool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from simple_fastcgi.protocol.events import Event
    from simple_fastcgi.protocol.streams import InputStream, Request
    from tests.fuzz.case import Case

    MakeCore = Callable[[Terms], ApplicationConnection]

LIMITS = (
    Limits(
        max_params_bytes=4096,
        max_requests_per_connection=4,
        max_buffered_input=150,
        max_spooled_input=300,
        max_buffered_output=200,
    ),
    Limits(
        max_params_bytes=200,
        max_params=5,
        max_requests_per_connection=2,
        max_buffered_input=50,
        max_spooled_input=1000,
        max_buffered_output=50,
    ),
    Limits(max_params_bytes=4096, max_requests_per_connection=1),
)
ANSWER_FACTOR = 8
"""Bytes of answers for each byte received, at most: an abort of 8 bytes ends two streams, a request and perhaps all."""
ACT_OVERHEAD = 64
"""Bytes of records around what one act writes, at most."""
SPOOL_SLACK = 100
"""Bytes that a file of spooled input takes beyond the bound; mostly more come at once, and stay in memory."""
_OUTPUT = bytes(range(256)) * 256


class Peer:
    """What the web server knows from the records it sent and received."""

    def __init__(self) -> None:
        self.owed: Counter[int] = Counter()
        """How many more requests than ends there were, by id."""
        self.ends: Counter[int] = Counter()
        self.broken: Counter[int] = Counter()
        """How many responses the application broke off, by id: these are never ended."""
        self.cut_short = False
        """The mark of a broken response has come: nothing may follow."""
        self.closing = False
        """A request without FCGI_KEEP_CONN has ended."""
        self._keeps: defaultdict[int, deque[bool]] = defaultdict(deque)
        self._aborted: set[int] = set()
        self._begun: set[tuple[int, int]] = set()
        self._ended: set[tuple[int, int]] = set()
        self._part = b""
        self._skip = 0

    def sends(self, data: bytes) -> None:
        """The application has taken `data` without complaint."""
        data = self._part + data
        position, end = 0, len(data)
        while True:
            skipped = min(self._skip, end - position)
            self._skip -= skipped
            position += skipped
            if end - position < 8:
                break
            size = data[position + 4] << 8 | data[position + 5]
            if end - position < 8 + size:
                break
            type_, id_ = data[position + 1], data[position + 2] << 8 | data[position + 3]
            if id_ and type_ == BEGIN:
                self.owed[id_] += 1
                self._keeps[id_].append(data[position + 10] & 1 == 1)
            elif type_ == ABORT:
                self._aborted.add(id_)
            self._skip = data[position + 6]
            position += 8 + size
        self._part = data[position:]

    def aborts(self, ids: Iterable[int]) -> None:
        """Closing counts as an abort of these requests."""
        self._aborted.update(ids)

    def receives(self, data: bytes) -> None:
        """The application has sent `data`."""
        for type_, id_, content in wire.parse(data):
            assert not self.cut_short, "a record behind the mark of a broken response"
            if type_ in {STDOUT, STDERR}:
                if self.owed[id_] < 1:
                    assert self.broken.total() > 0, f"output under {id_}, which is no request"
                    assert (type_, content) == (STDOUT, b"")
                    self.cut_short = True
                    continue
                stream = (id_, type_)
                assert stream not in self._ended, f"stream {type_} of {id_} goes on behind its end"
                (self._begun if content else self._ended).add(stream)
            elif type_ == END:
                self._end(id_, content)
            else:
                assert type_ in {GET_VALUES_RESULT, UNKNOWN_TYPE}, f"type {type_} from an application"
                assert id_ == 0

    def _end(self, id_: int, content: bytes) -> None:
        assert self.owed[id_] > 0, f"an end of {id_}, which is no request"
        self.owed[id_] -= 1
        self.ends[id_] += 1
        self.closing |= not self._keeps[id_].popleft()
        assert len(content) == 8
        assert content[5:] == b"\0\0\0"
        streams = {(id_, STDOUT), (id_, STDERR)}
        begun, ended = self._begun & streams, self._ended & streams
        if content[4] != COMPLETE:
            assert content[4] <= UNKNOWN_ROLE
            assert not begun | ended or self.broken[id_], "output of a request that was refused"
        elif id_ not in self._aborted and not self.broken[id_]:
            assert (id_, STDOUT) in ended, f"{id_} ended before its FCGI_STDOUT"
            assert begun <= ended, f"{id_} ended before its streams"
        self._begun -= streams
        self._ended -= streams


class Driver:
    """A shell around a core: it receives, does what it is told, and looks whether everything is as it should be."""

    def __init__(self, core: ApplicationConnection) -> None:
        self.core = core
        self.peer = Peer()
        self.log: list[tuple[object, ...]] = []
        """What the shell was told, but for input."""
        self.sent = b""
        self.failed = self.half_closed = self.gone = False
        self._served: list[Request] = []
        self._taken: dict[Request, list[bytes]] = {}
        self._stalled = self._finished = False
        # How much may be sent.
        self._allowed = 0

    # Receiving

    def receive(self, data: bytes, sizes: Iterator[int] | None = None) -> None:
        """Receive `data`, in one slice or in `sizes`."""
        if self.failed or self.half_closed or self.gone:
            return
        self._make_room()
        core, limits = self.core, self.core.limits
        position, told, end = 0, 0, len(data)
        self._allowed += ANSWER_FACTOR * end
        while position < end:
            stop = end if sizes is None else position + next(sizes)
            try:
                piece = data[position:stop]
                events = core.receive_data(memoryview(bytearray(piece)) if core.body_lead else piece)
            except ProtocolError:
                self.failed = True
                return
            position = stop
            if events:
                self._hear(events)
            if core.out:
                self.peer.sends(data[told:position])
                told = position
                self._send()
        self.peer.sends(data[told:])
        self._send()
        assert len(core.requests) <= limits.max_requests_per_connection
        # What is read back from a file comes in blocks, which count as spooled until they are taken.
        assert core.buffered_input < limits.max_buffered_input + limits.max_spooled_input + end
        assert not any(request.aborted and request.buffered_input for request in self._served)

    def _make_room(self) -> None:
        """A shell reads no more than the core wants."""
        if self.core.wants_input:
            return
        self._stalled = False
        self._send()
        for request in self._served:
            self.do_take(request, 0)
        assert self.core.wants_input, "everything was taken and sent, and still it wants no input"

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            request = event.request
            if isinstance(event, RequestBegun):
                assert request not in self._taken
                self._served.append(request)
                self._taken[request] = [b""] * len(request.streams)
                self.log.append(
                    ("begun", request.id, request.role, request.keep_conn, request.params, request.repeated)
                )
            elif isinstance(event, RequestAborted):
                assert request.aborted
                assert request in self._taken
                self.log.append(("aborted", self._served.index(request)))
            else:
                assert isinstance(event, InputReceived)
                assert request in self._taken

    # Acting

    def act(self, act: Act) -> None:
        """Do one thing that a shell does."""
        verb, index, size = act
        if verb == "stall":
            self._stalled = True
        elif verb == "resume":
            self._stalled = False
            self._send()
        elif verb == "half_eof":
            self.lose(half_closed=True)
        elif verb == "eof":
            self.lose()
        elif self._served:
            # Those that have ended too: handlers may be late.
            self._allowed += ACT_OVERHEAD
            getattr(self, f"do_{verb}")(self._served[index % len(self._served)], size)
            self._send()

    def do_take(self, request: Request, size: int) -> None:
        """Take up to `size` bytes of input, all if 0, however it lies in chunks."""
        for index, stream in enumerate(request.streams):
            self._taken[request][index] += stream.take() if size == 0 else _read_into(stream, size)

    def do_write(self, request: Request, size: int) -> None:
        self._write_by(self.core.write, request, size)

    def do_write_err(self, request: Request, size: int) -> None:
        self._write_by(self.core.write_err, request, size)

    def _write_by(self, write: Callable[[Request, bytes], bool], request: Request, size: int) -> None:
        self._allow(size)
        if write(request, _OUTPUT[:size]):
            self.core.flush(request)
        assert request.unsent < self.core.limits.max_buffered_output

    def _allow(self, size: int) -> None:
        self._allowed += size + size // 50

    def do_flush(self, request: Request, _: int) -> None:
        self.core.flush(request)

    def do_discard(self, request: Request, _: int) -> None:
        self.core.discard_output(request)

    def do_end(self, request: Request, size: int) -> None:
        self._end_by(lambda: self.core.end(request, size), request)

    def do_fail(self, request: Request, size: int) -> None:
        self._allow(size)
        if request.stdout_begun:
            self._end_by(lambda: self.core.fail(request, b"", _OUTPUT[:size]), request, cut=True)
        else:
            self._end_by(lambda: self.core.fail(request, b"Status: 500\r\n\r\n", _OUTPUT[:size]), request)

    def do_cut(self, request: Request, _: int) -> None:
        self._end_by(lambda: self.core.cut(request), request, cut=True)

    def _end_by(self, end: Callable[[], None], request: Request, *, cut: bool = False) -> None:
        core, id_ = self.core, request.id
        live = core.requests.get(id_) is request and not self.gone
        cut = cut and live and not request.aborted
        self._send()
        before = self.peer.ends[id_]
        end()
        assert core.requests.get(id_) is not request
        self.peer.broken[id_] += cut
        self._send()
        if not self._stalled:
            assert self.peer.ends[id_] - before == (live and not cut), f"request {id_} ended, and its end was not sent"

    def _send(self) -> None:
        core = self.core
        if self._finished:
            assert core.finished, "a connection that was finished goes on"
        self._finished = core.finished
        if self._stalled:
            return
        data = wire.sent(core)
        if data:
            assert not self.gone
            assert len(data) <= self._allowed, f"{len(data)} bytes sent where {self._allowed} were enough"
            self._allowed -= len(data)
            self.sent += data
            self.peer.receives(data)
        if not self._finished and not self.half_closed and not self.gone:
            # Behind its end no request begins any more: of those only the close tells.
            for id_, owed in self.peer.owed.items():
                assert owed == (id_ in core.requests) + self.peer.broken[id_], f"{owed} ends are owed to {id_}"
        if not core.requests:
            closing = self.peer.closing or self.half_closed or self.gone or self.peer.broken.total() > 0
            assert core.finished == closing, "whether it closes is not what the last flags say"

    # Closing

    def lose(self, *, half_closed: bool = False) -> None:
        """The web server is gone, or has ended its sending."""
        if self.gone or (half_closed and self.half_closed):
            return
        self._allowed += ACT_OVERHEAD * (1 + len(self.core.requests))
        self.half_closed |= half_closed
        self.gone = not half_closed
        self.peer.aborts(self.core.requests)
        self._hear(self.core.receive_eof(half_closed=half_closed))
        self._send()

    def finish(self) -> None:
        """Handlers end one after the other, and the web server goes."""
        if self.failed:
            self.lose()
        self._stalled = False
        self._send()
        for request in self._served:
            self.do_take(request, 0)
            self._allowed += ACT_OVERHEAD
            self.do_end(request, 0)
        wire.check_state(self.core)
        self.lose()
        core = self.core
        assert not core.requests
        assert not core._leaving
        assert core.buffered_input == 0
        assert core.finished
        assert not core.lingering
        assert not core.out
        for request in self._served:
            # A handler that has not noticed.
            core.write(request, b"late")
            core.flush(request)
            core.fail(request, b"late", b"late")
        assert not core.out

    def input(self) -> list[list[bytes]]:
        """What handlers were given of each stream; requests that are aborted lose what nobody has taken."""
        return [self._taken[request] for request in self._served if not request.aborted]


def _read_into(stream: InputStream, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: stream.take_into(memoryview(buffer))])


def run(case: Case, make_core: MakeCore, *, sliced: bool) -> Driver:
    """Play the case; the driver before its end."""
    limits = LIMITS[case.limits % len(LIMITS)]
    terms = Terms(limits, ROLES, make_spool=lambda: lambda: LimitedSpool(limits.max_spooled_input + SPOOL_SLACK))
    driver = Driver(make_core(terms))
    sizes = _cycle(case.sizes) if sliced else None
    for step in case.steps:
        if isinstance(step, bytes):
            driver.receive(step, sizes)
            if driver.failed:
                break
        else:
            driver.act(step)
    if not driver.failed:
        # How long the peer did not read depends on the slices, too.
        driver.act(Act("resume"))
    return driver


def _cycle(sizes: tuple[int, ...]) -> Iterator[int]:
    while True:
        yield from sizes


def check(case: Case, make_core: MakeCore = ApplicationConnection) -> bool:
    """Two steps: the case as it stands, and in slices. Whether it is a violation; whatever is wrong is raised."""
    whole = run(case, make_core, sliced=False)
    sliced = run(case, make_core, sliced=True)
    assert whole.failed == sliced.failed, "other slices, and no violation"
    if whole.failed:
        # What was understood before the violation has been told, or not, as it came before in a slice of its own.
        assert sliced.log[: len(whole.log)] == whole.log
        # How much of what was due had been sent before depends on when the peer read.
        assert sliced.sent.startswith(whole.sent) or whole.sent.startswith(sliced.sent)
    else:
        assert sliced.log == whole.log
        assert sliced.sent == whole.sent
    for driver in (whole, sliced):
        driver.finish()
    assert whole.failed or sliced.input() == whole.input()
    return whole.failed
