"""Status pages: a snapshot as text, JSON, HTML or OpenMetrics."""

from __future__ import annotations

from .status import PONG, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .monitor import Page
    from .scoreboard import Scoreboard
    from .status import Facts, Snapshot

_HEAD = "Status: {status}\r\nContent-Type: {type}\r\nCache-Control: no-cache, no-store, must-revalidate\r\n\r\n"
_TEXT = "text/plain; charset=utf-8"


def ping_page(_params: Mapping[str, str]) -> bytes:
    """The response to a ping."""
    return PONG


def status_page(board: Scoreboard, facts: Facts) -> Page:
    """What answers ``?json``, ``?html``, ``?openmetrics``, or text, each with ``full`` behind an ``&``."""

    def page(params: Mapping[str, str]) -> bytes:
        asked = {word.partition("=")[0] for word in params.get("QUERY_STRING", "").split("&")}
        show = next((_FORMATS[name] for name in _FORMATS if name in asked), _as_text)
        return show(snapshot(board, facts, full="full" in asked))

    return page


def _response(type_: str, body: str, status: str = "200 OK") -> bytes:
    return (_HEAD.format(status=status, type=type_) + body).encode("utf-8", "backslashreplace")


def _as_json(told: Snapshot) -> bytes:
    from json import dumps

    return _response("application/json", dumps(told) + "\n")


def _as_text(told: Snapshot) -> bytes:
    lines = [*_lines(told)]
    for group in ("processes", "requests under way"):
        for row in told.get(group, ()):
            lines += ["", "*" * 24, *_lines(row)]
    return _response(_TEXT, "\n".join(lines) + "\n")


def _lines(told: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in told.items():
        if isinstance(value, dict):
            lines += _lines(value)
        elif not isinstance(value, list):
            lines.append(f"{name + ':':<29}{_printable(value)}")
    return lines


def _printable(value: object) -> str:
    """Nothing that a client sent can break the line."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _as_html(told: Snapshot) -> bytes:
    from html import escape

    def table(rows: list[list[object]], heads: list[str] | None = None) -> str:
        head = "<tr>" + "".join(f"<th>{escape(text)}</th>" for text in heads) + "</tr>" if heads else ""
        lines = ("<tr>" + "".join(f"<td>{escape(_printable(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table>{head}{''.join(lines)}</table>\n"

    plain = [[name, value] for name, value in told.items() if not isinstance(value, dict | list)]
    parts = [table(plain), "<h2>limits</h2>\n", table([[name, value] for name, value in told["limits"].items()])]
    for group in ("processes", "requests under way"):
        if rows := told.get(group):
            parts += [f"<h2>{group}</h2>\n", table([list(row.values()) for row in rows], list(rows[0]))]
    return _response("text/html; charset=utf-8", _HTML.format(pool=escape(told["pool"]), body="".join(parts)))


_HTML = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{pool}: status</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ border-bottom: 1px solid #8884; padding: .15rem 1.5rem .15rem 0; text-align: left; overflow-wrap: anywhere; }}
</style></head>
<body><h1>{pool}</h1>
{body}</body></html>
"""


def _as_openmetrics(told: Snapshot) -> bytes:
    try:
        from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ImportError:
        cure = "OpenMetrics needs prometheus_client: pip install 'simple_fastcgi[metrics]'\n"
        return _response(_TEXT, cure, "501 Not Implemented")
    from .metrics import MULTIPROCESS, missing_folder, registry_of

    if folder := missing_folder():
        cure = f"{MULTIPROCESS}={folder} is no directory: create it, empty, before the server starts\n"
        return _response(_TEXT, cure, "500 Internal Server Error")
    return _response(CONTENT_TYPE_LATEST, generate_latest(registry_of(told)).decode("utf-8"))


_FORMATS: dict[str, Callable[[Snapshot], bytes]] = {
    "json": _as_json,
    "html": _as_html,
    "openmetrics": _as_openmetrics,
}
