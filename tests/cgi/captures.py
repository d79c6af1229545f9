"""What web servers really sent (quirks.json, made by ``python -m tests.cgi.captured``), and what that means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simple_fastcgi.cgi.paths import normalize_root_path

if TYPE_CHECKING:
    from collections.abc import Iterable

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Capture:
    """One request, as a web server sent it; the texts have one character per byte."""

    setup: str
    """The set-up's name, which begins with the web server's."""
    server: str
    mount: str
    root_path: str | None
    """What the operator must tell behind this set-up, as people write it."""
    role: str
    how: dict[str, Any]
    """How the web server makes the path: `merges`, `keeps_2f`, `first`, see :mod:`.captured.setups`."""
    method: str
    url: str
    fields: Pairs
    """The header fields of the request, but for Host."""
    pairs: Pairs
    """All parameters, in the order in which they came."""
    expected: dict[str, Any]

    @property
    def name(self) -> str:
        sent = "" if not self.fields else " +fields" if self.method == "GET" else f" {self.fields[1][0]}"
        return f"{self.setup} {self.method} {self.url}{sent}"

    @property
    def params(self) -> dict[str, str]:
        """As the protocol core tells them: of a name that came twice, the last."""
        return dict(self.pairs)

    @property
    def repeated(self) -> Pairs:
        """As the protocol core tells them: all parameters whose name came more than once."""
        return repeated(self.pairs)

    @property
    def told(self) -> str | None:
        """The root path as the library takes it."""
        return None if self.root_path is None else normalize_root_path(self.root_path)


def repeated(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Those whose name comes more than once."""
    pairs = list(pairs)
    names = [name for name, _ in pairs]
    return [pair for pair in pairs if names.count(pair[0]) > 1]


def _load() -> list[Capture]:
    fixture = json.loads(Path(__file__).with_name("quirks.json").read_text(encoding="utf-8"))
    found = []
    for row in fixture["captures"]:
        setup = fixture["setups"][row["setup"]]
        found.append(
            Capture(
                setup=row["setup"],
                server=setup["server"],
                mount=setup["mount"],
                root_path=row.get("root_path", setup["root_path"]),
                role=setup["role"],
                how={name: setup[name] for name in ("merges", "keeps_2f", "first")},
                method=row["method"],
                url=row["url"],
                fields=[(name, value) for name, value in row["fields"]],
                pairs=[(name, value) for name, value in row["params"]],
                expected=row["expected"],
            )
        )
    return found


CAPTURES = _load()
RESPONDERS = [capture for capture in CAPTURES if capture.role == "responder"]
