"""The head of a CGI response, read (RFC 3875, section 6)."""

from __future__ import annotations

import re

from ..errors import ResponseHeadError
from ..protocol.records import LARGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..protocol.records import Buffer

    Header = tuple[bytes, bytes]

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(.*)")
_STATUS = re.compile(rb"([2-9]\d\d)(?:[ \t]+(.*))?")
_STATUS_FIELD = re.compile(rb"^status:[ \t]*([2-9]\d\d)", re.IGNORECASE | re.MULTILINE)
_LOCATION_FIELD = re.compile(rb"^location:", re.IGNORECASE | re.MULTILINE)
_BLANKS = b" \t"
# As much of what came is looked at at once: behind it may be megabytes of a body.
_STEP = 4096


class ResponseHead:
    """The head of a response, as the application sent it.

    ``status`` (200 to 999)
        That of ``Status:``, else of a status line (``HTTP/1.1 404 Not Found``); else 302 if there is a Location,
        and 200 if there is none.
    ``reason``
        The reason phrase as it came, b"" if none did.
    ``headers``
        Names and values of all other fields in their order, as bytes; names as they were spelled.
    """

    __slots__ = ("headers", "reason", "status")
    __match_args__ = ("status", "headers")

    status: int
    reason: bytes
    headers: list[Header]

    def __init__(self, status: int, headers: list[Header], reason: bytes = b"") -> None:
        self.status = status
        self.reason = reason
        self.headers = headers

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field `name` (in lower case); None if there is none."""
        return next((value for other, value in self.headers if other.lower() == name), None)

    @property
    def local_redirect(self) -> bytes | None:
        """The path and query of a local redirect response (6.2.2): nothing but a Location that begins with a slash.

        The answer to a request for it, with GET, is meant instead of this one. Web servers differ: to nginx it is a
        302 like any other, as it is here if this is not looked at.
        """
        if self.status != 302 or self.reason or len(self.headers) != 1:
            return None
        location = self.get(b"location") or b""
        return location if location.startswith(b"/") and not location.startswith(b"//") else None

    @property
    def content_length(self) -> int | None:
        """The body's length in bytes, as announced; None if it was not."""
        value = self.get(b"content-length")
        return None if value is None else int(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResponseHead) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.status, self.reason, tuple(self.headers)))

    def __repr__(self) -> str:
        return f"ResponseHead({self.status}, {self.headers!r}, {self.reason!r})"

    def _values(self) -> tuple[object, ...]:
        return self.status, self.reason, self.headers


class HeadReader:
    """Reads the head of one response out of FCGI_STDOUT, in any slicing.

    `max_bytes` and `max_fields`: see :class:`~simple_fastcgi.limits.ClientLimits`.
    """

    __slots__ = ("_fields", "_line", "_max_bytes", "_max_fields", "_room", "_status_line", "rest")

    rest: Buffer
    """What was fed behind the head, when it is complete: the body's beginning, not copied if it is large."""

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        self.rest = b""
        self._max_bytes = self._room = max_bytes
        self._max_fields = max_fields
        self._line = bytearray()
        self._status_line: bytes | None = None
        self._fields: list[Header] = []

    @property
    def begun(self) -> bool:
        """Something of the head has come."""
        return self._room < self._max_bytes or bool(self._line)

    def feed(self, data: Buffer) -> ResponseHead | None:
        """Take what came; the head as soon as it is complete, None before.

        Lines end in LF or CRLF. Raises ResponseHeadError for a head without any field, a line that is no field or
        continues the one before (RFC 9112, 5.2), NUL or a lone CR, a Status or Content-Length that is none, one of
        those that came twice and differs, and a head beyond the limits.
        """
        for start in range(0, len(data), _STEP):
            piece = bytes(data[start : start + _STEP])
            position = 0
            while stop := piece.find(b"\n", position) + 1:
                line = piece[position:stop]
                position = stop
                if self._line:
                    line = bytes(self._line) + line
                    self._line.clear()
                self._room -= len(line)
                if self._room < 0:
                    raise self._too_large()
                line = line[:-2] if line.endswith(b"\r\n") else line[:-1]
                if not line:
                    head = self._head()
                    self.rest = _rest(data, start + stop)
                    return head
                self._take(line)
            self._line += piece[position:]
            if len(self._line) > self._room:
                raise self._too_large()
        return None

    def _too_large(self) -> ResponseHeadError:
        return ResponseHeadError(f"the response head has more than {self._max_bytes} bytes (max_head_bytes)")

    def _take(self, line: bytes) -> None:
        if b"\r" in line or b"\0" in line:
            raise ResponseHeadError(f"CR or NUL in the response head: {_shown(line)}")
        if self._status_line is None and not self._fields and (match := _STATUS_LINE.fullmatch(line)):
            self._status_line = match[1]
            return
        if line[:1] in (b" ", b"\t"):
            raise ResponseHeadError(f"a line of the response head continues the one before: {_shown(line)}")
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise ResponseHeadError(f"no header field, but {_shown(line)} came in the response head")
        if len(self._fields) == self._max_fields:
            raise ResponseHeadError(f"the response head has more than {self._max_fields} fields (max_head_fields)")
        self._fields.append((name, value.strip(_BLANKS)))

    def _head(self) -> ResponseHead:
        fields = self._fields
        if not fields and self._status_line is None:
            raise ResponseHeadError("the response head has no field: a CGI response begins with Content-Type or Status")
        told = self._only(b"status")
        length = self._only(b"content-length")
        if length is not None and not (length.isdigit() and len(length) <= 18):
            raise ResponseHeadError(f"Content-Length: {_shown(length)} in the response head")
        if told is None:
            told = self._status_line
        else:
            fields = [field for field in fields if field[0].lower() != b"status"]
        if told is None:
            is_redirect = any(name.lower() == b"location" for name, _ in fields)
            return ResponseHead(302 if is_redirect else 200, fields)
        match = _STATUS.fullmatch(told)
        if match is None:
            raise ResponseHeadError(f"Status: {_shown(told)} in the response head, which is none from 200 to 999")
        return ResponseHead(int(match[1]), fields, (match[2] or b"").rstrip(_BLANKS))

    def _only(self, name: bytes) -> bytes | None:
        """The value of a field that must be one, None if it is not there."""
        values = [value for other, value in self._fields if other.lower() == name]
        if not values:
            return None
        if any(value != values[0] for value in values):
            raise ResponseHeadError(f"{name.decode('ascii')} came several times in the response head")
        return values[0]


def glance(data: Buffer) -> tuple[int, int, bool]:
    """The status of the head that `data` begins with, its bytes, and whether it ends there.

    For those who only count: nothing is checked. A head that does not end in `data` is all of it.
    """
    data = bytes(data)
    size = len(data)
    if (end := data.find(b"\n\r\n")) >= 0:
        size = end + 3
    # Behind the head may be megabytes of a body.
    if (other := data.find(b"\n\n", 0, size)) >= 0:
        size = other + 2
    ended = end >= 0 or other >= 0
    found = _STATUS_FIELD.search(data, 0, size)
    if found is not None:
        return int(found[1]), size, ended
    return 302 if _LOCATION_FIELD.search(data, 0, size) else 200, size, ended


def _rest(data: Buffer, start: int) -> Buffer:
    if isinstance(data, bytes) and len(data) - start >= LARGE:
        data = memoryview(data)
    return data[start:]


def _shown(line: bytes) -> str:
    """`line`, cut where it is long."""
    return repr(line if len(line) <= 80 else line[:80] + b"...")
