"""What the responses of WSGI and ASGI applications have in common: their head, and their promised length."""

from __future__ import annotations

from ..cgi.environ import describe_request
from ..cgi.request import MAX_LENGTH_DIGITS
from ..cgi.response import follows_location, join_head, known_names, learn_name, remember
from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from ..cgi.response import Field

    class Asked(Protocol):
        """A request that is answered."""

        @property
        def params(self) -> Mapping[str, str]:
            """Its parameters."""


SPECIAL_FIELDS = frozenset(
    {"content-length", "content-type", "location", "status", "transfer-encoding", "x-accel-buffering"}
)
# The lines of statuses that were found to be good, such names, with how their lines begin and our own word for those
# that mean something, and such lengths.
_status_lines: dict[str, str] = {}
_known_names: dict[str, tuple[str, str]] = {}
_known_lengths: dict[str, int] = {}
# Whole heads, with their lengths, by status and fields: such as say no more than the body's type and length.
_heads: dict[tuple[str | Field, ...], tuple[bytes, int | None]] = {}
FEW_FIELDS = 2
LONGEST_HEAD = 128
_warned: set[str] = set()


class BodyLengthError(RuntimeError):
    """The application sent fewer or more bytes than its Content-Length says."""


def encode_application_head(
    status: str, fields: Iterable[Field], unbuffered_events: bool = True, request: Asked | None = None
) -> tuple[bytes, int | None]:
    """The head of an application's response, and its Content-Length if it has one.

    `status` begins with a status code from 200 to 599. Transfer-Encoding, which is the web server's business, and
    Status, which would contradict `status`, are left out, with one warning per process; so is a Location that the web
    server of `request`, which is answered, would follow. With `unbuffered_events` nginx is told not to hold back
    text/event-stream, unless the application says itself what it wants. ValueError for what cannot be sent.
    """
    if type(fields) is not list:
        fields = list(fields)
    length: int | None = None
    try:
        if len(fields) <= FEW_FIELDS and (known := _heads.get((status, *fields))) is not None:
            return known
        # In half of the time, if there is nothing about it that needs a decision.
        parts = [_status_lines[status]]
        values = ""
        for name, value in fields:
            lead, meaning = _known_names[name]
            parts += lead, value
            values += value
            if meaning:
                if meaning == "content-length" and length is None:
                    length = _known_lengths.get(value)
                    if length is None:
                        length = _checked_length(value)
                elif meaning != "content-type" or value[5:6] in "eE":
                    # The latter may be text/event-stream.
                    break
        else:
            # In all of them at once.
            if "\n" not in values and "\r" not in values and "\0" not in values:
                parts.append("\r\n\r\n")
                head = "".join(parts).encode("latin-1")
                if (
                    len(fields) <= FEW_FIELDS
                    and len(head) <= LONGEST_HEAD
                    and all(_known_names[name][1] and type(value) is str for name, value in fields)
                ):
                    remember(_heads, (status, *((name, value) for name, value in fields)), (head, length))
                return head, length
    except (KeyError, TypeError, UnicodeEncodeError):
        # A status or name that was not met yet, or what cannot be sent.
        pass
    return _encode_any(status, fields, unbuffered_events=unbuffered_events, request=request)


def _encode_any(
    status: str, fields: list[Field], *, unbuffered_events: bool, request: Asked | None = None
) -> tuple[bytes, int | None]:
    lines = [_status_line(status)]
    length: int | None = None
    events = accel = False
    for name, value in fields:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"header field {(name, value)!r}: give two str")
        # What is in them, whatever a subclass makes of itself: an Enum, for one.
        name, value = str.__str__(name), str.__str__(value)  # noqa: PLW2901
        lower = _learn(name)
        if lower in SPECIAL_FIELDS:
            if lower == "content-length":
                if length is not None:
                    # nginx refuses a response that says it twice.
                    _check_same_length(value, length)
                    continue
                length = _checked_length(value)
            elif lower == "content-type":
                events = value.lower().startswith("text/event-stream")
            elif lower == "location":
                if request is not None and follows_location(status, request.params):
                    _warn_followed(request.params)
                    continue
                # HAProxy makes a 302 of every redirect whose Status comes first.
                lines.insert(0, f"{name}: {value}")
                continue
            elif lower == "x-accel-buffering":
                accel = True
            else:
                _warn_dropped(lower, name)
                continue
        lines.append(f"{name}: {value}")
    if events and unbuffered_events and not accel:
        lines.append("X-Accel-Buffering: no")
    return join_head(lines), length


def _learn(name: str) -> str:
    lower = known_names.get(name) or learn_name(name)
    remember(_known_names, name, (f"\r\n{name}: ", lower if lower in SPECIAL_FIELDS else ""))
    return lower


def _status_line(status: str) -> str:
    status = str.__str__(status)
    if not (status[:3].isdigit() and status.isascii() and "200" <= status[:3] <= "599" and status[3:4] in ("", " ")):
        raise ValueError(f"status {status!r}: give a code from 200 to 599 and a reason, as in '200 OK'")
    line = f"Status: {status}"
    # Only what nobody needs to look at again: the whole head is looked at behind this.
    if status.isprintable():
        remember(_status_lines, status, line)
    return line


def _checked_length(value: str) -> int:
    if value.isdigit() and value.isascii() and len(value) <= MAX_LENGTH_DIGITS:
        length = int(value)
        remember(_known_lengths, value, length)
        return length
    raise ValueError(f"Content-Length {value!r} is not a number of bytes")


def _check_same_length(value: str, before: int) -> None:
    if _checked_length(value) != before:
        raise ValueError(f"two Content-Length fields that differ: {before} and {value}")


def _warn_dropped(lower: str, name: str) -> None:
    if lower not in _warned:
        _warned.add(lower)
        logger().warning("the application's %s header is dropped: it is the web server's to set (told once)", name)


def _warn_followed(params: Mapping[str, str]) -> None:
    if "location" not in _warned:
        _warned.add("location")
        logger().warning(
            "%s: the Location header of a 200 is dropped: Apache would answer with what it leads to (told once)",
            describe_request(params),
        )


BODILESS = ("204", "304")
"""How the statuses begin whose responses never have a body, whatever their heads say (RFC 9110, 6.4.1)."""


class BodyCounter:
    """Counts what the application sends; `length` is its Content-Length, None if it promised nothing.

    With `suppressed` the response never has a body: what the application sends of one is thrown away, and all has come
    with its first byte.
    """

    __slots__ = ("complete", "excess", "left", "suppressed")

    def __init__(self, length: int | None, *, suppressed: bool) -> None:
        self.left = length
        self.suppressed = suppressed
        self.excess = False
        """More came than was promised."""
        self.complete = length == 0 and not suppressed
        """All that was promised has come."""

    def take(self, data: bytes) -> bytes:
        """What of `data` may be sent; sets `excess` when that is not all."""
        if self.suppressed:
            self.complete = self.complete or len(data) > 0
            return b""
        left = self.left
        if left is not None:
            size = len(data)
            if size > left:
                self.excess = True
                data = data[:left]
                size = left
            self.left = left = left - size
            if not left:
                self.complete = True
        return data

    def count(self, size: int) -> None:
        """`size` bytes, no more than are left, were sent."""
        if self.left is not None:
            self.left -= size
            self.complete = not self.left

    def check_end(self) -> None:
        """The application sends no more: BodyLengthError if it owes something."""
        if self.left and not self.suppressed:
            raise BodyLengthError(f"the response's body is {self.left} bytes shorter than its Content-Length")
