"""One request as the protocol sees it, and its input streams (sections 3.3, 5 and 6)."""

from __future__ import annotations

from collections import deque

from .constants import FCGI_DATA, FCGI_STDIN, ROLE_STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..limits import Limits
    from .pairs import PairsReceiver
    from .runs import Layout
    from .spool import Chunk, Spool, SpoolFile

# Chunks below this size are gathered in one of up to the other.
_SMALL = 512
_GATHERED = 16 * 1024


class UnreadInput:
    """How much input of one connection has arrived and was not taken, of all its streams together."""

    __slots__ = ("in_files", "in_memory")

    in_memory: int
    """Bytes in memory."""
    in_files: int
    """Bytes in files."""

    def __init__(self, in_memory: int = 0, in_files: int = 0) -> None:
        self.in_memory = in_memory
        self.in_files = in_files


class InputStream:
    """What has arrived of an input stream and was not taken yet: first in memory, then in a `Spool`."""

    __slots__ = ("_chunks", "_spool", "buffered", "ended", "unread")

    buffered: int
    """Bytes that can be taken now."""
    ended: bool
    """The end-of-stream record has come; nothing follows what is buffered."""
    unread: UnreadInput
    """What counts it, together with other streams."""

    def __init__(self, unread: UnreadInput | None = None) -> None:
        self.unread = UnreadInput() if unread is None else unread
        # Most requests have no body and never need the deque.
        self._chunks: deque[Chunk] | None = None
        self._spool: Spool | None = None
        self.buffered = 0
        self.ended = False

    @property
    def at_eof(self) -> bool:
        """Everything was taken, and nothing will follow."""
        return self.ended and not self.buffered

    @property
    def spooled(self) -> int:
        """Bytes of `buffered` that lie in a file."""
        return self._spool.spooled if self._spool is not None else 0

    @property
    def in_memory(self) -> bool:
        """Nothing lies in a file, or behind what did: :meth:`spool` may be called."""
        return self._spool is None

    def feed(self, chunk: Chunk) -> None:
        """Append what arrived; `chunk` is not empty."""
        size = len(chunk)
        self.buffered += size
        if self._spool is not None:
            if self._spool.feed(chunk):
                self.unread.in_files += size
            else:
                self.unread.in_memory += size
            return
        self.unread.in_memory += size
        chunks = self._chunks
        if size >= _SMALL:
            if chunks is None:
                self._chunks = deque((chunk,))
            else:
                chunks.append(chunk)
            return
        if chunks is None:
            chunks = self._chunks = deque()
        # Each chunk of its own would cost many times its content.
        last = chunks[-1] if chunks else None
        if type(last) is bytearray and len(last) < _GATHERED:
            last += chunk
        else:
            chunks.append(bytearray(chunk))

    def feed_several(self, chunks: Sequence[Chunk]) -> None:
        """Append all of `chunks`, at least one, none of them small."""
        if self._spool is not None:
            for chunk in chunks:
                self.feed(chunk)
            return
        size = sum(map(len, chunks))
        self.buffered += size
        self.unread.in_memory += size
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.extend(chunks)

    def spool(self, file: SpoolFile) -> None:
        """Move what is in memory to `file`, where whatever arrives follows until all of that was taken."""
        from .spool import Spool

        spool = self._spool = Spool(file)
        chunks, self._chunks = self._chunks, None
        for chunk in chunks or ():
            spool.feed(chunk)
        self.unread.in_memory -= spool.spooled
        self.unread.in_files += spool.spooled

    def take(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all that is buffered if `size` < 0; b"" when there is nothing.

        Otherwise as :meth:`take_chunks`.
        """
        return b"".join(self.take_chunks(size))

    def take_whole(self) -> bytes | None:
        """All that is left of the stream, if its end has come and nothing of it lies in a file; else None."""
        chunks = self._chunks
        if not self.ended or self._spool is not None:
            return None
        if chunks is None:
            return b""
        self._chunks = None
        self.unread.in_memory -= self.buffered
        self.buffered = 0
        return b"".join(chunks)

    def take_chunks(self, size: int = -1) -> list[Chunk]:
        """The same as it came, none of them empty: whoever joins it copies it once.

        Where a part lies in a file `size` bytes may come in several calls. Raises OSError when what was spooled cannot
        be read back.
        """
        if self._spool is not None:
            return self._take_spooled(size)
        chunks = self._chunks
        if not chunks:
            return []
        if size < 0 or size >= self.buffered:
            # All that there is, mostly a body that has come whole.
            self._chunks = None
            self.unread.in_memory -= self.buffered
            self.buffered = 0
            return list(chunks)
        self.buffered -= size
        self.unread.in_memory -= size
        taken: list[Chunk] = []
        while size > 0:
            taken.append(chunk := chunks.popleft())
            size -= len(chunk)
        if size:
            _give_back(chunks, taken, size)
        return taken

    def _take_spooled(self, size: int) -> list[Chunk]:
        """As :meth:`take_chunks`, while there is a file."""
        chunks, buffered = self._chunks, self.buffered
        left = wanted = buffered if size < 0 else min(size, buffered)
        taken: list[Chunk] = []
        while left > 0:
            if not chunks:
                # No more than is asked for is read from a file: somebody may be waiting meanwhile.
                if taken and size >= 0:
                    break
                try:
                    chunks = self._next_chunks()
                except OSError:
                    if taken:
                        # The next call tells, which loses nothing.
                        break
                    raise
            taken.append(chunk := chunks.popleft())
            left -= len(chunk)
        if left < 0:
            assert chunks is not None
            _give_back(chunks, taken, left)
            left = 0
        self.buffered = buffered - wanted + left
        self.unread.in_memory -= wanted - left
        return taken

    def _next_chunks(self) -> deque[Chunk]:
        """Those behind the ones that have all been taken, at least one; something is buffered."""
        spool = self._spool
        assert spool is not None
        spooled = spool.spooled
        self._chunks = chunks = spool.take()
        spooled -= spool.spooled
        self.unread.in_files -= spooled
        self.unread.in_memory += spooled
        if spool.empty:
            self._spool = None
        return chunks

    def take_into(self, buffer: memoryview) -> int:
        """Fill `buffer` (of bytes) as far as what is buffered goes; the count of bytes.

        Raises as :meth:`take`, and TypeError for a buffer that cannot be written to.
        """
        if buffer.readonly:
            # Seen before anything is taken.
            raise TypeError("input can only be read into a buffer that can be written to")
        filled, room = 0, min(len(buffer), self.buffered)
        while filled < room:
            try:
                chunks = self.take_chunks(room - filled)
            except OSError:
                if filled:
                    break
                raise
            for chunk in chunks:
                buffer[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
        return filled

    def put_back(self, chunks: Sequence[Chunk]) -> None:
        """What was taken last, of which somebody could make no use, comes first again."""
        size = sum(map(len, chunks))
        if size:
            own = self._chunks = self._chunks or deque()
            own.extendleft(filter(None, reversed(chunks)))
            self.buffered += size
            self.unread.in_memory += size

    def clear(self) -> None:
        """Throw away what is buffered, and the stream's end with it: the part that was taken is not the whole."""
        if self.buffered:
            self.ended = False
        self.unread.in_memory -= self.buffered - self.spooled
        self.unread.in_files -= self.spooled
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._chunks = None
        self.buffered = 0

    def count_alone(self) -> None:
        """Let the others be counted without this one from now on, whose request has ended."""
        shared, spooled = self.unread, self.spooled
        self.unread = UnreadInput(self.buffered - spooled, spooled)
        shared.in_memory -= self.unread.in_memory
        shared.in_files -= spooled


def _give_back(chunks: deque[Chunk], taken: list[Chunk], excess: int) -> None:
    """The last one of `taken` is too long by so much, as a negative number."""
    view = memoryview(taken[-1])
    taken[-1] = view[:excess]
    chunks.appendleft(view[excess:])


NO_INPUT = InputStream()
"""What all requests without a body share: a stream that has ended is fed no more."""
NO_INPUT.ended = True


NO_OUTPUT: list[bytes] = []
"""Never written to: most responses are written at once, together with their end."""

NOTHING_UNREAD = UnreadInput()
"""What all connections share of which no request has had a body yet."""


class Request:
    """One request, from FCGI_BEGIN_REQUEST to FCGI_END_REQUEST."""

    __slots__ = (
        "aborted",
        "data",
        "ended",
        "id",
        "keep_conn",
        "layout",
        "params",
        "receiver",
        "repeated",
        "role",
        "served_by",
        "stderr",
        "stderr_begun",
        "stdin",
        "stdout",
        "stdout_begun",
        "unsent",
    )

    id: int
    """The request id: a label that the web server uses again, never an index."""
    role: int
    """FCGI_RESPONDER, FCGI_AUTHORIZER or FCGI_FILTER."""
    keep_conn: bool
    """FCGI_KEEP_CONN: the connection stays open behind this request."""
    params: dict[str, str]
    """The parameters, one character per byte; complete from RequestBegun on. The last of a repeated name."""
    repeated: list[tuple[str, str]]
    """All pairs whose names came more than once, in order."""
    layout: Layout | None
    """That of `params`, if it is a known one and no name is repeated."""
    stdin: InputStream
    data: InputStream | None
    """FCGI_DATA, of a Filter only."""
    aborted: bool
    """FCGI_ABORT_REQUEST has come, or the connection is gone."""
    ended: bool
    """FCGI_END_REQUEST is on its way; nothing can be written any more. An abort is answered before the handler ends."""
    receiver: PairsReceiver | None
    """FCGI_PARAMS under way; None before, and when they are complete."""
    served_by: Any
    """What the shell serves it with, which sets it when it is told of the request: nobody else's business."""
    stdout: list[bytes]
    """Output not framed yet; `unsent` bytes together with `stderr`."""
    stdout_begun: bool
    """Some output has been framed: the response can no longer be replaced by another one."""
    stderr: list[bytes] | None
    stderr_begun: bool
    """Set with `stderr`: some of it has been framed."""

    def start(self, request_id: int, role: int, keep_conn: bool, stdin: InputStream) -> None:
        """Be this one, a Responder's, from now on: a new object that Python itself initializes costs a fifth more.

        Of any other role with :meth:`set_streams` behind it.
        """
        self.id = request_id
        self.role = role
        self.keep_conn = keep_conn
        self.receiver = None
        self.stdin = stdin
        self.data = None
        self.aborted = False
        self.ended = False
        self.stdout = NO_OUTPUT
        self.stdout_begun = False
        self.stderr = None
        self.unsent = 0

    def set_streams(self) -> None:
        """Have the input streams of any role; of a Responder that has been done."""
        streams = ROLE_STREAMS[self.role]
        if FCGI_DATA in streams:
            self.data = InputStream(self.stdin.unread)
        if FCGI_STDIN not in streams:
            self.stdin = NO_INPUT

    @property
    def input_ended(self) -> bool:
        """All input streams of the role have ended."""
        return self.stdin.ended and (self.data is None or self.data.ended)

    @property
    def buffered_input(self) -> int:
        """Bytes of input that arrived and were not taken."""
        return self.stdin.buffered + (self.data.buffered if self.data is not None else 0)

    @property
    def streams(self) -> tuple[InputStream, ...]:
        """All input streams of the role but FCGI_PARAMS."""
        return (self.stdin,) if self.data is None else (self.stdin, self.data)

    @property
    def spooled_input(self) -> int:
        """Bytes of `buffered_input` that lie in files."""
        return self.stdin.spooled + (self.data.spooled if self.data is not None else 0)

    def put_back(self, stream: InputStream, chunks: Sequence[Chunk]) -> None:
        """What was taken last of `stream`, one of its own, and nobody got, comes once more, if anything of it does."""
        # Behind the end nobody counts it any more.
        if not (self.aborted or self.ended):
            stream.put_back(chunks)

    def check_input_can_follow(self, limits: Limits) -> None:
        """Raise RuntimeError if a wait for input, of which there is none, would never end.

        What is unread is then in the other stream, and it alone keeps the connection from being read.
        """
        spooled = self.spooled_input
        if self.buffered_input - spooled >= limits.max_buffered_input or spooled >= limits.max_spooled_input:
            raise RuntimeError(
                "the unread input of this request's other stream fills max_buffered_input: read FCGI_STDIN to its end, "
                "then FCGI_DATA (FastCGI 1.0, section 6.4)"
            )

    @property
    def silent(self) -> bool:
        """No output has been written."""
        return not self.stdout_begun and not self.stdout


# Never written to, neither of them: most connections are idle, and a dict of their own, above all one that has held
# something, is a large part of one.
NO_REQUESTS: dict[int, Request] = {}
"""No requests, by id."""
NOBODY: dict[Request, None] = {}
"""No requests, in turn: see :func:`added`."""


def added(requests: dict[Request, None], request: Request) -> dict[Request, None]:
    """`requests` and `request`, which comes last."""
    if requests is NOBODY:
        requests = {}
    requests[request] = None
    return requests


def removed(requests: dict[Request, None], request: Request) -> dict[Request, None]:
    """`requests` without `request`, if it was there at all."""
    requests.pop(request, None)
    return requests or NOBODY
