"""``python -m tests.cgi.captured [SERVER ...]``: ask the installed web servers anew what they send, and store it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from .capture import FIXTURE, capture
from .servers import SERVERS

PATH = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin:/usr/local/bin"


def program(name: str) -> str:
    """An installed program's path."""
    found = shutil.which(name, path=PATH)
    if found is None:
        sys.exit(f"{name} is not installed: run python3 scripts/prepare.py programs")
    return found


def main() -> None:
    """Replace what the fixture has of the servers named, by default of all that can be installed."""
    names = sys.argv[1:] or list(SERVERS)
    if unknown := set(names) - SERVERS.keys():
        sys.exit(f"{', '.join(unknown)}: give some of {', '.join(SERVERS)}")
    fixture = json.loads(FIXTURE.read_text(encoding="utf-8"))
    for name in names:
        fresh = capture(name, program)
        kept = {key: setup for key, setup in fixture["setups"].items() if not key.startswith(name)}
        fixture["setups"] = kept | fresh["setups"]
        fixture["captures"] = [row for row in fixture["captures"] if row["setup"] in kept] + fresh["captures"]
        print(f"{name}: {len(fresh['setups'])} set-ups, {len(fresh['captures'])} requests")
    parts = []
    for part, rows in (("setups", fixture["setups"]), ("captures", fixture["captures"])):
        lines = [f"{json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items()] if part == "setups" else [*map(json.dumps, rows)]
        lines = sorted(lines) if part == "setups" else lines
        opening, closing = "{}" if part == "setups" else "[]"
        parts.append(f'"{part}": {opening}\n' + ",\n".join(lines) + f"\n{closing}")
    FIXTURE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
