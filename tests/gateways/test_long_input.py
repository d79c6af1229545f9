"""`wsgi.input` of a long body over real sockets: blocks of any size, of records of any size, whatever comes between."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, cycle, pairwise, repeat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.gateways import WsgiHandler
from simple_fastcgi.limits import Limits
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import BYTES_IN, ENDED, own_process
from simple_fastcgi.protocol.constants import (
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_TYPE,
    FCGI_VERSION_1,
)
from simple_fastcgi.protocol.records import HEADER, encode_record
from tests.gateways.support import LIMITS, PATIENT, TEXT, TIMEOUT, Flag, sync_server
from tests.servers.support import child_environment, listening_socket, python
from tests.support.webserver import WebServer, encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Read = Callable[[Any], Iterable[bytes]]

BODY = os.urandom(700_001)
BLOCK = 65536
# Long enough for the kernel to wait for input, and meant to be hit.
SHORT = 0.2
SIZES = {
    "32768": (32768,),
    "8192": (8192,),
    "65528": (65528,),
    "65535": (65535,),
    "mixed": (32768, 32768, 8192, 8192, 8192, 1, 65528, 4095, 65528, 4096, 4096, 65535),
}


def records(
    body: bytes, sizes: Iterable[int] = (32768,), padding: int = 0, *, request_id: int = 1, end: bool = True
) -> bytes:
    """`body` as FCGI_STDIN, in records of `sizes`, again and again."""
    wire, start = [], 0
    for size in cycle(sizes):
        if start >= len(body):
            break
        content = body[start : start + size]
        wire.append(HEADER.pack(FCGI_VERSION_1, FCGI_STDIN, request_id, len(content), padding))
        wire += content, b"\xee" * padding
        start += size
    return b"".join(wire) + (encode_record(FCGI_STDIN, request_id) if end else b"")


class Sender(WebServer):
    """Sends long bodies, which the application of :func:`served` reads once the socket is full, or all was sent."""

    def __init__(self, path: str, there: threading.Semaphore, begun: threading.Semaphore | None = None) -> None:
        super().__init__(path)
        self.there = there
        self.begun = begun or threading.Semaphore(0)

    def post(self, length: object, *, keep: bool = True, request_id: int = 1) -> None:
        """Begin a request whose body is told to have that length."""
        params = params_for(REQUEST_METHOD="POST")
        if length is not None:
            params["CONTENT_LENGTH"] = str(length)
        self.begin(params, keep=keep, request_id=request_id)

    def upload(self, wire: bytes, *, readers: int = 1) -> None:
        """Send records of a body."""
        view = memoryview(wire)
        sent = 0
        self.socket.setblocking(False)
        try:
            while sent < len(wire):
                sent += self.socket.send(view[sent:])
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(TIMEOUT)
        self.there.release(readers)
        if sent < len(wire):
            # Nothing is not sent: whoever has got all may have answered and closed by now, which would fail.
            self.socket.sendall(view[sent:])


@contextmanager
def serving(
    read: Read, threads: int, *, limits: Limits = LIMITS, monitor: Monitor | None = None
) -> Iterator[Callable[[], Sender]]:
    """Makes connections to a server whose application answers all that `read` gets out of wsgi.input."""
    there, begun = threading.Semaphore(0), threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        begun.release()
        assert there.acquire(timeout=TIMEOUT)
        start_response("200 OK", TEXT)
        return [b"".join(read(environ["wsgi.input"]))]

    with sync_server(WsgiHandler.for_app(app), threads=threads, limits=limits, monitor=monitor) as path:
        yield lambda: Sender(path, there, begun)


@contextmanager
def served(read: Read, threads: int, *, limits: Limits = LIMITS, monitor: Monitor | None = None) -> Iterator[Sender]:
    """One connection to it."""
    with serving(read, threads, limits=limits, monitor=monitor) as connect, connect() as web:
        yield web


@pytest.fixture(params=(1, 2), ids=("single", "threads"))
def threads(request: pytest.FixtureRequest) -> int:
    """Of the server: with one, it is the thread of the application that reads the socket."""
    count: int = request.param
    return count


def blocks(body: Any, size: int = BLOCK) -> Iterator[bytes]:
    """All of them, of which only the last one may be short."""
    while True:
        block = body.read(size)
        assert type(block) is bytes
        yield block
        if len(block) < size:
            assert body.read(size) == b""
            return
        assert len(block) == size


@pytest.mark.parametrize("padding", (0, 8, 255))
@pytest.mark.parametrize("sizes", SIZES)
def test_blocks(threads: int, sizes: str, padding: int) -> None:
    size = 0
    with served(lambda body: blocks(body, size), threads) as web:
        for size in (BLOCK, 32768, 100_000, 131_072, 131_073, 1_000_000, 3001):
            web.post(len(BODY))
            web.upload(records(BODY, SIZES[sizes], padding))
            assert web.response().body == BODY, size


def mixed(body: Any) -> Iterator[bytes]:
    for size in cycle((BLOCK, 0, 40_000, 1, 131_072, 150_000, 32768)):
        block = body.read(size)
        yield block
        if len(block) < size:
            return


def lines_behind_blocks(body: Any) -> Iterator[bytes]:
    yield body.read(BLOCK)
    yield body.readline()
    yield body.read(BLOCK)
    yield body.readline(10)
    yield body.read(200_000)
    yield from body


def as_a_file(body: Any) -> Iterator[bytes]:
    buffer = bytearray(50_000)
    yield body.read(BLOCK)
    for readinto in (body.readinto, body.readinto1):
        size = readinto(buffer)
        yield bytes(buffer[:size])
    yield body.read1(BLOCK)
    yield body.read1()
    yield body.read(BLOCK)
    assert body.read1(0) == b""
    while size := body.readinto(buffer):
        yield bytes(buffer[:size])


WAYS: dict[str, Read] = {
    "mixed sizes": mixed,
    "lines behind blocks": lines_behind_blocks,
    "as a file": as_a_file,
    "read(-1)": lambda body: [body.read(-1), body.read(-1)],
    "read(None)": lambda body: [body.read(None), body.read(None)],
    "read()": lambda body: [body.read(), body.read()],
    "all of the length": lambda body: [body.read(len(BODY)), body.read(1)],
    "more than there is": lambda body: [body.read(10 * len(BODY)), body.read(1)],
    "all behind blocks": lambda body: [body.read(BLOCK), body.read(0), body.read(40_000), body.read(), body.read()],
    "all of the length behind blocks": lambda body: [body.read(BLOCK), body.read(len(BODY) - BLOCK), body.read(5)],
    "in blocks": blocks,
    "in large blocks": partial(blocks, size=300_000),
}


@pytest.mark.parametrize("sizes", ("32768", "mixed"))
@pytest.mark.parametrize("way", WAYS)
def test_ways_to_read(threads: int, way: str, sizes: str) -> None:
    with served(WAYS[way], threads) as web:
        for _ in range(2):
            web.post(len(BODY))
            web.upload(records(BODY, SIZES[sizes]))
            assert web.response().body == BODY


@pytest.mark.parametrize("way", ("read()", "in large blocks"))
def test_several_megabytes(threads: int, way: str) -> None:
    body = BODY * 8
    with served(WAYS[way], threads) as web:
        web.post(len(body))
        web.upload(records(body))
        assert web.response().body == body


@pytest.mark.parametrize("way", ("mixed sizes", "lines behind blocks", "read()", "in blocks", "in large blocks"))
@pytest.mark.parametrize(
    "length",
    (len(BODY) + 1, 2 * len(BODY), "9" * 18, len(BODY) // 2, BLOCK, 1, 0, -1, "", "many", None),
)
def test_lengths_that_are_wrong(
    threads: int, length: int | str | None, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of FCGI_STDIN is the truth. No memory is needed for a length that is made up."""
    with served(WAYS[way], threads) as web:
        for _ in range(2):
            caplog.clear()
            web.post(length)
            web.upload(records(BODY))
            assert web.response().body == BODY
            told = [record.getMessage() for record in caplog.records]
            if length is not None and str(length).isdigit() and int(length) > len(BODY):
                assert len(told) == 1
                assert f"ended the body after {len(BODY)} of the {length} bytes" in told[0]
            else:
                assert not told


@pytest.mark.parametrize("keep", (True, False))
@pytest.mark.parametrize("count", (0, 1, 3, 10))
def test_an_application_that_reads_a_part(threads: int, count: int, keep: bool) -> None:
    """What it has left is nobody's; the next request is read as it is."""
    taken = min(count * BLOCK, len(BODY))

    def some(body: Any) -> Iterable[bytes]:
        yield from (body.read(BLOCK) for _ in range(count))

    with served(some, threads) as web:
        for _ in range(3 if keep else 1):
            web.post(len(BODY), keep=keep)
            web.upload(records(BODY))
            assert web.response().body == BODY[:taken]
        if not keep:
            assert web.at_eof()


def test_the_end_comes_behind_the_answer(threads: int) -> None:
    """All that CONTENT_LENGTH tells was read; the record that ends the body follows later."""
    body = BODY[: 10 * BLOCK]
    with served(lambda source: (source.read(BLOCK) for _ in range(10)), threads) as web:
        for _ in range(3):
            web.post(len(body))
            web.upload(records(body, end=False))
            assert web.response().body == body
            web.send(encode_record(FCGI_STDIN, 1))


@pytest.mark.parametrize("whole", (True, False))
def test_the_input_of_a_request_that_has_ended(threads: int, whole: bool) -> None:
    """It gets nothing of the next one's body, whether its own was shorter than CONTENT_LENGTH told, or was not read."""
    kept: list[Any] = []
    own = bytearray()
    other = BODY[::-1]

    def some(body: Any) -> Iterable[bytes]:
        kept.append(body)
        if len(kept) == 1:
            own.extend(b"".join(iter(lambda: body.read(BLOCK), b"")) if whole else body.read(BLOCK))
            yield bytes(own)
            return
        while data := body.read(BLOCK):
            yield data
            try:
                # Of its own there may be some left.
                own.extend(kept[0].read(BLOCK))
            except ConnectionAbortedError:
                assert not whole

    with served(some, threads) as web:
        web.post(2 * len(BODY))
        web.upload(records(BODY))
        assert web.response().body == BODY[: None if whole else BLOCK]
        web.post(len(other))
        web.upload(records(other))
        assert web.response().body == other
    assert BODY.startswith(own)


def test_blocks_behind_the_end_of_the_response(threads: int) -> None:
    """Whoever met its Content-Length gets no more than has come, and does not wait for it either."""
    failed = Flag()
    there = threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        assert there.acquire(timeout=TIMEOUT)
        body = environ["wsgi.input"]
        start_response("200 OK", [*TEXT, ("Content-Length", "3")])
        assert body.read(BLOCK) + body.read(BLOCK) == BODY[: 2 * BLOCK]
        yield b"abc"
        with pytest.raises(ConnectionAbortedError):
            while body.read(BLOCK):
                pass
        failed.set()

    with sync_server(WsgiHandler.for_app(app), threads=threads) as path, Sender(path, there) as web:
        for _ in range(3):
            web.post(len(BODY))
            web.upload(records(BODY[:300_000], end=False))
            assert web.response().body == b"abc"
            failed.wait()
            web.send(records(BODY[300_000:]))


@pytest.mark.parametrize("way", ("mixed sizes", "in blocks", "in large blocks", "read()"))
def test_management_records_are_answered_in_the_midst(threads: int, way: str) -> None:
    """By a web server that sends no more until it has the answer."""
    with served(WAYS[way], threads) as web:
        web.post(len(BODY))
        web.upload(records(BODY[:300_000], end=False) + encode_record(FCGI_GET_VALUES, 0))
        record = web.record()
        assert (record.type, record.id) == (FCGI_GET_VALUES_RESULT, 0)
        web.send(records(BODY[300_000:500_000], end=False) + encode_record(99, 0))
        record = web.record()
        assert (record.type, record.id, record.content[0]) == (FCGI_UNKNOWN_TYPE, 0, 99)
        web.send(records(BODY[500_000:]))
        assert web.response().body == BODY


def test_another_request_in_the_midst(threads: int) -> None:
    """Each gets what is its own, also if both have long bodies, in turn."""
    other = os.urandom(400_000)
    with served(blocks, threads) as web:
        web.post(len(BODY))
        web.upload(records(BODY[:300_000], end=False), readers=3)
        web.send(encode_request(params_for(), request_id=2))
        web.post(len(other), request_id=3)
        for at in range(0, 400_000, 32768):
            web.send(records(BODY[300_000 + at :][:32768], end=False))
            web.send(records(other[at:][:32768], request_id=3, end=False))
        web.send(encode_record(FCGI_STDIN, 3))
        web.send(encode_record(FCGI_STDIN, 1))
        responses = web.responses([1, 2, 3])
    assert [responses[request_id].body for request_id in (1, 2, 3)] == [BODY, b"", other]


class Failing:
    """Reads blocks until that fails."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.got = b""
        self.error: BaseException | None = None
        self.failed = Flag()

    def __call__(self, body: Any) -> Iterator[bytes]:
        try:
            while block := body.read(self.size):
                self.got += block
            yield b"whole"
        except BaseException as error:
            self.error = error
            with pytest.raises(type(error)):
                body.read(self.size)
            raise
        finally:
            self.failed.set()


@pytest.mark.parametrize("size", (BLOCK, 1000, 500_000))
def test_an_abort_in_the_midst(threads: int, size: int, caplog: pytest.LogCaptureFixture) -> None:
    reader = Failing(size)
    with served(reader, threads) as web:
        web.post(len(BODY))
        assert web.begun.acquire(timeout=TIMEOUT)
        web.upload(records(BODY[:300_000], end=False))
        web.abort()
        assert web.response().stdout == b""
        reader.failed.wait()
        assert isinstance(reader.error, ConnectionAbortedError)
        assert BODY.startswith(reader.got)
        # Late, and nobody's.
        web.send(records(BODY[300_000:]))
        reader.got = b""
        web.post(len(BODY))
        web.upload(records(BODY))
        assert web.response().body == b"whole"
        assert reader.got == BODY
    assert not caplog.records


@pytest.mark.parametrize("end", ("close", "half-close"))
@pytest.mark.parametrize("cut", (3, 8, 20_000, 32776), ids=("header", "no content", "content", "record"))
@pytest.mark.parametrize("size", (BLOCK, 500_000))
def test_a_web_server_that_goes_in_the_midst(
    threads: int, size: int, cut: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Failing(size)
    with served(reader, threads) as web:
        web.post(len(BODY))
        assert web.begun.acquire(timeout=TIMEOUT)
        web.upload(records(BODY)[: 10 * 32776 + cut])
        if end == "close":
            web.close()
        else:
            web.socket.shutdown(socket.SHUT_WR)
        reader.failed.wait()
        assert isinstance(reader.error, ConnectionAbortedError)
        assert BODY.startswith(reader.got)
        if end == "half-close":
            assert web.response().stdout == b""
            assert web.at_eof()
    assert not caplog.records


@pytest.mark.parametrize(
    "wrong",
    (b"\2" + records(BODY[:32768])[1:], encode_record(FCGI_STDOUT, 1, BODY[:32768]), BODY[:32768].replace(b"\1", b"")),
    ids=("version", "type", "no header"),
)
@pytest.mark.parametrize("size", (BLOCK, 500_000))
def test_a_violation_of_the_protocol_in_the_midst(
    threads: int, size: int, wrong: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Failing(size)
    with served(reader, threads) as web:
        web.post(len(BODY))
        assert web.begun.acquire(timeout=TIMEOUT)
        # It may be hung up on before all of that has left.
        with suppress(BrokenPipeError, ConnectionResetError):
            web.upload(records(BODY[: 10 * 32768], end=False) + wrong)
        reader.failed.wait()
        assert isinstance(reader.error, ConnectionAbortedError)
        assert BODY.startswith(reader.got)
        assert web.at_eof()
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("connection from a unix socket closed: ")


def test_a_web_server_that_has_sent_all_and_still_reads(threads: int) -> None:
    with served(blocks, threads) as web:
        web.post(len(BODY))
        web.upload(records(BODY))
        web.socket.shutdown(socket.SHUT_WR)
        assert web.response().body == BODY
        assert web.at_eof()


@pytest.mark.parametrize("length", (None, len(BODY)))
@pytest.mark.parametrize("size", (BLOCK, 100_000, 300_000, -1))
def test_nothing_is_lost_when_nothing_comes_for_a_while(threads: int, size: int, length: int | None) -> None:
    """In the midst of a record, of a header, and before the end of it all."""
    timeouts = threading.Semaphore(0)

    def patient(body: Any) -> Iterator[bytes]:
        while True:
            try:
                block = body.read(size)
            except TimeoutError:
                timeouts.release()
                continue
            yield block
            if len(block) < size or size < 0:
                return

    wire = records(BODY)
    cuts = (300_000, 10 * 32776 + 3, len(wire) - 8, len(wire))
    board, seat = own_process()
    limits = Limits(**{**PATIENT, "graceful_timeout": TIMEOUT, "read_timeout": SHORT})
    with served(patient, threads, limits=limits, monitor=Monitor([seat])) as web:
        web.post(length)
        web.upload(wire[: cuts[0]])
        for start, stop in pairwise(cuts):
            assert timeouts.acquire(timeout=TIMEOUT)
            web.send(wire[start:stop])
        assert web.response().body == BODY
    assert board.sums()[BYTES_IN] == len(BODY)


def test_closed_in_the_midst(threads: int) -> None:
    def closing(body: Any) -> Iterator[bytes]:
        yield body.read(BLOCK)
        yield body.read(BLOCK)
        body.close()
        assert body.closed
        for read in (body.read, partial(body.read, BLOCK), partial(body.read, 500_000), body.readline, body.read1):
            with pytest.raises(ValueError, match="closed"):
                read()

    with served(closing, threads) as web:
        for _ in range(2):
            web.post(len(BODY))
            web.upload(records(BODY))
            assert web.response().body == BODY[: 2 * BLOCK]


@pytest.mark.parametrize("way", ("mixed sizes", "lines behind blocks", "read()", "in blocks", "in large blocks"))
def test_a_monitor_counts_all_of_it(threads: int, way: str) -> None:
    board, seat = own_process()
    with served(WAYS[way], threads, monitor=Monitor([seat])) as web:
        for _ in range(2):
            web.post(len(BODY))
            web.upload(records(BODY))
            assert web.response().body == BODY
    sums = board.sums()
    assert (sums[ENDED], sums[BYTES_IN]) == (2, 2 * len(BODY))


def test_a_circle_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is collected without a word, in whichever order."""
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    gone = []

    def circle(body: Any) -> Iterator[bytes]:
        body.circle = body
        gone.append(weakref.ref(body))
        yield from (body.read(BLOCK), body.read(BLOCK), body.read())

    with served(circle, 1) as web:
        for _ in range(5):
            web.post(len(BODY))
            web.upload(records(BODY))
            assert web.response().body == BODY
    gc.collect()
    assert [one() for one in gone] == [None] * 5
    assert not ignored


def test_threads_of_the_application() -> None:
    """Each block goes to one of them, whole."""
    body = BODY[: 10 * BLOCK]
    got: list[bytes] = []

    def read_all(source: Any) -> None:
        while block := source.read(BLOCK):
            got.append(block)

    def by_threads(source: Any) -> Iterable[bytes]:
        readers = [threading.Thread(target=read_all, args=(source,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        return ()

    with served(by_threads, 2) as web:
        web.post(len(body))
        web.upload(records(body))
        assert web.response().status == 200
    assert Counter(got) == Counter(body[at : at + BLOCK] for at in range(0, len(body), BLOCK))


def test_a_body_in_small_slices(threads: int) -> None:
    """The web server sends slower than the application reads."""
    body = BODY[:300_000]
    wire = records(body)
    with served(blocks, threads) as web:
        web.post(len(body))
        web.upload(wire[:150_000])
        for at in range(150_000, len(wire), 997):
            web.send(wire[at : at + 997])
        assert web.response().body == body


RUNS = st.lists(
    st.tuples(
        st.sampled_from((1, 100, 4095, 4096, 8192, 32768, 65528, 65535)) | st.integers(1, 65535),
        st.integers(1, 8),
        st.sampled_from((0, 0, 0, 8)) | st.integers(0, 255),
    ),
    max_size=6,
)
READS = st.lists(
    st.sampled_from((1000, 32767, 32768, 65536, 131_072, 131_073, 300_000, -1)) | st.integers(1, 400_000),
    min_size=1,
    max_size=5,
)


@pytest.mark.no_cover
def test_any_records_and_any_reads(threads: int) -> None:
    """The application gets exactly the body."""
    reads: list[int] = []

    def read(body: Any) -> Iterator[bytes]:
        # Small ones would take their time.
        for size in chain(reads, repeat(150_000)):
            block = body.read(size)
            yield block
            if len(block) < size or size < 0:
                assert body.read(BLOCK) == body.read() == b""
                return

    with serving(read, threads) as connect:

        @given(RUNS, READS, st.sampled_from((0, 0, 0, 1, -1, 500_000, None)), st.integers(0, 1_000_000))
        def check(runs: list[tuple[int, int, int]], sizes: list[int], more: int | None, pause: int) -> None:
            nonlocal reads
            reads = sizes
            body, wire = [], []
            for size, count, padding in runs:
                body.append(os.urandom(size * count))
                wire.append(records(body[-1], (size,), padding, end=False))
            whole = b"".join(body)
            sent = b"".join(wire) + encode_record(FCGI_STDIN, 1)
            with connect() as web:
                web.post(None if more is None else max(0, len(whole) + more))
                web.upload(sent[:pause])
                web.send(sent[pause:])
                assert web.response().body == whole

        check()


SIGNALLED = """
import builtins, signal, sys
from simple_fastcgi import FcgiServer
from simple_fastcgi.gateways import WsgiHandler

Error = getattr(builtins, sys.argv[1])

def late(*_):
    raise Error("late")

def app(environ, start_response):
    body = environ["wsgi.input"]
    for _ in range(int(environ["QUERY_STRING"] or 0)):
        assert len(body.read(65536)) == 65536
    if environ["QUERY_STRING"]:
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
        try:
            body.read(65536)
        except Exception as error:
            print(repr(error), flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]

signal.signal(signal.SIGALRM, late)
with FcgiServer(WsgiHandler.for_app(app)) as server:
    server.serve_forever()
"""


# While what is waited for is a block, anything, and anything at all, if the machine is quick.
@pytest.mark.parametrize("seconds", ("0.02", "0.15", "0.3"))
@pytest.mark.parametrize("error", ("LookupError", "TimeoutError"))
def test_a_signal_in_the_midst(error: str, seconds: str) -> None:
    """The application gets what its handler raises, and its server goes on."""
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(
            python("-c", textwrap.dedent(SIGNALLED), error, seconds),
            stdin=sock.fileno(),
            stdout=subprocess.PIPE,
            env=child_environment(),
        ) as child,
    ):
        try:
            with WebServer(address) as web:
                web.begin(params_for("/?4", REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(BODY))))
                # It waits for the second half of a record.
                web.send(records(BODY, end=False)[: 9 * 32776 - 16_000])
                assert child.stdout is not None
                assert child.stdout.readline() == f"{error}('late')\n".encode()
            with WebServer(address) as web:
                assert web.request(params_for()).body == b"ok"
        finally:
            child.kill()
