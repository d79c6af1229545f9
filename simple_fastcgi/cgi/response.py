"""The head of a CGI response, written and checked (RFC 3875, section 6)."""

from __future__ import annotations

from functools import lru_cache
from types import AsyncGeneratorType, GeneratorType

from .paths import PROXIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sized
    from typing import Any, TypeVar

    Field = tuple[str, str]
    V = TypeVar("V")

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
known_names: dict[str, str] = {}
"""Field names that were found to be tokens, and their lower-case form."""
_MAX_KNOWN = 1024
_LONGEST_KNOWN = 64


INTERNAL_SERVER_ERROR = (
    b"Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nInternal Server Error\n"
)
"""What a visitor sees of an error in an application: nothing of its cause."""

FORBIDDEN = b"Status: 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nForbidden\n"
"""The answer to a request that the server's `verify_request` refused."""

SERVICE_UNAVAILABLE = (
    b"Status: 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nService Unavailable\n"
)
"""The answer to a request for which a connection has no room."""


_DEFAULT_TYPE = ("Content-Type", "text/plain")
"""Of a document, unless another one is given; a field of its own, by identity."""
_GIVEN_ONCE = frozenset(("status", "content-type", "content-length", "location"))
"""Fields of which a response has one at most (RFC 3875, 6.3; RFC 9110, 8.6): web servers hand both on, or refuse."""

EMPTIES_REDIRECTS = ("Apache", "Caddy")
"""Web servers (SERVER_SOFTWARE) that make an empty 200 of a Location alone: a redirect needs its Status there.

Of Apache's modules that is mod_proxy_fcgi; mod_fcgid and mod_cgid, which SERVER_SOFTWARE does not tell from it, would
process a local one themselves.
"""


FOLLOWS_LOCATIONS = "Apache"
"""The web server (SERVER_SOFTWARE) two of whose modules take a 200 with a Location for a redirect."""

LOSES_RANGES = ("lighttpd",)
"""Web servers (SERVER_SOFTWARE) that send nothing of a range out of a file that comes faster than they answer.

They cut ranges out of answers that they have whole when they begin to answer. lighttpd 1.4.69 stores what it has of one
in files of 1 MB each, and of two of these it finds none again.
"""


def loses_ranges(params: Mapping[str, str]) -> bool:
    """Whether the web server that sent `params` is one of these: it gets files no faster than other bodies."""
    return params.get("SERVER_SOFTWARE", "").startswith(LOSES_RANGES)


def follows_location(status: str, params: Mapping[str, str]) -> bool:
    """Whether the web server that sent `params` answers with what a Location leads to, instead of what comes with it.

    Apache's mod_fcgid and mod_cgid do where `status` is 200, be it told or not: to them that is a redirect of CGI's.
    mod_proxy_fcgi does not, which SCRIPT_FILENAME tells from them.
    """
    return (
        status.startswith("200")
        and params.get("SERVER_SOFTWARE", "").startswith(FOLLOWS_LOCATIONS)
        and not params.get("SCRIPT_FILENAME", "").startswith(PROXIED)
    )


def status_line(code: int) -> str:
    """`code` with its reason phrase, as in ``404 Not Found``; ValueError unless 200 to 599.

    1xx responses are interim: CGI has no way to send them.
    """
    if isinstance(code, bool) or not isinstance(code, int) or not 200 <= code <= 599:
        raise ValueError(f"status code {code!r}: give a whole number from 200 to 599")
    return _status_line(int(code))


@lru_cache(maxsize=400)
def _status_line(code: int) -> str:
    from http import HTTPStatus

    try:
        return f"{code:d} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code:d} Unknown"


def encode_head(status: str, fields: Iterable[Field], *, status_first: bool = False) -> bytes:
    """The head of a document response (6.2.1), up to and with the empty line.

    A Location stands before the Status unless `status_first`. `status` is a status code and reason phrase. ValueError
    for a name that is no token, and for CR, LF, NUL or characters above U+00FF anywhere: nothing that could end a line
    early is ever written.
    """
    lines = [f"Status: {status}"]
    for name, value in fields:
        if (known_names.get(name) or learn_name(name)) == "location" and not status_first:
            # HAProxy makes a 302 of every redirect whose Status comes first.
            lines.insert(0, f"{name}: {value}")
        else:
            lines.append(f"{name}: {value}")
    return join_head(lines)


def join_head(lines: list[str]) -> bytes:
    """The head of `lines`; ValueError as for :func:`encode_head`."""
    text = "\r\n".join(lines)
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise ValueError(f"CR, LF or NUL in the response head: {_culprit(lines)!r}")
    try:
        return text.encode("latin-1") + b"\r\n\r\n"
    except UnicodeEncodeError:
        raise ValueError(f"the response head has a character above U+00FF, encode it: {text!r}") from None


def encode_document_head(code: int, mime_type: str, extra_headers: Iterable[Field | str]) -> bytes:
    """The head for `code`, `mime_type` (no Content-Type if empty) and further fields.

    Each of `extra_headers` is a ``(name, value)`` pair or a ``"Name: value"`` string. A Content-Type among them stands
    in place of the default one. ValueError for anything else, for a Content-Type beside another `mime_type`, and for a
    second Content-Type, Content-Length or Location.
    """
    return encode_head(status_line(code), document_fields(mime_type, extra_headers))


def document_fields(mime_type: str, extra_headers: Iterable[Field | str]) -> list[Field]:
    """The fields that :func:`encode_document_head` writes behind the Status."""
    if mime_type == _DEFAULT_TYPE[1]:
        fields = [_DEFAULT_TYPE]
    else:
        fields = [("Content-Type", mime_type)] if mime_type else []
    for header in extra_headers:
        name, value = _split_field(header) if isinstance(header, str) else _pair(header)
        lower = name.lower()
        if lower in _GIVEN_ONCE:
            _make_room(fields, lower)
        fields.append((name, value))
    return fields


def _make_room(fields: list[Field], name: str) -> None:
    """Let `name` be the only one among `fields` that bears it; ValueError if that cannot be."""
    if name == "status":
        raise ValueError("extra_headers: the status is given as `code`, not as a field")
    for field in fields:
        if field[0].lower() == name:
            if field is not _DEFAULT_TYPE:
                where = "give it as mime_type or in extra_headers, not both" if name == "content-type" else "give one"
                raise ValueError(f"extra_headers: {field[0]} is there already, as {field[1]!r}: {where}")
            fields.remove(field)
            return


def encode_redirect(target: str, server_software: str = "") -> bytes:
    """A local (6.2.2) or client (6.2.3) redirect response.

    It is nothing but its Location, unless `server_software` (SERVER_SOFTWARE) names a web server that would make an
    empty page of that: there it has a Status, too (6.2.4, without a document).

    `target` is an absolute path with an optional query, or an absolute URI; characters that no URI may have are
    percent-encoded, as UTF-8. ValueError for anything else. ``//host/path`` is refused: RFC 3875 reads it as a path,
    every browser as another host.
    """
    if not isinstance(target, str) or any(character in target for character in "\r\n\0"):
        raise ValueError(f"redirect to {target!r}: give a str without CR, LF and NUL")
    if target.startswith("//"):
        raise ValueError(f"redirect to {target!r}: to leave this host give the whole URI, with its scheme")
    scheme, colon, rest = target.partition(":")
    absolute = colon and rest and scheme[:1].isalpha() and all(c.isalnum() or c in "+-." for c in scheme)
    if not target.startswith("/") and not (absolute and scheme.isascii()):
        raise ValueError(f"redirect to {target!r}: give an absolute path (/...) or an absolute URI (https://...)")
    from urllib.parse import quote

    status = f"Status: {status_line(302)}\r\n" if server_software.startswith(EMPTIES_REDIRECTS) else ""
    return f"Location: {quote(target, safe=_URI_CHARACTERS)}\r\n{status}\r\n".encode("ascii")


# RFC 3986, appendix A, besides letters and digits. Not the backslash: to browsers /\host is //host.
_URI_CHARACTERS = "-._~:/?#[]@!$&'()*+,;=%"


def encode_body(mime_type: str, data: object) -> bytes:
    """`data` as the body of a response: nothing for None, str as UTF-8, JSON where `mime_type` says so.

    TypeError for what cannot be sent.
    """
    if data is None:
        return b""
    try:
        if "json" in mime_type and not isinstance(data, bytes | bytearray | memoryview):
            from json import dumps

            return dumps(data).encode()
        return encode_chunk(data)
    except TypeError:
        if isinstance(data, GeneratorType | AsyncGeneratorType):
            raise TypeError(f"data: give the generator function itself, not what {data.__name__}() returns") from None
        raise


NO_CHUNK = object()
"""Stands for the first piece of a body that has none."""


def encode_first_chunk(chunk: object) -> bytes | None:
    """The first piece of a body, as :func:`encode_chunk`; None for :data:`NO_CHUNK`."""
    return None if chunk is NO_CHUNK else encode_chunk(chunk)


def encode_chunk(chunk: object) -> bytes:
    """One piece of a body: str as UTF-8, bytes-like objects as they are; TypeError for anything else."""
    if isinstance(chunk, str):
        return chunk.encode("utf-8", "surrogateescape")
    return as_bytes(chunk)


def as_bytes(data: object) -> bytes:
    """A bytes-like object as bytes, copied unless it can never change; TypeError for anything else."""
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"bytes are wanted here, not {type(data).__name__}") from None


def learn_name(name: str) -> str:
    """The lower-case form of a field's `name`; ValueError if it is no token."""
    if not isinstance(name, str) or not name or not _TOKEN.issuperset(name):
        raise ValueError(f"field name {name!r}: give letters, digits and -, without blanks or colons")
    lower = name.lower()
    remember(known_names, name, lower)
    return lower


def remember(known: dict[Any, V], key: Sized, value: V) -> None:
    """Note in `known` what was found out about `key`, unless that is long.

    Applications use few names, lengths and heads, but one that makes them up must not make us grow: where there are too
    many all are forgotten, and those that are in use come again.
    """
    if len(key) <= _LONGEST_KNOWN:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[key] = value


def _split_field(header: str) -> Field:
    name, colon, value = header.partition(":")
    if not colon:
        raise ValueError(f'extra_headers: {header!r} is not of the form "Name: value"')
    return name, value.strip(" \t")


def _pair(header: object) -> Field:
    if isinstance(header, tuple | list) and len(header) == 2:
        name, value = header
        if isinstance(name, str) and isinstance(value, str):
            return name, value
    raise ValueError(f'extra_headers: {header!r} is neither a (name, value) pair of str nor "Name: value"')


def _culprit(lines: list[str]) -> str:
    return next((line for line in lines if any(character in line for character in "\r\n\0")), "")
