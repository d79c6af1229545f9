"""Which connection is used again, how many there are, and when a request may be repeated."""

from __future__ import annotations

import itertools
import pickle
import socket
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simple_fastcgi.client.connection_pool import ConnectionPool, PoolTimeoutError
from simple_fastcgi.client.exchange import Exchange
from simple_fastcgi.client.pool import IDEMPOTENT, PoolState, may_retry
from simple_fastcgi.client.target import parse_target
from simple_fastcgi.errors import BrokenResponseError, ProtocolError, RequestRefusedError
from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.protocol.webserver import WebServerConnection
from tests.servers.support import TIMEOUT, listening_socket


def test_the_last_one_used_comes_first() -> None:
    pool: PoolState[str] = PoolState(ClientLimits(max_connections=3, keepalive_expiry=10))
    assert pool.take(0) is None
    assert pool.next_expiry is None
    assert [pool.reserve() for _ in range(4)] == [True, True, True, False]
    pool.release("a", 1, reusable=True)
    pool.release("b", 2, reusable=True)
    assert pool.idle == 2
    assert not pool.reserve()
    assert pool.next_expiry == 11
    assert pool.take(3) == "b"
    assert pool.take(11) is None
    assert pool.to_close() == ["a"]
    assert pool.to_close() == []
    assert pool.in_use == 2


def test_what_is_not_kept() -> None:
    pool: PoolState[str] = PoolState(ClientLimits(max_keepalive_connections=1))
    for _ in range(3):
        pool.reserve()
    pool.release("a", 0, reusable=False)
    pool.release("b", 0, reusable=True)
    pool.release("c", 0, reusable=True)
    assert pool.to_close() == ["a", "c"]
    assert pool.take(1) == "b"


def test_a_place_is_given_back() -> None:
    pool: PoolState[str] = PoolState(ClientLimits(max_connections=1))
    assert pool.reserve()
    assert not pool.reserve()
    pool.lose()
    assert pool.reserve()


def test_close() -> None:
    pool: PoolState[str] = PoolState(ClientLimits())
    for _ in range(2):
        pool.reserve()
    pool.release("a", 0, reusable=True)
    pool.close()
    assert pool.to_close() == ["a"]
    pool.release("b", 0, reusable=True)
    assert pool.to_close() == ["b"]
    assert pool.take(0) is None
    with pytest.raises(RuntimeError, match="the client was closed"):
        pool.reserve()


class Turn:
    """Waits in a pool's queue."""

    called = False

    def set(self) -> None:
        assert not self.called
        self.called = True


def full_pool(waiting: int, *, places: int = 1) -> tuple[PoolState[str], list[Turn]]:
    pool: PoolState[str] = PoolState(ClientLimits(max_connections=places))
    for _ in range(places):
        assert not pool.must_wait()
        assert pool.take_or_reserve(0) is None
    turns = [Turn() for _ in range(waiting)]
    for turn in turns:
        assert pool.must_wait()
        pool.queue(turn)
    return pool, turns


def test_who_comes_first_is_served_first() -> None:
    pool, turns = full_pool(3)
    for number, turn in enumerate(turns):
        pool.release("a", 0, reusable=True)
        assert [each.called for each in turns] == [True] * (number + 1) + [False] * (2 - number)
        # Not even the one who has given it back takes it before.
        assert pool.must_wait()
        assert pool.claim(turn)
        assert pool.take_or_reserve(0) == "a"
    assert (pool.in_use, pool.promised, pool.waiting) == (1, 0, 0)
    pool.lose()
    assert not pool.must_wait()


def test_a_promise_that_is_not_wanted_goes_to_the_next_one() -> None:
    pool, (timed_out, gave_up, failed, last) = full_pool(4)
    assert not pool.claim(timed_out)
    pool.lose()
    pool.give_up(gave_up)
    assert pool.claim(failed)
    assert pool.take_or_reserve(0) is None
    pool.lose()
    assert last.called
    assert (timed_out.called, pool.promised, pool.waiting) == (False, 1, 0)


def test_a_connection_that_was_closed_leaves_its_place() -> None:
    pool, (turn,) = full_pool(1, places=3)
    pool.lose()
    assert pool.claim(turn)
    for name in ("a", "b"):
        pool.release(name, 0, reusable=True)
    assert pool.take_or_reserve(0) is not None
    pool.release("c", 0, reusable=True)
    assert [pool.take_or_reserve(1), pool.retake(1), pool.retake(1), pool.retake(1)] == ["c", "a", None, None]
    assert (pool.in_use, pool.idle) == (1, 0)


def test_a_place_that_is_given_back_before_somebody_queues() -> None:
    """The garbage collector may give one back at any time."""
    pool, _ = full_pool(0)
    assert pool.must_wait()
    pool.lose()
    turn = Turn()
    pool.queue(turn)
    assert turn.called
    assert pool.claim(turn)
    assert pool.take_or_reserve(0) is None


def test_a_response_that_is_collected_within_the_pool() -> None:
    """Its thread has the lock already."""
    with listening_socket(socket.AF_INET) as (_, address):
        pool = ConnectionPool(parse_target("{}:{}".format(*address)), ClientLimits(max_connections=1))
        connection = pool.acquire(connect_timeout=TIMEOUT, pool_timeout=0)

        def collect() -> None:
            with pool._lock:
                pool.release(connection, reusable=False)

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        with pytest.raises(PoolTimeoutError) as caught:
            for _ in range(2):
                pool.acquire(connect_timeout=TIMEOUT, pool_timeout=0)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        pool.close()
        for used in list(pool._in_use):
            pool.release(used, reusable=False)


def test_nobody_waits_in_a_closed_pool() -> None:
    pool, turns = full_pool(2)
    pool.close()
    for turn in turns:
        assert pool.claim(turn)
        with pytest.raises(RuntimeError, match="the client was closed"):
            pool.take_or_reserve(0)
    assert not pool.must_wait()
    assert (pool.in_use, pool.promised) == (1, 0)


class Use(RuleBasedStateMachine):
    """Whatever shells do: no bound is passed, each connection is used by one, kept, or closed once, nobody waits long.

    Those who wait are served in turn, and none waits while there is a place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool: PoolState[int] = PoolState(
            ClientLimits(max_connections=4, max_keepalive_connections=2, keepalive_expiry=3)
        )
        self.now = 0.0
        self.numbers = itertools.count()
        self.used: list[int] = []
        self.kept: dict[int, float] = {}
        self.closed: set[int] = set()
        self.turns: list[Turn] = []

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def want(self) -> None:
        if self.pool.must_wait():
            self.turns.append(Turn())
            self.pool.queue(self.turns[-1])
        else:
            self.take(self.pool.take_or_reserve(self.now))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Or be told that it took too long."""
        turn = data.draw(st.sampled_from(self.turns))
        self.turns.remove(turn)
        promised = self.pool.claim(turn)
        assert promised == turn.called
        if promised:
            self.take(self.pool.take_or_reserve(self.now))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))
        self.turns.remove(turn)
        self.pool.give_up(turn)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def find_closed(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.used))
        self.used.remove(connection)
        self.take(self.pool.retake(self.now))

    @precondition(lambda self: self.used)
    @rule(data=st.data(), reusable=st.booleans())
    def release(self, data: st.DataObject, reusable: bool) -> None:
        connection = data.draw(st.sampled_from(self.used))
        self.used.remove(connection)
        self.pool.release(connection, self.now, reusable=reusable)
        self.kept[connection] = self.now

    @precondition(lambda self: self.used)
    @rule()
    def lose(self) -> None:
        self.used.pop()
        self.pool.lose()

    def take(self, connection: int | None) -> None:
        if connection is None:
            assert self.pool.idle == 0
            connection = next(self.numbers)
        else:
            assert self.now - self.kept.pop(connection) < 3
        self.used.append(connection)

    @invariant()
    def bounds(self) -> None:
        for connection in self.pool.to_close():
            assert connection not in self.closed
            self.closed.add(connection)
            del self.kept[connection]
        assert self.pool.in_use == len(self.used)
        assert self.pool.idle == len(self.kept) <= 2
        assert self.pool.in_use + self.pool.idle <= 4

    @invariant()
    def turns_are_kept(self) -> None:
        called = [turn.called for turn in self.turns]
        assert called == sorted(called, reverse=True)
        assert (sum(called), called.count(False)) == (self.pool.promised, self.pool.waiting)
        assert self.pool.in_use + self.pool.promised <= 4
        assert all(called) or self.pool.in_use + self.pool.promised == 4


TestUse = Use.TestCase
TestUse.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


BROKEN = BrokenResponseError("", received=False)


def exchange(
    method: str = "GET", *, body: bytes | None = None, received: bool = False, aborted: bool = False
) -> Exchange:
    made = Exchange(WebServerConnection(), {"REQUEST_METHOD": method})
    if body is not None:
        made.send_body(body)
    if received:
        made.receive_data(b"\x01\x06\x00\x01\x00\x01\x00\x00x")
    if aborted:
        made.abort()
    return made


def test_a_stale_connection() -> None:
    for error in (BROKEN, ConnectionResetError(), BrokenPipeError()):
        for method in IDEMPOTENT:
            assert may_retry(exchange(method), error, kept=True, sent=True, replayable=True)
        assert not may_retry(exchange("POST"), error, kept=True, sent=True, replayable=True)
        assert may_retry(exchange("POST", body=b"x"), error, kept=True, sent=False, replayable=True)


def test_what_is_not_repeated() -> None:
    assert not may_retry(exchange(), BROKEN, kept=False, sent=False, replayable=True)
    assert not may_retry(exchange(received=True), BROKEN, kept=True, sent=False, replayable=True)
    assert not may_retry(exchange(aborted=True), BROKEN, kept=True, sent=False, replayable=True)
    for body in (None, b"x"):
        assert not may_retry(exchange("PUT", body=body), BROKEN, kept=True, sent=False, replayable=False)
    for error in (ProtocolError(), RequestRefusedError("", protocol_status=2), TimeoutError()):
        assert not may_retry(exchange(), error, kept=True, sent=False, replayable=True)
