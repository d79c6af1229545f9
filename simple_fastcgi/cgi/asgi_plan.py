"""What the names of a request's parameters mean for ASGI, found once for all requests that have the same ones."""

from __future__ import annotations

from operator import itemgetter

from .request import AUTHORIZATION_NAMES, NO_HEADERS, http_version, scheme, server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # The HTTP version, the scheme and the server.
    Site = tuple[str, str, tuple[str, int | None] | None]

_OTHER_AUTHORIZATION = frozenset(AUTHORIZATION_NAMES) - {"HTTP_AUTHORIZATION"}
# What a Site depends on.
_SITE_NAMES = ("SERVER_PROTOCOL", "REQUEST_SCHEME", "HTTPS", "SERVER_NAME", "SERVER_ADDR", "SERVER_PORT")
_MAX_SITES = 16
_LONGEST_SITE = 320


class Plan:
    """For requests whose parameters have the names `variables`, in this order."""

    __slots__ = ("asks_again", "fields", "site_key", "sites")

    fields: list[tuple[bytes, str]]
    """The header fields in lower case, with their variables."""
    asks_again: bool
    """Authorization may have come under another name."""
    site_key: Callable[[dict[str, str]], Any]
    """What tells one site from another."""
    sites: dict[Any, Site]
    """Some of them, by it: where requests are sent to, others were."""

    def __init__(self, variables: tuple[str, ...]) -> None:
        self.fields = [(header, variable) for variable in variables if (header := header_name(variable))]
        self.asks_again = not _OTHER_AUTHORIZATION.isdisjoint(variables)
        telling = frozenset(variables).intersection(_SITE_NAMES)
        self.site_key = itemgetter(*telling) if telling else _nothing
        self.sites = {}

    def learn_site(self, key: Any, params: dict[str, str]) -> Site:
        """Where `params` were sent to."""
        site = http_version(params), scheme(params), server(params)
        # With some web servers clients choose the name: what is remembered of them must have a bound.
        if sum(map(len, key)) <= _LONGEST_SITE:
            if len(self.sites) >= _MAX_SITES:
                self.sites.clear()
            self.sites[key] = site
        return site


def _nothing(params: dict[str, str]) -> tuple[()]:
    return ()


_MAX_PLANS = 64
# About so many bytes all plans may take, one plan, and one name with its header field, beyond their characters.
_ROOM = 2 << 20
_LARGEST_PLAN = _ROOM // 4
_NAME_SIZE = 160


class Plans:
    """The plans that have been needed."""

    __slots__ = ("_room", "known")

    known: dict[tuple[str, ...], Plan]
    """By the names of all parameters."""

    def __init__(self) -> None:
        self.known = {}
        self._room = _ROOM

    def learn(self, variables: tuple[str, ...]) -> Plan:
        """The plan for these names, which is known from now on, unless it is too large."""
        plan = Plan(variables)
        size = sum(map(len, variables)) * 2 + len(variables) * _NAME_SIZE
        if size <= _LARGEST_PLAN:
            if len(self.known) >= _MAX_PLANS or size > self._room:
                # Clients choose names, as many as they like; those that are in use come again.
                self.known.clear()
                self._room = _ROOM
            self._room -= size
            self.known[variables] = plan
        return plan


_header_names: dict[str, bytes] = {}
_MAX_HEADER_NAMES = 1024
_LONGEST_HEADER_NAME = 64


def header_name(variable: str) -> bytes:
    """The header field's name in lower case; b"" for what is none, HTTP_PROXY (httpoxy) among it."""
    header = _header_names.get(variable)
    if header is not None:
        return header
    header = b""
    if variable.startswith("HTTP_") and variable not in NO_HEADERS:
        header = variable[5:].replace("_", "-").lower().encode("latin-1")
    # Clients choose the names: what is remembered of them must have a bound.
    if len(_header_names) < _MAX_HEADER_NAMES and len(variable) <= _LONGEST_HEADER_NAME:
        _header_names[variable] = header
    return header
