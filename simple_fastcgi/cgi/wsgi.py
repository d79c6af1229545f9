"""The CGI variables of a WSGI environ (PEP 3333, RFC 3875 4.1)."""

from __future__ import annotations

from .paths import find_mount, is_stock_always, whole_path_name
from .request import (
    AUTHORIZATION_NAMES,
    EMPTY_IS_ABSENT,
    MAX_LENGTH_DIGITS,
    NO_HEADERS,
    authorization,
    join_repeated,
    scheme,
    server,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..protocol.runs import Layout

    # What all requests of a layout have in common: what is added to each environ; what `whole_path_name` says where no
    # root path was told, and what `is_stock_always` does; which of EMPTY_IS_ABSENT are always empty; and what else is
    # to be looked at, None if nothing is.
    Plan = tuple[dict[str, Any], str, bool | None, Sequence[str], "Looks | None"]
    # Whether the scheme may be any; which of EMPTY_IS_ABSENT may be empty; whether a length may come; whether _DEFAULTS
    # have to be looked at; whether one of _RARE comes, or SERVER_NAME and SERVER_PORT have to be looked at.
    Looks = tuple[bool, Sequence[str], bool, bool, bool]

_DEFAULTS = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}
_NO_CONSTANTS: Mapping[str, Any] = {}
_WHOLE_PATHS = ("SCRIPT_URL", "REDIRECT_URL")
"""The whole path before a rewrite, of Apache; Django takes its mount point from them rather than from SCRIPT_NAME."""
_RARE = NO_HEADERS.union(AUTHORIZATION_NAMES, _WHOLE_PATHS)
"""What few requests have, and what needs a closer look."""


class Environs:
    """Makes the environs of one application on one server.

    `root_path`: the mount point if the operator told one. `constants`: what else is in each environ.
    """

    __slots__ = ("_constants", "_root_path")

    def __init__(self, root_path: str | None = None, constants: Mapping[str, Any] = _NO_CONSTANTS) -> None:
        self._root_path = root_path
        self._constants = constants

    def make(
        self, params: dict[str, str], repeated: Sequence[tuple[str, str]], layout: Layout | None = None
    ) -> dict[str, Any]:
        """A new environ with the web server's parameters as an application must see them, and ``wsgi.url_scheme``.

        `params` holds one character per byte, which is PEP 3333's native string. With their `layout`, of which
        `repeated` is no part, the same is found faster.
        """
        plan: Plan | None
        if layout is None:
            plan = self._plan(params, {})
        elif (plan := layout.plans.get(self)) is None:
            plan = layout.plans[self] = self._plan(layout.pairs, layout.fixed)
        added, path_name, stock, empty, looks = plan
        environ: dict[str, Any]
        if repeated:
            environ = params.copy()
            join_repeated(environ, repeated)
            environ |= added
        else:
            environ = params | added
        path = params.get("REQUEST_URI", "")
        if "?" in path:
            path = path.partition("?")[0]
        if path_name and params[path_name] == path and path and path[0] == "/":
            # Nearly always, and find_mount would find the same.
            environ["PATH_INFO"] = path
        else:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = find_mount(params, self._root_path, stock)
        for name in empty:
            del environ[name]
        if looks is not None:
            _look(environ, params, looks)
        return environ

    def _plan(self, names: Mapping[str, str], fixed: Mapping[str, str]) -> Plan:
        """For all params with these `names`, of which some are `fixed`."""
        known_scheme = all(name in fixed or name not in names for name in ("HTTPS", "REQUEST_SCHEME"))
        looks = (
            not known_scheme,
            [name for name in EMPTY_IS_ABSENT if name in names and name not in fixed],
            "CONTENT_LENGTH" in names and fixed.get("CONTENT_LENGTH") != "",
            not ("QUERY_STRING" in names and fixed.get("REQUEST_METHOD") and fixed.get("SERVER_PROTOCOL")),
            any(name in names for name in _RARE)
            or not (_is_host(fixed.get("SERVER_NAME", "")) and fixed.get("SERVER_PORT", "") != ""),
        )
        return (
            {
                "SCRIPT_NAME": "",
                "PATH_INFO": "",
                "wsgi.url_scheme": scheme(fixed) if known_scheme else "",
                **self._constants,
            },
            whole_path_name(names, fixed) if self._root_path is None else "",
            is_stock_always(names, fixed),
            [name for name in EMPTY_IS_ABSENT if fixed.get(name) == ""],
            looks if any(looks) else None,
        )


def _look(environ: dict[str, Any], params: Mapping[str, str], looks: Looks) -> None:
    """Set right what is not the same in all requests of a layout."""
    any_scheme, may_be_empty, may_have_length, may_lack, has_rare = looks
    if any_scheme:
        environ["wsgi.url_scheme"] = scheme(params)
    for name in may_be_empty:
        if not environ[name]:
            del environ[name]
    if may_lack and not (
        environ.get("REQUEST_METHOD") and environ.get("SERVER_PROTOCOL") and "QUERY_STRING" in environ
    ):
        for name, default in _DEFAULTS.items():
            if not environ.get(name):
                environ[name] = default
        if "QUERY_STRING" not in environ:
            environ["QUERY_STRING"] = params.get("REQUEST_URI", "").partition("?")[2]
    if may_have_length and "CONTENT_LENGTH" in environ:
        length = environ["CONTENT_LENGTH"]
        # Of latin-1, which this is, only 0 to 9 are decimal.
        if not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS:
            del environ["CONTENT_LENGTH"]
    if has_rare:
        _see_to_rare(environ, params)
        _see_to_server(environ, params)


def _see_to_rare(environ: dict[str, Any], params: Mapping[str, str]) -> None:
    if "HTTP_CONTENT_TYPE" in environ and (content_type := environ.pop("HTTP_CONTENT_TYPE")):
        environ.setdefault("CONTENT_TYPE", content_type)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    # httpoxy: programs that the application starts would take it for their proxy.
    environ.pop("HTTP_PROXY", None)
    for name in _WHOLE_PATHS:
        if name in environ and not _is_whole_path(environ[name], environ["SCRIPT_NAME"], environ["PATH_INFO"]):
            del environ[name]
    if not environ.get("HTTP_AUTHORIZATION") and (credentials := authorization(params)):
        environ["HTTP_AUTHORIZATION"] = credentials


def _is_whole_path(url: str, script: str, path: str) -> bool:
    """Whether `url` is the mount point and the path, which is what frameworks take it for."""
    while "//" in url:
        url = url.replace("//", "/")
    return url.removesuffix(path) == script


def _is_host(name: str) -> bool:
    return name[:1].isalnum() and ":" not in name


def _see_to_server(environ: dict[str, Any], params: Mapping[str, str]) -> None:
    if not _is_host(environ.get("SERVER_NAME", "")):
        environ["SERVER_NAME"] = _server_name(params)
    if not environ.get("SERVER_PORT"):
        _, port = server(params) or ("", None)
        environ["SERVER_PORT"] = str(port or (443 if environ["wsgi.url_scheme"] == "https" else 80))


def _server_name(params: Mapping[str, str]) -> str:
    """A host as RFC 3875 (4.1.14) has it: IPv6 addresses in brackets, never the path of a unix socket."""
    host, _ = server(params) or ("", None)
    if not host or host[0] == "/":
        return "localhost"
    return f"[{host}]" if ":" in host else host
