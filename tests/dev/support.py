"""The development server in a process of its own, and browsers for it."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.support.webserver import TIMEOUT
from tests.webservers.children import Child, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = [sys.executable, "-m", "simple_fastcgi", "dev"]


class DevServer(Child):
    """``simple-fastcgi dev`` on a port that is free."""

    ends_with = (0,)
    measured = True

    def __init__(self, folder: Path, *options: str, app: str = "app:app", env: Mapping[str, str] | None = None) -> None:
        super().__init__([*COMMAND, app, "--http", "127.0.0.1:0", *options], folder / "log", cwd=folder, env=env)

    @property
    def url(self) -> str:
        """Where it answers; it waits until it does."""
        return self.wait_for(r"open (http://\S+)")[1]

    def children(self) -> list[int]:
        """The process of the application, if there is one."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in text.split()]

    def interrupt(self) -> int:
        """Ctrl+C; the exit status."""
        self.signal(signal.SIGINT)
        return self.wait()


@contextmanager
def browser(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False, verify=False) as client:
        yield client


def wait_for_requests(server: DevServer, path: str, mark: int = 0) -> re.Match[str]:
    return server.wait_for(rf"(?m)^\S+  (\S+) +(\S+) +(\S+ m?s) +(\S+ \S?B)  {re.escape(path)}(?:  \((.*)\))?$", mark)


__all__ = ["COMMAND", "DevServer", "browser", "wait_for_requests", "wait_until"]
