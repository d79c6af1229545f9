"""Every limit in seconds, made tiny: what is closed, what is logged, and what is left alone."""

from __future__ import annotations

import select
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_GET_VALUES,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDIN,
)
from simple_fastcgi.protocol.pairs import encode_pairs
from simple_fastcgi.protocol.records import encode_begin_request, encode_end_request, encode_record
from tests.servers.support import ASYNC, CONCURRENT, HEAD, TINY, Flag, kinds, until
from tests.support.webserver import TIMEOUT, encode_request, params_for, stream

if TYPE_CHECKING:
    import socket
    from typing import Any

    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import WebServer

pytestmark = pytest.mark.usefixtures("attentive")

END = encode_end_request(1, 0, 0)
GET_VALUES = encode_record(FCGI_GET_VALUES, 0, encode_pairs([("FCGI_MAX_CONNS", "")]))


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


def is_closed(web: WebServer, running: Running) -> bool:
    web.socket.settimeout(TIMEOUT)
    assert web.at_eof()
    until(lambda: not running.connections())
    return True


PARTS = {
    "one-byte": b"\1",
    "half-of-a-header": b"\1\1\0\1",
    "header": b"\1\1\0\1\0\x08\0\0",
    "begin": encode_record(FCGI_BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0"),
    "params": encode_request(params_for())[:60],
}


@pytest.mark.parametrize("part", PARTS)
def test_params_timeout(serve: Serve, log: Log, part: str) -> None:
    running = serve(echo_path, limits={"params_timeout": TINY})
    web = running.connect()
    web.send(PARTS[part])
    assert is_closed(web, running)
    log.claim("a unix socket closed: its parameters took more than 0.05 s (params_timeout)")


def test_params_timeout_whatever_drips(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    """The time is for all of them, not for each byte."""
    running = serve(echo_path, family=family, limits={"params_timeout": 0.2})
    web = running.connect()
    request = encode_request(params_for(HTTP_X="x" * 60_000))
    with pytest.raises(OSError, match=r"\[Errno"):
        for i in range(60_000):
            web.send(request[i : i + 1])
            time.sleep(0.001)
    log.claim("(params_timeout)")


def test_params_timeout_of_a_second_request(serve: Serve, log: Log) -> None:
    """On a kept connection; the time before it began does not count."""
    running = serve(echo_path, limits={"params_timeout": 0.3})
    web = running.connect()
    started = time.monotonic()
    while time.monotonic() - started < 0.4:
        assert web.request(params_for("/x")).body == b"/x"
    web.send(PARTS["params"])
    assert is_closed(web, running)
    log.claim("(params_timeout)")


@CONCURRENT
def test_params_timeout_beside_another_request(serve: Serve, log: Log) -> None:
    begun, aborted = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.until_aborted()
        aborted.set()

    running = serve(body, limits={"params_timeout": TINY})
    web = running.connect()
    web.send(encode_request(params_for(), request_id=2))
    begun.wait()
    web.send(PARTS["begin"])
    assert is_closed(web, running)
    aborted.wait()
    log.claim("(params_timeout)")


@pytest.mark.parametrize(("seconds", "ends"), [(200, False), (400, True)])
def test_the_rest_of_a_body_behind_an_early_answer(serve: Serve, log: Log, seconds: float, ends: bool) -> None:
    """On a kept connection: it is no request's parameters, but must not come for ever, either."""
    running = serve(echo_path, limits={"params_timeout": 100, "idle_timeout": 300})
    web = running.connect()
    web.begin(params_for("/early"))
    assert web.response().body == b"/early"
    (connection,) = running.connections()
    awaited = "_awaited" if running.kind.is_async else "awaited"
    rest = encode_record(FCGI_STDIN, 1, bytes(60_000))
    web.send(rest[:1000])
    until(lambda: getattr(connection, awaited) is not None)
    running.wait_for_sweeps()
    setattr(connection, f"{awaited}_since", getattr(connection, f"{awaited}_since") - seconds)
    if ends:
        assert is_closed(web, running)
        log.claim("the input of a request that has ended took more than 300 s (idle_timeout)")
    else:
        running.wait_for_sweeps()
        web.send(rest[1000:] + encode_record(FCGI_STDIN, 1))
        assert web.request(params_for("/next")).body == b"/next"


@CONCURRENT
def test_params_timeout_while_the_server_does_not_read(serve: Serve) -> None:
    """Another request's handler is behind with its input: these parameters cannot come."""
    begun, release = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        if h.environ["PATH_INFO"] == "/slow":
            await h.wait(release)
            await h.write(HEAD + b"%d" % len(await h.readall()))
        else:
            await echo_path(h)

    running = serve(body, limits={"max_buffered_input": 1000, "max_spooled_input": 1000})
    web = running.connect()
    web.begin(params_for("/slow"))
    begun.wait()
    (connection,) = running.connections()
    params = encode_pairs(params_for("/next").items())
    web.send(encode_begin_request(2, FCGI_RESPONDER, FCGI_KEEP_CONN) + encode_record(FCGI_PARAMS, 2, params[:9]))
    web.body(bytes(1000))
    web.body(bytes(1000))
    until(lambda: not connection.core.wants_input)
    running.wait_for_sweeps()
    since = "_awaited_since" if running.kind.is_async else "awaited_since"
    setattr(connection, since, getattr(connection, since, 0) - 3600)
    running.wait_for_sweeps()
    release.set()
    web.body(b"", end=True)
    web.send(b"".join(stream(FCGI_PARAMS, 2, params[9:])))
    web.body(b"", request_id=2, end=True)
    responses = web.responses([1, 2])
    assert (responses[1].body, responses[2].body) == (b"2000", b"/next")


@CONCURRENT
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "takes-nothing"])
def test_params_timeout_of_one_who_reads_slowly(serve: Serve, log: Log, reads: bool) -> None:
    """How the web server takes another answer is no excuse: we read, and nothing comes."""
    begun, aborted = Flag(), Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        begun.set()
        with pytest.raises(ConnectionAbortedError):
            while True:
                await h.write(bytes(65536))
        aborted.set()

    running = serve(body, limits={"params_timeout": 0.2})
    web = running.connect()
    web.send(encode_request(params_for()))
    begun.wait()
    web.send(encode_request(params_for(), request_id=2)[:60])
    with suppress(ConnectionError):
        while reads and web.socket.recv(100):
            pass
    aborted.wait()
    log.claim("(params_timeout)")


def test_a_slow_handler_and_body_are_not_a_matter_of_params_timeout(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        data = await h.read()
        await h.write(data)

    running = serve(body, limits={"params_timeout": TINY})
    web = running.connect()
    web.begin(params_for())
    assert web.record().content == HEAD
    time.sleep(4 * TINY)
    web.body(b"body")
    # In the middle of a record, too.
    web.send(b"\1\5\0\1\0\4\0\0bo")
    time.sleep(4 * TINY)
    web.send(b"dy")
    web.body(b"", end=True)
    assert web.response().stdout == b"bodybody"


def test_idle_timeout(serve: Serve, family: socket.AddressFamily) -> None:
    """Behind a request, and with none at all; neither is worth a line in the log."""
    running = serve(echo_path, family=family, limits={"idle_timeout": 1000})
    web = running.connect()
    assert web.request(params_for("/x")).body == b"/x"
    running.age_until_closed(1100)
    assert web.at_eof()
    running = serve(echo_path, family=family, limits={"idle_timeout": TINY})
    assert is_closed(running.connect(), running)


def test_idle_timeout_begins_with_the_end_of_a_request(serve: Serve) -> None:
    """However long that took: a connection is never closed right behind its answer."""
    begun, release = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    running.age(3600)
    release.set()
    assert web.response().body == b"/slow"
    running.wait_for_sweeps()
    assert web.request(params_for("/next")).body == b"/next"


@kinds("mixin", "threads")
def test_idle_timeout_of_a_thread_that_is_slow_behind_its_answer(serve: Serve) -> None:
    """The loop may look at the connection before the thread that has answered tells of it."""
    begun, release, looked = Flag(), Flag(), Flag()

    def request_ended(server: Any, *arguments: Any, **options: Any) -> None:
        looked.wait()
        super(type(server), server).request_ended(*arguments, **options)

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    running = serve(body, server={"request_ended": request_ended})
    web = running.connect()
    web.send(encode_request(params_for("/slow")))
    begun.wait()
    running.age(3600)
    release.set()
    assert web.response().body == b"/slow"
    running.wait_for_sweeps()
    looked.set()
    assert web.request(params_for("/next")).body == b"/next"


async def block(h: Handler, begun: dict[str, Flag], release: dict[str, Flag]) -> None:
    """Keep the loop busy, an event loop as well, as long as the path says."""
    if flag := begun.get(path := h.environ["PATH_INFO"]):
        # Now it is time to look at the time, which is done behind what follows.
        time.sleep(TINY)
        await h.pause(0)
        flag.set()
        release[path].wait()
    await echo_path(h)


def read_what_came(web: WebServer) -> None:
    web.socket.setblocking(False)
    with suppress(BlockingIOError):
        while web.socket.recv(1 << 20):
            pass
    web.socket.settimeout(TIMEOUT)


@kinds("sync", "selector", "asyncio", "uvloop")
@pytest.mark.parametrize("case", ["idle", "params", "write"])
def test_time_in_which_a_handler_kept_the_loop_busy(serve: Serve, case: str) -> None:
    """Somebody else's; what has come meanwhile, or would have been taken, is no silence."""
    begun, release = {"/1": Flag(), "/2": Flag()}, {"/1": Flag(), "/2": Flag()}
    running = serve(partial(block, begun=begun, release=release))
    web = running.connect()
    assert web.request(params_for("/x")).body == b"/x"
    (connection,) = running.connections()
    first, second = running.connect(), running.connect()
    for kept in (first, second):
        assert kept.request(params_for("/x")).body == b"/x"
    request = encode_request(params_for("/waits"))
    cut = 30 if case == "params" else 0
    if case == "write":
        sent = fill(web)
        running.wait_for_sweeps()
        # A server that has no processor for a moment takes no more, either, and has room when it comes to it.
        while connection.core.wants_input:
            sent = fill(web, sent)
            running.wait_for_sweeps()
    elif case == "params":
        web.send(request[:cut])
    running.wait_for_sweeps()
    first.send(encode_request(params_for("/1")))
    begun["/1"].wait()
    second.send(encode_request(params_for("/2")))
    release["/1"].set()
    begun["/2"].wait()
    if case == "write":
        read_what_came(web)
    else:
        web.send(request[cut:])
    connection.last_active -= 3600
    since = "stalled_since" if case == "write" else "awaited_since"
    since = f"_{since}" if running.kind.is_async else since
    setattr(connection, since, getattr(connection, since, 0) - 3600)
    release["/2"].set()
    assert second.response().body == b"/2"
    if case == "write":
        running.wait_for_sweeps()
        assert connection in running.connections()
    else:
        assert web.response().body == b"/waits"


def test_idle_timeout_is_not_for_busy_connections(serve: Serve) -> None:
    running = serve(echo_path, limits={"idle_timeout": 1000})
    web = running.connect()
    for _ in range(3):
        assert web.request(params_for("/x")).body == b"/x"
        running.age(900)
        running.wait_for_sweeps()
    running.age_until_closed(1100)
    assert web.at_eof()


def fill(web: WebServer, sent: int = 0) -> int:
    """Send questions and read no answer, until the server takes no more; how many bytes that was, with those before."""
    questions = GET_VALUES * 4096
    web.socket.settimeout(0.1)
    try:
        while sent < 64 << 20:
            start = sent % len(GET_VALUES)
            sent += web.socket.send(questions[start:])
    except TimeoutError:
        pass
    web.socket.settimeout(TIMEOUT)
    return sent


def test_answers_that_nobody_reads_do_not_pile_up(serve: Serve) -> None:
    running = serve(echo_path)
    web = running.connect()
    until(running.connections)
    assert fill(web) < 8 << 20
    (connection,) = running.connections()
    assert connection.core._out_size < 1 << 20
    assert not running.is_busy_for_nothing()
    assert running.request("/other").body == b"/other"


def test_write_timeout_of_answers_that_nobody_reads(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"write_timeout": 0.2})
    web = running.connect()
    # Until the server gives up: it may have stood still when it seemed to take no more.
    with pytest.raises(ConnectionError):
        while True:
            web.send(GET_VALUES * 4096)
    until(lambda: not running.connections())
    log.claim("a unix socket closed: it took nothing for 0.2 s (write_timeout)")


def test_write_timeout(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    """Of a handler that writes: it is told."""
    done = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(ConnectionAbortedError):
            for _ in range(100):
                await h.write(bytes(1 << 20))
        assert h.aborted()
        done.set()

    running = serve(body, family=family, limits={"write_timeout": TINY})
    web = running.connect()
    web.send(encode_request(params_for()))
    done.wait()
    until(lambda: not running.connections())
    log.claim("closed: it took nothing for 0.05 s (write_timeout)")


@kinds("mixin", "threads")
def test_write_timeout_where_the_loop_looks_seldom(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's thread looks at the time itself."""
    monkeypatch.undo()
    done = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(ConnectionAbortedError):
            for _ in range(100):
                await h.write(bytes(1 << 20))
        done.set()

    running = serve(body, limits={"write_timeout": TINY})
    web = running.connect()
    web.send(encode_request(params_for()))
    done.wait()
    until(lambda: not running.connections())
    log.claim("a unix socket closed: it took nothing for 0.05 s (write_timeout)")


def test_write_timeout_although_the_peer_sends(serve: Serve, log: Log) -> None:
    """Sending is no sign that it reads."""
    done = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(ConnectionAbortedError):
            for _ in range(100):
                await h.write(bytes(1 << 20))
        done.set()

    running = serve(body, limits={"write_timeout": 0.2})
    web = running.connect()
    web.begin(params_for())
    web.socket.settimeout(TIMEOUT)
    try:
        while not done.is_set:
            web.body(b"x")
            time.sleep(0.005)
    except OSError:
        done.wait()
    log.claim("(write_timeout)")


def heard(running: Running, request: bytes, begun: Flag) -> WebServer:
    """A connection whose request has begun: where the idle time is tiny, one is closed if the machine stands still."""
    while True:
        web = running.connect()
        try:
            web.send(request)
        except ConnectionError:
            continue
        # Readable, and nothing has begun: that is its end.
        while not begun.is_set and not select.select([web.socket], [], [], 0.001)[0]:
            pass
        if begun.is_set:
            return web


def test_write_timeout_behind_the_handler(serve: Serve, log: Log) -> None:
    """What is left when it has returned."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.write(HEAD + bytes(60_000))

    running = serve(body, limits={"write_timeout": 0.2, "linger_timeout": TINY, "idle_timeout": TINY})
    # Many answers, which pile up on the way.
    ids = range(1, 101)
    heard(running, b"".join(encode_request({}, request_id=i) for i in ids), begun)
    until(lambda: not running.connections())
    log.claim("(write_timeout)")


def test_a_slow_reader_who_goes_on_is_served(serve: Serve) -> None:
    """It takes much longer than any limit in all, and pauses, but never for long enough."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.write(HEAD)
        for _ in range(6):
            await h.write(bytes(500_000))
        await h.write(bytes(60_000))

    limits = {"write_timeout": 100, "linger_timeout": TINY, "idle_timeout": TINY, "params_timeout": TINY}
    running = serve(body, limits=limits)
    web = heard(running, encode_request(params_for(), keep=False), begun)
    arrived = bytearray()
    stalled_since = "_stalled_since" if running.kind.is_async else "stalled_since"
    seen = 0.0
    while not arrived.endswith(END):
        arrived += web.socket.recv(65536)
        time.sleep(0.02)
        for connection in running.connections():
            # Whenever something has moved, let a minute pass.
            if getattr(connection, stalled_since) != seen:
                seen = getattr(connection, stalled_since) - 60
                setattr(connection, stalled_since, seen)
    assert len(arrived) > 3_060_000
    web.eof()


@ASYNC
def test_all_that_a_slow_reader_takes_counts(serve: Serve) -> None:
    """An event loop hears of much at once only, for which a slow client needs minutes."""

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        await h.write(bytes(3_000_000))

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for(), keep=False))
    arrived = len(web.socket.recv(100))
    (connection,) = running.connections()
    until(lambda: waits_since(connection))
    looks = 0
    while before := waits_since(connection):
        arrived += len(web.socket.recv(65536))
        until(partial(is_another, connection, before))
        looks += 1
    assert looks > 10
    while data := web.socket.recv(65536):
        arrived += len(data)
    assert arrived > 3_000_000


def waits_since(connection: Any) -> float:
    """When the kernel last took something of what an asynchronous connection has to send; 0 if it has nothing."""
    since: float = connection._stalled_since
    return since if connection.transport.get_write_buffer_size() else 0


def is_another(connection: Any, before: float) -> bool:
    return waits_since(connection) != before


def test_a_pause_behind_the_handler_does_not_cut(serve: Serve) -> None:
    """The last of an answer waits for the web server longer than any limit but that of writes."""
    begun, written = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.write(HEAD)
        await h.write(bytes(600_000))
        # This much gathers, and leaves with the end.
        await h.write(bytes(65_000))
        written.set()

    running = serve(body, limits={"linger_timeout": TINY, "idle_timeout": TINY})
    web = heard(running, encode_request(params_for(), keep=False), begun)
    taken = bytearray()
    # Read as little as lets the handler come to its end.
    web.socket.settimeout(0.05)
    while not written.is_set:
        try:
            taken += web.socket.recv(4096)
        except TimeoutError:
            pass
    time.sleep(8 * TINY)
    web.socket.settimeout(TIMEOUT)
    while piece := web.socket.recv(65536):
        taken += piece
    assert taken.endswith(END)
    assert len(taken) > 665_000


def test_linger_timeout(serve: Serve, family: socket.AddressFamily) -> None:
    """Whoever sends no more, and does not end its body either."""
    running = serve(echo_path, family=family, limits={"linger_timeout": TINY})
    web = running.connect()
    # In one piece: what comes so much later is too late.
    web.send(encode_request(params_for("/early"), bytes(1000), keep=False, end_stdin=False))
    assert web.response().body == b"/early"
    web.eof()
    until(lambda: not running.connections())


def test_lingering_for_an_earlier_request(serve: Serve, family: socket.AddressFamily) -> None:
    """Its answer came early, and what it still sends must not destroy the last one's."""
    size = 100_000

    async def body(h: Handler) -> None:
        await h.write(HEAD + bytes(size))

    running = serve(body, family=family)
    web = running.connect()
    web.begin(params_for())
    assert len(web.response().body) == size
    web.send(encode_request(params_for(), request_id=2, keep=False))
    until(lambda: running.connections()[0].core.finished)
    for _ in range(20):
        web.body(bytes(30_000))
    web.body(b"", end=True)
    assert len(web.response(2).body) == size
    web.eof()


def test_linger_timeout_of_a_refused_request(serve: Serve, log: Log) -> None:
    running = serve(echo_path, limits={"linger_timeout": TINY})
    web = running.connect()
    web.begin(params_for(), role=2, keep=False)
    assert web.response().status == 500
    log.claim("requests in role 2 (Authorizer) are refused")
    assert is_closed(web, running)


def test_who_keeps_a_closed_connection_open(serve: Serve) -> None:
    """It was told that nothing follows, and does not close."""
    running = serve(echo_path, limits={"linger_timeout": TINY})
    web = running.connect()
    assert web.request(params_for("/x"), keep=False).body == b"/x"
    until(lambda: not running.connections())
    web.eof()
