"""What the probe says that it has seen of a request."""

from __future__ import annotations

import json
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class Seen:
    """One request, as the application behind the web server sees it; see :mod:`simple_fastcgi.check`."""

    process: int
    connection: int | None
    keep_conn: bool | None
    proxied: bool
    params: dict[str, str]
    method: str
    scheme: str
    root_path: str
    path: str
    query_string: str
    headers: list[tuple[str, str]]
    size: int
    sha256: str

    def get(self, name: str) -> str | None:
        """The value of the header field `name` (in lower case)."""
        return next((value for field, value in self.headers if field == name), None)

    @property
    def software(self) -> str:
        """SERVER_SOFTWARE."""
        return self.params.get("SERVER_SOFTWARE", "")


def read_seen(page: bytes) -> Seen | None:
    """What stands in `page`; None if it is nothing of the probe's, whatever else it is."""
    try:
        told: Any = json.loads(page)
        if not isinstance(told, dict) or "probe" not in told:
            return None
        return Seen(
            process=int(told["process"]),
            connection=None if told["connection"] is None else int(told["connection"]),
            keep_conn=None if told["keep_conn"] is None else bool(told["keep_conn"]),
            proxied=bool(told["proxied"]),
            params={str(name): str(value) for name, value in told["params"].items()},
            **{name: str(told[name]) for name in ("method", "scheme", "root_path", "path", "query_string")},
            headers=[(str(name), str(value)) for name, value in told["headers"]],
            size=int(told["body"]["size"]),
            sha256=str(told["body"]["sha256"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
