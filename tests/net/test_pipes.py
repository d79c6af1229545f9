"""Records that are put together in pipes: what ../net/test_files.py cannot see of them."""

from __future__ import annotations

import os
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net import pipes
from simple_fastcgi.net.files import RECORD, widen_for
from simple_fastcgi.net.pipes import close_idle, send_piped
from simple_fastcgi.protocol.constants import FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_header

from .support import linux, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = linux

RECORDS = 20
CONTENT = b"".join(number.to_bytes(4) for number in range(RECORDS * RECORD // 4))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def pair() -> tuple[socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    return ours, peer


def header(request_id: int) -> bytes:
    return encode_header(FCGI_STDOUT, request_id, RECORD)


def records(request_id: int, count: int) -> bytes:
    parts = (CONTENT[at : at + RECORD] for at in range(0, count * RECORD, RECORD))
    return b"".join(header(request_id) + part for part in parts)


def received(ours: socket.socket, peer: socket.socket) -> bytes:
    ours.close()
    with peer:
        return b"".join(iter(lambda: peer.recv(1 << 20), b""))


def test_what_is_in_flight_keeps_its_header(file: int) -> None:
    pairs = {request_id: pair() for request_id in (1, 2, 512, 65535)}
    for request_id, (ours, _) in pairs.items():
        # A second one, when the first is still to be read.
        for at in (0, RECORD):
            sent = send_piped(ours.fileno(), header(request_id), file, at, at + RECORD, RECORD)
            assert sent == RECORD + 8
    for request_id, (ours, peer) in pairs.items():
        assert received(ours, peer) == records(request_id, 2)


def test_more_records_than_a_pipe_holds(file: int) -> None:
    ours, peer = pair()
    widen_for(len(CONTENT), ours)
    whole, got, at = records(1, RECORDS), b"", 0
    with ours, peer:
        while at < len(CONTENT):
            sent = send_piped(ours.fileno(), header(1), file, at, len(CONTENT), RECORD)
            done, rest = divmod(sent, RECORD + 8)
            at += done * RECORD
            if rest:
                # As a server does, without a pipe.
                ours.setblocking(True)
                got += take(peer, done * (RECORD + 8) + rest)
                left = records(1, RECORDS)[len(got) :][: RECORD + 8 - rest]
                ours.sendall(left)
                ours.setblocking(False)
                got += take(peer, len(left))
                at += RECORD
            else:
                got += take(peer, sent)
    assert got == whole


def take(peer: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += peer.recv(size - len(got))
    return got


def test_a_socket_without_room_is_sent_nothing_and_the_pipe_is_not_used_again(file: int) -> None:
    ours, peer = pair()
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 1000)
    assert send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD) == 0
    assert pipes._idle == []
    assert not received(ours, peer).strip(b"x")


def test_without_descriptors_nothing_is_sent(file: int) -> None:
    ours, peer = pair()
    close_idle()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, hard))
    try:
        sent = send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sent == 0
    assert received(ours, peer) == b""


def test_a_peer_that_has_gone(file: int) -> None:
    ours, peer = pair()
    peer.close()
    with ours, pytest.raises(BrokenPipeError):
        send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD)
    assert pipes._idle == []


@pytest.mark.usefixtures("file")
def test_pipes_are_kept_for_the_next_file_and_not_by_children(tmp_path: Path) -> None:
    source = f"""
import os, socket
from simple_fastcgi.net import pipes
ours, peer = socket.socketpair()
file = os.open({str(tmp_path / "file")!r}, os.O_RDONLY)
assert pipes.send_piped(ours.fileno(), b"12345678", file, 0, {RECORD}, {RECORD}) == {RECORD + 8}
assert len(pipes._idle) == 1
if child := os.fork():
    os.waitpid(child, 0)
print(len(pipes._idle))
"""
    assert run("-c", source).split() == ["0", "1"]
