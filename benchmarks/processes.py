"""A program with all its children: started on one core, watched from outside, ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .machine import TICK, pinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

SECONDS_TO_END = 1.0


def end_on_sigterm() -> None:
    """Have SIGTERM end this program as Ctrl-C does: what it has started ends with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Tree:
    """A started program and everything that it starts.

    `command` runs on `core`, its output goes to `log`; `stdin` is a descriptor that becomes its standard input,
    `pass_fds` are those that it keeps. OSError when it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        with log.open("wb") as output, pinned(core):
            self._root = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        self.log = log

    @property
    def running(self) -> bool:
        return self._root.poll() is None

    def pids(self) -> list[int]:
        """All of its processes, the first one first."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    children.setdefault(_Stat(int(entry)).parent, []).append(int(entry))
                except OSError:
                    continue  # ended meanwhile
        found = [self._root.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, and of those that it has waited for.

        The clock is the one behind utime + stime in /proc/PID/stat, read in nanoseconds instead of ticks.
        """
        total = 0.0
        for pid in self.pids():
            try:
                total += time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of a whole process, see clock_getres(2)
                total += _Stat(pid).waited_for
            except OSError:
                continue
        return total

    def own_bytes(self) -> int:
        """Memory that is there because of it; what its processes share with others counts in part."""
        return self._memory("smaps_rollup", "Pss:")

    def resident_bytes(self) -> int:
        """Memory that its processes have, added up."""
        return self._memory("status", "VmRSS:")

    def peak_bytes(self) -> int:
        """The most memory that its processes ever had, or since :meth:`forget_peak`, added up."""
        return self._memory("status", "VmHWM:")

    def forget_peak(self) -> None:
        """What they had before counts no longer: a start takes more than what follows."""
        for pid in self.pids():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                # It has ended meanwhile, or is somebody else's.
                continue

    def _memory(self, file: str, key: str) -> int:
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
        return total

    def end(self) -> None:
        """By SIGTERM, and by SIGKILL what does not listen."""
        pids = self.pids()
        if self.running:
            self._root.terminate()
            try:
                self._root.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                pids = self.pids()
        for pid in pids:
            if _session(pid) == self._root.pid:  # nobody else's, should the number be in use again
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._root.wait()

    def last_words(self) -> str:
        """The end of its log, in one line."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-3:])[-300:]


class _Stat:
    """What counts here of /proc/PID/stat."""

    def __init__(self, pid: int) -> None:
        # The second field is the name, in parentheses; it may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.waited_for = (int(fields[13]) + int(fields[14])) * TICK


def _session(pid: int) -> int | None:
    try:
        return _Stat(pid).session
    except OSError:
        return None
