"""The CGI variables of a WSGI environ (PEP 3333, RFC 3875 4.1)."""

from __future__ import annotations

from .paths import find_mount
from .request import EMPTY_IS_ABSENT, authorization, content_length, join_repeated, scheme, server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_DEFAULTS = {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1"}


def wsgi_variables(
    params: dict[str, str], repeated: Sequence[tuple[str, str]], root_path: str | None
) -> dict[str, Any]:
    """A new environ with the web server's parameters as an application must see them, and ``wsgi.url_scheme``.

    `params` holds one character per byte, which is PEP 3333's native string; `root_path` is the mount point if the
    operator told one.
    """
    environ: dict[str, Any] = params.copy()
    if repeated:
        join_repeated(environ, repeated)
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = find_mount(params, root_path)
    environ["wsgi.url_scheme"] = url_scheme = scheme(params)
    for name in EMPTY_IS_ABSENT:
        if name in environ and not environ[name]:
            del environ[name]
    if not (environ.get("REQUEST_METHOD") and environ.get("SERVER_PROTOCOL") and "QUERY_STRING" in environ):
        for name, default in _DEFAULTS.items():
            if not environ.get(name):
                environ[name] = default
    if "CONTENT_LENGTH" in environ and content_length(params) is None:
        del environ["CONTENT_LENGTH"]
    # What few requests have, all AUTHORIZATION_NAMES among it; one by one, in half the time of a set.
    if (
        "HTTP_PROXY" in environ
        or "HTTP_CONTENT_TYPE" in environ
        or "HTTP_CONTENT_LENGTH" in environ
        or "HTTP_AUTHORIZATION" in environ
        or "REDIRECT_HTTP_AUTHORIZATION" in environ
        or "REDIRECT_REDIRECT_HTTP_AUTHORIZATION" in environ
        or "REDIRECT_REDIRECT_REDIRECT_HTTP_AUTHORIZATION" in environ
        or "Authorization" in environ
        or "AUTHORIZATION" in environ
    ):
        _see_to_rare(environ, params)
    name = environ.get("SERVER_NAME", "")
    if not name or not name[0].isalnum() or ":" in name:
        environ["SERVER_NAME"] = _server_name(params)
    if not environ.get("SERVER_PORT"):
        _, port = server(params) or ("", None)
        environ["SERVER_PORT"] = str(port or (443 if url_scheme == "https" else 80))
    return environ


def _see_to_rare(environ: dict[str, Any], params: Mapping[str, str]) -> None:
    if "HTTP_CONTENT_TYPE" in environ and (content_type := environ.pop("HTTP_CONTENT_TYPE")):
        environ.setdefault("CONTENT_TYPE", content_type)
    environ.pop("HTTP_CONTENT_LENGTH", None)
    # httpoxy: programs that the application starts would take it for their proxy.
    environ.pop("HTTP_PROXY", None)
    if not environ.get("HTTP_AUTHORIZATION") and (credentials := authorization(params)):
        environ["HTTP_AUTHORIZATION"] = credentials


def _server_name(params: Mapping[str, str]) -> str:
    """A host as RFC 3875 (4.1.14) has it: IPv6 addresses in brackets, never the path of a unix socket."""
    host, _ = server(params) or ("", None)
    if not host or host[0] == "/":
        return "localhost"
    return f"[{host}]" if ":" in host else host
