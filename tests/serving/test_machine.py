"""What cgroups leave of a machine, and the workers and threads that it can have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.serving.machine import Machine, this_machine, within

WHOLE = Machine(8.0, 16 << 30)
MIB = 1 << 20
UNLIMITED = 9223372036854771712  # as version 1 says it


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, WHOLE),
        ({"/proc/self/cgroup": "0::/\n"}, WHOLE),
        # a container of version 2, which sees itself at the root
        (
            {"/proc/self/cgroup": "0::/\n", "cpu.max": "150000 100000\n", "memory.max": "536870912\n"},
            Machine(1.5, 512 * MIB),
        ),
        # a service of systemd in a limited slice; "max" is no limit
        (
            {
                "/proc/self/cgroup": "0::/web.slice/shop.service\n",
                "web.slice/shop.service/cpu.max": "max 100000\n",
                "web.slice/shop.service/memory.max": "1073741824\n",
                "web.slice/cpu.max": "200000 100000\n",
                "web.slice/memory.max": "max\n",
            },
            Machine(2.0, 1024 * MIB),
        ),
        # version 1; the path is the host's, and the limits are found at the root
        (
            {
                "/proc/self/cgroup": "5:cpu,cpuacct:/docker/1a\n4:memory:/docker/1a\n3:pids:/docker/1a\n0::/x\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "268435456\n",
            },
            Machine(0.5, 256 * MIB),
        ),
        (
            {
                "/proc/self/cgroup": "5:cpu:/a\n4:memory:/a\n",
                "cpu/a/cpu.cfs_quota_us": "-1\n",
                "cpu/a/cpu.cfs_period_us": "100000\n",
                "memory/a/memory.limit_in_bytes": f"{UNLIMITED}\n",
            },
            WHOLE,
        ),
        # a process that is outside of the namespace which it looks at
        ({"/proc/self/cgroup": "0::/../other\n", "memory.max": "1048576\n"}, Machine(8.0, MIB)),
        ({"/proc/self/cgroup": "nothing of the kind\n1:\n", "memory.max": "1"}, WHOLE),
    ],
)
def test_cgroups(files: dict[str, str], expected: Machine) -> None:
    there = {name if name[0] == "/" else f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert within(WHOLE, there.get) == expected


texts = st.text("0123456789 max-\n\x00²é", max_size=30) | st.integers().map(str)


@given(
    st.lists(st.tuples(st.sampled_from(["0", "4:memory", "x"]), st.sampled_from(["::/", ":/a/b", ""])), max_size=3),
    st.dictionaries(st.sampled_from(["cpu.max", "memory.max", "memory.limit_in_bytes", "cpu.cfs_quota_us"]), texts),
)
def test_whatever_stands_there_leaves_something(lines: list[tuple[str, str]], files: dict[str, str]) -> None:
    told = "\n".join(map("".join, lines))
    found = within(WHOLE, lambda path: told if path[1] == "p" else files.get(path.rpartition("/")[2]))
    assert 0 < found.cpus <= WHOLE.cpus
    assert 0 < found.memory <= WHOLE.memory
    assert 1 <= found.workers() <= 8
    assert 4 <= found.threads(found.workers()) <= 32


@pytest.mark.parametrize(
    ("machine", "workers", "threads", "told"),
    [
        (Machine(8.0, 16 << 30), 8, 4, "8 CPUs and 16384 MiB of memory"),
        (Machine(8.0, 512 * MIB), 4, 8, "8 CPUs and 512 MiB of memory"),
        (Machine(1.5, 0), 2, 4, "1.5 CPUs"),
        (Machine(1.0, 64 * MIB), 1, 4, "1 CPU and 64 MiB of memory"),
        (Machine(64.0, 256 * MIB), 2, 32, "64 CPUs and 256 MiB of memory"),
    ],
)
def test_what_a_machine_can_have(machine: Machine, workers: int, threads: int, told: str) -> None:
    assert (machine.workers(), machine.threads(workers), str(machine)) == (workers, threads, told)


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = this_machine()
    assert machine.cpus > 0
    assert machine.memory > 0

    def nobody_tells(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", nobody_tells)
    assert this_machine().cpus == machine.cpus
