"""Attack servers of every kind with the full sizes (`make hostile`), and print what that cost them as Markdown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHELLS = ("sync", "threads", "asyncio", "uvloop")
EXPLANATION = """\
Each cell: by how much the memory of the server grew at most (MB), its processor time (s), how long the case took (s),
and the slowest answer to the others meanwhile and afterwards (ms).
"""
WORK = """\
How many times as much processor time four times as many cost (16 would be squared); in brackets, for how many, and the
processor time of those (ms).
"""

Figures = dict[str, dict[str, dict[str, float]]]


def read(file: Path) -> tuple[Figures, Figures]:
    """By case and shell: what was measured of each case, and of the growth of work."""
    cases: Figures = {}
    work: Figures = {}
    for line in file.read_text().splitlines():
        figures = json.loads(line)
        case, shell = figures.pop("case"), figures.pop("shell")
        (work if "work" in figures else cases).setdefault(case, {})[shell] = figures
    return cases, work


def describe_case(growth: float, cpu: float, seconds: float, slowest: float) -> str:
    """A cell of the first table."""
    return f"{max(0, growth) / (1 << 20):.1f} · {cpu:.2f} · {seconds:.1f} · {slowest * 1000:.0f}"


def describe_work(few: float, cost: float, work: float) -> str:
    """A cell of the second one."""
    return f"{work:.1f} ({few:.0f}: {cost * 1000:.0f})"


def print_table(figures: Figures, describe: object) -> None:
    """A line for each case, a column for each shell."""
    assert callable(describe)
    print("| case |", " | ".join(SHELLS), "|")
    print("| --- |", " | ".join("---" for _ in SHELLS), "|")
    for case, by_shell in sorted(figures.items()):
        cells = (describe(**by_shell[shell]) if shell in by_shell else "" for shell in SHELLS)
        print(f"| {case.replace('_', ' ')} |", " | ".join(cells), "|")


def main() -> int:
    """Run the battery, one case after the other, with pytest's further arguments."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures"
        file.touch()
        environment = {**os.environ, "HOSTILE_FULL": "1", "HOSTILE_FIGURES": str(file)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/hostile", *sys.argv[1:]]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        cases, work = read(file)
    print(f"\n{EXPLANATION}")
    print_table(cases, describe_case)
    print(f"\n{WORK}")
    print_table(work, describe_work)
    return status


if __name__ == "__main__":
    sys.exit(main())
