"""Records that are put together in pipes: what ../net/test_files.py cannot see of them."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.net import pipes
from simple_fastcgi.net.files import RECORD, SourceFile, limit_waits, send_all, send_records, widen_for
from simple_fastcgi.net.pipes import close_pipes, send_piped
from simple_fastcgi.protocol.constants import FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_header

from .support import linux, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from simple_fastcgi.net.files import FilePart
    from simple_fastcgi.protocol.records import Buffer

pytestmark = linux

RECORDS = 20
WHOLE = 8 + RECORD
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


def fill(ours: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 1000)


def received(ours: socket.socket, peer: socket.socket) -> bytes:
    ours.close()
    with peer:
        return b"".join(iter(lambda: peer.recv(1 << 20), b""))


def test_what_is_in_flight_keeps_its_header(file: int) -> None:
    pairs = {request_id: pair() for request_id in (1, 2, 257, 512, 65535)}
    for request_id, (ours, _) in pairs.items():
        # A second one, when the first is still to be read.
        for at in (0, RECORD):
            assert send_piped(ours.fileno(), header(request_id), file, at, at + RECORD, RECORD) == (WHOLE, WHOLE)
    for request_id, (ours, peer) in pairs.items():
        assert received(ours, peer) == records(request_id, 2)


@pytest.mark.parametrize("blocking", (True, False), ids=("blocks", "does not block"))
def test_records_of_a_file_leave_through_pipes(file: int, *, blocking: bool) -> None:
    """However much the socket takes, in pieces of all sizes."""
    source = SourceFile(file)
    stop = len(CONTENT)
    ours, peer = pair()
    ours.setblocking(blocking)
    limit_waits(ours, 0.05)
    sizes = cycle((1, 7, 8, 100, RECORD, 3 * WHOLE, 5 * WHOLE + 9, 100_000))
    expected, got, at = records(1, RECORDS), b"", 0
    left: Sequence[Buffer | FilePart] = []
    with ours, peer:
        while len(got) < len(expected):
            if left:
                left = send_all(ours, left)
            elif at < stop:
                at, left = send_records(ours, [header(1)], source, at, stop)
            got += peer.recv(next(sizes))
    assert got == expected
    assert any(pipes._free), "no pipe was used"


def test_a_full_socket_is_sent_nothing(file: int) -> None:
    ours, peer = pair()
    fill(ours)
    at, left = send_records(ours, [header(1)], SourceFile(file), 0, 3 * RECORD)
    assert (at, [len(one) for one in left]) == (RECORD, [8, RECORD])
    assert not received(ours, peer).strip(b"x")


def test_what_is_left_in_a_pipe_never_leaves(file: int) -> None:
    """Behind a socket that is full, a file that has become shorter, and one that cannot be sent so."""
    ours, peer = pair()
    fill(ours)
    with ours, peer:
        assert send_piped(ours.fileno(), header(1), file, 0, 3 * RECORD, RECORD) == (3 * WHOLE, 0)
    check_the_next(file)
    ours, peer = pair()
    at = len(CONTENT) - RECORD
    assert send_piped(ours.fileno(), header(2), file, at, at + 3 * RECORD, RECORD) == (WHOLE, WHOLE)
    assert received(ours, peer) == header(2) + CONTENT[-RECORD:]
    check_the_next(file)
    ours, peer = pair()
    folder = os.open("/", os.O_RDONLY)
    assert send_piped(ours.fileno(), header(3), folder, 0, RECORD, RECORD) == (0, 0)
    os.close(folder)
    assert received(ours, peer) == b""
    check_the_next(file)


def check_the_next(file: int) -> None:
    """Of another request, and other bytes of the file."""
    ours, peer = pair()
    at = 7 * RECORD
    assert send_piped(ours.fileno(), header(9), file, at, at + RECORD, RECORD) == (WHOLE, WHOLE)
    assert received(ours, peer) == header(9) + CONTENT[at : at + RECORD]


def test_a_part_of_a_record_is_not_sent(file: int) -> None:
    ours, peer = pair()
    widen_for(len(CONTENT), ours)
    stop = 2 * RECORD + 100
    assert send_records(ours, [header(1)], SourceFile(file), 0, stop) == (2 * RECORD, [])
    assert received(ours, peer) == records(1, 2)


@pytest.fixture
def refuses(monkeypatch: pytest.MonkeyPatch) -> Callable[[OSError], None]:
    """The kernel takes what goes into a pipe, and says this of what goes out of it."""

    def make(error: OSError) -> None:
        def splice(source: int, *others: Any) -> int:
            if stat.S_ISFIFO(os.fstat(source).st_mode):
                raise error
            return os.splice(source, *others)

        monkeypatch.setattr(pipes, "_splice", splice)

    return make


def test_pages_that_cannot_be_handed_on_leave_without_a_pipe(file: int, refuses: Callable[[OSError], None]) -> None:
    refuses(OSError(errno.EINVAL, "no"))
    ours, peer = pair()
    widen_for(len(CONTENT), ours)
    assert send_records(ours, [header(1)], SourceFile(file), 0, 2 * RECORD) == (2 * RECORD, [])
    assert received(ours, peer) == records(1, 2)


def test_what_a_signal_handler_raises_is_no_reason_to_send_again(file: int, refuses: Callable[[OSError], None]) -> None:
    refuses(TimeoutError())
    ours, peer = pair()
    with pytest.raises(TimeoutError):
        send_records(ours, [header(1)], SourceFile(file), 0, 2 * RECORD)
    assert received(ours, peer) == b""


def test_headers_that_cannot_be_written(file: int) -> None:
    ours, peer = pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        result = send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result == (0, 0)
    assert received(ours, peer) == b""
    check_the_next(file)


@pytest.mark.usefixtures("file")
def test_files_that_are_there_are_sent_when_no_descriptors_are_left(tmp_path: Path) -> None:
    source = f"""
import os, resource, socket
from simple_fastcgi.net.files import SourceFile, send_records, widen_for
ours, peer = socket.socketpair()
file = SourceFile(os.open({str(tmp_path / "file")!r}, os.O_RDONLY))
widen_for({RECORDS * RECORD}, ours)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
print(*send_records(ours, [b"12345678"], file, 0, {RECORD}))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""
    assert run("-c", source) == f"{RECORD} []\n"


def test_without_descriptors_nothing_is_sent(file: int) -> None:
    ours, peer = pair()
    close_pipes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD) == (0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert received(ours, peer) == b""
    check_the_next(file)


def test_when_others_have_all_pipes_nothing_is_sent(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_free", [])
    ours, peer = pair()
    assert send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD) == (0, 0)
    assert received(ours, peer) == b""


def test_a_peer_that_has_gone(file: int) -> None:
    ours, peer = pair()
    peer.close()
    with ours, pytest.raises(BrokenPipeError):
        send_piped(ours.fileno(), header(1), file, 0, RECORD, RECORD)
    check_the_next(file)


def test_many_threads_at_once(file: int) -> None:
    """More of them than there are pipes."""

    def send(request_id: int) -> bool:
        ours, peer = pair()
        source, at = SourceFile(file), 0
        left: Sequence[Buffer | FilePart] = []
        got = b""
        expected = records(request_id, RECORDS)
        with ours, peer:
            while len(got) < len(expected):
                if left:
                    left = send_all(ours, left)
                elif at < len(CONTENT):
                    at, left = send_records(ours, [header(request_id)], source, at, len(CONTENT))
                got += peer.recv(300_000)
        return got == expected

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(send, range(1, 61)))
    assert len(pipes._free) == 4


@pytest.mark.usefixtures("file")
def test_pipes_are_kept_for_the_next_file_and_not_by_children(tmp_path: Path) -> None:
    source = f"""
import os, socket
from simple_fastcgi.net import pipes
ours, peer = socket.socketpair()
file = os.open({str(tmp_path / "file")!r}, os.O_RDONLY)
assert pipes.send_piped(ours.fileno(), b"12345678", file, 0, {RECORD}, {RECORD}) == ({WHOLE}, {WHOLE})
if child := os.fork():
    os.waitpid(child, 0)
print(len(pipes._free), len(list(filter(None, pipes._free))), len(os.listdir("/proc/self/fd")))
"""
    child, parent = (list(map(int, line.split())) for line in run("-c", source).splitlines())
    assert (child[:2], parent[:2]) == ([4, 0], [4, 1])
    assert parent[2] - child[2] == 3
