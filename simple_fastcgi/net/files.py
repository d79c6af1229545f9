"""Files that the kernel itself takes to a socket: nothing of them passes through this process."""

from __future__ import annotations

import errno
import os
import socket
from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from ..protocol.records import Buffer

    SomeBuffer = TypeVar("SomeBuffer", Buffer, "Buffer | FilePart")

PAGE = 4096
RECORD = 15 * PAGE
"""As many whole pages as a record can hold: one that is cut in two is two for the kernel."""
TURN = 64 * RECORD
"""Bytes of one file that are sent before others have their turn."""

ENDED = "the response has ended, nothing of a file can follow it"

IOV_MAX = 64
"""Buffers that are sent with one system call, at most."""

# Bytes that may wait in a unix socket. With more of them what the web server reads has left the processor's caches,
# which costs both sides a sixth more; with less both wake each other more often.
_WIDE = 1 << 19
# Of files no byte passes this processor's caches, and each time that we are woken costs what half a megabyte does.
_WIDE_FOR_FILES = 1 << 21
# What the usual unix socket has room for.
_NARROW = 3 * RECORD
_MSG_MORE = getattr(socket, "MSG_MORE", 0)
_sendfile: Any = getattr(os, "sendfile", None)
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_SHORTER = "the file became shorter while it was sent"
# What sockets fail with, beside ConnectionError; anything else is about the file, or that sendfile cannot send it.
_OF_SOCKETS = frozenset({errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
# What the kernel says of pages that it cannot hand on, or cannot have read; nothing of them has left then.
_NOT_FOR_PIPES = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.ENODATA, errno.ENOMEM})


class SourceFile:
    """A regular file from which parts are sent; it stays open as long as one of them is there.

    `descriptor` is duplicated: whoever has opened the file may close it at any time. Its position counts for nothing.
    """

    __slots__ = ("by_kernel", "descriptor", "error")

    def __init__(self, descriptor: int) -> None:
        self.error: OSError | None = None
        """Why something of the file could not be sent, and was made up of zeros."""
        self.by_kernel = _sendfile is not None
        """Whether the kernel takes it to sockets by itself, as far as is known."""
        self.descriptor = -1
        if self.by_kernel:
            # Here, since it fails without descriptors: in the middle of a response that would be its end.
            from . import pipes  # noqa: F401
        self.descriptor = os.dup(descriptor)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def check(self) -> None:
        """OSError if something of the file could not be sent.

        Not :attr:`error` itself: its traceback would lead back here, and keep the file open until Python looks for
        garbage.
        """
        if self.error is not None:
            raise OSError(*self.error.args)

    def check_size(self, stop: int) -> None:
        """OSError if the file does not reach to `stop` any more."""
        if os.fstat(self.descriptor).st_size < stop:
            raise OSError(errno.EIO, _SHORTER)

    def is_at_hand(self, start: int, stop: int) -> bool:
        """Whether the bytes from `start` to `stop` are in memory, as far as can be told without reading them.

        Looks at the last one: files are read from the front, and the kernel reads ahead.
        """
        if not _NOWAIT:
            return True
        try:
            os.preadv(self.descriptor, [bytearray(1)], stop - 1, _NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # Some file systems cannot tell.
            return True
        return True

    def fetch(self, start: int, stop: int) -> None:
        """Have the bytes from `start` to `stop` in memory; waits for the disk. Never raises: sending them tells."""
        try:
            while start < stop and (data := os.pread(self.descriptor, min(RECORD, stop - start), start)):
                start += len(data)
        except OSError:
            pass


class FilePart:
    """Bytes of a file that are on their way, the content of one record. The length is what is left of them."""

    __slots__ = ("_file", "_size", "_start")

    def __init__(self, file: SourceFile, start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size

    def __len__(self) -> int:
        return self._size

    def behind(self, sent: int) -> FilePart:
        """What is left behind the first `sent` bytes."""
        return FilePart(self._file, self._start + sent, self._size - sent)

    def send(self, sock: socket.SocketType) -> int:
        """Send some of it, without waiting for `sock`, which may raise OSError; how much.

        What the file does not give is sent as zeros, and :attr:`SourceFile.error` tells: the length of the record
        has been told already, and other requests follow it on this connection.
        """
        return _send_part(sock, self._file, self._start, self._size)


def _send_part(sock: socket.SocketType, file: SourceFile, start: int, size: int) -> int:
    if file.by_kernel:
        try:
            sent: int = _sendfile(sock.fileno(), file.descriptor, start, size)
        except OSError as error:
            if _is_of_socket(error):
                raise
        else:
            if sent:
                return sent
        file.by_kernel = False
    return sock.send(_read_part(file, start, size))


def _is_of_socket(error: OSError) -> bool:
    """Whether what sendfile has failed with is about the socket; else it is about the file."""
    return isinstance(error, (BlockingIOError, ConnectionError)) or error.errno in _OF_SOCKETS


def _read_part(file: SourceFile, start: int, size: int) -> bytes:
    if file.error is None:
        try:
            if data := os.pread(file.descriptor, size, start):
                return data
            file.error = OSError(errno.EIO, _SHORTER)
        except OSError as error:
            file.error = error.with_traceback(None)
    return bytes(size)


def send_all(sock: socket.SocketType, buffers: Sequence[Buffer | FilePart]) -> Sequence[Buffer | FilePart]:
    """Send `buffers` as far as that goes without waiting; what is left, `buffers` itself if nothing went.

    Of a socket that blocks: for as long as it may wait. Raises OSError.
    """
    if len(buffers) <= IOV_MAX and FilePart not in map(type, buffers):
        try:
            return after(buffers, sock.sendmsg(buffers))  # type: ignore[arg-type]
        except BlockingIOError:
            return buffers
    for start in range(0, len(buffers), IOV_MAX):
        group = buffers[start : start + IOV_MAX]
        left = _send_group(sock, group)
        if left is group and start == 0:
            return buffers
        if left:
            return [*left, *buffers[start + IOV_MAX :]]
    return ()


def _send_group(sock: socket.SocketType, buffers: Sequence[Buffer | FilePart]) -> Sequence[Buffer | FilePart]:
    """As :func:`send_all`, for as many as one system call takes."""
    while buffers:
        try:
            sent = send_some(sock, buffers)
        except BlockingIOError:
            break
        left = after(buffers, sent)
        if left and not isinstance(left[0], FilePart):
            # To try again would only raise an exception, which costs as much as all of this.
            return left
        buffers = left
    return buffers


def send_some(sock: socket.SocketType, buffers: Sequence[Buffer | FilePart]) -> int:
    """Send what comes first of `buffers`, which is not empty, without waiting; how many bytes. Raises OSError."""
    first = buffers[0]
    if isinstance(first, FilePart):
        return first.send(sock)
    plain: list[Buffer] = []
    for buffer in buffers[:IOV_MAX]:
        if isinstance(buffer, FilePart):
            # A packet of its own for each header would be sent otherwise.
            return sock.sendmsg(plain, (), _MSG_MORE)
        plain.append(buffer)
    return sock.sendmsg(plain)


def widen_for(size: int, sock: socket.SocketType, *, sparingly: bool = False) -> None:
    """Let more wait in `sock` if so much of a file is about to be sent, and does not fit anyway.

    `sparingly`: no more than of other bodies.
    """
    if size > _NARROW:
        widen(sock, _WIDE if sparingly else _WIDE_FOR_FILES)


def widen(sock: socket.SocketType, room: int = _WIDE) -> bool:
    """Let more wait in `sock`, if it does not yet: who sends much is woken less often. Whether it takes more now.

    Of a unix socket only, since TCP finds its size by itself. It stays so: there is nothing in an idle one.
    """
    if sock.family != socket.AF_UNIX:
        return False
    try:
        # Linux tells twice what it was told.
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if before >= room:
            return False
        # Linux takes what is allowed if that is less.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
    except OSError:
        # More than this system allows; or closed meanwhile.
        return False


def limit_waits(sock: socket.SocketType, seconds: float) -> bool:
    """Let a call wait for so long at most where `sock` blocks; whether that is possible.

    Sending waits until all has gone. It has no effect on what the socket does while it does not block.
    """
    try:
        timeval = pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    except (OSError, AttributeError):
        return False
    return True


def record_size(start: int, stop: int) -> int:
    """How much of a file the record that begins at `start` holds, if it is sent up to `stop`."""
    return min(RECORD - start % PAGE, stop - start)


def send_records(
    sock: socket.SocketType, lead: list[Buffer], file: SourceFile, start: int, stop: int
) -> tuple[int, list[Buffer | FilePart]]:
    """Send `lead` and records of `file` behind it, from `start` up to `stop`, as far as that goes without waiting.

    `lead` ends with the header of the first record, which is that of all others as large; no other record is begun.
    Where the next record starts, and what is left of the last one. Raises OSError.
    """
    size = record_size(start, stop)
    if size < RECORD or len(lead) > 1 or not file.by_kernel:
        told = sent = 0
        try:
            told = sock.sendmsg(lead[:IOV_MAX], (), _MSG_MORE)
            if told == sum(map(len, lead)):
                sent = _send_part(sock, file, start, size)
        except BlockingIOError:
            pass
        if sent < size:
            return start + size, after([*lead, FilePart(file, start, size)], told + sent)
        start += size
        if size < RECORD or stop - start < RECORD or not file.by_kernel:
            return start, []
    return _send_whole_records(sock, lead[-1], file, start, stop)


def _send_whole_records(
    sock: socket.SocketType, header: Buffer, file: SourceFile, position: int, stop: int
) -> tuple[int, list[Buffer | FilePart]]:
    """The same, of as many records of full length as there are: most of a file. Nothing else is done in between."""
    if sock.family == socket.AF_UNIX:
        position, left = _send_piped_records(sock, bytes(header), file, position, stop)
        if left or stop - position < RECORD:
            return position, left
    fd, descriptor, size, sendfile = sock.fileno(), file.descriptor, RECORD, _sendfile
    # Not sendmsg(), nor send() where nothing is put together into packets: they take longer.
    how: tuple[Callable[..., int], object, object] = (os.write, fd, header)
    if sock.family != socket.AF_UNIX:
        how = (sock.send, header, _MSG_MORE)
    send, where, what = how
    length = len(header)
    told = sent = 0
    try:
        for start in range(position, stop - size + 1, size):
            told = sent = 0
            told = send(where, what)
            if told == length:
                sent = sendfile(fd, descriptor, start, size)
            if sent != size:
                break
        else:
            return start + size, []
    except OSError as error:
        if not isinstance(error, BlockingIOError) and (told < length or _is_of_socket(error)):
            raise
    # If it is the file that fails, whoever sends what is left of the record finds out.
    return start + size, after([header, FilePart(file, start, size)], told + sent)


def _send_piped_records(
    sock: socket.SocketType, header: bytes, file: SourceFile, position: int, stop: int
) -> tuple[int, list[Buffer | FilePart]]:
    """The same, as far as that goes through pipes."""
    from .pipes import PIPED, send_piped

    size = RECORD
    while (end := min(position + PIPED * size, stop - (stop - position) % size)) > position:
        try:
            due, sent = send_piped(sock.fileno(), header, file.descriptor, position, end, size)
        except OSError as error:
            if error.errno not in _NOT_FOR_PIPES:
                raise
            break
        whole, part = divmod(sent, len(header) + size)
        position += whole * size
        if sent < due:
            return position + size, after([header, FilePart(file, position, size)], part)
        if position < end:
            break
    return position, []


def after(buffers: Sequence[SomeBuffer], sent: int) -> list[SomeBuffer]:
    """What is left of `buffers` behind the first `sent` bytes."""
    for index, buffer in enumerate(buffers):
        size = len(buffer)
        if sent < size:
            rest = list(buffers[index:])
            if sent:
                rest[0] = buffer.behind(sent) if isinstance(buffer, FilePart) else memoryview(buffer)[sent:]
            return rest
        sent -= size
    return []
