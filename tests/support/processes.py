"""Processes that are nobody's children here, as the kernel shows them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or only its status, for which nobody has asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        # The second: it has ended between the opening and the reading.
        return True


def open_files(pid: int) -> set[str]:
    """The names of what a process has open."""
    folder = f"/proc/{pid}/fd"
    names = set()
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            # It may be closed meanwhile.
            names.add(os.readlink(f"{folder}/{number}"))
    return names
