"""``python -m tests.cgi.captured [SERVER ...]``: ask the installed web servers anew what they send, and store it."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

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
    store(fixture)


def store(fixture: dict[str, Any]) -> None:
    """Write the fixture, a line for each set-up and each request."""
    setups = [f"{json.dumps(key)}: {json.dumps(setup)}" for key, setup in sorted(fixture["setups"].items())]
    rows = sorted(fixture["captures"], key=lambda row: str(row["setup"]))
    lines = ['{\n"setups": {', ",\n".join(setups), '},\n"captures": [', ",\n".join(map(json.dumps, rows)), "]\n}\n"]
    FIXTURE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
