"""What was found, and how it is printed: for people, or as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass

from ..call.status import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TextIO

    Status = Literal["ok", "warning", "problem"]

_COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    ``status``
        "ok", "warning" (it works, but not as well as it could, or not all of it), "problem".
    ``what``, ``why``, ``cure``
        One line each; an ok needs neither reason nor cure.
    ``final``
        No other check makes sense before this is mended.
    """

    status: Status
    what: str
    why: str = ""
    cure: str = ""
    final: bool = False


def ok(what: str, why: str = "") -> Finding:
    """All is well; `why` for what is worth knowing all the same."""
    return Finding("ok", what, why)


def warning(what: str, why: str, cure: str) -> Finding:
    """It works, but not all of it."""
    return Finding("warning", what, why, cure)


def problem(what: str, why: str, cure: str, *, final: bool = False) -> Finding:
    """It does not work."""
    return Finding("problem", what, why, cure, final)


class Report:
    """Prints findings to `stream` (default: standard output) as they come, or all of them at the end as JSON.

    `checks` are the names of all checks, in order: their numbers stay the same whatever is found.
    """

    def __init__(self, target: str, checks: Sequence[str], *, as_json: bool, stream: TextIO | None = None) -> None:
        self._target = target
        self._checks = checks
        self._found: list[tuple[int, str, Finding]] = []
        self._as_json = as_json
        self._stream = sys.stdout if stream is None else stream
        self._coloured = self._stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def add(self, name: str, finding: Finding) -> None:
        """Tell of what the check `name` has found."""
        number = self._checks.index(name) + 1
        self._found.append((number, name, finding))
        if not self._as_json:
            status = finding.status
            # Padded before it is coloured: escape sequences have no width.
            mark = f"\x1b[{_COLOURS[status]}m{status:<7}\x1b[0m" if self._coloured else f"{status:<7}"
            self._print(f"{mark} {number:>2} {name:<15} {shown(finding.what)}")
            for label, text in (("why", finding.why), ("cure", finding.cure)):
                if text:
                    self._print(f"           {label + ':':<5} {shown(text)}")

    def finish(self) -> bool:
        """Print the end; whether there is no problem."""
        counts = {
            status: sum(finding.status == status for _, _, finding in self._found)
            for status in ("problem", "warning", "ok")
        }
        left = len(self._checks) - len({number for number, _, _ in self._found})
        if self._as_json:
            self._print(json.dumps(self._as_dict(counts, left), indent=2))
        else:
            parts = [_counted(counts["problem"], "problem"), _counted(counts["warning"], "warning")]
            parts.append(f"{counts['ok']} ok")
            if left:
                parts.append(f"{left} not checked")
            self._print(", ".join(parts))
        return not counts["problem"]

    def _as_dict(self, counts: dict[str, int], left: int) -> dict[str, object]:
        checks = [
            {
                "number": number,
                "name": name,
                "status": finding.status,
                "what": finding.what,
                "why": finding.why,
                "cure": finding.cure,
            }
            for number, name, finding in self._found
        ]
        totals = {
            "problems": counts["problem"],
            "warnings": counts["warning"],
            "ok": counts["ok"],
            "not_checked": left,
        }
        return {"target": self._target, "checks": checks, **totals}

    def _print(self, text: str) -> None:
        # Whatever came from the other side, this terminal may have no letter for it.
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
