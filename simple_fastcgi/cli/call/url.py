"""What is called: a path, or a whole URL, as people type it in a shell."""

from __future__ import annotations

import os
import re

from . import status
from .status import CallError

_URL = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[-._0-9A-Za-z]+)(?::([0-9]{0,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What RFC 3986 has no place for, and percent signs that begin no escape.
_TO_QUOTE = re.compile(rb"[^!-~]|[\"<>\\^`{|}]|%(?![0-9A-Fa-f]{2})")


class Url:
    """A URL, in parts.

    ``target`` (bytes)
        The path and query as they are sent, what has no place in them quoted.
    ``scheme``
        ``"http"`` or ``"https"``.
    ``server`` (host and port, or None)
        What a whole URL names; IPv6 in brackets.
    ``userinfo`` (str or None)
        User and password, as they are before they are encoded.
    """

    __slots__ = ("scheme", "server", "target", "userinfo")

    def __init__(self, target: bytes, scheme: str, server: tuple[str, int] | None, userinfo: str | None) -> None:
        self.target = target
        self.scheme = scheme
        self.server = server
        self.userinfo = userinfo

    @property
    def host(self) -> str:
        """The Host field: the port is there if it is not the scheme's own."""
        if self.server is None:
            return "localhost"
        name, port = self.server
        return name if port == _DEFAULT_PORTS[self.scheme] else f"{name}:{port}"

    def with_query(self, query: bytes) -> None:
        """Append to the query."""
        separator = b"" if self.target.endswith((b"?", b"&")) else b"&" if b"?" in self.target else b"?"
        self.target += separator + quote(query)


def parse_url(text: str) -> Url:
    """Reads ``/path?query`` or ``http://host:port/path?query``; a fragment is left out, as it is never sent.

    Raises CallError for everything else, and for control characters.
    """
    if any(character < " " or character == "\x7f" for character in text):
        raise _refused(text, "control characters have no place in a URL: write %0A for a line end")
    scheme, server, userinfo = "http", None, None
    match = _URL.fullmatch(text)
    if match:
        scheme, rest = match[1].lower(), match[3]
        userinfo, at, authority = match[2].rpartition("@")
        server = _server(text, scheme, authority)
        userinfo = _unquoted(userinfo) if at else None
    elif "://" in text:
        raise _refused(text, "give a path, or a URL that begins with http:// or https://")
    elif not text.startswith(("/", "?")) and text != "*":
        raise _refused(text, f"a path begins with a slash, a whole URL with http://: write {'/' + text!r}")
    else:
        rest = text
    rest = rest.partition("#")[0]
    if not rest.startswith(("/", "*")):
        rest = "/" + rest
    return Url(quote(os.fsencode(rest)), scheme, server, userinfo)


def quote(text: bytes) -> bytes:
    """`text` with escapes for what cannot stand in a URL as it is; escapes are left alone."""
    return _TO_QUOTE.sub(lambda match: b"%%%02X" % match[0][0], text)


def _server(text: str, scheme: str, authority: str) -> tuple[str, int]:
    if not authority.isascii():
        try:
            authority = authority.encode("idna").decode("ascii")
        except UnicodeError:
            raise _refused(text, f"{authority!r} is no host name") from None
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _refused(text, f"{authority!r} is no host, with or without a port")
    port = int(match[2][:6]) if match[2] else _DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise _refused(text, f"{match[2]} is no port: give 1 to 65535")
    return match[1], port


def _unquoted(text: str) -> str:
    pieces = re.split(rb"%([0-9A-Fa-f]{2})", os.fsencode(text))
    pieces[1::2] = [bytes.fromhex(piece.decode("ascii")) for piece in pieces[1::2]]
    return os.fsdecode(b"".join(pieces))


def _refused(text: str, why: str) -> CallError:
    return CallError(status.URL, f"URL {text!r}: {why}")
