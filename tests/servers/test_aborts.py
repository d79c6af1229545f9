"""`aborted()`, and what happens to a handler whose web server has gone: at once, while reading, while writing."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_BEGIN_REQUEST, FCGI_END_REQUEST
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import ASYNC, CONCURRENT, HEAD, TINY, Flag, kinds, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Serve

MEGABYTE = bytes(1 << 20)


class Outcome:
    """What a handler has come to: done only if nothing in the block failed."""

    def __init__(self) -> None:
        self.begun = Flag()
        self.done = Flag()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.done.set()


@ASYNC
def test_a_hang_up_that_one_handler_meets_is_told_to_all(serve: Serve) -> None:
    """Also while requests that came with its own wait to begin: from Python 3.12 on handlers run within that."""
    waiting, closed, told, met = Outcome(), Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        match h.environ["PATH_INFO"]:
            case "/waits":
                waiting.begun.set()
                await h.until_aborted()
                told.set()
            case "/blocks":
                waiting.done.set()
                # The whole loop, so that all of the rest is read at once.
                closed.wait()
            case "/writes":
                with pytest.raises(ConnectionAbortedError):
                    while True:
                        await h.write(b"x", flush=True)
                met.set()

    running = serve(body)
    web = running.connect()
    web.send(encode_record(FCGI_BEGIN_REQUEST, 3, bytes((0, 1, 1, 0, 0, 0, 0, 0))))
    web.send(encode_request(params_for("/waits"), request_id=1))
    waiting.begun.wait()
    other = running.connect()
    other.send(encode_request(params_for("/blocks")))
    waiting.done.wait()
    last = encode_request(params_for("/late"), request_id=3)[16:]
    web.send(encode_request(params_for("/writes"), request_id=2) + last)
    web.close()
    closed.set()
    met.wait()
    told.wait()
    assert other.response().ended


def test_an_abort_is_seen(serve: Serve, family: socket.AddressFamily) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/next":
            assert not h.aborted()
            return
        with outcome:
            assert not h.aborted()
            outcome.begun.set()
            await h.until_aborted()
            assert h.aborted()
            with pytest.raises(ConnectionAbortedError):
                await h.write(HEAD)
            with pytest.raises(ConnectionAbortedError):
                await h.write_err(b"error")

    web = serve(body, family=family).connect()
    web.send(encode_request(params_for()))
    outcome.begun.wait()
    web.abort()
    # It is answered, without a response (5.4), and the connection goes on.
    record = web.record()
    assert (record.type, record.id, record.content) == (FCGI_END_REQUEST, 1, bytes(8))
    outcome.done.wait()
    assert web.request(params_for("/next")).protocol_status == 0


def test_an_abort_ends_a_connection_that_is_not_kept(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.until_aborted()

    web = serve(body).connect()
    web.send(encode_request(params_for(), keep=False))
    web.abort()
    assert web.record().type == FCGI_END_REQUEST
    web.eof()


@CONCURRENT
def test_an_aborted_handler_that_outlives_the_last_answer(serve: Serve) -> None:
    """Nothing is sent for it any more, on a connection whose sending has ended."""
    begun, released, ended = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/deaf":
            begun.set()
            await h.wait(released)
            ended.set()

    running = serve(body)
    web = running.connect()
    web.begin(params_for("/deaf"), request_id=1)
    begun.wait()
    web.abort(1)
    assert web.record().type == FCGI_END_REQUEST
    web.begin(params_for("/early"), request_id=2, keep=False)
    assert web.response(2).ended
    web.eof()
    released.set()
    ended.wait()
    web.body(b"", request_id=2, end=True)
    until(lambda: not running.connections())


@kinds("threads")
def test_who_has_gone_before_a_thread_is_free_is_not_served(serve: Serve) -> None:
    """An impatient crowd keeps nobody else waiting: its requests are not run behind its back."""
    served: list[str] = []
    begun = [Flag(), Flag()]
    release = Flag()

    async def body(h: Handler) -> None:
        path = h.environ["PATH_INFO"]
        if path.startswith("/busy"):
            begun[int(path[-1])].set()
            release.wait()
        else:
            served.append(path)
        await h.write(HEAD)

    running = serve(body, threads=2)
    busy = [running.connect() for _ in begun]
    for number, web in enumerate(busy):
        web.send(encode_request(params_for(f"/busy{number}")))
        begun[number].wait()
    queued = [running.connect() for _ in range(4)]
    for web in queued:
        web.send(encode_request(params_for("/gone")))
    until(lambda: running.server._pool.waiting == len(queued))
    for web in queued[:2]:
        web.abort()
        assert web.response().ended
    for web in queued[2:]:
        web.close()
    until(lambda: len(running.connections()) == len(busy) + 2)
    release.set()
    assert running.request("/stays").status == 200
    assert [web.response().status for web in busy] == [200, 200]
    assert served == ["/stays"]


def test_an_abort_before_the_parameters_are_complete(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    web = serve(body).connect()
    web.send(encode_record(FCGI_BEGIN_REQUEST, 1, b"\0\1\1\0\0\0\0\0"))
    web.abort()
    assert web.record().type == FCGI_END_REQUEST
    assert web.request(params_for("/next")).body == b"/next"


def test_an_abort_for_a_request_that_nobody_knows(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD)

    web = serve(body).connect()
    for request_id in (1, 77):
        web.abort(request_id)
    assert web.request(params_for()).status == 200


@CONCURRENT
@pytest.mark.parametrize("fails", [False, True])
def test_an_aborted_request_that_is_ended_again_and_again(serve: Serve, *, fails: bool) -> None:
    """It was answered when it was aborted: the request that has its id by now is not ended by it."""
    first, once, begun, ended = Flag(), Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        request = h.real.request
        first.set()
        if h.environ["PATH_INFO"] == "/next":
            begun.set()
            await h.wait(ended)
            await h.write(HEAD + b"next")
            return
        await h.until_aborted()
        request.end()
        once.set()
        await h.wait(begun)
        for _ in range(2):
            if fails:
                request.fail(b"late")
            else:
                request.end(data=b"late")
        ended.set()

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    first.wait()
    web.abort()
    assert web.response().protocol_status == 0
    once.wait()
    for _ in range(3):
        response = web.request(params_for("/next"))
        assert (response.body, response.stderr) == (b"next", b"")


def test_what_was_written_before_an_abort_is_dropped(serve: Serve) -> None:
    written = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        await h.write_err(b"error")
        written.set()
        await h.until_aborted()

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    written.wait()
    web.abort()
    assert web.record().type == FCGI_END_REQUEST


@pytest.mark.parametrize("how", ["abort", "close", "reset"])
@pytest.mark.parametrize("reading", ["read", "read(1)", "readall", "readinto"])
def test_a_handler_that_reads_is_told(serve: Serve, how: str, reading: str) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            assert await h.read(4) == b"some"
            outcome.begun.set()
            with pytest.raises(ConnectionAbortedError):
                if reading == "readinto":
                    await h.readinto(bytearray(10))
                elif reading == "read(1)":
                    await h.read(1)
                else:
                    await getattr(h, reading)()
            assert h.aborted()

    web = serve(body, family=socket.AF_INET if how == "reset" else socket.AF_UNIX).connect()
    web.begin(params_for())
    web.body(b"some")
    outcome.begun.wait()
    if how == "abort":
        web.abort()
        assert web.record().type == FCGI_END_REQUEST
    else:
        if how == "reset":
            web.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        web.close()
    outcome.done.wait()


def test_input_that_came_before_the_abort_is_dropped(serve: Serve) -> None:
    """Whoever processes half of a body as if it were whole does harm."""
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            outcome.begun.set()
            await h.until_aborted()
            with pytest.raises(ConnectionAbortedError):
                await h.readall()

    web = serve(body).connect()
    web.begin(params_for())
    web.body(b"half of it")
    outcome.begun.wait()
    web.abort()
    outcome.done.wait()


@pytest.mark.parametrize("way", ("abort", "hang-up"))
def test_the_part_that_was_read_before_the_abort_is_not_the_whole(
    serve: Serve, family: socket.AddressFamily, way: str
) -> None:
    """All of the body had come, end included, but what the handler had not taken yet is dropped."""
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            assert await h.read(4) == b"half"
            outcome.begun.set()
            await h.until_aborted()
            for _ in range(2):
                with pytest.raises(ConnectionAbortedError):
                    await h.readall()
            with pytest.raises(ConnectionAbortedError):
                await h.readinto(bytearray(9))

    web = serve(body, family=family).connect()
    web.send(encode_request(params_for(), b"half and half"))
    outcome.begun.wait()
    if way == "abort":
        web.abort()
    else:
        web.close()
    outcome.done.wait()


def test_a_hang_up_is_seen(serve: Serve, family: socket.AddressFamily) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            outcome.begun.set()
            await h.until_aborted()

    running = serve(body, family=family)
    with running.connect() as web:
        web.send(encode_request(params_for()))
        outcome.begun.wait()
    outcome.done.wait()
    until(lambda: not running.connections())


@pytest.mark.usefixtures("attentive")
def test_a_hang_up_is_seen_behind_a_body_that_nobody_reads(serve: Serve) -> None:
    """The server reads no further, for its buffers are full, and notices all the same."""
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            await h.until_aborted()

    running = serve(body)
    with running.connect() as web:
        web.begin(params_for())
        web.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                web.body(MEGABYTE)
        assert not outcome.done.is_set
    outcome.done.wait()
    until(lambda: not running.connections())


def test_writing_to_one_who_hung_up(serve: Serve, family: socket.AddressFamily) -> None:
    outcome, gone = Outcome(), Flag()

    async def body(h: Handler) -> None:
        with outcome:
            await h.write(HEAD, flush=True)
            outcome.begun.set()
            await h.wait(gone)
            with pytest.raises(ConnectionAbortedError):
                for _ in range(100):
                    await h.write(MEGABYTE, flush=True)
            assert h.aborted()
            with pytest.raises(ConnectionAbortedError):
                await h.write(b"")

    running = serve(body, family=family)
    with running.connect() as web:
        web.send(encode_request(params_for()))
        assert web.record().content == HEAD
        outcome.begun.wait()
    gone.set()
    outcome.done.wait()
    until(lambda: not running.connections())


def test_hanging_up_while_the_handler_writes(serve: Serve, family: socket.AddressFamily) -> None:
    """It is blocked, for the web server does not read, and comes free."""
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            with pytest.raises(ConnectionAbortedError):
                for _ in range(100):
                    await h.write(MEGABYTE)
            assert h.aborted()

    running = serve(body, family=family)
    with running.connect() as web:
        web.send(encode_request(params_for()))
        assert web.record().id == 1
        until(lambda: running.connections())
    outcome.done.wait()
    until(lambda: not running.connections())


def test_aborting_while_the_handler_writes(serve: Serve) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            with pytest.raises(ConnectionAbortedError):
                # Which may take a tenth of a second, in which much is written.
                while True:
                    await h.write(MEGABYTE)
            assert h.aborted()

    web = serve(body).connect()
    web.send(encode_request(params_for()))
    assert web.record().id == 1
    web.abort()
    while web.record().type != FCGI_END_REQUEST:
        pass
    outcome.done.wait()


def test_a_hang_up_that_ends_the_handler_is_no_error(serve: Serve) -> None:
    """Nothing is logged above the level of debugging (the fixture `log` sees to it)."""
    begun = Flag()
    ended = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        try:
            await h.readall()
        finally:
            ended.set()

    running = serve(body)
    with running.connect() as web:
        web.begin(params_for())
        begun.wait()
    ended.wait()
    until(lambda: not running.connections())


def test_a_hang_up_behind_several_requests(serve: Serve) -> None:
    """All of a connection's requests are aborted; those that wait for their turn never begin."""
    aborted: list[str] = []
    begun: list[str] = []
    gone = Flag()

    async def body(h: Handler) -> None:
        begun.append(h.environ["PATH_INFO"])
        await h.wait(gone)
        await h.until_aborted()
        aborted.append(h.environ["PATH_INFO"])

    running = serve(body)
    with running.connect() as web:
        web.send(b"".join(encode_request(params_for(f"/{i}"), request_id=i) for i in range(1, 6)))
        expected = [f"/{i}" for i in range(1, 6 if running.kind.concurrent else 2)]
        until(lambda: len(begun) == len(expected))
    gone.set()
    until(lambda: len(aborted) == len(expected))
    until(lambda: not running.connections())
    assert sorted(aborted) == expected


# ------------------------------------------------------------------------------------------ half-closed


def test_whoever_only_ends_its_sending_gets_its_answer(serve: Serve) -> None:
    sent = Flag()

    async def body(h: Handler) -> None:
        await h.wait(sent)
        data = await h.read()
        assert not h.aborted()
        await h.write(HEAD + data, flush=True)
        await h.write(data)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for(), b"body"))
    web.socket.shutdown(socket.SHUT_WR)
    until(lambda: running.connections())
    sent.set()
    assert web.response().body == b"bodybody"
    # Although it was to be kept: nothing more can come.
    web.eof()


def test_whoever_only_ends_its_sending_gets_a_large_answer(serve: Serve) -> None:
    """Also where the handler is long done when the last of it is read."""

    async def body(h: Handler) -> None:
        await h.write(HEAD + bytes(60_000))
        for _ in range(int(h.environ["PATH_INFO"][1:])):
            await h.write(MEGABYTE)

    running = serve(body)
    for megabytes in (0, 5):
        for delay in (False, True):
            web = running.connect()
            web.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            web.send(encode_request(params_for(f"/{megabytes}")))
            if delay:
                until(lambda: running.connections())
                assert not running.is_busy_for_nothing()
            web.socket.shutdown(socket.SHUT_WR)
            assert len(web.response().body) == 60_000 + megabytes * len(MEGABYTE)
            web.eof()


def test_whoever_ends_its_sending_in_the_middle_of_a_body(serve: Serve) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            outcome.begun.set()
            with pytest.raises(ConnectionAbortedError):
                await h.readall()

    web = serve(body).connect()
    web.begin(params_for())
    web.body(b"half")
    outcome.begun.wait()
    web.socket.shutdown(socket.SHUT_WR)
    outcome.done.wait()
    assert web.record().type == FCGI_END_REQUEST
    web.eof()


@pytest.mark.parametrize("way", ["abort", "close", "end"])
def test_the_end_in_the_midst_of_a_long_body(serve: Serve, way: str) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            await h.read(10)
            outcome.begun.set()
            with pytest.raises(ConnectionAbortedError):
                await h.readall()

    running = serve(body)
    with running.connect() as web:
        web.begin(params_for())
        web.body(bytes(100_000))
        outcome.begun.wait()
        web.body(bytes(100_000))
        if way == "close":
            web.close()
        elif way == "end":
            web.socket.shutdown(socket.SHUT_WR)
        else:
            web.abort()
        outcome.done.wait()
        if way != "close":
            assert web.record().type == FCGI_END_REQUEST
    until(lambda: not running.connections())


@pytest.mark.usefixtures("attentive")
def test_waiting_for_a_half_closed_peer_costs_nothing(serve: Serve) -> None:
    outcome = Outcome()

    async def body(h: Handler) -> None:
        with outcome:
            outcome.begun.set()
            await h.wait(checked)
            await h.until_aborted()

    checked = Flag()
    running = serve(body)
    with running.connect() as web:
        web.send(encode_request(params_for()))
        web.socket.shutdown(socket.SHUT_WR)
        outcome.begun.wait()
        if running.kind.name in ("mixin", "threads"):
            assert not running.is_busy_for_nothing()
        checked.set()
    # It hangs up altogether.
    outcome.done.wait()
    until(lambda: not running.connections())


def test_a_peer_that_comes_and_goes(serve: Serve, family: socket.AddressFamily) -> None:
    """Without a word, or in the middle of one."""

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    running = serve(body, family=family)
    request = encode_request(params_for(), b"body")
    for size in (0, 1, 7, 8, 12, 16, 20, 100, len(request) - 1):
        with running.connect() as web:
            web.send(request[:size])
    assert running.request().status == 200
    until(lambda: not running.connections())
    assert not running.is_busy_for_nothing()


def test_a_slow_read_is_not_an_abort(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        for _ in range(10):
            assert not h.aborted()
            await h.pause()
        try:
            await h.read()
        except TimeoutError:
            assert not h.aborted()
        await h.write(HEAD)

    web = serve(body, limits={"read_timeout": TINY}).connect()
    web.begin(params_for())
    assert web.response().status == 200
