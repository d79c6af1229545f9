"""Answers that the web server compresses, as docs/operation.md says it: files may leave past any middleware."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .apache import FcgidFront, ProxyFront
from .caddy import CaddyFront
from .children import ROOT
from .haproxy import PATH_INFO, HaproxyFront
from .nginx import SPLIT, NginxFront
from .sites import client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .fronts import Framework, Front
    from .sites import Sites

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
SHARED = (ROOT / "docs" / "fastapi-shared-hosting.md").read_text(encoding="utf-8")


@dataclass(frozen=True, eq=False, kw_only=True)
class Compressing(FcgidFront):
    """With lines of its own in .htaccess."""

    lines: str
    htaccess: bool = True

    def configure(self, listen: str, command: Sequence[str], folder: Path) -> str:
        text = super().configure(listen, command, folder)
        with (folder / ".htaccess").open("a") as file:
            file.write(self.lines + "\n")
        return text


FRONTS: dict[str, Callable[[str], Front]] = {
    "nginx": lambda lines: NginxFront(name="nginx-gzip", params=f"{SPLIT} {lines}"),
    "Apache": lambda lines: ProxyFront(name="apache-gzip", lines=f'ProxyPass "/" "APP/"\n{lines}\n'),
    ".htaccess": lambda lines: Compressing(name="htaccess-gzip", lines=lines),
    "HAProxy": lambda lines: HaproxyFront(name="haproxy-gzip", backend=lines, app=PATH_INFO),
    "Caddy": lambda lines: CaddyFront(name="caddy-gzip", text=f"{lines}\nreverse_proxy APP {{\ntransport fastcgi\n}}"),
}


def lines_for(server: str) -> str:
    """What the page has in the row of `server`, or for shared hosts."""
    if server == ".htaccess":
        return next(line.strip() for line in SHARED.splitlines() if "DEFLATE" in line)
    row = re.search(rf"^\| {server} \| (.*?) \|", PAGE, re.MULTILINE)
    assert row is not None
    return "\n".join(re.findall(r"`([^`]+)`", row[1]))


@pytest.mark.parametrize("framework", ("flask", "starlette"))
@pytest.mark.parametrize("server", FRONTS)
def test_the_web_server_compresses_files(sites: Sites, server: str, framework: Framework, tmp_path: Path) -> None:
    text = "console.log(1);\n" * 10_000
    (tmp_path / "page.js").write_text(text)
    site = sites.start(framework, FRONTS[server](lines_for(server)))
    with client(site.url) as visitor:
        asked = {"path": str(tmp_path / "page.js")}
        answer = visitor.get("/probe/file", params=asked, headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.text == text) == (200, True)
        assert answer.headers.get("Content-Encoding") == "gzip"
        assert "accept-encoding" in answer.headers["Vary"].lower()
        assert answer.num_bytes_downloaded < len(text) / 10
        plain = visitor.get("/probe/file", params=asked, headers={"Accept-Encoding": "identity"})
        assert (plain.headers.get("Content-Encoding"), plain.text == text) == (None, True)
