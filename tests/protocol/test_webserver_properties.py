"""Both sides of the protocol against each other, and the web server's against anything at all, in any slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simple_fastcgi.errors import ProtocolError
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.events import RequestAborted, RequestBegun
from simple_fastcgi.protocol.terms import Terms
from simple_fastcgi.protocol.webserver import ALL_VALUES, WebServerConnection
from simple_fastcgi.protocol.webserver_events import (
    RequestEnded,
    StderrReceived,
    StdoutReceived,
    ValuesReceived,
)
from tests.protocol.wire import FILTER, ROLES, record

if TYPE_CHECKING:
    from simple_fastcgi.protocol.events import Event
    from simple_fastcgi.protocol.streams import Request
    from simple_fastcgi.protocol.webserver_events import WebServerEvent

MOST = 4
texts = st.text(st.characters(max_codepoint=255), max_size=10) | st.just("v" * 130)
bodies = st.binary(max_size=30) | st.integers(0, 255).map(lambda byte: bytes((byte,)) * 70_000)


def gathered(events: list[WebServerEvent]) -> list[tuple[object, ...]]:
    """What does not depend on the slicing: pieces of one stream in turn are one."""
    found: list[tuple[object, ...]] = []
    for told in events:
        if isinstance(told, StdoutReceived | StderrReceived):
            assert told.data
            key, data = (type(told), told.request_id), bytes(told.data)
            if found and found[-1][:2] == key:
                data = found.pop()[2] + data  # type: ignore[operator]
            found.append((*key, data))
        else:
            found.append((told,))
    return found


def fed(slices: list[bytes]) -> tuple[list[tuple[object, ...]], str]:
    connection = WebServerConnection(MOST)
    for _ in range(3):
        connection.begin({})
    connection.get_values(["A"])
    connection.abort(3)
    events: list[WebServerEvent] = []
    try:
        for data in slices:
            events += connection.receive_data(data)
        events += connection.receive_eof()
    except ProtocolError as error:
        return gathered(events), str(error).partition(",")[0]
    return gathered(events), ""


ids = st.sampled_from([1, 1, 2, 2, 3, 0, 4])
types = st.sampled_from([6, 6, 6, 7, 7, 3, 10, 11]) | st.integers(0, 255)
contents = st.binary(max_size=12) | st.just(bytes(8)) | st.just(b"\x09" + bytes(7)) | st.just(b"\1\1A7")
records = st.builds(record, types, ids, contents, st.integers(0, 9))
good = st.builds(record, st.sampled_from([6, 7]), st.sampled_from([1, 2, 3]), st.binary(min_size=1, max_size=12))


@given(
    st.lists(good | records | st.binary(max_size=3) | st.just(b"HTTP/1.1 200 OK"), max_size=12),
    st.lists(st.integers(0, 20), max_size=30),
)
def test_any_bytes_in_any_slicing(streams: list[bytes], sizes: list[int]) -> None:
    data = b"".join(streams)
    slices = []
    for size in sizes:
        slices.append(data[:size])
        data = data[size:]
    slices.append(data)
    data = b"".join(slices)
    expected = fed([data])
    event("violation" if expected[1] else "nothing wrong")
    # What is told of a wrong version holds as much as has come of it.
    assert [part[:20] for part in fed(slices)] == [part[:20] for part in expected]
    assert fed([data[i : i + 1] for i in range(len(data))])[0] == expected[0]


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    fed([data])


class Conversation(RuleBasedStateMachine):
    """Requests of all roles, begun, fed, aborted and answered in any order, over wires that slice as they like."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(max_requests_per_connection=2 * MOST)
        self.application = ApplicationConnection(Terms(limits, ROLES))
        self.web_server = WebServerConnection(MOST)
        self.down = b""
        self.up = b""
        # By id, of the requests under way: what was sent, and what came.
        self.params: dict[int, dict[str, str]] = {}
        self.input: dict[int, dict[str, bytes]] = {}
        self.open: dict[int, list[str]] = {}
        self.aborted: set[int] = set()
        self.output: dict[int, dict[str, bytes]] = {}
        # By request of the application: what it wrote.
        self.served: dict[int, Request] = {}
        self.leaving: list[Request] = []
        self.taken: dict[int, dict[str, bytes]] = {}
        self.written: dict[int, dict[str, bytes]] = {}
        self.status: dict[int, int] = {}
        self.asked = self.answered = 0

    @precondition(lambda self: self.web_server.can_begin)
    @rule(params=st.dictionaries(texts, texts, max_size=4), role=st.sampled_from(ROLES))
    def begin(self, params: dict[str, str], role: int) -> None:
        id_ = self.web_server.begin(params, role=role)
        assert id_ not in self.params
        self.params[id_] = params
        streams = {1: ["stdin"], 2: [], 3: ["stdin", "data"]}[role]
        self.open[id_] = streams
        self.input[id_] = dict.fromkeys(streams, b"")
        self.output[id_] = {"stdout": b"", "stderr": b""}

    def may_send(self) -> list[int]:
        return [id_ for id_ in self.open if self.open[id_] and id_ not in self.aborted]

    @precondition(lambda self: self.may_send())
    @rule(data=st.data(), content=bodies, end=st.booleans())
    def send(self, data: st.DataObject, content: bytes, end: bool) -> None:
        id_ = data.draw(st.sampled_from(self.may_send()))
        name = self.open[id_][0]
        (self.web_server.send_stdin if name == "stdin" else self.web_server.send_data)(id_, content)
        self.input[id_][name] += content
        if end:
            (self.web_server.end_stdin if name == "stdin" else self.web_server.end_data)(id_)
            self.open[id_].pop(0)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(list(self.open)))
        self.web_server.abort(id_)
        self.aborted.add(id_)

    @precondition(lambda self: self.asked < 3)
    @rule()
    def ask(self) -> None:
        self.asked += 1
        self.web_server.get_values()

    @rule(data=st.data())
    def carry_down(self, data: st.DataObject) -> None:
        self.down += b"".join(self.web_server.data_to_send())
        size = data.draw(st.integers(0, len(self.down)))
        piece, self.down = self.down[:size], self.down[size:]
        self.act(self.application.receive_data(piece))

    def act(self, events: list[Event]) -> None:
        for told in events:
            request = told.request
            if isinstance(told, RequestBegun):
                assert request.params == self.params[request.id]
                self.served[request.id] = request
                self.taken[request.id] = {"stdin": b"", "data": b""}
                self.written[request.id] = {"stdout": b"", "stderr": b""}
            elif isinstance(told, RequestAborted):
                self.leaving.append(self.served.pop(request.id))
            if not request.aborted:
                self.taken[request.id]["stdin"] += request.stdin.take()
                if request.data is not None:
                    assert request.role == FILTER
                    self.taken[request.id]["data"] += request.data.take()

    @precondition(lambda self: self.served)
    @rule(data=st.data(), content=bodies, errors=st.booleans())
    def write(self, data: st.DataObject, content: bytes, errors: bool) -> None:
        request = self.served[data.draw(st.sampled_from(list(self.served)))]
        (self.application.write_err if errors else self.application.write)(request, content)
        self.written[request.id]["stderr" if errors else "stdout"] += content
        self.application.flush(request)

    @precondition(lambda self: self.served)
    @rule(data=st.data(), status=st.sampled_from([0, 0, 1, 2**32 - 1]))
    def end(self, data: st.DataObject, status: int) -> None:
        id_ = data.draw(st.sampled_from(list(self.served)))
        request = self.served.pop(id_)
        if request.input_ended:
            # The connection is used on: all of the input was seen.
            assert {name: self.taken[id_][name] for name in self.input[id_]} == self.input[id_]
        self.application.end(request, status)
        self.status[id_] = status

    @precondition(lambda self: self.leaving)
    @rule()
    def leave(self) -> None:
        self.application.end(self.leaving.pop())

    @rule(data=st.data())
    def carry_up(self, data: st.DataObject) -> None:
        self.up += b"".join(self.application.data_to_send())
        size = data.draw(st.integers(0, len(self.up)))
        piece, self.up = self.up[:size], self.up[size:]
        for told in self.web_server.receive_data(piece):
            if isinstance(told, StdoutReceived | StderrReceived):
                assert told.request_id not in self.aborted
                name = "stdout" if isinstance(told, StdoutReceived) else "stderr"
                self.output[told.request_id][name] += told.data
            elif isinstance(told, RequestEnded):
                self.ended(told)
            else:
                assert isinstance(told, ValuesReceived)
                assert told.values.keys() == set(ALL_VALUES)
                self.answered += 1

    def ended(self, told: RequestEnded) -> None:
        id_ = told.request_id
        assert told.protocol_status == 0
        output = self.output.pop(id_)
        if id_ not in self.aborted:
            assert output == self.written[id_]
            assert told.app_status == self.status[id_]
        for book in (self.params, self.input, self.open):
            del book[id_]
        self.aborted.discard(id_)

    @invariant()
    def same_requests(self) -> None:
        assert set(self.web_server.request_ids) == set(self.params)
        assert len(self.params) <= MOST

    def teardown(self) -> None:
        """All of it comes to its end."""
        for id_ in self.may_send():
            for name in self.open[id_]:
                (self.web_server.end_stdin if name == "stdin" else self.web_server.end_data)(id_)
            self.open[id_] = []
        self.act(self.application.receive_data(self.down + b"".join(self.web_server.data_to_send())))
        for request in self.served.values():
            self.application.end(request)
            self.status[request.id] = 0
        for request in self.leaving:
            self.application.end(request)
        self.up += b"".join(self.application.data_to_send())
        for told in self.web_server.receive_data(self.up):
            if isinstance(told, StdoutReceived | StderrReceived):
                name = "stdout" if isinstance(told, StdoutReceived) else "stderr"
                self.output[told.request_id][name] += told.data
            elif isinstance(told, RequestEnded):
                self.ended(told)
            else:
                self.answered += 1
        assert not self.params
        assert self.answered == self.asked
        assert self.web_server.idle
        assert self.application.idle


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
