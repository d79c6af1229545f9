"""A connection for each request: nothing of one is seen in the next."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from simple_fastcgi.protocol.constants import FCGI_ABORT_REQUEST, FCGI_GET_VALUES, FCGI_STDIN
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import HEAD, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.support import Handler, Log, Running, Serve


async def echo(h: Handler) -> None:
    path = h.environ["PATH_INFO"]
    if path == "/fails":
        raise LookupError("as it should")
    data = b"" if path == "/unread" else await h.read()
    await h.write(HEAD + path.encode() + data)


def test_handlers_that_are_late(serve: Serve, family: socket.AddressFamily) -> None:
    """Whatever they do behind the end of their own response, the one that is under way now is not harmed."""
    late: list[Handler] = []

    async def body(h: Handler) -> None:
        own = await h.read(2)
        for other in late:
            for flush in (False, True):
                await other.write(b"late", flush=flush)
            await other.write_err(b"late")
            assert not other.aborted()
            assert await other.read() == b""
            other.real.request.end()
            other.real.request.fail(b"late")
            other.real.request.end(1)
        late.append(h)
        await h.write(HEAD + own + await h.read())
        h.real.request.end()
        h.aborted()

    running = serve(body, family=family)
    for size in (0, 3, 10, 100_000, 300_000) * 2:
        data = os.urandom(size)
        with running.connect() as web:
            response = web.request(params_for(), data, keep=False)
        assert response.body == data
        assert response.stderr == b""
        assert response.app_status == 0


def kept_before(running: Running) -> None:
    with running.connect() as web:
        for i in range(3):
            assert web.request(params_for(f"/{i}"), b"body").body == f"/{i}body".encode()
        assert web.request(params_for("/last"), keep=False).body == b"/last"
        web.eof()


def part_of_the_next(running: Running) -> None:
    """Nobody answers what comes behind the last request, nor is it taken for a beginning of the next connection's."""
    with running.connect() as web:
        web.send(
            encode_request(params_for("/last"), keep=False) + encode_request(params_for("/more"), request_id=2)[:50]
        )
        assert web.response().body == b"/last"


def no_answer_wanted(running: Running) -> None:
    with running.connect() as web:
        web.send(encode_request(params_for("/gone"), keep=False))


def half_closed(running: Running) -> None:
    with running.connect() as web:
        web.send(encode_request(params_for("/half"), b"body", keep=False))
        web.socket.shutdown(socket.SHUT_WR)
        if web.socket.family == socket.AF_UNIX:
            # Over TCP that may count as a departure.
            assert web.response().body == b"/halfbody"


def aborted(running: Running) -> None:
    with running.connect() as web:
        web.send(encode_request(params_for("/aborted"), keep=False, end_stdin=False))
        web.send(encode_record(FCGI_ABORT_REQUEST, 1))
        assert web.response().body == b""


def asked(running: Running) -> None:
    with running.connect() as web:
        web.send(encode_record(FCGI_GET_VALUES, 0) + encode_request(params_for("/asked"), keep=False))
        web.record()
        assert web.response().body == b"/asked"


def several(running: Running) -> None:
    with running.connect() as web:
        web.send(
            encode_request(params_for("/one"), request_id=1)
            + encode_request(params_for("/two"), request_id=2, keep=False)
        )
        responses = web.responses((1, 2))
        assert [responses[1].body, responses[2].body] == [b"/one", b"/two"]


def unread(running: Running) -> None:
    with running.connect() as web:
        web.begin(params_for("/unread"), keep=False)
        web.body(b"x" * 100_000)
        assert web.response().body == b"/unread"
        web.body(b"y", end=True)
        web.eof()


def long_body(running: Running) -> None:
    with running.connect() as web:
        records = b"".join(encode_record(FCGI_STDIN, 1, bytes(32768)) for _ in range(20))
        web.send(
            encode_request(params_for("/long"), keep=False, end_stdin=False) + records + encode_record(FCGI_STDIN, 1)
        )
        assert web.response().body == b"/long" + bytes(20 * 32768)


def no_fastcgi(running: Running) -> None:
    with running.connect() as web:
        web.send(b"GET / HTTP/1.1\r\n\r\n")
        web.eof()


LIVES: list[Callable[[Running], None]] = [kept_before, part_of_the_next, no_answer_wanted, half_closed, aborted]
LIVES += [asked, several, unread, long_body, no_fastcgi]


def test_whatever_came_before(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    running = serve(echo, family=family)
    for first in LIVES:
        for second in (None, *LIVES):
            running.request("/", keep=False)
            first(running)
            if second is not None:
                second(running)
            for path in ("/1", "/2"):
                with running.connect() as web:
                    response = web.request(params_for(path), b" and its body", keep=False)
                assert response.body == path.encode() + b" and its body"
                assert response.stderr == b""
    until(lambda: not running.connections())
    for _ in range(2 * len(LIVES) + 1):
        log.claim("not FastCGI")


def test_a_handler_that_fails(serve: Serve, log: Log) -> None:
    running = serve(echo)
    for _ in range(3):
        assert running.request("/fails", keep=False).status == 500
        assert "as it should" in log.claim_failure("GET /fails failed")
        assert running.request("/good", keep=False).body == b"/good"
