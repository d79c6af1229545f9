"""What is measured of a server's processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import pick_cores
from benchmarks.processes import Tree

pytestmark = pytest.mark.once

LARGE = 1 << 26
# Holds as much for a moment, tells when that is over, and waits for its end: in short sleeps, for a signal that comes
# just before one is noted behind it.
GREEDY = f"""
import os, sys, time
held = b"a" * {LARGE}
del held
os.write(int(sys.argv[1]), b".")
while True:
    time.sleep(0.01)
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


# Starts a program, tells its process number, and is in the midst of its work.
BUSY = """
import sys, time
from pathlib import Path
from benchmarks.machine import pick_cores
from benchmarks.processes import Tree, end_on_sigterm
end_on_sigterm()
tree = Tree(["sleep", "3600"], pick_cores().server, Path(sys.argv[1]))
try:
    print(tree.pids()[0], flush=True)
    while True:
        time.sleep(0.01)
finally:
    tree.end()
"""


def test_whoever_is_terminated_leaves_nobody_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUSY, str(tmp_path / "log")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        os.kill(pid, 0)
        program.terminate()
        assert program.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
