"""``-w``: what was measured, in the user's own words."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MARK = re.compile(r"%%|%\{([^}]*)\}|\\([nrt\\])", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}

VARIABLES = (
    *("app_status", "content_type", "errormsg", "exitcode", "http_code", "method", "num_headers", "response_code"),
    *("size_download", "size_upload", "time_connect", "time_starttransfer", "time_total", "url"),
)
"""The names that ``%{...}`` knows; all but the first are curl's."""


def written_out(template: str, values: Mapping[str, object], unknown: Callable[[str], None]) -> bytes:
    """`template` with what its variables stand for; `unknown` is told the names that are none, as of an empty text."""

    def put(match: re.Match[str]) -> str:
        name, escape = match.groups()
        if escape is not None:
            return _ESCAPES[escape]
        if name is None:
            return "%"
        if name not in VARIABLES:
            unknown(name)
            return ""
        value = values[name]
        return f"{value:.6f}" if isinstance(value, float) else "" if value is None else str(value)

    return os.fsencode(_MARK.sub(put, template))
