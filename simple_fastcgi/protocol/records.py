"""Records: their header and fixed-size bodies, packed and unpacked (sections 3.3, 5 and 8)."""

from __future__ import annotations

from struct import Struct

from .constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_END_REQUEST,
    FCGI_FILTER,
    FCGI_HEADER_LEN,
    FCGI_KEEP_CONN,
    FCGI_MAX_LENGTH,
    FCGI_NULL_REQUEST_ID,
    FCGI_PARAMS,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_TYPE,
    FCGI_VERSION_1,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    Buffer = bytes | memoryview
    # Request id, role, FCGI_KEEP_CONN, the size of FCGI_PARAMS, which is not 0, the same with their padding, the
    # records that end these FCGI_PARAMS and an FCGI_STDIN without content, and whether the request is a Responder's
    # which nothing but the state of its connection can stand in the way of.
    Opening = tuple[int, int, bool, int, int, bytes, bool]

HEADER = Struct("!BBHHBx")
"""FCGI_Header: version, type, requestId, contentLength, paddingLength, reserved."""
SIZES = Struct("!HBx")
"""What a header ends with: contentLength, paddingLength, reserved."""
# Where a method of an imported object is called, Python 3.12 makes an object of it each time.
unpack_sizes = SIZES.unpack_from
_SIZES_AT = FCGI_HEADER_LEN - SIZES.size
BEGIN_REQUEST_BODY = Struct("!HB5x")
"""FCGI_BeginRequestBody: role, flags."""
END_REQUEST_BODY = Struct("!IB3x")
"""FCGI_EndRequestBody: appStatus, protocolStatus."""

OPENING_LEN = 24
"""FCGI_BEGIN_REQUEST, and the header of its FCGI_PARAMS."""

ALIGNMENT = 8
# The longest content that needs no padding.
MAX_ALIGNED_CONTENT = FCGI_MAX_LENGTH & -ALIGNMENT
# Content up to this size is copied behind its header; above, that costs more than one more buffer to send.
COPY_LIMIT = 16384

# To copy so little behind its header takes less than to send one more buffer.
SHORT = 512

LARGE = 4096
"""Content of this size is looked at where it arrived: a copy takes longer."""

pack_sizes = SIZES.pack
_PADDING = tuple(bytes(size) for size in range(ALIGNMENT))
_STDOUT_END_AND_END_REQUEST = Struct("!BBHHBx BBHHBx IB3x")


def part_of(data: bytes, start: int, stop: int) -> Buffer:
    """Not a copy, if that is worth it, and if what it keeps alive is at most eight times as large."""
    size = stop - start
    if size < LARGE or 8 * size < len(data):
        return data[start:stop]
    return memoryview(data)[start:stop]


def parts_of(data: Buffer, position: int, left: int, padding: int, lead: bytes) -> tuple[list[Buffer], int, int, bytes]:
    """The content of a stream from `position` on: what is left of a record, and large ones right behind it.

    So web servers send a body. `left` bytes, the last of them `padding`, are what is left of the first; the headers of
    the others begin with `lead`. The last may not have come whole: also where it ends, perhaps behind `data`, and its
    padding; and the header that the last two or more of the others share, b"" if they do not. Like :func:`part_of`, no
    copies if what they keep alive is at most eight times as large.
    """
    alike = b""
    view, start, end = memoryview(data), position, len(data)
    # Whose methods a view does not have.
    whole: Any = view.obj
    parts: list[Buffer] = []
    if left > padding and start < end:
        parts.append(view[start : start + left - padding])
    position += left
    # What begins there at the position of a header is its content. A header alone has none.
    contents, last = view[FCGI_HEADER_LEN:], end - FCGI_HEADER_LEN
    while position < last and whole.startswith(lead, position):
        size, following = unpack_sizes(view, position + _SIZES_AT)
        if size < LARGE:
            break
        padding = following
        # Mostly the same header comes again and again.
        header = whole[position : position + FCGI_HEADER_LEN]
        step = FCGI_HEADER_LEN + size + padding
        headers = range(position, last, step)
        for position in headers:
            if not whole.startswith(header, position):
                break
            parts.append(contents[position : position + size])
        else:
            position += step
        alike = header if position - headers.start > step else b""
    span = min(position, end) - start
    if span < LARGE or 8 * span < end:
        parts = [b"".join(parts)] if parts else []
    return parts, position, padding, alike


def encode_record(type_: int, request_id: int, content: Buffer | bytearray = b"") -> bytes:
    """One whole record, padded to a multiple of 8 bytes; `content` has at most 65,535 bytes (3.3)."""
    size = len(content)
    padding = -size & 7
    return HEADER.pack(FCGI_VERSION_1, type_, request_id, size, padding) + content + _PADDING[padding]


def encode_header(type_: int, request_id: int, size: int) -> bytes:
    """The header alone of a record whose `size` bytes of content follow without padding."""
    return HEADER.pack(FCGI_VERSION_1, type_, request_id, size, 0)


def encode_stream(type_: int, request_id: int, chunks: Sequence[Buffer | bytearray]) -> list[Buffer]:
    """The records of a stream's `chunks`, as buffers to be sent in turn.

    Small chunks share a record; a large one is never copied. No end-of-stream record is made.
    """
    buffers: list[Buffer] = []
    small: list[Buffer | bytearray] = []
    small_size = 0
    for chunk in chunks:
        size = len(chunk)
        if small_size and (size > COPY_LIMIT or small_size + size > MAX_ALIGNED_CONTENT):
            buffers.append(_joined_record(type_, request_id, small, small_size))
            small, small_size = [], 0
        if size <= COPY_LIMIT:
            small.append(chunk)
            small_size += size
            continue
        buffers += encode_chunk(type_, request_id, chunk)
    if small_size:
        buffers.append(_joined_record(type_, request_id, small, small_size))
    return buffers


def encode_chunk(type_: int, request_id: int, chunk: Buffer | bytearray) -> list[Buffer]:
    """The records of one chunk of a stream, which is not empty; what is large is not copied."""
    size = len(chunk)
    if size <= COPY_LIMIT:
        return [encode_record(type_, request_id, chunk)]
    return chunk_frames[type_, request_id, size].around(chunk)


class ChunkFrame:
    """What makes records of a chunk, the same for all chunks of one size; here the one record that all of it fits into.

    `size` is that of the chunks.
    """

    __slots__ = ("_header", "_padding", "total")

    def __init__(self, type_: int, request_id: int, size: int) -> None:
        padding = -size & 7
        self._header = HEADER.pack(FCGI_VERSION_1, type_, request_id, size, padding)
        self._padding = _PADDING[padding]
        self.total = FCGI_HEADER_LEN + size + padding
        """Bytes of one chunk's records."""

    def around(self, chunk: Buffer | bytearray) -> list[Buffer]:
        """The records of `chunk`, as buffers to be sent in turn: at most two for each record, and one."""
        if self._padding:
            return [self._header, memoryview(chunk), self._padding]
        return [self._header, memoryview(chunk)]


class _LongFrame(ChunkFrame):
    """Full records, and what is left for another one."""

    __slots__ = ("_between", "_ends_short", "_lead", "_start")

    def __init__(self, type_: int, request_id: int, size: int) -> None:
        # Where the records begin behind the first, which is full; and the last.
        self._start = start = (size - 1) // MAX_ALIGNED_CONTENT * MAX_ALIGNED_CONTENT
        self._between = range(MAX_ALIGNED_CONTENT, start, MAX_ALIGNED_CONTENT)
        self._ends_short = size - start <= SHORT
        # The last one has the header of a chunk of its own.
        super().__init__(type_, request_id, size - start)
        self._lead = HEADER.pack(FCGI_VERSION_1, type_, request_id, MAX_ALIGNED_CONTENT, 0)
        self.total += start + (len(self._between) + 1) * FCGI_HEADER_LEN

    def around(self, chunk: Buffer | bytearray) -> list[Buffer]:
        view, lead = memoryview(chunk), self._lead
        buffers: list[Buffer] = [lead, view[:MAX_ALIGNED_CONTENT]]
        for at in self._between:
            buffers += lead, view[at : at + MAX_ALIGNED_CONTENT]
        last = self._header, view[self._start :], self._padding
        if self._ends_short:
            buffers.append(b"".join(last))
        else:
            buffers += last if self._padding else last[:2]
        return buffers


class _PairFrame(_LongFrame):
    """One full record, and a short one: 64 KB, in which long bodies mostly come."""

    __slots__ = ()

    def around(self, chunk: Buffer | bytearray) -> list[Buffer]:
        last = b"".join((self._header, chunk[MAX_ALIGNED_CONTENT:], self._padding))
        return [self._lead, memoryview(chunk)[:MAX_ALIGNED_CONTENT], last]


class _ChunkFrames(dict[tuple[int, int, int], ChunkFrame]):
    """What was asked for is known from then on: applications mostly send chunks of one size."""

    def __missing__(self, key: tuple[int, int, int]) -> ChunkFrame:
        if len(self) >= _MOST_FRAMES:
            self.clear()
        size = key[2]
        if size <= MAX_ALIGNED_CONTENT:
            frame = ChunkFrame(*key)
        elif size <= MAX_ALIGNED_CONTENT + SHORT:
            frame = _PairFrame(*key)
        else:
            frame = _LongFrame(*key)
        self[key] = frame
        return frame


chunk_frames = _ChunkFrames()
"""What makes records of chunks, by type, request id, and the size of the chunks, which is above COPY_LIMIT."""


def _joined_record(type_: int, request_id: int, chunks: Sequence[Buffer | bytearray], size: int) -> bytes:
    padding = -size & 7
    return b"".join((HEADER.pack(FCGI_VERSION_1, type_, request_id, size, padding), *chunks, _PADDING[padding]))


def encode_begin_request(request_id: int, role: int, flags: int) -> bytes:
    """FCGI_BEGIN_REQUEST (5.1)."""
    return encode_record(FCGI_BEGIN_REQUEST, request_id, BEGIN_REQUEST_BODY.pack(role, flags))


def encode_end_request(request_id: int, app_status: int, protocol_status: int) -> bytes:
    """FCGI_END_REQUEST (5.5)."""
    return encode_record(FCGI_END_REQUEST, request_id, END_REQUEST_BODY.pack(app_status, protocol_status))


def encode_stdout_end_and_end_request(request_id: int, app_status: int) -> bytes:
    """What ends an ordinary answer: the end of FCGI_STDOUT and FCGI_END_REQUEST, REQUEST_COMPLETE (5.5)."""
    return _STDOUT_END_AND_END_REQUEST.pack(
        *(FCGI_VERSION_1, FCGI_STDOUT, request_id, 0, 0),
        *(FCGI_VERSION_1, FCGI_END_REQUEST, request_id, END_REQUEST_BODY.size, 0),
        *(app_status, 0),
    )


known_frames: dict[int, tuple[bytes, list[bytes]]] = {}
"""What :func:`make_frame` has made for ordinary answers, by the request's id: web servers use few, again and again."""
known_frame = known_frames.get
_MOST_FRAMES = 256


def make_frame(request_id: int, app_status: int) -> tuple[bytes, list[bytes]]:
    """What stands around a response in one FCGI_STDOUT record: its header up to SIZES, and what ends the response.

    The latter is there behind each number of padding bytes. Of `app_status` the lowest 32 bits count.
    """
    end = encode_stdout_end_and_end_request(request_id, app_status & 0xFFFFFFFF)
    lead = HEADER.pack(FCGI_VERSION_1, FCGI_STDOUT, request_id, 0, 0)[: -SIZES.size]
    frame = lead, [padding + end for padding in _PADDING]
    if app_status == 0 and len(known_frames) < _MOST_FRAMES:
        known_frames[request_id] = frame
    return frame


def encode_stderr(request_id: int, data: bytes) -> list[bytes]:
    """FCGI_STDERR, in records that end with a line where that is possible (5.3).

    nginx logs each record as one message and cuts messages at 2,048 bytes, so a traceback sent
    in one record would lose its last lines, which say what went wrong. HAProxy does so at 1,024
    bytes, unless told otherwise; and before 2.6.16 its memory is corrupted (it crashes) by a
    record without padding that comes alone, so there is none.
    """
    records = []
    start, size = 0, len(data)
    while start < size:
        stop = min(start + STDERR_CONTENT, size)
        if stop < size:
            stop = data.rfind(b"\n", start, stop) + 1 or stop
        padding = 8 - (stop - start & 7)
        header = HEADER.pack(FCGI_VERSION_1, FCGI_STDERR, request_id, stop - start, padding)
        records.append(header + data[start:stop] + bytes(padding))
        start = stop
    return records


STDERR_CONTENT = 900
"""Bytes of one FCGI_STDERR record at most: what nginx and HAProxy log whole, with their own words around it."""


def cut_mark(request_id: int) -> int:
    """The id under which an empty FCGI_STDOUT tells that the response to a request breaks off here.

    Nobody uses it: what stands for a close that some web servers would take for a good end.
    """
    return request_id ^ 0xFFFF or 1


def encode_unknown_type(type_: int) -> bytes:
    """FCGI_UNKNOWN_TYPE, the answer to a management record of a type that is not known (4.2)."""
    return encode_record(FCGI_UNKNOWN_TYPE, FCGI_NULL_REQUEST_ID, bytes((type_, 0, 0, 0, 0, 0, 0, 0)))


_MOST_OPENINGS = 1024


class Openings(dict[bytes, "Opening | None"]):
    """The requests that bytes begin, by the first OPENING_LEN of them; None behind what is something else.

    What was asked for of late is known: most come again and again. `roles` are those that are served, with parameters
    of `max_params_bytes` at most.
    """

    __slots__ = ("_max_params_bytes", "_roles")

    def __init__(self, roles: Collection[int], max_params_bytes: int) -> None:
        self._roles = roles
        self._max_params_bytes = max_params_bytes

    def __missing__(self, start: bytes) -> Opening | None:
        if len(start) < OPENING_LEN:
            return None
        *begin, role, flags, params_version, params, params_id, size, padding = _OPENING.unpack(start)
        request_id = begin[2]
        if begin != [FCGI_VERSION_1, FCGI_BEGIN_REQUEST, request_id, BEGIN_REQUEST_BODY.size, 0] or not request_id:
            return None
        if (params_version, params, params_id) != (FCGI_VERSION_1, FCGI_PARAMS, request_id) or not size:
            return None
        if role == FCGI_FILTER:
            # Another stream follows.
            return None
        keep_conn = flags & FCGI_KEEP_CONN != 0
        ends = b"".join(HEADER.pack(FCGI_VERSION_1, stream, request_id, 0, 0) for stream in (FCGI_PARAMS, FCGI_STDIN))
        is_plain = role == FCGI_RESPONDER and role in self._roles and size <= self._max_params_bytes
        if len(self) >= _MOST_OPENINGS:
            # Mostly nothing but the size differs, and there are not so many sizes: those that are in use come again.
            self.clear()
        opening = self[start] = request_id, role, keep_conn, size, size + padding, ends, is_plain
        return opening


_OPENING = Struct("!BBHHBx HB5x BBHHBx")
