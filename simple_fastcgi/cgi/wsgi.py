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

    # What all requests of a layout have in common: what is added to each environ; what `whole_path_name` and
    # `is_stock_always` say; whether the scheme is in what is added; which of EMPTY_IS_ABSENT come, and are always
    # empty, or may be; whether _DEFAULTS have to be looked at; whether one of _RARE comes, or SERVER_NAME and
    # SERVER_PORT have to be looked at.
    Plan = tuple[dict[str, str], str, bool | None, bool, Sequence[str], Sequence[str], bool, bool]

_DEFAULTS = {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"}
_RARE = NO_HEADERS | frozenset(AUTHORIZATION_NAMES)
"""What few requests have, and what needs a closer look."""


def wsgi_variables(
    params: dict[str, str],
    repeated: Sequence[tuple[str, str]],
    root_path: str | None,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """A new environ with the web server's parameters as an application must see them, and ``wsgi.url_scheme``.

    `params` holds one character per byte, which is PEP 3333's native string; `root_path` is the mount point if the
    operator told one. With their `layout`, of which `repeated` is no part, the same is found faster.
    """
    plan: Plan = _plan_of(params, {}) if layout is None else layout.plans.get(_plan) or layout.plan(_plan)
    added, path_name, stock, has_scheme, empty, may_be_empty, may_lack, has_rare = plan
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
    if path_name and params[path_name] == path and root_path is None and path and path[0] == "/":
        # Nearly always, and find_mount would find the same.
        environ["PATH_INFO"] = path
    else:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = find_mount(params, root_path, stock)
    if not has_scheme:
        environ["wsgi.url_scheme"] = scheme(params)
    for name in empty:
        del environ[name]
    for name in may_be_empty:
        if not environ[name]:
            del environ[name]
    if may_lack and not (
        environ.get("REQUEST_METHOD") and environ.get("SERVER_PROTOCOL") and "QUERY_STRING" in environ
    ):
        for name, default in _DEFAULTS.items():
            if not environ.get(name):
                environ[name] = default
    if "CONTENT_LENGTH" in environ:
        length = environ["CONTENT_LENGTH"]
        # Of latin-1, which this is, only 0 to 9 are decimal.
        if not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS:
            del environ["CONTENT_LENGTH"]
    if has_rare:
        _see_to_rare(environ, params)
        _see_to_server(environ, params)
    return environ


def _plan(layout: Layout) -> Plan:
    return _plan_of(layout.pairs, layout.fixed)


def _plan_of(names: Mapping[str, str], fixed: Mapping[str, str]) -> Plan:
    known_scheme = all(name in fixed or name not in names for name in ("HTTPS", "REQUEST_SCHEME"))
    return (
        {"SCRIPT_NAME": "", "PATH_INFO": "", "wsgi.url_scheme": scheme(fixed) if known_scheme else ""},
        whole_path_name(names, fixed),
        is_stock_always(names, fixed),
        known_scheme,
        [name for name in EMPTY_IS_ABSENT if fixed.get(name) == ""],
        [name for name in EMPTY_IS_ABSENT if name in names and name not in fixed],
        not ("QUERY_STRING" in names and fixed.get("REQUEST_METHOD") and fixed.get("SERVER_PROTOCOL")),
        any(name in names for name in _RARE)
        or not (_is_host(fixed.get("SERVER_NAME", "")) and fixed.get("SERVER_PORT", "") != ""),
    )


def _see_to_rare(environ: dict[str, Any], params: Mapping[str, str]) -> None:
    if "HTTP_CONTENT_TYPE" in environ and (content_type := environ.pop("HTTP_CONTENT_TYPE")):
        environ.setdefault("CONTENT_TYPE", content_type)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    # httpoxy: programs that the application starts would take it for their proxy.
    environ.pop("HTTP_PROXY", None)
    if not environ.get("HTTP_AUTHORIZATION") and (credentials := authorization(params)):
        environ["HTTP_AUTHORIZATION"] = credentials


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
