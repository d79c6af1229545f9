"""Clients, child processes, and what only Linux has."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such sockets")


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def run(*arguments: str) -> str:
    """What a Python program with these arguments prints."""
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.stderr == ""
    return done.stdout
