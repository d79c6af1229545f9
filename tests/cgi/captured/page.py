"""``python -m tests.cgi.captured.page``: write the table of quirks into the page for readers."""

from __future__ import annotations

from pathlib import Path

from simple_fastcgi.cgi.quirks import QUIRKS, TOPICS

PAGE = Path(__file__).parents[3] / "docs" / "webservers" / "parameters.md"


def written(page: str) -> str:
    """`page` with the rows of each topic between its marks."""
    for topic in TOPICS:
        mark = f"<!-- {topic} -->"
        rows = [
            f"| {quirk.sent} | {', '.join(quirk.servers) or 'any'} | {quirk.made} |"
            for quirk in QUIRKS
            if quirk.topic == topic
        ]
        table = ["| What is sent | By | What your application sees |", "|---|---|---|", *rows]
        before, *between, after = page.split(f"{mark}\n")
        assert len(between) == 1, f"{PAGE}: {mark} must stand twice, with the table of that topic between"
        page = f"{mark}\n".join((before, "\n".join(("", *table, "", "")), after))
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
