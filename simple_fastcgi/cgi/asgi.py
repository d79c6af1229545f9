"""The HTTP connection scope of ASGI, out of the parameters (RFC 3875 4.1)."""

from __future__ import annotations

from .asgi_plan import ASGI, Plans, content_headers, header_name, plan_of_layout
from .paths import find_mount, is_below
from .request import authorization, client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..protocol.runs import Layout
    from .asgi_plan import Header, Plan


def http_scope(
    params: dict[str, str],
    repeated: Sequence[tuple[str, str]],
    root_path: str | None,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """A new scope of type ``http``, without ``state``.

    `params` holds one character per byte; it is handed on as ``scope["extensions"]["fastcgi"]["params"]``, but for
    HTTP_PROXY, which is taken out of it. `root_path` is the mount point if the operator told one. With the `layout` of
    `params` the same is found faster.
    """
    plan = _plan_for(params) if layout is None else layout.plan(plan_of_layout)
    if plan.has_proxy:
        # httpoxy: programs that the application starts would take it for their proxy.
        del params["HTTP_PROXY"]
    # To fill in a copy takes two thirds of the time of a new dict.
    scope = plan.scope.copy()
    scope["asgi"] = {**ASGI}
    if plan.site_varies:
        scope["http_version"], scope["scheme"], scope["server"] = plan.find_site(params)
    raw_path, _, query = params.get("REQUEST_URI", "").partition("?")
    if root_path is None and raw_path[:1] == "/" and plan.path_name and params[plan.path_name] == raw_path:
        # Nearly always, and find_mount would find the same.
        path = raw_path
    else:
        root, path = find_mount(params, root_path, plan.stock)
        if root:
            path = root + path
            scope["root_path"] = root if root.isascii() else _text(root)
        if raw_path[:1] != "/":
            raw_path = _path_of(raw_path, path)
        elif root and root_path is None and not raw_path.startswith(root) and not is_below(raw_path, root):
            # lighttpd has taken it out.
            raw_path = _quoted(root) + raw_path
    scope["method"] = params.get("REQUEST_METHOD") or "GET"
    scope["path"] = path if path.isascii() else _text(path)
    scope["raw_path"] = raw_path.encode("latin-1")
    scope["query_string"] = params.get("QUERY_STRING", query).encode("latin-1")
    scope["headers"] = http_headers(params, repeated, plan)
    scope["client"] = client(params)
    scope["extensions"] = {"fastcgi": {"params": params}, "http.response.pathsend": {}}
    return scope


def http_headers(params: dict[str, str], repeated: Sequence[tuple[str, str]], plan: Plan) -> list[Header]:
    """The request's header fields in lower case, each value of one that came more than once.

    `plan` is that for the names of `params`.
    """
    if repeated:
        # Of Host the last counts, as of all that the web server itself decides: frameworks read the first.
        again = {name for name, _ in repeated if name != "HTTP_HOST"}
        pairs = [(name, value) for name, value in params.items() if name not in again]
        pairs += [(name, value) for name, value in repeated if name in again]
        headers = [(header, value.encode("latin-1")) for name, value in pairs if (header := header_name(name))]
    else:
        headers = plan.fixed_headers.copy()
        for at, header, name in plan.headers:
            headers[at] = header, params[name].encode("latin-1")
        if plan.has_all:
            return headers
    headers += content_headers(params)
    if plan.asks_again and not params.get("HTTP_AUTHORIZATION") and (credentials := authorization(params)):
        headers = [header for header in headers if header[0] != b"authorization"]
        headers.append((b"authorization", credentials.encode("latin-1")))
    return headers


_plans = Plans()


def _plan_for(params: dict[str, str]) -> Plan:
    names = tuple(params)
    return _plans.known.get(names) or _plans.learn(names)


def _path_of(uri: str, path: str) -> str:
    """The path as the client sent it: of an absolute URI, or put together from the decoded one."""
    scheme_, colon, rest = uri.partition("://")
    if colon and scheme_.isalnum():
        _, slash, tail = rest.partition("/")
        return slash + tail if slash else "/"
    return uri or _quoted(path)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~")


def _text(path: str) -> str:
    """ASGI wants text: bytes that are no UTF-8 are replaced, `raw_path` has them as they came."""
    return path.encode("latin-1").decode("utf-8", "replace")
