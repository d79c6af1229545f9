"""Where docs and examples show what ``config`` prints; ``python -m tests.webservers.shown`` renews them."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from typing import TYPE_CHECKING

from simple_fastcgi.cli import main
from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan

from .children import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMMAND = "simple-fastcgi config "
# Where the application of the pages lives.
PLACE = {"--directory": "/srv/shop", "--python": "/srv/shop/.venv/bin/python"}

# A command alone in its block, and the next block below the same heading; or both in one.
_START = rf"^```console\n\$ (?P<command>{COMMAND}[^>\n]*)\n"
_APART = re.compile(rf"{_START}```\n(?:(?!```|#).*\n)*?```[\w-]+\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
_TOGETHER = re.compile(rf"{_START}(?P<text>(?!\$ |```)(?:.*\n)*?)```$", re.MULTILINE)

_LOCAL = {"bind": "unix:run/app.sock", "server_name": "localhost", "max_body_size": 256}


def _example(app: str, mount: str = "", port: int = 8000) -> str:
    settings: dict[str, object] = {**_LOCAL, "name": f"at-{port}", "root_path": mount, "listen": f"127.0.0.1:{port}"}
    return make("nginx", Plan(app=app, **settings)).files[0].text  # type: ignore[arg-type]


def examples() -> dict[Path, str]:
    """The files of the examples that are printed, and what stands in them."""
    texts = {ROOT / "examples" / "native" / "site.conf": _example("echo:Echo")}
    for name in ("flask_app", "starlette_app"):
        folder = ROOT / "examples" / name
        texts[folder / "site.conf"] = _example("app:app")
        texts[folder / "mounted.conf"] = _example("app:app", "/app", 8001)
    return texts


def pages() -> list[Path]:
    """Those that may show what is printed."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def printed(command: str) -> str:
    """What a command of a page prints."""
    words = shlex.split(command)[1:]
    for option, value in PLACE.items():
        if option not in words:
            words += option, value
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    if status != 0:
        raise ValueError(f"{command}: {err.getvalue()}")
    return out.getvalue()


def commands(page: str) -> list[str]:
    """Those whose print a page shows."""
    return [found["command"] for pattern in (_APART, _TOGETHER) for found in pattern.finditer(page)]


def renewed(page: str) -> str:
    """The page, with what its commands print today."""
    return _TOGETHER.sub(_renew, _APART.sub(_renew, page))


def _renew(found: re.Match[str]) -> str:
    start, end = found.start("text") - found.start(), found.end("text") - found.start()
    return found[0][:start] + printed(found["command"]) + found[0][end:]


def renewals() -> Mapping[Path, str]:
    """Every page and file that shows what is printed, as it should be."""
    return {**{page: renewed(page.read_text(encoding="utf-8")) for page in pages()}, **examples()}


if __name__ == "__main__":
    for path, text in renewals().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
