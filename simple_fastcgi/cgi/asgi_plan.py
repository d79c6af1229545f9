"""What the names of a request's parameters mean for ASGI, found once for all requests that have the same ones."""

from __future__ import annotations

from operator import itemgetter

from .paths import is_stock_always, whole_path_name
from .request import AUTHORIZATION_NAMES, NO_HEADERS, content_length, http_version, scheme, server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from ..protocol.runs import Layout

    Header = tuple[bytes, bytes]
    # The HTTP version, the scheme and the server.
    Site = tuple[str, str, tuple[str, int | None] | None]

ASGI = {"version": "3.0", "spec_version": "2.4"}
"""What a scope tells of ASGI, which is copied for each: applications may write there, as anywhere in their scope."""
_OTHER_AUTHORIZATION = frozenset(AUTHORIZATION_NAMES) - {"HTTP_AUTHORIZATION"}
# What a Site depends on.
_SITE_NAMES = ("SERVER_PROTOCOL", "REQUEST_SCHEME", "HTTPS", "SERVER_NAME", "SERVER_ADDR", "SERVER_PORT")
_CONTENT_NAMES = ("CONTENT_TYPE", "HTTP_CONTENT_TYPE", "CONTENT_LENGTH")
_MAX_SITES = 16
_LONGEST_SITE = 320


class Plan:
    """For requests whose parameters have the same names in the same order: `names`, of which some have `fixed` values.

    HTTP_PROXY is none of them, whatever `names` says (httpoxy).
    """

    __slots__ = (
        "_site_key",
        "_sites",
        "asks_again",
        "fixed_headers",
        "has_all",
        "has_proxy",
        "headers",
        "path_name",
        "scope",
        "site_varies",
        "stock",
    )

    fixed_headers: list[Header]
    """Header fields whose values are fixed, and room in their order for the others."""
    headers: list[tuple[int, bytes, str]]
    """The others: their place among all, name in lower case, and variable."""
    asks_again: bool
    """Authorization may have come under another name."""
    has_all: bool
    """`fixed_headers` and `headers` are all: neither :func:`content_headers` nor others are to be added."""
    has_proxy: bool
    """There is an HTTP_PROXY."""
    stock: bool | None
    """See :func:`~simple_fastcgi.cgi.paths.is_stock_always`."""
    path_name: str
    """See :func:`~simple_fastcgi.cgi.paths.whole_path_name`."""
    scope: dict[str, Any]
    """All keys of a scope but ``state``, those with their values that nobody can change."""
    site_varies: bool
    """Where the requests are sent to is not fixed; :meth:`find_site` tells."""

    def __init__(self, names: Collection[str], fixed: Mapping[str, str]) -> None:
        fields = [(header, name) for name in names if (header := header_name(name))]
        self.fixed_headers = [(header, fixed.get(name, "").encode("latin-1")) for header, name in fields]
        self.headers = [(at, header, name) for at, (header, name) in enumerate(fields) if name not in fixed]
        self.asks_again = not _OTHER_AUTHORIZATION.isdisjoint(names)
        self.has_all = not self.asks_again and all(name in fixed or name not in names for name in _CONTENT_NAMES)
        if self.has_all:
            self.fixed_headers += content_headers(fixed)
        self.has_proxy = "HTTP_PROXY" in names
        self.stock = is_stock_always(names, fixed)
        self.path_name = whole_path_name(names, fixed)
        telling = set(names).difference(fixed).intersection(_SITE_NAMES)
        self.site_varies = bool(telling)
        self._site_key = itemgetter(*telling) if telling else None
        self._sites: dict[Any, Site] = {}
        self.scope = _empty_scope(_find_site(fixed))

    def find_site(self, params: dict[str, str]) -> Site:
        """Where `params` were sent to: mostly where some before them were."""
        assert self._site_key is not None
        key = self._site_key(params)
        site = self._sites.get(key)
        if site is None:
            site = _find_site(params)
            # With some web servers clients choose the name: what is remembered of them must have a bound.
            if sum(map(len, key)) <= _LONGEST_SITE:
                if len(self._sites) >= _MAX_SITES:
                    self._sites.clear()
                self._sites[key] = site
        return site


def _find_site(params: Mapping[str, str]) -> Site:
    return http_version(params), scheme(params), server(params)


def _empty_scope(site: Site) -> dict[str, Any]:
    version, scheme_, server_ = site
    return {
        "type": "http",
        "asgi": None,
        "http_version": version,
        "method": "",
        "scheme": scheme_,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": (),
        "client": None,
        "server": server_,
        "extensions": None,
    }


def plan_of_layout(layout: Layout) -> Plan:
    """The plan for requests of one layout."""
    return Plan(layout.pairs, layout.fixed)


_MAX_PLANS = 64
# About so many bytes all plans may take, one plan, and one name with its header field, beyond their characters.
_ROOM = 2 << 20
_LARGEST_PLAN = _ROOM // 4
_NAME_SIZE = 160


class Plans:
    """The plans for requests whose layout is not known."""

    __slots__ = ("_room", "known")

    known: dict[tuple[str, ...], Plan]
    """By the names of all parameters."""

    def __init__(self) -> None:
        self.known = {}
        self._room = _ROOM

    def learn(self, variables: tuple[str, ...]) -> Plan:
        """The plan for these names, which is known from now on, unless it is too large."""
        plan = Plan(variables, {})
        size = sum(map(len, variables)) * 2 + len(variables) * _NAME_SIZE
        if size <= _LARGEST_PLAN:
            if len(self.known) >= _MAX_PLANS or size > self._room:
                # Clients choose names, as many as they like; those that are in use come again.
                self.known.clear()
                self._room = _ROOM
            self._room -= size
            self.known[variables] = plan
        return plan


def content_headers(params: Mapping[str, str]) -> list[Header]:
    """The header fields that have variables of their own (RFC 3875 4.1.2, 4.1.3)."""
    headers = []
    if content_type := params.get("CONTENT_TYPE") or params.get("HTTP_CONTENT_TYPE"):
        headers.append((b"content-type", content_type.encode("latin-1")))
    if content_length(params) is not None:
        headers.append((b"content-length", params["CONTENT_LENGTH"].encode("ascii")))
    return headers


_header_names: dict[str, bytes] = {}
_MAX_HEADER_NAMES = 1024
_LONGEST_HEADER_NAME = 64


def header_name(variable: str) -> bytes:
    """The header field's name in lower case; b"" for what is none, HTTP_PROXY (httpoxy) among it, however spelled."""
    header = _header_names.get(variable)
    if header is not None:
        return header
    header = b""
    if variable.startswith("HTTP_") and variable.upper().replace("-", "_") not in NO_HEADERS:
        header = variable[5:].replace("_", "-").lower().encode("latin-1")
    # Clients choose the names: what is remembered of them must have a bound.
    if len(_header_names) < _MAX_HEADER_NAMES and len(variable) <= _LONGEST_HEADER_NAME:
        _header_names[variable] = header
    return header
