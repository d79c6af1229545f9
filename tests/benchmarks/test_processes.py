"""What is measured of a server's processes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.machine import pick_cores
from benchmarks.processes import Tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.once

LARGE = 1 << 26
# Holds as much for a moment, tells when that is over, and waits for its end.
GREEDY = f"""
import os, signal, sys
held = b"a" * {LARGE}
del held
os.write(int(sys.argv[1]), b".")
signal.pause()
"""


def test_what_the_start_took_is_no_peak_of_the_load(tmp_path: Path) -> None:
    receiver, sender = os.pipe()
    command = [sys.executable, "-c", GREEDY, str(sender)]
    tree = Tree(command, pick_cores().server, tmp_path / "log", pass_fds=[sender])
    try:
        os.close(sender)
        with os.fdopen(receiver, "rb") as told:
            assert told.read(1) == b".", tree.last_words()
        before = tree.peak_bytes()
        tree.forget_peak()
        assert tree.peak_bytes() < before - LARGE // 2
    finally:
        tree.end()
    # Nobody is left whose peak it could be.
    tree.forget_peak()
