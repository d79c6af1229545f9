"""What a native handler sees of its request's parameters (RFC 3875, section 4.1)."""

from __future__ import annotations

from .request import join_repeated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def native_environ(params: Mapping[str, str], repeated: Sequence[tuple[str, str]]) -> dict[str, str]:
    """`params` (one character per byte) with upper-case names, decoded as UTF-8 with surrogateescape.

    Nothing raises and nothing is lost: of a header field that came more than once the values are joined.
    """
    if repeated:
        params = dict(params)
        join_repeated(params, repeated)
    environ = {
        name.upper(): value if value.isascii() else _utf8(value) for name, value in params.items() if name.isascii()
    }
    if len(environ) != len(params):
        for name, value in params.items():
            environ[_utf8(name).upper()] = _utf8(value)
    return environ


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def describe_request(params: Mapping[str, str]) -> str:
    """``METHOD URI`` for a log line, with nothing in it that could break the line."""
    method = params.get("REQUEST_METHOD") or "request"
    uri = params.get("REQUEST_URI") or params.get("SCRIPT_NAME", "") + params.get("PATH_INFO", "")
    return f"{method} {uri}".encode("unicode_escape").decode("ascii")


def request_fields(params: Mapping[str, str]) -> dict[str, object]:
    """Who asked for what, for the log, as text (UTF-8, what is not stays visible); None for what is not known.

    ``request_id`` is what the web server, or whoever stands before it, calls the request: X-Request-ID, or Apache's
    UNIQUE_ID.
    """
    get = params.get
    return {
        "remote_addr": _shown(get("REMOTE_ADDR")),
        "remote_user": _shown(get("REMOTE_USER")),
        "method": _shown(get("REQUEST_METHOD")),
        "uri": _shown(get("REQUEST_URI") or get("SCRIPT_NAME", "") + get("PATH_INFO", "")),
        "protocol": _shown(get("SERVER_PROTOCOL")),
        "host": _shown(get("HTTP_HOST")),
        "referer": _shown(get("HTTP_REFERER")),
        "user_agent": _shown(get("HTTP_USER_AGENT")),
        "request_id": _shown(get("HTTP_X_REQUEST_ID") or get("UNIQUE_ID")),
    }


def failure_fields(fields: Mapping[str, object], *, replaced: bool, aborted: bool) -> dict[str, object]:
    """`fields` of a request whose handler raised; `replaced`: a 500 goes out in place of all that it has written."""
    return {**fields, "status": 500 if replaced else fields.get("status"), "aborted": aborted, "failed": True}


def _shown(value: str | None) -> str | None:
    return value.encode("latin-1").decode("utf-8", "backslashreplace") if value else None
