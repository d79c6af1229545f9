"""Very many connections, those who dawdle, and those who break off: everybody else is served, and nobody is lost."""

from __future__ import annotations

import re
import resource
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_PARAMS, FCGI_STDIN
from simple_fastcgi.protocol.records import encode_begin_request, encode_record
from tests.hostile.support import TIMEOUT, crowd, hello
from tests.support.webserver import WebServer, encode_request, params_for

if TYPE_CHECKING:
    from tests.hostile.conftest import Start
    from tests.hostile.support import Server, Shell

pytestmark = pytest.mark.slow

CROWD = 300
BEGIN = encode_begin_request(1, 1, 1)
UNFINISHED = encode_request(params_for("/count"), end_stdin=False)

# How far each comes before it stops.
PHASES = {
    "connected": b"",
    "header": BEGIN[:5],
    "begin": BEGIN,
    "parameters": BEGIN + encode_record(FCGI_PARAMS, 1, b"\1\1AB")[:9],
    "body-nobody-wants": encode_request(params_for("/"), end_stdin=False),
    "idle": hello(),
}


BODIES = {
    "body": UNFINISHED,
    "body-in-part": UNFINISHED + encode_record(FCGI_STDIN, 1, b"x" * 100)[:50],
}


def answered(web: WebServer) -> bool:
    return web.response().body == b"hello"


@pytest.mark.parametrize("phase", PHASES)
def test_slow_loris(server: Server, phase: str) -> None:
    """Many who stop in the middle, and are in no hurry."""
    with server.ordeal(complaints=0) as ordeal, crowd(server, CROWD) as webs:
        for web in webs:
            web.send(PHASES[phase])
        ordeal.goes_on()
        if phase in {"idle", "body-nobody-wants"}:
            assert all(map(answered, webs))
        assert not server.is_busy_for_nothing()
        ordeal.goes_on()


@pytest.mark.parametrize("phase", BODIES)
def test_slow_bodies(start: Start, shell: Shell, phase: str) -> None:
    """The same where the application waits for them: threads stay free for the others.

    Where there is only one, the others wait until it is given up.
    """
    server = start() if shell.concurrent else start("--read-timeout", "0.1")
    with server.ordeal() as ordeal, crowd(server, CROWD if shell.concurrent else 10) as webs:
        for web in webs:
            web.send(BODIES[phase])
        ordeal.goes_on()
        assert not server.is_busy_for_nothing()
        ordeal.goes_on()


@pytest.mark.parametrize("phase", BODIES)
def test_slow_bodies_are_given_up(start: Start, shell: Shell, phase: str) -> None:
    """Behind read_timeout, each of them is answered."""
    server = start("--read-timeout", "0.1")
    with server.ordeal() as ordeal, crowd(server, 10 if shell.threads else CROWD) as webs:
        for web in webs:
            web.send(BODIES[phase])
        ordeal.goes_on()
        assert all(web.response().ended for web in webs)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_many_at_once(start: Start, *, tcp: bool) -> None:
    """400 connections, all of them before any is served: none is lost."""
    server = start(tcp=tcp)
    with server.ordeal(complaints=0) as ordeal, crowd(server, 400) as webs:
        for web in webs:
            web.send(hello())
        assert all(map(answered, webs))
        ordeal.goes_on()


def test_opened_and_dropped(server: Server) -> None:
    with server.ordeal(complaints=0) as ordeal:
        for number in range(2000):
            server.connect().close()
            if number % 200 == 0:
                ordeal.goes_on()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_resets(start: Start, *, tcp: bool) -> None:
    """In every phase, and while the answer is on its way."""
    server = start(tcp=tcp)
    phases = [
        *PHASES.values(),
        *BODIES.values(),
        hello(keep=False),
        encode_request(params_for(f"/download?{10 << 20}")),
    ]
    with server.ordeal(complaints=0) as ordeal:
        for _ in range(20):
            for phase in phases:
                with server.connect() as web:
                    web.send(phase)
                    # The kernel's word for "no linger": what was not sent is dropped, and the other side is told so.
                    web.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ordeal.goes_on()


def test_resets_with_answers_unread(server: Server) -> None:
    """Closing with something unread is a reset on unix sockets, too."""
    with server.ordeal(complaints=0) as ordeal:
        for number in range(100):
            with server.connect() as web:
                web.send(encode_request(params_for(f"/download?{1 << 20}")) if number % 2 else hello())
                web.socket.recv(1)
            if number % 10 == 0:
                ordeal.goes_on()


def test_few_descriptors(server: Server) -> None:
    """`ulimit -n 64` and 120 connections: those that there is room for are served, and all others when there is."""
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    mark = server.mark()
    with server.ordeal() as ordeal:
        started = time.monotonic()
        with crowd(server, 120) as webs:
            for web in webs:
                web.send(hello())
            server.wait_for("cannot accept connections", mark)
            assert not server.is_busy_for_nothing()
            for web in webs:
                # In the order in which they came; each makes room for another.
                assert answered(web)
                web.close()
        ordeal.goes_on()
        seconds = time.monotonic() - started
        complaints = len(re.findall("cannot accept", server.log_since(mark)))
        assert complaints <= 3 + seconds


def test_all_threads_blocked(server: Server) -> None:
    """Others wait in the order in which they came, cost nothing, and are served as soon as a thread is free."""
    busy = server.shell.threads or 20
    with server.ordeal(complaints=0), crowd(server, busy) as blocked, crowd(server, 100) as waiting:
        for web in waiting:
            # It is accepted.
            web.send(hello())
            assert answered(web)
        for web in blocked:
            # More than there is room for on the way.
            web.send(encode_request(params_for(f"/download?{2 << 20}")))
            # It has begun.
            assert select.select([web.socket], [], [], TIMEOUT)[0]
        for web in waiting:
            web.send(hello())
        assert not server.is_busy_for_nothing()
        if server.shell.threads is not None:
            assert not select.select([web.socket for web in waiting], [], [], 0)[0]
        for web in blocked:
            assert len(web.response().stdout) > 2 << 20
        assert answered(waiting[-1])
        # What several threads do at the same time may end in another order; any of them may stand still for a moment.
        here = select.select([web.socket for web in waiting[:-1]], [], [], 0)[0]
        assert len(here) >= len(waiting) - 2 * busy
        assert all(map(answered, waiting[:-1]))
