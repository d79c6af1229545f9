"""A model web server against the core: it keeps the rules itself, and checks that the core does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import InputReceived, RequestAborted, RequestBegun
from simple_fastcgi.protocol.terms import OTHERS, Terms
from tests.protocol import wire
from tests.protocol.wire import (
    ABORT,
    AUTHORIZER,
    COMPLETE,
    DATA,
    END,
    FILTER,
    GET_VALUES,
    GET_VALUES_RESULT,
    OVERLOADED,
    PARAMS,
    RESPONDER,
    ROLES,
    STDERR,
    STDIN,
    STDOUT,
    UNKNOWN_ROLE,
    UNKNOWN_TYPE,
    Answer,
    begin,
    block,
    record,
)
from tests.support.spool import LimitedSpool

if TYPE_CHECKING:
    from simple_fastcgi.protocol.events import Event
    from simple_fastcgi.protocol.streams import Request

IDS = (1, 2, 7, 65534, 65535)
LIMITS = Limits(
    max_requests_per_connection=3,
    max_params_bytes=500,
    max_buffered_output=50,
    max_buffered_input=60,
    max_spooled_input=100,
)

ids = st.sampled_from(IDS)
picks = st.integers(0, 2)
texts = st.binary(min_size=1, max_size=30)
outputs = st.binary(max_size=20) | st.sampled_from([b"line\n" * 400, b"x" * 20_000])
cuts = st.lists(st.integers(0, 30), max_size=4)


class Asked:
    """A request as the web server knows it."""

    def __init__(self, id_: int, role: int, *, keep: bool) -> None:
        self.id = id_
        self.role = role
        self.keep = keep
        self.pairs: wire.Pairs = []
        self.begun = False
        self.aborted = False
        self.streams = {STDIN: b"", DATA: b""}
        self.over = {STDIN: role not in {RESPONDER, FILTER}, DATA: role != FILTER}
        self.received = {STDOUT: b"", STDERR: b""}
        self.ended: set[int] = set()
        # And as the application does.
        self.request: Request | None = None
        self.taken = {STDIN: b"", DATA: b""}
        self.written = {STDOUT: b"", STDERR: b""}
        self.gone_out = False
        self.status = 0

    @property
    def input_over(self) -> bool:
        return self.over[STDIN] and self.over[DATA]


class WebServer(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connection = ApplicationConnection(Terms(LIMITS, ROLES, make_spool=lambda: lambda: LimitedSpool(150)))
        self.open: dict[int, Asked] = {}
        self.ending: dict[int, Asked] = {}  # the application has ended them; the records must be there at once
        # Aborted and answered, while the application still serves them.
        self.leaving: list[Asked] = []
        self.closing = self.half_closed = self.gone = False
        self.cuts: set[int] = set()
        self.was_cut = False
        self.owed: list[Answer] = []
        # What has not ended of those that were answered before their input was over.
        self.unread: dict[int, set[int]] = {}

    # What comes over the wire

    def send(self, data: bytes, sizes: list[int]) -> None:
        events: list[Event] = []
        for size in sizes:
            events += self.connection.receive_data(data[:size])
            data = data[size:]
        events += self.connection.receive_data(data)
        self.hear(events)
        self.receive()

    def hear(self, events: list[Event]) -> None:
        for event in events:
            request = event.request
            if isinstance(event, RequestBegun):
                asked = self.open[request.id]
                assert asked.begun
                assert asked.request is None
                asked.request = request
                assert (request.role, request.keep_conn) == (asked.role, asked.keep)
                assert request.params == {n.decode("latin-1"): v.decode("latin-1") for n, v in asked.pairs}
            elif isinstance(event, RequestAborted):
                (asked,) = [asked for asked in (*self.running, *self.leaving) if asked.request is request]
                assert asked.aborted
                assert request.aborted
            else:
                assert isinstance(event, InputReceived)
                assert self.open[request.id].request is request

    def receive(self) -> None:
        """Read all answers, and see whether they are what was asked for."""
        answers = wire.answers(self.connection)
        if self.gone:
            assert not answers
            return
        for answer in answers:
            assert not self.was_cut
            if self.owed and answer == self.owed[0]:
                self.owed.pop(0)
                continue
            asked = self.ending.get(answer.id) or self.open.get(answer.id)
            if asked is None:
                # The mark of a broken response, behind everything else.
                assert self.cuts
                assert not self.open
                assert answer == Answer(STDOUT, answer.id)
                self.was_cut = True
                continue
            if answer.type == END:
                assert answer == wire.end(asked.id, asked.status & 0xFFFFFFFF, COMPLETE)
                del self.ending[asked.id]
                self.check_end(asked)
                continue
            assert answer.type in asked.received
            assert answer.type not in asked.ended
            if answer.content:
                asked.received[answer.type] += answer.content
            else:
                asked.ended.add(answer.type)
        assert not self.owed
        assert not self.ending

    def check_end(self, asked: Asked) -> None:
        if asked.aborted:
            assert asked.ended == {type_ for type_, received in asked.received.items() if received}
            for type_ in (STDOUT, STDERR):
                assert asked.written[type_].startswith(asked.received[type_])
        else:
            assert asked.received == asked.written
            assert asked.ended == ({STDOUT, STDERR} if asked.written[STDERR] else {STDOUT})

    # The web server's rules

    @property
    def can_send(self) -> bool:
        return not self.gone and not self.half_closed

    @property
    def running(self) -> list[Asked]:
        return [asked for asked in self.open.values() if asked.request is not None]

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, role=st.sampled_from([*ROLES, RESPONDER, RESPONDER, 4]), keep=st.booleans(), sizes=cuts)
    def begins(self, id_: int, role: int, *, keep: bool, sizes: list[int]) -> None:
        if id_ in self.open:
            return
        dead = self.closing and not self.open
        if not dead:
            self.unread.pop(id_, None)
            if role not in ROLES:
                self.refused(Asked(id_, RESPONDER, keep=keep), UNKNOWN_ROLE)
            elif len(self.open) + len(self.leaving) == LIMITS.max_requests_per_connection or self.cuts:
                self.refused(Asked(id_, role, keep=keep), OVERLOADED)
            else:
                self.open[id_] = Asked(id_, role, keep=keep)
        self.send(begin(id_, role, keep=keep), sizes)

    def refused(self, asked: Asked, why: int) -> None:
        self.owed.append(wire.end(asked.id, 0, why))
        if not asked.keep:
            self.closing = True
        self.unread[asked.id] = {DATA if asked.role == FILTER else PARAMS if asked.role == AUTHORIZER else STDIN}

    def stream_ends(self, id_: int, type_: int) -> None:
        if id_ in self.unread:
            self.unread[id_].discard(type_)
            if not self.unread[id_]:
                del self.unread[id_]

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, name=texts, value=texts, sizes=cuts)
    def sends_params(self, id_: int, name: bytes, value: bytes, sizes: list[int]) -> None:
        asked = self.open.get(id_)
        if asked is not None:
            unfinished = sum(len(block(other.pairs)) for other in self.open.values() if not other.begun)
            new = not any(name == other for other, _ in asked.pairs)
            if asked.begun or unfinished + len(wire.pair(name, value)) > LIMITS.max_params_bytes or not new:
                return
            asked.pairs.append((name, value))
        content = wire.pair(name, value)
        half = sizes[0] % len(content) if sizes else 0
        halves = [piece for piece in (content[:half], content[half:]) if piece]
        self.send(b"".join(record(PARAMS, id_, piece, len(sizes)) for piece in halves), sizes)

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, sizes=cuts)
    def ends_params(self, id_: int, sizes: list[int]) -> None:
        asked = self.open.get(id_)
        if asked is not None:
            if asked.begun:
                return
            asked.begun = True
        self.stream_ends(id_, PARAMS)
        self.send(record(PARAMS, id_), sizes)

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, type_=st.sampled_from([STDIN, STDIN, DATA]), content=texts, sizes=cuts)
    def sends_input(self, id_: int, type_: int, content: bytes, sizes: list[int]) -> None:
        asked = self.open.get(id_)
        if asked is not None:
            if not asked.begun:
                return
            if not asked.over[type_]:
                asked.streams[type_] += content
        self.send(record(type_, id_, content, len(sizes)), sizes)

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, type_=st.sampled_from([STDIN, STDIN, DATA]), sizes=cuts)
    def ends_input(self, id_: int, type_: int, sizes: list[int]) -> None:
        asked = self.open.get(id_)
        if asked is not None:
            if not asked.begun:
                return
            asked.over[type_] = True
        self.stream_ends(id_, type_)
        self.send(record(type_, id_), sizes)

    @precondition(lambda self: self.can_send)
    @rule(id_=ids, sizes=cuts)
    def aborts(self, id_: int, sizes: list[int]) -> None:
        asked = self.open.get(id_)
        self.unread.pop(id_, None)
        if asked is not None:
            if asked.begun:
                asked.aborted = True
                self.over(asked)
                self.ending[id_] = asked
                self.leaving.append(asked)
            else:
                self.owed.append(wire.end(id_))
                del self.open[id_]
                self.closing |= not asked.keep
        self.send(record(ABORT, id_), sizes)

    @precondition(lambda self: self.can_send)
    @rule(type_=st.sampled_from([GET_VALUES, 0, 77]), sizes=cuts)
    def asks(self, type_: int, sizes: list[int]) -> None:
        if not (self.closing and not self.open):
            if type_ == GET_VALUES:
                self.owed.append(Answer(GET_VALUES_RESULT, 0, wire.pair(b"FCGI_MAX_REQS", b"3")))
            else:
                self.owed.append(Answer(UNKNOWN_TYPE, 0, bytes((type_,)) + bytes(7)))
        self.send(record(type_, 0, wire.pair(b"FCGI_MAX_REQS") if type_ == GET_VALUES else b"?"), sizes)

    @precondition(lambda self: self.can_send)
    @rule(half=st.booleans())
    def hangs_up(self, *, half: bool) -> None:
        for asked in list(self.open.values()):
            if not asked.begun:
                del self.open[asked.id]
            elif not half or not asked.input_over:
                asked.aborted = True
        self.unread.clear()
        self.closing = True
        self.half_closed, self.gone = half, not half
        self.hear(self.connection.receive_eof(half_closed=half))
        self.receive()

    @precondition(lambda self: self.gone)
    @rule(data=texts)
    def nothing_comes_of_what_comes_later(self, data: bytes) -> None:
        assert self.connection.receive_data(data) == []

    @precondition(lambda self: self.half_closed)
    @rule()
    def hangs_up_for_good(self) -> None:
        self.hangs_up(half=False)

    # The application's

    def pick(self, pick: int) -> Asked | None:
        running = self.running
        return running[pick % len(running)] if running else None

    @precondition(lambda self: self.running)
    @rule(pick=picks, size=st.integers(-1, 10))
    def takes(self, pick: int, size: int) -> None:
        asked = self.pick(pick)
        assert asked is not None
        assert asked.request is not None
        for type_, stream in ((STDIN, asked.request.stdin), (DATA, asked.request.data)):
            if stream is not None:
                asked.taken[type_] += stream.take(size)
                if not asked.aborted:
                    assert len(asked.streams[type_]) == len(asked.taken[type_]) + stream.buffered
                    assert stream.ended is asked.over[type_]
            assert asked.streams[type_].startswith(asked.taken[type_])

    @precondition(lambda self: self.running)
    @rule(pick=picks, type_=st.sampled_from([STDOUT, STDOUT, STDERR]), content=outputs)
    def writes(self, pick: int, type_: int, content: bytes) -> None:
        asked = self.pick(pick)
        assert asked is not None
        assert asked.request is not None
        write = self.connection.write if type_ == STDOUT else self.connection.write_err
        full = write(asked.request, content)
        if not asked.aborted:
            asked.written[type_] += content
            if full:
                self.connection.flush(asked.request)
                asked.gone_out |= asked.written[STDOUT] != b""
        assert not (full and asked.aborted)
        self.receive()

    @precondition(lambda self: self.running)
    @rule(pick=picks)
    def flushes(self, pick: int) -> None:
        asked = self.pick(pick)
        assert asked is not None
        assert asked.request is not None
        self.connection.flush(asked.request)
        self.receive()
        if not asked.aborted:
            assert asked.received == asked.written
            asked.gone_out |= asked.written[STDOUT] != b""

    def over(self, asked: Asked) -> None:
        del self.open[asked.id]
        if not asked.keep:
            self.closing = True
        if not asked.input_over and not asked.aborted:
            self.unread[asked.id] = {type_ for type_, over in asked.over.items() if not over}

    @precondition(lambda self: self.leaving)
    @rule(pick=picks, content=outputs, end=st.sampled_from(["end", "cut", "fail"]))
    def leaves(self, pick: int, content: bytes, end: str) -> None:
        request = self.leaving.pop(pick % len(self.leaving)).request
        assert request is not None
        assert not self.connection.write(request, content)
        assert not self.connection.write_err(request, content)
        self.connection.flush(request)
        if end == "fail":
            self.connection.fail(request, content, content)
        else:
            getattr(self.connection, end)(request)
        assert not self.connection.out

    @precondition(lambda self: self.running)
    @rule(pick=picks, status=st.integers(-1, 1 << 32))
    def ends(self, pick: int, status: int) -> None:
        asked = self.pick(pick)
        assert asked is not None
        assert asked.request is not None
        asked.status = status
        self.over(asked)
        self.ending[asked.id] = asked
        self.connection.end(asked.request, status)
        assert asked.request.ended
        if self.gone:
            self.ending.clear()
        self.receive()

    @precondition(lambda self: self.running)
    @rule(pick=picks, cut=st.booleans())
    def fails(self, pick: int, *, cut: bool) -> None:
        asked = self.pick(pick)
        assert asked is not None
        assert asked.request is not None
        if asked.aborted:
            asked.status = 1
        elif cut or asked.gone_out:
            asked.keep = False
            self.cuts.add(asked.id)
        else:
            asked.written[STDOUT] = b"500"
        self.over(asked)
        if not asked.aborted:
            asked.written[STDERR] += b"" if cut else b"why"
        self.ending[asked.id] = asked
        if cut:
            self.connection.cut(asked.request)
        else:
            self.connection.fail(asked.request, b"500", b"why")
        if self.gone or asked.id in self.cuts:
            # No end comes; a record may still be its own.
            self.receive_cut(asked)
        self.receive()

    def receive_cut(self, asked: Asked) -> None:
        answers = wire.answers(self.connection)
        del self.ending[asked.id]
        assert not (self.gone and answers)
        for answer in answers:
            if answer.id == asked.id:
                assert answer.content
                asked.received[answer.type] += answer.content
            else:
                assert not self.open
                assert answer.content == b""
                assert answer == answers[-1]
                self.was_cut = True
        if not self.gone:
            assert asked.received[STDERR] == asked.written[STDERR]
        self.cuts.add(asked.id)

    # At any time

    @invariant()
    def the_state_is_what_the_model_says(self) -> None:
        connection = self.connection
        wire.check_state(connection)
        assert connection.requests.keys() == self.open.keys()
        assert connection.idle is not bool(self.open)
        assert connection.finished is (self.closing and not self.open)
        # Whatever else is awaited, what a cut response waits for comes first.
        must_cut = bool(self.cuts and self.open and not self.gone)
        assert (connection.awaited is OTHERS) is must_cut
        assert (connection.awaited is not None) is (must_cut or any(not asked.begun for asked in self.open.values()))
        spooled = sum(stream.spooled for request in connection.requests.values() for stream in request.streams)
        in_memory = connection.buffered_input - spooled
        assert connection.wants_input is (in_memory < LIMITS.max_buffered_input and spooled < LIMITS.max_spooled_input)
        if spooled:
            # What is read back, and what came last.
            assert in_memory <= LIMITS.max_buffered_input + 60
        assert connection._leaving.keys() == {asked.request for asked in self.leaving}
        if connection.is_calm():
            assert connection.wants_input
            assert not connection.finished
            assert not connection.out
        if connection.lingering:
            assert self.closing
        # What comes to a Filter's second stream is all that it waits for; and it remembers so many at most.
        assert connection.owed.keys() <= self.unread.keys()
        assert len(connection.owed) <= LIMITS.max_requests_per_connection
        if self.cuts and not self.open and not self.gone:
            assert self.was_cut
        for asked in self.running:
            assert asked.request is not None
            assert asked.request.aborted is asked.aborted

    def teardown(self) -> None:
        for asked in list(self.open.values()):
            if asked.request is None:
                self.sends_rest(asked)
        while self.running:
            self.ends(0, 0)
        while self.leaving:
            self.leaves(0, b"x", "end")
        assert not self.open
        assert not self.connection.out

    def sends_rest(self, asked: Asked) -> None:
        asked.begun = True
        self.send(record(PARAMS, asked.id), [])


TestWebServer = WebServer.TestCase
TestWebServer.settings = settings(max_examples=60, stateful_step_count=40)
