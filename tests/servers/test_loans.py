"""A handler's thread receives its long body by itself, on a server with threads, instead of the loop's thread."""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi import FcgiServer, FcgiThreadingServer
from simple_fastcgi.gateways.input import BodyReader
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.constants import FCGI_ABORT_REQUEST, FCGI_STDIN
from simple_fastcgi.protocol.records import encode_header, encode_record
from simple_fastcgi.sync import reading, server
from simple_fastcgi.sync.poller import READ
from tests.servers.support import HEAD, TIMEOUT, TINY, Flag, kinds, run_to_its_end, until
from tests.support.webserver import params_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from simple_fastcgi.monitor.info import RequestInfo
    from simple_fastcgi.protocol.scatter import Scatter
    from simple_fastcgi.protocol.streams import Request
    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import WebServer

pytestmark = kinds("threads")
RECORD = 60_000
PART = 500
BLOCK = 65_536
ENOUGH = 4 << 20


class Loan:
    """That of a body's start, which is of zeros only."""

    def __init__(self) -> None:
        self.begun = Flag()
        self.taken = 0

    async def take(self, h: Handler) -> None:
        """In a handler: read until it has come to the loan."""
        while not h.real.request.connection.is_lent_here():
            self.taken += len(await h.read(BLOCK))
        self.begun.set()

    async def digest(self, h: Handler) -> None:
        """A handler that answers with what its body was."""
        if await is_other(h):
            return
        await self.take(h)
        await h.write(HEAD + await rest_of(h, self.taken))

    def give(self, running: Running, web: WebServer, *, keep: bool = True, **params: str) -> bytes:
        """On the other side: begin a request, and send of a record as much as it takes; what is left of it."""
        web.begin(params_for("/", **params), keep=keep)
        web.send(encode_header(FCGI_STDIN, 1, RECORD))
        sent = 0
        until(running.connections)
        connection = running.connections()[-1]

        def is_due() -> bool:
            pace = connection._pace
            return self.begun.is_set or (self.taken == sent and pace is not None and pace.asked_by is not None)

        while not self.begun.is_set:
            web.send(bytes(PART))
            sent += PART
            until(is_due)
        return bytes(RECORD - sent)


@pytest.fixture(autouse=True)
def unswept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test hangs by a second only: what the loop takes back once in a while it does not, but where that is shown."""
    if "attentive" not in request.fixturenames:
        monkeypatch.setattr(server, "_SWEEP_SECONDS", 1e6)


@pytest.fixture
def loan() -> Loan:
    return Loan()


async def is_other(h: Handler) -> bool:
    """Whether it is another request than that with the long body; it is answered then."""
    if h.environ["REQUEST_URI"] != "/other":
        return False
    await h.write(HEAD + b"other")
    return True


async def rest_of(h: Handler, taken: int = 0) -> bytes:
    """Read the body to its end: the digest of all of it, behind `taken` zeros."""
    whole = hashlib.sha256(bytes(taken))
    while data := await h.read(BLOCK):
        whole.update(data)
    return whole.hexdigest().encode()


def of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def records(*sizes: int, end: bool = True) -> bytes:
    return b"".join([encode_record(FCGI_STDIN, 1, bytes(size)) for size in (*sizes, *([0] * end))])


@pytest.mark.parametrize("sizes", [(), (1,), (RECORD,) * 30, (RECORD, RECORD, 100, RECORD, 4096, 4095, 1, RECORD)])
def test_a_body_whose_handler_receives_it(serve: Serve, loan: Loan, sizes: tuple[int, ...]) -> None:
    running = serve(loan.digest)
    web = running.connect()
    rest = loan.give(running, web)
    (connection,) = running.connections()
    web.send(rest + records(*sizes))
    assert web.response().body == of(bytes(RECORD + sum(sizes)))
    until(lambda: connection.watched & READ)
    assert not connection.is_lent
    assert web.request(params_for("/other")).body == b"other"


def test_a_body_that_comes_in_small_parts(serve: Serve, loan: Loan) -> None:
    running = serve(loan.digest)
    web = running.connect()
    data = loan.give(running, web) + records(RECORD, 10, 5_000)
    for start in range(0, len(data), 997):
        web.send(data[start : start + 997])
    assert web.response().body == of(bytes(2 * RECORD + 5_010))


def test_a_body_that_comes_with_breaks(serve: Serve, loan: Loan, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each of them the loop takes over again."""
    running = serve(loan.digest)
    web = running.connect()
    data = loan.give(running, web) + records(RECORD, 10, 5_000)
    monkeypatch.setattr(reading, "LOOK_SECONDS", 0.001)
    (connection,) = running.connections()
    for start in range(0, len(data), 13_000):
        until(lambda: connection.watched & READ)
        assert not connection.is_lent
        web.send(data[start : start + 13_000])
    assert web.response().body == of(bytes(2 * RECORD + 5_010))


def test_an_abort(serve: Serve, loan: Loan) -> None:
    running = serve(loan.digest)
    web = running.connect()
    # In the midst of a record there is no other one.
    web.send(loan.give(running, web) + records(RECORD, end=False) + encode_record(FCGI_ABORT_REQUEST, 1))
    assert web.response().protocol_status == 0
    assert web.request(params_for("/other")).body == b"other"


def test_an_abort_while_the_handler_does_something_else(serve: Serve, loan: Loan) -> None:
    told = Flag()

    async def body(h: Handler) -> None:
        await loan.take(h)
        await h.until_aborted()
        told.set()

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web) + encode_record(FCGI_ABORT_REQUEST, 1))
    told.wait()


@pytest.mark.parametrize("half", [True, False])
def test_the_web_server_goes(serve: Serve, loan: Loan, *, half: bool) -> None:
    failed: list[BaseException] = []
    done = Flag()

    async def body(h: Handler) -> None:
        await loan.take(h)
        try:
            await h.readall()
        except OSError as error:
            failed.append(error)
            raise
        finally:
            done.set()

    running = serve(body)
    web = running.connect()
    loan.give(running, web)
    if half:
        web.socket.shutdown(socket.SHUT_WR)
    else:
        web.close()
    done.wait()
    assert type(failed[0]) is ConnectionAbortedError
    until(lambda: not running.connections())


def test_what_is_no_fastcgi(serve: Serve, loan: Loan, log: Log) -> None:
    running = serve(loan.digest)
    web = running.connect()
    web.send(loan.give(running, web) + b"GET / HTTP/1.1\r\n\r\n")
    assert web.at_eof()
    until(lambda: not running.connections())
    log.claim("not FastCGI: b'GET / HT' came")


def another_request(serve: Serve, loan: Loan, until_it_comes: Callable[[Handler], Awaitable[None]]) -> None:
    """It does not wait for the body, nor for its handler, whatever that is doing."""
    release = Flag()

    async def body(h: Handler) -> None:
        if h.environ["REQUEST_URI"] == "/other":
            await h.write(HEAD + await rest_of(h))
            return
        await loan.take(h)
        await until_it_comes(h)
        await h.wait(release)
        await h.write(HEAD + await rest_of(h, loan.taken))

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web))
    web.begin(params_for("/other"), request_id=2)
    for _ in range(4):
        web.body(bytes(100_000), request_id=2)
    web.body(b"", request_id=2, end=True)
    assert web.response(2).body == of(bytes(400_000))
    release.set()
    web.body(bytes(70_000), end=True)
    assert web.response(1).body == of(bytes(RECORD + 70_000))


def test_another_request_on_the_same_connection(serve: Serve, loan: Loan) -> None:
    async def receive(h: Handler) -> None:
        requests = h.real.request.connection.core.requests
        while len(requests) == 1 and (data := await h.read(BLOCK)):
            loan.taken += len(data)

    another_request(serve, loan, receive)


def test_another_request_while_the_handler_does_something_else(serve: Serve, loan: Loan, attentive: None) -> None:
    async def receive_nothing(h: Handler) -> None:
        pass

    another_request(serve, loan, receive_nothing)


def test_a_response_before_the_body_has_come(serve: Serve, loan: Loan) -> None:
    async def body(h: Handler) -> None:
        if h.environ["REQUEST_URI"] == "/":
            await loan.take(h)
        await h.write(HEAD + b"enough")

    running = serve(body)
    web = running.connect()
    rest = loan.give(running, web)
    (connection,) = running.connections()
    assert web.response().body == b"enough"
    until(lambda: connection.watched & READ)
    web.send(rest + records(RECORD))
    assert web.request(params_for("/other")).body == b"enough"


def test_a_response_of_another_thread_of_the_application(serve: Serve, loan: Loan) -> None:
    """Whoever waits for the body hears of it, although nothing comes."""
    failed: list[BaseException] = []
    ended = Flag()

    async def body(h: Handler) -> None:
        if await is_other(h):
            return
        await loan.take(h)
        other = threading.Thread(target=lambda: h.real.request.end(0, HEAD + b"ended"))
        other.start()
        try:
            await h.readall()
        except ConnectionAbortedError as error:
            failed.append(error)
        other.join()
        ended.set()

    running = serve(body)
    web = running.connect()
    rest = loan.give(running, web)
    assert web.response().body == b"ended"
    ended.wait()
    assert failed
    (connection,) = running.connections()
    until(lambda: connection.watched & READ)
    web.send(rest + records(RECORD))
    assert web.request(params_for("/other")).body == b"other"


@pytest.mark.parametrize("lent", [True, False])
def test_two_threads_of_the_application_read_one_body(serve: Serve, loan: Loan, *, lent: bool) -> None:
    """Each gets some of it, whoever has the loan."""

    async def body(h: Handler) -> None:
        await loan.take(h)
        request, sizes = h.real.request, [loan.taken]

        def read() -> None:
            while data := request.read(BLOCK):
                sizes.append(len(data))

        other = threading.Thread(target=read)
        other.start()
        if lent:
            read()
        other.join()
        await h.write(HEAD + b"%d" % sum(sizes))

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web) + records(*(RECORD,) * 40))
    assert web.response().body == b"%d" % (41 * RECORD)


def test_a_web_server_that_sends_all_before_it_reads(serve: Serve, loan: Loan) -> None:
    """What comes is read while the response waits for it to take something."""

    async def body(h: Handler) -> None:
        await loan.take(h)
        await h.write(HEAD)
        while data := await h.read(BLOCK):
            await h.write(data, flush=True)

    running = serve(body, limits={"max_buffered_input": ENOUGH})
    web = running.connect()
    rest = loan.give(running, web)
    web.send(rest + records(*(RECORD,) * 40))
    assert web.response().body == bytes(41 * RECORD - loan.taken)


def test_a_web_server_that_sends_all_before_it_reads_the_end(serve: Serve, loan: Loan) -> None:
    async def body(h: Handler) -> None:
        await loan.take(h)
        h.real.request.end(0, HEAD + bytes(ENOUGH))

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web) + records(*(RECORD,) * 40))
    assert web.response().body == bytes(ENOUGH)


def test_another_thread_of_the_application_writes_meanwhile(serve: Serve, loan: Loan) -> None:
    """It waits for a web server that is to be rid of its body, while the one with the loan waits for it."""

    async def body(h: Handler) -> None:
        await loan.take(h)
        request = h.real.request
        other = threading.Thread(target=lambda: request.write(HEAD + bytes(ENOUGH), flush=True))
        other.start()
        other.join()
        await h.write(b"%d" % len(await h.readall()))

    running = serve(body, limits={"max_buffered_input": ENOUGH})
    web = running.connect()
    web.send(loan.give(running, web) + records(*(RECORD,) * 40))
    assert web.response().body == bytes(ENOUGH) + b"%d" % (41 * RECORD - loan.taken)


def test_a_file_is_sent_while_the_body_comes(serve: Serve, loan: Loan, attentive: None) -> None:
    content = random.Random(3).randbytes(3_000_000)
    size = 8 << 20

    async def body(h: Handler) -> None:
        await loan.take(h)
        h.real.request.write(HEAD)
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            h.real.request.send_file(file.fileno(), 0, size)
        await h.write(await rest_of(h, loan.taken))

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web))
    sender = threading.Thread(target=lambda: web.body(content, end=True))
    sender.start()
    answer = web.response().body
    sender.join()
    assert len(answer) == size + 64
    assert answer[size:] == of(bytes(RECORD) + content)


def test_nothing_more_comes(serve: Serve, loan: Loan) -> None:
    failed: list[BaseException] = []

    async def body(h: Handler) -> None:
        while not loan.begun.is_set:
            # On a machine that stands still it may time out before, which loses nothing.
            with suppress(TimeoutError):
                await loan.take(h)
        try:
            await h.readall()
        except TimeoutError as error:
            failed.append(error)
        await h.write(HEAD + b"late")

    running = serve(body, limits={"read_timeout": 1.0})
    web = running.connect()
    loan.give(running, web)
    assert web.response().body == b"late"
    assert failed


def test_the_server_ends(serve: Serve, loan: Loan, log: Log) -> None:
    running = serve(loan.digest, limits={"graceful_timeout": TINY})
    web = running.connect()
    loan.give(running, web)
    running.stop()
    assert web.response().status == 500
    log.claim("1 connections cut off after 0.05 s (graceful_timeout)")


def test_the_server_ends_gracefully(serve: Serve, loan: Loan) -> None:
    running = serve(loan.digest)
    web = running.connect()
    rest = loan.give(running, web)
    running.ask_to_stop()
    web.send(rest + records(RECORD))
    assert web.response().body == of(bytes(2 * RECORD))
    running.wait_for_end()


# --------------------------------------------------------------------- when the loop must hear at once


def test_a_request_that_waits_for_the_end_of_another_body(serve: Serve, loan: Loan) -> None:
    """There is a thread for it as soon as that has come, whatever its handler does then."""
    release = Flag()

    async def body(h: Handler) -> None:
        if await is_other(h):
            return
        await loan.take(h)
        await rest_of(h)
        await h.wait(release)

    # It does not come to the idea by itself.
    serve_forever = {"serve_forever": lambda self: FcgiThreadingServer.serve_forever(self, 10 * TIMEOUT)}
    running = serve(body, threads=2, server=serve_forever)
    web = running.connect()
    rest = loan.give(running, web)
    other = running.connect()
    other.begin(params_for("/other"))
    other.body(bytes(100))
    until(lambda: running.server._waiting)
    web.send(rest + records())
    assert other.response().body == b"other"
    release.set()


def test_the_end_and_an_abort_at_once(serve: Serve, loan: Loan) -> None:
    """The web server hears of the end of a connection that it does not want to keep, before the handler ends."""
    release = Flag()

    async def body(h: Handler) -> None:
        await loan.take(h)
        await h.readall()
        await h.wait(release)

    running = serve(body)
    web = running.connect()
    rest = loan.give(running, web, keep=False)
    web.send(rest)
    web.send(records() + encode_record(FCGI_ABORT_REQUEST, 1))
    assert web.response().protocol_status == 0
    web.eof()
    release.set()


def test_an_error_of_what_is_told(serve: Serve, loan: Loan, log: Log) -> None:
    """It ends the connection, not the server."""

    class Failing(Monitor):
        def arrived(self, params: Mapping[str, str]) -> RequestInfo:
            if params["REQUEST_URI"] == "/fails":
                raise RuntimeError("no")
            return super().arrived(params)

    running = serve(loan.digest, monitor=Failing())
    web = running.connect()
    web.send(loan.give(running, web))
    web.begin(params_for("/fails"), request_id=2)
    assert web.at_eof()
    log.claim("because of an error of this package")
    log.claim("connection from a unix socket closed: no")
    assert running.request("/other").body == b"other"


def test_no_memory_to_receive(serve: Serve, loan: Loan, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler fails, and the connection is as good as ever."""
    begin_scatter = ApplicationConnection.begin_scatter
    failed: list[bool] = []

    def fail_once(self: ApplicationConnection, request: Request) -> Scatter | None:
        scatter = begin_scatter(self, request)
        if scatter is not None and not failed:
            failed.append(True)
            raise MemoryError("none")
        return scatter

    async def body(h: Handler) -> None:
        if not await is_other(h):
            await loan.take(h)
            await read_in_blocks(h)

    running = serve(body)
    web = running.connect()
    rest = loan.give(running, web, CONTENT_LENGTH=str(100 * RECORD))
    monkeypatch.setattr(ApplicationConnection, "begin_scatter", fail_once)
    web.send(rest + records(*(RECORD,) * 99))
    assert web.response().status == 500
    assert failed
    log.claim("GET / failed")
    assert web.request(params_for("/other")).body == b"other"


def test_a_buffer_that_cannot_be_written_to(serve: Serve, loan: Loan, attentive: None) -> None:
    release = Flag()

    async def body(h: Handler) -> None:
        if await is_other(h):
            return
        await loan.take(h)
        with pytest.raises(TypeError):
            await h.readinto(memoryview(bytes(10)))
        await h.wait(release)

    running = serve(body)
    web = running.connect()
    web.send(loan.give(running, web) + records())
    web.begin(params_for("/other"), request_id=2)
    web.body(b"", request_id=2, end=True)
    assert web.response(2).body == b"other"
    release.set()


def test_another_thread_ends_the_response_in_the_midst_of_a_block(serve: Serve, loan: Loan) -> None:
    reads, ended = Flag(), Flag()

    async def body(h: Handler) -> None:
        if await is_other(h):
            return

        def end() -> None:
            reads.wait()
            h.real.request.end(0, HEAD + b"ended")
            ended.set()

        other = threading.Thread(target=end)
        other.start()
        await loan.take(h)
        file = BodyReader(h.real.request)
        with suppress(ConnectionAbortedError):
            while not ended.is_set:
                file.read(BLOCK)
                reads.set()
        other.join()

    running = serve(body)
    web = running.connect()
    rest = loan.give(running, web, CONTENT_LENGTH=str(1 << 40))
    web.send(rest)
    while not ended.is_set:
        web.send(records(RECORD, end=False))
    assert web.response().body == b"ended"
    web.send(records(RECORD))
    assert web.request(params_for("/other")).body == b"other"


@pytest.mark.parametrize("writes", [True, False])
def test_the_loops_own_handler_while_another_thread_reads(serve: Serve, loan: Loan, *, writes: bool) -> None:
    """It has nobody who would take the loan back."""
    done = Flag()

    async def body(h: Handler) -> None:
        def take() -> None:
            run_to_its_end(loan.take(h))
            done.wait()

        other = threading.Thread(target=take)
        other.start()
        while not loan.begun.is_set:
            assert not h.aborted()
            await h.pause()
        if writes:
            await h.write(HEAD + bytes(ENOUGH), flush=True)
        else:
            await h.until_aborted()
        done.set()
        other.join()

    in_loop = {"process_request": FcgiServer.process_request}
    running = serve(body, server=in_loop, limits={"max_buffered_input": ENOUGH})
    web = running.connect()
    rest = loan.give(running, web)
    if writes:
        web.send(rest + records(*(RECORD,) * 40))
        assert web.response().body == bytes(ENOUGH)
    else:
        web.send(rest + encode_record(FCGI_ABORT_REQUEST, 1))
    done.wait()


# --------------------------------------------------------------------- many, and never for long


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


async def read_in_blocks(h: Handler) -> None:
    """As WSGI applications do."""
    body = hashlib.sha256()
    file, left = BodyReader(h.real.request), int(h.environ["CONTENT_LENGTH"])
    while left and (data := file.read(min(left, BLOCK))):
        left -= len(data)
        body.update(data)
    await h.write(HEAD + body.hexdigest().encode())


async def read_and_write(h: Handler) -> None:
    """Answer with what comes, and look every now and then whether the web server still wants that."""
    body = hashlib.sha256()
    await h.write(HEAD)
    for write in cycle([True, False, False]):
        data = await h.read(BLOCK)
        if not data:
            break
        body.update(data)
        if write:
            await h.write(bytes(BLOCK), flush=True)
        else:
            assert not h.aborted()
    await h.write(body.hexdigest().encode())


@pytest.mark.parametrize("body", [read_in_blocks, read_and_write])
@pytest.mark.parametrize("taken_back", [False, True])
def test_bodies_of_many_at_once(
    serve: Serve, hasty: None, body: Callable[[Handler], Awaitable[None]], *, taken_back: bool
) -> None:
    """None of them loses a byte, or gets another one's, however often a loan ends."""
    seed = random.Random(7)
    bodies = [seed.randbytes(1_500_000 + 1_237 * count) for count in range(10)]
    found: dict[int, set[bytes]] = {count: set() for count in range(len(bodies))}
    running = serve(body)
    webs = [running.connect() for _ in bodies]
    until(lambda: len(running.connections()) == len(webs))
    connections = running.connections()
    ended = Flag()

    def send(count: int) -> None:
        web, content = webs[count], bodies[count]
        for _ in range(3):
            web.begin(params_for("/", CONTENT_LENGTH=str(len(content))))
            sender = threading.Thread(target=lambda: web.body(content, end=True))
            sender.start()
            found[count].add(web.response().body[-64:])
            sender.join()

    def take_back() -> None:
        while not ended.is_set:
            for connection in connections:
                connection.reclaim()
            time.sleep(0)

    senders = [threading.Thread(target=send, args=(count,)) for count in range(len(bodies))]
    thief = threading.Thread(target=take_back)
    if taken_back:
        thief.start()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(TIMEOUT)
    ended.set()
    if taken_back:
        thief.join()
    assert found == {count: {of(content)} for count, content in enumerate(bodies)}
