"""Which files matter, and when one of them has changed."""

from __future__ import annotations

import asyncio
import os
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from watchfiles import DefaultFilter, awatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from watchfiles import Change

PATTERNS = ("*.py", "*.html", "*.jinja", "*.jinja2", "*.j2")
"""Code, and templates, which frameworks keep in memory once they are read."""


class _Filter(DefaultFilter):
    ignore_dirs = (*DefaultFilter.ignore_dirs, "venv", "site-packages", ".ruff_cache", ".nox")

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__()
        self._patterns = patterns

    def __call__(self, change: Change, path: str) -> bool:
        name = os.path.basename(path)
        return any(fnmatch(name, pattern) for pattern in self._patterns) and super().__call__(change, path)


class Watcher:
    """Watches `folders` for changes of files whose names match `patterns`."""

    def __init__(self, folders: Sequence[Path], patterns: Sequence[str]) -> None:
        self._folders = folders
        self._filter = _Filter(patterns)
        self._stop = asyncio.Event()
        self.changed = asyncio.Event()
        self.files: list[str] = []
        """What has changed since :meth:`take` was called; :attr:`changed` is set when there is something."""

    def take(self) -> list[str]:
        """The files that have changed, which are old news from now on."""
        files, self.files = self.files, []
        self.changed.clear()
        return files

    async def run(self) -> None:
        """Watch until :meth:`stop`; OSError where the system has no room for that."""
        async for changes in awatch(*self._folders, watch_filter=self._filter, stop_event=self._stop):
            self.files += sorted({path for _, path in changes})
            self.changed.set()

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stop.set()
