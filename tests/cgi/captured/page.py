"""``python -m tests.cgi.captured.page``: write the table of quirks into the page for readers."""

from __future__ import annotations

import re
from pathlib import Path

from simple_fastcgi.cgi.quirks import QUIRKS, TOPICS

PAGE = Path(__file__).parents[3] / "docs" / "webservers" / "parameters.md"


def written(page: str) -> str:
    """`page` with the rows of each topic between its marks."""
    for topic in TOPICS:
        mark = f"<!-- {topic} -->"
        table = ["| What is sent | By | What your application sees |", "|---|---|---|"]
        for quirk in QUIRKS:
            if quirk.topic == topic:
                table.append(f"| {quirk.sent} | {', '.join(quirk.servers) or 'any'} | {quirk.made} |")
        text = "\n".join(("", *table, ""))
        page, count = re.subn(f"(?s)(?<={re.escape(mark)}\n).*?(?={re.escape(mark)})", lambda _, t=text: f"{t}\n", page)
        assert count == 1, f"{PAGE}: {mark} must stand twice, the table of that topic between"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
