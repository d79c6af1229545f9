"""Parts of files between other bytes, on sockets of both kinds."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net import files, pipes
from simple_fastcgi.net.files import (
    PAGE,
    RECORD,
    FilePart,
    SourceFile,
    after,
    record_size,
    send_records,
    send_some,
    widen,
    widen_for,
)
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from simple_fastcgi.protocol.records import Buffer

    Send = Callable[[socket.socket, Sequence[Buffer | FilePart]], Sequence[Buffer | FilePart]]

CONTENT = b"".join(number.to_bytes(4) for number in range(40000))


@pytest.fixture(params=("unix", "unix, without pipes", "tcp"))
def pair(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that takes little at once and does not wait, and its peer."""
    if request.param == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            peer, _ = listening.accept()
    else:
        if request.param != "unix":
            monkeypatch.setattr(pipes, "_free", [])
        ours, peer = socket.socketpair()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        ours.setblocking(False)
        peer.settimeout(TIMEOUT)
        yield ours, peer


@pytest.fixture(params=("with pipes", "without pipes"))
def _with_and_without_pipes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without pipes":
        monkeypatch.setattr(pipes, "_free", [])


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        return SourceFile(opened.fileno())


def exchange(
    pair: tuple[socket.socket, socket.socket], left: Sequence[Buffer | FilePart], size: int, send: Send
) -> bytes:
    """Send what is left, whenever there is room; what came of it, `size` bytes with those sent before."""
    ours, peer = pair
    got = b""
    while len(got) < size:
        # Either one: on TCP there may be no room yet behind bytes that have all been received.
        readable, writable, _ = select.select([peer], [ours] if left else [], [], TIMEOUT)
        assert readable or writable
        if writable:
            left = send(ours, left)
        if readable:
            got += peer.recv(5000)
    assert not left
    return got


def some(sock: socket.socket, left: Sequence[Buffer | FilePart]) -> Sequence[Buffer | FilePart]:
    try:
        return after(left, send_some(sock, left))
    except BlockingIOError:
        return left


@pytest.mark.parametrize("size", (1, 700))
@pytest.mark.parametrize("parts_at", ((), (0,), (64, 65), (130, 299)), ids=repr)
def test_as_much_as_the_kernel_takes(
    pair: tuple[socket.socket, socket.socket], file: SourceFile, parts_at: tuple[int, ...], size: int
) -> None:
    """Of more buffers than a system call takes, parts of files among them; nothing is lost, doubled or out of order."""
    left: Sequence[Buffer | FilePart] = [
        FilePart(file, 0, PAGE) if index in parts_at else bytes((index % 256,)) * size for index in range(300)
    ]
    expected = b"".join(CONTENT[:PAGE] if isinstance(buffer, FilePart) else buffer for buffer in left)
    assert exchange(pair, left, len(expected), files.send_all) == expected


def test_a_kernel_that_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    buffers = [b"x" * 1000] * 100
    # It has room for some of it.
    for _ in range(1000):
        if files.send_all(ours, buffers) is buffers:
            return
    raise AssertionError("it takes whatever comes")


@pytest.mark.parametrize("lead", ([b"head"], [b"before", b"head"], [b"x" * 30000, b"head"], [b"x" * 30000]))
def test_a_record_in_pieces(pair: tuple[socket.socket, socket.socket], file: SourceFile, lead: list[Buffer]) -> None:
    expected = b"".join(lead) + CONTENT[10:60010]
    left = send_records(pair[0], lead, file, 10, 60010)[1]
    assert exchange(pair, [*left, b"tail"], len(expected) + 4, some) == expected + b"tail"
    assert file.error is None


@pytest.mark.usefixtures("_with_and_without_pipes")
def test_records_of_the_same_size_leave_in_turn(file: SourceFile) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        widen(ours)
        ours.setblocking(False)
        # The last one is shorter, and needs a header of its own.
        stop = 2 * RECORD + 100
        assert send_records(ours, [b"before", b"head"], file, 0, stop) == (2 * RECORD, [])
        assert send_records(ours, [b"last"], file, 2 * RECORD, stop) == (stop, [])
        ours.close()
        received = b"".join(iter(lambda: peer.recv(65536), b""))
    first, second, last = CONTENT[:RECORD], CONTENT[RECORD : 2 * RECORD], CONTENT[2 * RECORD : stop]
    assert received == b"before" + b"head" + first + b"head" + second + b"last" + last


@pytest.mark.parametrize("lead", ([b"head"], [b"before", b"head"], [b"x" * 30000]))
def test_whole_records_in_pieces(
    pair: tuple[socket.socket, socket.socket], file: SourceFile, lead: list[Buffer]
) -> None:
    expected = got = b""
    start, stop = 0, 2 * RECORD + 100
    while start < stop:
        begun, (start, left) = start, send_records(pair[0], lead, file, start, stop)
        # The others are led to as the first one is.
        for at in range(begun, start, RECORD):
            expected += b"".join(lead if at == begun else lead[-1:]) + CONTENT[at : min(at + RECORD, stop)]
        got += exchange(pair, left, len(expected) - len(got), some)
    assert got == expected


@pytest.mark.usefixtures("_with_and_without_pipes")
def test_whole_records_of_a_file_that_shrinks(file: SourceFile) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        widen(ours)
        ours.setblocking(False)
        start, left = send_records(ours, [b"head"], file, 0, 4 * RECORD)
        # The file ends in the third one.
        assert (start, [len(one) for one in left]) == (3 * RECORD, [3 * RECORD - len(CONTENT)])
        assert not files.send_all(ours, left)
        assert file.error is not None
        # It is not asked for the rest any more.
        assert send_records(ours, [b"head"], file, 3 * RECORD, 5 * RECORD) == (4 * RECORD, [])
        ours.close()
        received = b"".join(iter(lambda: peer.recv(65536), b""))
    content = CONTENT + bytes(4 * RECORD - len(CONTENT))
    assert received == b"".join(b"head" + content[at : at + RECORD] for at in range(0, 4 * RECORD, RECORD))


def test_parts_among_bytes(pair: tuple[socket.socket, socket.socket], file: SourceFile) -> None:
    parts: list[Buffer | FilePart] = [b"a", FilePart(file, 0, 100), b"b", memoryview(b"c"), FilePart(file, 7, 50000)]
    expected = b"a" + CONTENT[:100] + b"bc" + CONTENT[7:50007]
    assert exchange(pair, parts, len(expected), some) == expected


def test_without_sendfile(
    pair: tuple[socket.socket, socket.socket], file: SourceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.by_kernel = False
    left = send_records(pair[0], [b"head"], file, 0, 60000)[1]
    assert exchange(pair, left, 60004, some) == b"head" + CONTENT[:60000]


def test_a_socket_without_any_room(pair: tuple[socket.socket, socket.socket], file: SourceFile) -> None:
    filled = 0
    with pytest.raises(BlockingIOError):
        while True:
            filled += pair[0].send(b"x" * 1000)
    left = send_records(pair[0], [b"head"], file, 0, 1000)[1]
    assert [len(one) for one in left] == [4, 1000]
    assert exchange(pair, left, filled + 1004, some)[filled:] == b"head" + CONTENT[:1000]


def test_what_the_file_does_not_have_is_zeros(pair: tuple[socket.socket, socket.socket], file: SourceFile) -> None:
    size = len(CONTENT)
    left = send_records(pair[0], [b"head"], file, size - 50, size + 950)[1]
    assert exchange(pair, left, 1004, some) == b"head" + CONTENT[-50:] + bytes(950)
    assert file.error is not None
    with pytest.raises(OSError, match="became shorter"):
        file.check_size(size + 1)
    file.check_size(size)


def test_a_file_that_cannot_be_read(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    file = SourceFile(descriptor)
    os.close(descriptor)
    left = send_records(pair[0], [b"head"], file, 0, 1000)[1]
    assert exchange(pair, left, 1004, some) == b"head" + bytes(1000)
    assert isinstance(file.error, IsADirectoryError)
    assert not file.by_kernel
    # Nothing of this raises.
    file.fetch(0, 1000)
    file.is_at_hand(0, 1000)


@pytest.mark.usefixtures("_with_and_without_pipes")
def test_whole_records_that_cannot_be_read(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    file = SourceFile(descriptor)
    os.close(descriptor)
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        start, left = send_records(ours, [b"head"], file, 0, 2 * RECORD)
        assert (start, [len(one) for one in left], peer.recv(100)) == (RECORD, [RECORD], b"head")
        assert exchange((ours, peer), left, RECORD, some) == bytes(RECORD)


def test_a_peer_that_has_gone(pair: tuple[socket.socket, socket.socket], file: SourceFile) -> None:
    ours, peer = pair
    peer.close()
    with pytest.raises(ConnectionError):
        while True:
            send_some(ours, [FilePart(file, 0, 1000)])
    with pytest.raises(ConnectionError):
        send_records(ours, [b"head"], file, 0, 1000)
    with pytest.raises(ConnectionError):
        send_records(ours, [b"head"], file, 0, 2 * RECORD)
    assert file.error is None


def test_a_socket_that_is_not_connected(file: SourceFile) -> None:
    with socket.socket() as sock, pytest.raises(OSError) as caught:
        FilePart(file, 0, 1000).send(sock)
    assert caught.value.errno in (errno.ENOTCONN, errno.EPIPE)
    assert file.error is None


def test_the_file_is_closed_with_its_last_part(file: SourceFile) -> None:
    descriptor, part = file.descriptor, FilePart(file, 0, 10).behind(4)
    del file
    os.fstat(descriptor)
    assert len(part) == 6


def test_a_descriptor_that_is_none() -> None:
    with pytest.raises(OSError):
        SourceFile(-1)


def test_bytes_are_fetched(file: SourceFile) -> None:
    os.fsync(file.descriptor)
    os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    file.fetch(0, len(CONTENT))
    assert file.is_at_hand(0, len(CONTENT))


def test_records_end_with_pages() -> None:
    assert record_size(0, 10 * RECORD) == RECORD
    assert (100 + record_size(100, 10 * RECORD)) % PAGE == 0
    assert record_size(100, 200) == 100


def test_room_is_made_once() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert widen(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
        assert not widen(ours)
    assert not widen(ours)


def test_files_have_more_room() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        # One that fits a usual socket.
        widen_for(3 * RECORD, ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        widen_for(3 * RECORD + 1, ours)
        wide = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert wide > before
        # What else is sent later does not take it away.
        widen(ours)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == wide


def test_files_have_no_more_room_than_others_where_that_does_harm() -> None:
    ours, peer = socket.socketpair()
    others, their_peer = socket.socketpair()
    with ours, peer, others, their_peer:
        for sock in (ours, others):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        widen_for(3 * RECORD + 1, ours, sparingly=True)
        widen(others)
        rooms = {sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for sock in (ours, others)}
        assert len(rooms) == 1
        assert rooms.pop() > 2 * 8192


def test_room_on_tcp_is_the_kernels_business() -> None:
    with socket.socket() as sock:
        assert not widen(sock)
