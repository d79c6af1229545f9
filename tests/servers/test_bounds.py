"""Memory, descriptors and processor time stay bounded, whatever a peer does."""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import socket
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.application import ApplicationConnection
from simple_fastcgi.protocol.constants import (
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_FILTER,
    FCGI_OVERLOADED,
    FCGI_RESPONDER,
    FCGI_STDIN,
)
from simple_fastcgi.protocol.records import encode_begin_request, encode_record
from simple_fastcgi.sync import reading
from tests.servers.support import (
    CONCURRENT,
    HEAD,
    TIMEOUT,
    Flag,
    child_environment,
    kinds,
    listening_socket,
    python,
    until,
)
from tests.support.webserver import WebServer, encode_request, params_for, stream

if TYPE_CHECKING:
    from simple_fastcgi.protocol.streams import Request
    from tests.servers.support import Handler, Log, Serve

MEGABYTE = 1 << 20


def send_until_blocked(web: WebServer, data: bytes, *, at_least: int = 0) -> int:
    """Send until the server has not taken anything for a while; how many bytes it took.

    A server that stands still seems to take no more. What it must take `at_least` is waited for.
    """
    sent = 0
    web.socket.setblocking(False)
    poll = select.poll()
    poll.register(web.socket, select.POLLOUT)
    while sent < len(data) and poll.poll(300 if sent >= at_least else TIMEOUT * 1000):
        sent += web.socket.send(data[sent : sent + 65536])
    web.socket.settimeout(TIMEOUT)
    return sent


@pytest.mark.no_cover
def test_a_large_answer_to_one_who_reads_late(serve: Serve, family: socket.AddressFamily) -> None:
    """50 MB: no more is taken from the handler than the peer makes room for."""
    piece = os.urandom(MEGABYTE)
    written = 0

    async def body(h: Handler) -> None:
        nonlocal written
        await h.write(HEAD)
        for _ in range(50):
            await h.write(piece)
            written += len(piece)

    running = serve(body, family=family)
    # The kernel's own buffers do not grow with a reader that is slow: connections take after the listening socket.
    running.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEGABYTE // 8)
    web = running.connect()
    web.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEGABYTE // 8)
    web.send(encode_request(params_for(), keep=False))
    digest, received, ahead = hashlib.sha256(), 0, 0
    # It has begun to send, and the handler has had time to run ahead.
    first = web.record()
    assert not running.is_busy_for_nothing()
    digest.update(first.content[len(HEAD) :])
    while (record := web.record()).type != FCGI_END_REQUEST:
        ahead = max(ahead, written - received)
        received += len(record.content)
        digest.update(record.content)
    assert digest.digest() == hashlib.sha256(piece * 50).digest()
    assert ahead < 4 * MEGABYTE


@pytest.mark.no_cover
@pytest.mark.parametrize("role", [FCGI_RESPONDER, FCGI_FILTER])
def test_a_large_upload_into_a_slow_handler(serve: Serve, role: int) -> None:
    """20 MB: the server stops reading when the handler is behind, and the web server feels it.

    A Filter's come as FCGI_DATA.
    """
    begun, slow = Flag(), Flag()
    digest = hashlib.sha256()

    async def body(h: Handler) -> None:
        begun.set()
        while not slow.is_set:
            # In the server's own thread, whose processor time is looked at: on a slow machine each turn costs much.
            await h.pause(0.02)
        while data := await (h.read if role == FCGI_RESPONDER else h.read_data)(65536):
            digest.update(data)
        await h.write(HEAD + digest.hexdigest().encode())

    running = serve(body, handler={"roles": (role,)})
    web = running.connect()
    web.begin(params_for(), role=role)
    if role == FCGI_FILTER:
        web.body(b"", end=True)
    begun.wait()
    data = os.urandom(20 * MEGABYTE)
    records = b"".join(stream(FCGI_STDIN if role == FCGI_RESPONDER else FCGI_DATA, 1, data))
    sent = send_until_blocked(web, records)
    assert sent < 2 * MEGABYTE
    (connection,) = running.connections()
    assert connection.core.buffered_input < MEGABYTE
    assert not running.is_busy_for_nothing()
    slow.set()
    web.send(records[sent:])
    assert web.response().body == hashlib.sha256(data).hexdigest().encode()


@CONCURRENT
def test_a_filter_whose_data_comes_with_its_request(serve: Serve) -> None:
    """Where it is as much as is taken at once: nothing more is read until the handler has read it."""
    begun, answer = Flag(), Flag()

    async def body(h: Handler) -> None:
        if "PATH_INFO" in h.environ:
            begun.set()
            await h.wait(answer)
        await h.write(HEAD + b"%d" % len(await h.read_data()))

    running = serve(body, family=socket.AF_UNIX, limits={"max_buffered_input": 1000}, handler={"roles": (FCGI_FILTER,)})
    web, other = running.connect(), running.connect()
    data = b"".join(stream(FCGI_DATA, 1, bytes(2000)))
    web.send(encode_request(params_for(), role=FCGI_FILTER) + data)
    begun.wait()
    # Of a request that is none: it would be passed over.
    web.send(encode_record(FCGI_STDIN, 2, bytes(1000)))
    for _ in range(3):
        # Turns of a loop in which it would be read.
        other.send(encode_request({}, role=FCGI_FILTER) + data)
        assert other.response().body == b"2000"
    (unread,) = struct.unpack("i", fcntl.ioctl(web.socket, termios.TIOCOUTQ, bytes(4)))
    assert unread >= 1000
    answer.set()
    assert web.response().body == b"2000"


@pytest.mark.no_cover
def test_a_large_upload_that_nobody_reads(serve: Serve) -> None:
    """Kept or not: it is swallowed when the handler has answered, and memory holds none of it."""
    answer, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(answer)
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    running = serve(body)
    for keep in (True, False):
        answer, begun = Flag(), Flag()
        web = running.connect()
        web.begin(params_for("/x"), keep=keep)
        begun.wait()
        records = b"".join(stream(5, 1, bytes(20 * MEGABYTE)))
        sent = send_until_blocked(web, records)
        assert sent < 2 * MEGABYTE
        answer.set()
        web.send(records[sent:])
        assert web.response().body == b"/x"
        if keep:
            assert web.request(params_for("/next")).body == b"/next"


def test_the_inputs_of_many_requests_share_one_bound(serve: Serve) -> None:
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)

    running = serve(body, limits={"max_spooled_input": MEGABYTE})
    web = running.connect()
    ids = range(1, 101)
    web.send(b"".join(encode_request({}, request_id=i, end_stdin=False) for i in ids))
    begun.wait()
    records = b"".join(encode_record(5, i, bytes(32768)) for i in ids)
    at_least = MEGABYTE if running.kind.concurrent else 0
    sent = send_until_blocked(web, records, at_least=at_least)
    # Memory, the files, and what the kernel keeps.
    assert at_least <= sent < 3 * MEGABYTE
    release.set()
    web.send(records[sent:])
    assert all(response.ended for response in web.responses(ids).values())


@kinds("sync", "selector")
def test_inputs_that_wait_for_each_other(serve: Serve, log: Log) -> None:
    """One request at a time: the second's body, which is in the way of the first's, goes to a file meanwhile."""

    async def body(h: Handler) -> None:
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body)
    web = running.connect()
    web.begin(params_for("/first"), request_id=1)
    web.begin(params_for("/second"), request_id=2)
    web.body(bytes(2 * MEGABYTE), request_id=2, end=True)
    web.body(b"first", request_id=1, end=True)
    responses = web.responses([1, 2])
    assert responses[1].body == b"5"
    assert responses[2].body == b"%d" % (2 * MEGABYTE)


@kinds("sync", "selector")
def test_inputs_that_wait_for_each_other_without_room(serve: Serve, log: Log) -> None:
    """What has no place in files either: the first fails, and the second goes on."""

    async def body(h: Handler) -> None:
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body, limits={"max_spooled_input": 1})
    web = running.connect()
    web.begin(params_for("/first"), request_id=1)
    web.begin(params_for("/second"), request_id=2)
    web.body(bytes(2 * MEGABYTE), request_id=2, end=True)
    responses = web.responses([1, 2])
    assert responses[1].status == 500
    assert responses[2].body == b"%d" % (2 * MEGABYTE)
    assert "max_spooled_input" in log.claim_failure("GET /first failed")


@kinds("threads")
@pytest.mark.parametrize("sizes", [[3000], [700, 600]], ids=["queued", "not-ready"])
def test_inputs_that_wait_for_a_thread(serve: Serve, log: Log, sizes: list[int]) -> None:
    """They are in the way of what the busy one waits for, which fails, and soon."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body, threads=1, limits={"max_buffered_input": 1000, "max_spooled_input": 1})
    web = running.connect()
    web.begin(params_for("/first"))
    begun.wait()
    others = dict(enumerate(sizes, 2))
    web.send(b"".join(encode_request(params_for(), request_id=i, end_stdin=False) for i in others))
    web.send(b"".join(encode_record(FCGI_STDIN, i, bytes(size)) for i, size in others.items()))
    web.send(b"".join(encode_record(FCGI_STDIN, i) for i in others))
    responses = web.responses([1, *others])
    assert responses[1].status == 500
    assert {i: int(responses[i].body) for i in others} == others
    trace = log.claim_failure("GET /first failed")
    assert "the input of other requests on this connection, which wait for a thread, fills max_spooled_input" in trace


@kinds("threads")
def test_inputs_that_wait_for_a_slow_handler(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads in the end: those that wait until then do not fail, however long that takes."""
    monkeypatch.setattr(reading, "_CLOGGED_SECONDS", 0.01)
    looks, is_clogged_for = [], ApplicationConnection.is_clogged_for

    def look(core: ApplicationConnection, request: Request) -> bool:
        looks.append(time.monotonic())
        return is_clogged_for(core, request)

    monkeypatch.setattr(ApplicationConnection, "is_clogged_for", look)
    begun, waits, release = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            begun.set()
            await h.wait(release)
        else:
            waits.set()
        await h.write(HEAD + b"%d" % len(await h.read()))

    running = serve(body, threads=3, limits={"max_buffered_input": 1000, "max_spooled_input": 1000})
    web = running.connect()
    web.begin(params_for("/slow"), request_id=1)
    begun.wait()
    web.begin(params_for(), request_id=2)
    waits.wait()
    web.body(bytes(1000), request_id=1)
    web.body(bytes(1000), request_id=1, end=True)
    (connection,) = running.connections()
    until(lambda: not connection.core.wants_input)
    # Only now: it would be read with what comes before it otherwise.
    web.body(b"next", request_id=2, end=True)
    # Whoever waits has looked again when it would be due to give up.
    until(lambda: len(looks) > 2 and looks[-1] - looks[0] > 0.02)
    release.set()
    responses = web.responses([1, 2])
    assert (responses[1].body, responses[2].body) == (b"2000", b"4")


@CONCURRENT
def test_thousands_of_requests_begun_and_never_finished(serve: Serve) -> None:
    """On one connection: as many as are allowed run, the others are refused."""
    release = Flag()
    begun = 0

    async def body(h: Handler) -> None:
        nonlocal begun
        begun += 1
        await h.wait(release)

    running = serve(body, limits={"max_requests_per_connection": 5})
    web = running.connect()
    for first in range(1, 2001, 50):
        ids = range(first, first + 50)
        web.send(b"".join(encode_request({}, request_id=i, end_stdin=False) for i in ids))
        refused = web.responses(ids[0 if first > 5 else 5 :]).values()
        assert {response.protocol_status for response in refused} == {FCGI_OVERLOADED}
    until(lambda: begun == 5)
    release.set()
    assert all(response.ended for response in web.responses(range(1, 6)).values())


def test_parameters_are_bounded(serve: Serve, log: Log) -> None:
    """Of one request, and of all that are still arriving on one connection."""

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    running = serve(body, limits={"max_params_bytes": 10_000})
    assert running.connect().request(params_for(X="x" * 8000)).status == 200
    for ids in ([1] * 3, [1, 2, 3]):
        web = running.connect()
        for i in dict.fromkeys(ids):
            web.send(encode_begin_request(i, 1, 1))
        with pytest.raises((EOFError, ConnectionError)):
            for i in ids:
                web.send(encode_record(4, i, bytes(4000)))
            web.record()
        log.claim("more than 10000 bytes of parameters (max_params_bytes)")


@pytest.mark.no_cover
def test_many_small_writes_are_gathered(serve: Serve) -> None:
    """And bounded: they leave when there are enough."""
    most = 0

    async def body(h: Handler) -> None:
        nonlocal most
        await h.write(HEAD)
        for _ in range(50_000):
            await h.write(b"0123456789")
            most = max(most, h.real.request.core.unsent)

    response = serve(body).request()
    assert response.body == b"0123456789" * 50_000
    assert most <= 65536 + 10
    assert len(response.records) < 30


# ------------------------------------------------------------------------------------------ descriptors

FEW_DESCRIPTORS = """
import asyncio, logging, resource, sys, threading, time
from simple_fastcgi import *
from simple_fastcgi.limits import Limits

logging.basicConfig(format="%(created)f %(message)s")

class Hello(FcgiHandler):
    def handle(self):
        self.write(b"Status: 200 OK\\r\\n\\r\\n%d" % (time.process_time() * 1000))

class AsyncHello(AsyncFcgiHandler):
    async def handle(self):
        await self.write(b"Status: 200 OK\\r\\n\\r\\n%d" % (time.process_time() * 1000))

async def main():
    async with AsyncFcgiServer(AsyncHello) as server:
        await asyncio.sleep(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        print("ready", flush=True)
        await server.serve_forever()

if sys.argv[1].startswith("Async"):
    asyncio.run(main())
else:
    with globals()[sys.argv[1]](Hello) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        print("ready", flush=True)
        server.serve_forever()
"""


@pytest.mark.once
@pytest.mark.parametrize("server", ["FcgiServer", "FcgiThreadingServer", "AsyncFcgiServer"])
def test_running_out_of_descriptors(server: str) -> None:
    """It neither spins nor dies, says so once a second at most, and recovers."""
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(
            python("-c", FEW_DESCRIPTORS, server),
            stdin=sock.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
        ) as child,
    ):
        webs: list[WebServer] = []
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            started = time.time()
            webs += [WebServer(address) for _ in range(30)]
            for web in webs:
                web.send(encode_request(params_for()))
            # In the order in which they came. Their next requests have begun to come, so that they do not give way.
            first = int(webs[0].response().stdout.split()[-1])
            served = webs[:4]
            for web in served[1:]:
                assert web.response().status == 200
            request = encode_request(params_for())
            for web in served:
                web.send(request[:1])
            # The others wait. Those that are served go on being served meanwhile.
            lines = [child.stderr.readline() for _ in range(2)] if child.stderr is not None else []
            # So many descriptors it does not have.
            assert not select.select([web.socket for web in webs[20:]], [], [], 0)[0]
            assert all("cannot accept connections for now: " in line for line in lines), lines
            assert float(lines[1].split()[0]) - started >= 0.9
            served[0].send(request[1:])
            second = int(served[0].response().stdout.split()[-1])
            assert second - first < 500
            for web in served:
                web.close()
            # And now the others: each makes room for another.
            for web in webs:
                if web not in served:
                    assert web.response().status == 200
                    web.close()
        finally:
            child.terminate()
            for web in webs:
                web.close()
            child.communicate()


# ------------------------------------------------------------------------------------------ races


@kinds("mixin", "threads")
def test_reading_stops_and_goes_on_from_several_threads(serve: Serve) -> None:
    """Handlers drain their bodies, each in its own time, while the loop mutes and unmutes their connection."""

    async def body(h: Handler) -> None:
        digest = hashlib.sha256()
        while data := await h.read(50_000):
            digest.update(data)
        await h.write(HEAD + digest.hexdigest().encode())

    running = serve(body, limits={"max_buffered_input": 4096})
    data = os.urandom(300_000)
    web = running.connect()
    for _ in range(10):
        ids = range(1, 7)
        for i in ids:
            web.begin(params_for(), request_id=i)
        for start in range(0, len(data), 10_000):
            web.send(b"".join(encode_record(5, i, data[start : start + 10_000]) for i in ids))
        web.send(b"".join(encode_record(5, i) for i in ids))
        for response in web.responses(ids).values():
            assert response.body == hashlib.sha256(data).hexdigest().encode()


@kinds("mixin", "threads", "asyncio", "uvloop")
def test_peers_that_leave_at_any_moment(serve: Serve) -> None:
    """Under handlers that read and write: no thread, task or descriptor is left, and nobody else notices."""

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        while data := await h.read(1000):
            await h.write(data, flush=True)

    running = serve(body)
    other = running.connect()
    errors: list[BaseException] = []

    def come_and_go(seed: int) -> None:
        request = encode_request(params_for(), bytes(100_000))
        try:
            for i in range(15):
                with WebServer(running.address) as web:
                    try:
                        web.socket.settimeout(0.005)
                        web.send(request[: (seed + i) * 7919 % len(request)])
                        for _ in range(i % 4):
                            web.socket.recv(1000)
                    except OSError:
                        pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        other_response = other.request(params_for(), b"good")
        assert other_response.body == b"good"
        thread.join(TIMEOUT)
    assert not errors
    until(lambda: len(running.connections()) == 1)
    assert other.request(params_for(), b"good").body == b"good"
    assert not running.is_busy_for_nothing()


@kinds("threads")
def test_bodies_that_never_come_leave_a_thread_free(serve: Serve) -> None:
    """They wait for their input, or for one another; whoever has sent all of it is served."""

    async def body(h: Handler) -> None:
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body)
    stalled = [running.connect() for _ in range(20)]
    for web in stalled:
        web.begin(params_for("/stalled"))
    assert running.request(stdin=b"whole").body == b"5"
    for number, web in enumerate(reversed(stalled)):
        web.body(b"x" * number, end=True)
        assert web.response().body == b"%d" % number
    assert running.request(stdin=b"whole").body == b"5"


@kinds("threads")
def test_a_request_that_waits_for_its_turn_can_be_aborted(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.read()
        await h.write(HEAD)

    running = serve(body)
    stalled = [running.connect() for _ in range(20)]
    for web in stalled:
        web.begin(params_for("/stalled"))
    for web in stalled[10:]:
        web.abort()
        assert web.response().ended
    for web in stalled[:10]:
        web.close()
    assert running.request(stdin=b"whole").status == 200


@kinds("threads")
def test_a_large_body_does_not_wait_for_slow_ones(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        size = len(await h.read())
        await h.write(HEAD + b"%d" % size)

    running = serve(body)
    for web in [running.connect() for _ in range(20)]:
        web.begin(params_for("/stalled"))
    assert running.request(stdin=bytes(2 * MEGABYTE)).body == b"%d" % (2 * MEGABYTE)
