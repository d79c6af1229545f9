"""The scoreboard: what processes count in shared memory, and what others see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.monitor import scoreboard
from simple_fastcgi.monitor.info import RequestInfo, Stage
from simple_fastcgi.monitor.monitor import Monitor
from simple_fastcgi.monitor.scoreboard import (
    ABORTED,
    ACTIVE,
    ARRIVED,
    BORN,
    BOUNDS,
    BYTES_IN,
    BYTES_OUT,
    CONNECTIONS,
    ENDED,
    FAILED,
    LATENCIES,
    MAX_ACTIVE,
    PID,
    QUEUED,
    SLOW,
    STATUSES,
    Scoreboard,
    birth,
    is_alive,
    own_process,
    quantile,
)


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(processes=3, places=2)


def params(number: int) -> dict[str, str]:
    return {"REQUEST_METHOD": "GET", "REQUEST_URI": f"/{number}"}


def test_requests_are_shown_while_they_are_under_way(board: Scoreboard) -> None:
    seat = board.claim(board.allot())
    monitor = Monitor([seat])
    infos = [monitor.arrived(params(number)) for number in range(3)]
    entries = board.entries()
    assert [(entry.method, entry.uri, entry.stage, entry.pid) for entry in entries] == [
        ("GET", "/0", Stage.QUEUED, os.getpid()),
        ("GET", "/1", Stage.QUEUED, os.getpid()),
    ]
    assert (seat.counters[QUEUED], seat.counters[ACTIVE]) == (3, 0)
    monitor.start(infos[0])
    monitor.start(infos[2])
    infos[0].output(b"Status: 404 Not Found\n\n12345")
    infos[2].output(b"\n\n")
    infos[0].bytes_in = 7
    assert [entry.stage for entry in board.entries()] == [Stage.RESPONDING, Stage.QUEUED]
    assert board.entries()[0].thread == threading.get_ident()
    assert board.entries()[0].started == infos[0].started
    infos[2].failed = True
    for info in infos[::2]:
        monitor.end(info, aborted=False)
    monitor.end(infos[1], aborted=True)
    assert board.entries() == []
    sums = board.sums()
    assert (sums[ARRIVED], sums[ENDED], sums[ABORTED], sums[FAILED]) == (3, 3, 1, 1)
    assert (sums[BYTES_IN], sums[BYTES_OUT]) == (7, 5)
    assert sums[STATUSES : STATUSES + 5] == [1, 1, 0, 1, 0]
    assert sum(sums[LATENCIES : LATENCIES + len(BOUNDS) + 1]) == 3
    assert (seat.counters[QUEUED], seat.counters[ACTIVE], seat.counters[MAX_ACTIVE]) == (0, 0, 2)
    # The places are free again.
    later = monitor.arrived({"REQUEST_URI": "/" + "x" * 5000, "REQUEST_METHOD": "Z" * 100})
    assert [(entry.method, entry.uri) for entry in board.entries()] == [("Z" * 16, "/" + "x" * 207)]
    monitor.end(later, aborted=False)


def test_what_others_have_counted(board: Scoreboard) -> None:
    """Sums outlive their process; what it was busy with does not."""
    told, tell = os.pipe()
    wait, release = os.pipe()
    index = board.allot()
    assert index == 0
    assert list(board.seats()) == []
    pid = os.fork()
    if not pid:
        os.close(release)
        seat = board.claim(index)
        monitor = Monitor([seat])
        monitor.start(monitor.arrived(params(1)))
        monitor.end(monitor.arrived(params(2)), aborted=False)
        seat.count(SLOW, 3)
        os.write(tell, b".")
        os.read(wait, 1)
        # At an ordinary end coverage would save all that this process has measured so far.
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.read(told, 1) == b"."
    assert [(entry.uri, entry.pid) for entry in board.entries()] == [("/1", pid)]
    # A fork may fail: who asks once more gets the same.
    assert [board.allot(), board.allot()] == [1, 1]
    for index in (1, 2):
        board.claim(index)
    assert board.allot() == -1
    os.close(release)
    os.waitpid(pid, 0)
    for descriptor in (told, tell, wait):
        os.close(descriptor)
    assert board.entries() == []
    for _ in range(2):
        assert (board.sums()[ARRIVED], board.sums()[ENDED], board.sums()[SLOW]) == (2, 1, 3)
        assert board.allot() in {0, -1}
    assert board.entries() == []


def test_nothing_is_counted_below_nothing(board: Scoreboard) -> None:
    """A child that the application has forked goes on, and ends what its parent has begun, in the same memory."""
    seat = board.claim(board.allot())
    monitor = Monitor([seat])
    held, queued, late = (monitor.arrived(params(number)) for number in range(3))
    monitor.start(held)
    seat.connected()
    # As one process that has begun it and another one would do it.
    for _ in range(2):
        seat.disconnected()
    pid = os.fork()
    if not pid:
        held.bytes_in = -1
        for info in (held, queued, late):
            monitor.end(info, aborted=False)
        # At an ordinary end coverage would save all that this process has measured so far.
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    monitor.start(late)
    for info in (held, queued, late):
        monitor.end(info, aborted=False)
    assert (seat.counters[QUEUED], seat.counters[ACTIVE], seat.counters[CONNECTIONS]) == (0, 0, 0)
    assert board.sums()[ENDED] == 6


def test_the_most_at_once_is_remembered(board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the processes; of several, what was seen at a look."""
    monitors = [Monitor([board.claim(board.allot())]) for _ in range(2)]
    infos = [monitor.arrived(params(1)) for monitor in monitors for _ in range(2)]
    for info, monitor in zip(infos[:3], [monitors[0], monitors[0], monitors[1]], strict=True):
        monitor.start(info)
    assert board.look() == (3, 2)
    for number, info in enumerate(infos):
        monitors[number // 2].end(info, aborted=False)
    monkeypatch.setattr(scoreboard, "is_alive", lambda pid, born: False)
    assert board.allot() == 0
    assert board.look() == (3, 2)


@pytest.mark.skipif(not birth(os.getpid()), reason="this system does not tell when a process began")
def test_the_number_of_one_that_has_ended_is_used_again(board: Scoreboard) -> None:
    """By another program; the worker is gone nevertheless."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        seat = board.claim(board.allot())
        seat.count(SLOW)
        assert len(list(board.seats())) == 1
        seat.counters[PID] = other.pid
        # Born later, also where the clock has not gone on since this process began.
        seat.counters[BORN] = birth(other.pid) - 1
        assert list(board.seats()) == []
        assert board.allot() == 0
        assert (board.sums()[SLOW], seat.counters[SLOW], seat.counters[PID]) == (1, 0, os.getpid())
        other.communicate(b"\n")
    assert birth(other.pid) == 0


def test_who_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_alive(0)
    assert is_alive(os.getpid())
    assert is_alive(os.getpid(), birth(os.getpid()))

    def forbidden(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert is_alive(1)


def test_threads_count_together(board: Scoreboard) -> None:
    seat = board.claim(board.allot())
    monitor = Monitor([seat])

    def serve() -> None:
        for number in range(200):
            info = monitor.arrived(params(number))
            monitor.start(info)
            monitor.end(info, aborted=False)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (board.sums()[ARRIVED], board.sums()[ENDED], seat.counters[ACTIVE], board.entries()) == (800, 800, 0, [])


@given(st.lists(st.floats(0, 120), min_size=1), st.sampled_from((0.5, 0.9, 0.99, 1.0)))
def test_quantiles(seconds: list[float], share: float) -> None:
    """To the next bound, which is at most half as much more again."""
    _, seat = own_process()
    for each in seconds:
        info = RequestInfo({})
        info.started, info.ended = info.arrived, info.arrived + each
        seat.arrived(info)
        seat.started(info)
        seat.ended(info)
    found = quantile(seat.counters[LATENCIES : LATENCIES + len(BOUNDS) + 1].tolist(), share)
    exact = sorted(seconds)[max(0, -int(-len(seconds) * share // 1) - 1)]
    assert found == pytest.approx(BOUNDS[0]) or exact > BOUNDS[-1] or exact * 0.999 <= found <= exact * 1.5


def test_nothing_has_no_quantile() -> None:
    assert quantile([0] * (len(BOUNDS) + 1), 0.5) == 0
    assert scoreboard.PLACES == 128
