"""The head of an ASGI application's response: nearly always a few known names, with which little can be wrong."""

from __future__ import annotations

from ..cgi.request import MAX_LENGTH_DIGITS
from ..cgi.response import remember, status_line
from .response import FEW_FIELDS, LONGEST_HEAD, SPECIAL_FIELDS, encode_application_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .response import Asked

    Field = tuple[bytes, bytes]

# Names that encode_application_head has let pass, with how their lines begin and its own word for those that mean
# something to it; and lengths.
_known_names: dict[bytes, tuple[bytes, str]] = {}
_known_lengths: dict[bytes, int] = {}
# Numbers and a tuple: to look for bytes in bytes takes ten times as long.
_LF, _CR, _NUL = b"\n\r\0"
_E = (b"e", b"E")
# Whole heads, with their lengths, by code and fields: such as say no more than the body's type and length.
_heads: dict[tuple[int | Field, ...], tuple[bytes, int | None]] = {}
# By code; few are used, and there are no more than 400.
_status_lines: dict[int, bytes] = {}


def encode_asgi_head(
    code: int, fields: Iterable[Field], unbuffered_events: bool, request: Asked | None = None
) -> tuple[bytes, int | None]:
    """As :func:`~simple_fastcgi.gateways.response.encode_application_head`, which decides, for a status code and bytes.

    TypeError for text, which some applications send and other servers refuse, too.
    """
    if type(fields) is not list:
        fields = list(fields)
    if len(fields) <= FEW_FIELDS and isinstance(code, int):
        try:
            return _heads[code, *fields]
        except (KeyError, TypeError):
            # Not met yet, or not hashable: fields may be lists.
            pass
    # In a third of the time, if there is nothing about it that needs a decision.
    length: int | None = None
    try:
        parts = [_status_lines[code if isinstance(code, int) else -1]]
        for name, value in fields:
            lead, meaning = _known_names[name]
            if type(value) is not bytes or _LF in value or _CR in value or _NUL in value:
                break
            parts += lead, value
            if meaning:
                if meaning == "content-length" and length is None:
                    length = _known_lengths.get(value)
                    if length is None:
                        if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
                            break
                        length = _learn_length(value)
                elif meaning != "content-type" or value[5:6] in _E:
                    # The latter may be text/event-stream.
                    break
        else:
            parts.append(b"\r\n\r\n")
            head = b"".join(parts)
            if (
                len(fields) <= FEW_FIELDS
                and len(head) <= LONGEST_HEAD
                and all(_known_names[name][1] for name, _ in fields)
            ):
                remember(_heads, (code, *((bytes(name), bytes(value)) for name, value in fields)), (head, length))
            return head, length
    except (KeyError, TypeError):
        # A code or name that was not met yet, or what is no bytes.
        pass
    return _encode_any(code, fields, unbuffered_events, request)


def _encode_any(
    code: int, fields: list[Field], unbuffered_events: bool, request: Asked | None
) -> tuple[bytes, int | None]:
    status = status_line(code)
    text = [(_text(name), _text(value)) for name, value in fields]
    encoded = encode_application_head(status, text, unbuffered_events, request)
    _status_lines[int(code)] = b"Status: " + status.encode("latin-1")
    for name, _ in fields:
        if type(name) is bytes:
            lower = name.decode("ascii").lower()
            remember(_known_names, name, (b"\r\n%b: " % name, lower if lower in SPECIAL_FIELDS else ""))
    return encoded


def _learn_length(value: bytes) -> int:
    length = int(value)
    remember(_known_lengths, value, length)
    return length


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        raise TypeError(f"header names and values are bytes, not str: {data!r}")
    return str(data, "latin-1")
