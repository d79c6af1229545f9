"""The conversations that the specification shows as typical (its appendix B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.support import CONCURRENT, connect
from tests.protocol.wire import COMPLETE, PARAMS, STDERR, STDIN, STDOUT, begin, block, record
from tests.servers.support import Flag

if TYPE_CHECKING:
    from tests.servers.support import Handler, Serve

PAIRS = block([(b"SERVER_PORT", b"80"), (b"SERVER_ADDR", b"199.170.183.42")])
HEAD = b"Content-type: text/html\r\n\r\n"


async def page(h: Handler) -> None:
    assert h.environ == {"SERVER_PORT": "80", "SERVER_ADDR": "199.170.183.42"}
    await h.write(HEAD + b"<html>\n<head>" + await h.read())


def test_a_simple_request(serve: Serve) -> None:
    """Example 1, on a connection that the application closes."""
    peer = connect(serve(page))
    peer.send(begin(keep=False))
    peer.send(record(PARAMS, 1, PAIRS))
    peer.send(record(PARAMS, 1))
    peer.send(record(STDIN, 1))
    response = peer.response()
    assert response.stdout == HEAD + b"<html>\n<head>"
    assert (response.app_status, response.protocol_status) == (0, COMPLETE)
    peer.eof()


def test_data_on_stdin_and_more_records(serve: Serve) -> None:
    """Example 2."""
    peer = connect(serve(page))
    assert PAIRS[:20].endswith(b"SER")
    peer.send(begin(keep=False))
    for content in (PAIRS[:20], PAIRS[20:], b""):
        peer.send(record(PARAMS, 1, content))
    for content in (b"quantity=100&item=3047936", b""):
        peer.send(record(STDIN, 1, content))
    assert peer.response().stdout == HEAD + b"<html>\n<head>quantity=100&item=3047936"
    peer.eof()


def test_an_error_that_the_application_detects(serve: Serve) -> None:
    """Example 3: a message on FCGI_STDERR between pieces of the page."""

    async def failing(h: Handler) -> None:
        await h.write(HEAD + b"<ht", flush=True)
        await h.write_err(b"config error: missing SI_UID\n")
        await h.write(b"", flush=True)
        await h.write(b"ml>\n<head>")

    peer = connect(serve(failing))
    peer.send(begin(keep=False) + record(PARAMS, 1, PAIRS) + record(PARAMS, 1) + record(STDIN, 1))
    response = peer.response()
    assert response.stdout == HEAD + b"<html>\n<head>"
    assert response.stderr == b"config error: missing SI_UID\n"
    assert [record.type for record in response.records if record.content][:3] == [STDOUT, STDERR, STDOUT]
    assert (response.app_status, response.protocol_status) == (0, COMPLETE)
    peer.eof()


@CONCURRENT
def test_two_requests_on_one_connection(serve: Serve) -> None:
    """Example 4: the second, which is easier, ends first."""
    thought = Flag()

    async def thinking(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        if h.environ["SERVER_PORT"] == "80":
            await h.wait(thought)
        await h.write(b"<html>\n<head>")

    peer = connect(serve(thinking))
    other = PAIRS.replace(b"80", b"81")
    peer.send(begin(1) + record(PARAMS, 1, PAIRS) + record(PARAMS, 1))
    peer.send(begin(2) + record(PARAMS, 2, other) + record(STDIN, 1))
    first = peer.record()
    assert (first.type, first.id, first.content) == (STDOUT, 1, HEAD)
    peer.send(record(PARAMS, 2) + record(STDIN, 2))
    assert peer.response(2).stdout == HEAD + b"<html>\n<head>"
    thought.set()
    assert peer.response(1).stdout == b"<html>\n<head>"
