"""Counts and requests under way of all worker processes, in memory that they share."""

from __future__ import annotations

import mmap
import os
import threading
from bisect import bisect_left
from struct import Struct
from time import monotonic, time

from .info import RequestInfo, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = 128
"""How many requests under way of one process are shown, unless told otherwise; all are counted."""

# The counters of a process; the first ones are sums that its successor goes on with.
ARRIVED, ENDED, ABORTED, FAILED, REJECTED, SLOW, SATURATED, BYTES_IN, BYTES_OUT, ACCEPTED = range(10)
MICROSECONDS, QUEUE_MICROSECONDS = 10, 11
STATUSES = 12
"""Five of them, by the first digit of the status; those without any are the first."""
LATENCIES = 17
BOUNDS = tuple(0.0005 * 2 ** (step / 2) for step in range(36))
"""Upper bounds of the latencies that are counted together, in seconds, from half a millisecond to over a minute."""
_SUMS = LATENCIES + len(BOUNDS) + 1
# What is true of this process alone.
PID, STARTED, CONNECTIONS, ACTIVE, MAX_ACTIVE, QUEUED, MAX_PROCESSES, BORN, HAS_LOOP = range(_SUMS, _SUMS + 9)
_COUNTERS = _SUMS + 9

# Of each request under way: stage, when it arrived and began, thread, method and the beginning of the URI.
_PLACE = Struct("=B7xddQ16s208s")
# The beginning of that, which changes.
_STARTED = Struct("=B7xddQ")

# The field of /proc/PID/stat, counted from the state on.
_BIRTH = 19


class Entry:
    """One request under way, as another process sees it. Times are of ``time.monotonic()``."""

    __slots__ = ("arrived", "method", "pid", "stage", "started", "thread", "uri")

    def __init__(
        self, pid: int, stage: Stage, arrived: float, started: float, thread: int, method: str, uri: str
    ) -> None:
        self.pid = pid
        self.stage = stage
        self.arrived = arrived
        self.started = started
        self.thread = thread
        self.method = method
        self.uri = uri


class Scoreboard:
    """Room for `processes` at once, made before the first of them is forked.

    The one behind all others keeps the sums of those that have ended.
    """

    def __init__(self, processes: int = 1, places: int = PLACES) -> None:
        self.processes = processes
        self.places = places
        self._size = _COUNTERS * 8 + places * _PLACE.size
        self.memory = mmap.mmap(-1, (processes + 1) * self._size)
        self.started = time()
        """Seconds since 1970."""

    def seat(self, index: int) -> Seat:
        """The part of process `index`."""
        return Seat(self.memory, index * self._size, self.places)

    def allot(self) -> int:
        """The number of a part for a process that is about to be forked, -1 if there is none; for its parent.

        Of processes that have ended the sums are kept, and what they were busy with is forgotten.
        """
        found = -1
        self.look()
        for index in reversed(range(self.processes)):
            seat = self.seat(index)
            # One of this process that is not claimed is that of a child which could not be forked.
            is_left = seat.counters[PID] == os.getpid() and not seat.counters[STARTED]
            if is_left or not seat.is_taken():
                seat.move_to(self.seat(self.processes))
                found = index
        if found >= 0:
            # Until the child says that it is there.
            self.seat(found).take(os.getpid())
        return found

    def look(self) -> tuple[int, int]:
        """The most requests, and the most processes with one, that there were at once.

        Of one process that is exact; of several, as PHP-FPM knows it: at the moments at which somebody looked, which
        each server does once a second.
        """
        kept = self.seat(self.processes).counters
        rows = [seat.counters for seat in self.seats()]
        requests = max((row[MAX_ACTIVE] for row in rows), default=0)
        kept[MAX_ACTIVE] = max(kept[MAX_ACTIVE], requests, sum(row[ACTIVE] for row in rows))
        # Nobody may have looked while the one that had a request had it.
        kept[MAX_PROCESSES] = max(kept[MAX_PROCESSES], requests > 0, sum(1 for row in rows if row[ACTIVE]))
        return kept[MAX_ACTIVE], kept[MAX_PROCESSES]

    def take(self, index: int, pid: int) -> None:
        """The part that was allotted belongs to the process `pid` from now on, though it counts nothing yet."""
        self.seat(index).take(pid)

    def claim(self, index: int) -> Seat:
        """The part that was allotted to this process."""
        seat = self.seat(index)
        seat.take(os.getpid())
        seat.counters[STARTED] = int(monotonic() * 1e6)
        return seat

    def seats(self) -> Iterator[Seat]:
        """Those of the processes that run."""
        for index in range(self.processes):
            seat = self.seat(index)
            if seat.counters[STARTED] and seat.is_taken():
                yield seat

    def sums(self) -> list[int]:
        """The counters of all processes together, those that have ended included."""
        rows = [self.seat(index).counters[:_SUMS].tolist() for index in range(self.processes + 1)]
        return [sum(column) for column in zip(*rows, strict=True)]

    def entries(self) -> list[Entry]:
        """The requests under way, the oldest first."""
        found = [entry for seat in self.seats() for entry in seat.entries()]
        found.sort(key=lambda entry: entry.arrived)
        return found


class Seat:
    """The part of one process. It is an observer; a lock keeps the threads of its own process apart.

    Where an application forks, and its child goes on, two processes count what only one of them has begun: the figures
    are wrong then, but nothing is counted below 0, which would be an error.
    """

    def __init__(self, memory: mmap.mmap, offset: int, places: int) -> None:
        view = memoryview(memory)
        self._memory = memory
        self._table = offset + _COUNTERS * 8
        self.counters = view[offset : self._table].cast("Q")
        self._places = places
        self._free = list(range(places - 1, -1, -1))
        self._lock = threading.Lock()

    def take(self, pid: int) -> None:
        """It belongs to the process `pid` from now on."""
        # With the time of another process it would look free meanwhile, and the parent may just look.
        self.counters[BORN] = 0
        self.counters[PID] = pid
        self.counters[BORN] = birth(pid)

    def is_taken(self) -> bool:
        """Whether its process runs."""
        return is_alive(self.counters[PID], self.counters[BORN])

    # As an observer

    def arrived(self, info: RequestInfo) -> None:
        """Count it, and show it if there is a place."""
        counters = self.counters
        with self._lock:
            counters[ARRIVED] += 1
            counters[QUEUED] += 1
            if self._free:
                info.place = self._free.pop()
        if info.place >= 0:
            method, uri = info.method.encode("latin-1"), info.uri.encode("latin-1")
            _PLACE.pack_into(self._memory, self._at(info), info.stage, info.arrived, 0.0, 0, method, uri)

    def started(self, info: RequestInfo) -> None:
        """It is served from now on."""
        counters = self.counters
        with self._lock:
            if counters[QUEUED]:
                counters[QUEUED] -= 1
            counters[ACTIVE] = active = counters[ACTIVE] + 1
            counters[MAX_ACTIVE] = max(counters[MAX_ACTIVE], active)
        if info.place >= 0:
            _STARTED.pack_into(self._memory, self._at(info), info.stage, info.arrived, info.started, info.thread)

    def responding(self, info: RequestInfo) -> None:
        """Its response has begun."""
        if info.place >= 0:
            self._memory[self._at(info)] = info.stage

    def ended(self, info: RequestInfo) -> None:
        """Count what became of it."""
        counters = self.counters
        seconds = info.ended - info.arrived
        with self._lock:
            counters[ENDED] += 1
            held = ACTIVE if info.started else QUEUED
            if counters[held]:
                counters[held] -= 1
            if info.aborted:
                counters[ABORTED] += 1
            if info.failed:
                counters[FAILED] += 1
            if info.bytes_in > 0:
                counters[BYTES_IN] += info.bytes_in
            if info.bytes_out > 0:
                counters[BYTES_OUT] += info.bytes_out
            counters[MICROSECONDS] += int(seconds * 1e6)
            counters[QUEUE_MICROSECONDS] += int(((info.started or info.ended) - info.arrived) * 1e6)
            counters[STATUSES + (info.status // 100 - 1 if 200 <= info.status < 600 else 0)] += 1
            counters[LATENCIES + bisect_left(BOUNDS, seconds)] += 1
            if info.place >= 0:
                self._memory[self._at(info)] = 0
                self._free.append(info.place)

    def connected(self) -> None:
        """A connection was accepted."""
        with self._lock:
            self.counters[ACCEPTED] += 1
            self.counters[CONNECTIONS] += 1

    def disconnected(self) -> None:
        """A connection was closed."""
        with self._lock:
            if self.counters[CONNECTIONS]:
                self.counters[CONNECTIONS] -= 1

    def count(self, counter: int, by: int = 1) -> None:
        """Add to one of the counters."""
        with self._lock:
            self.counters[counter] += by

    # As another process sees it

    def entries(self) -> Iterator[Entry]:
        """The requests under way that have a place."""
        pid = self.counters[PID]
        for place in range(self._places):
            at = self._table + place * _PLACE.size
            stage, arrived, started, thread, method, uri = _PLACE.unpack_from(self._memory, at)
            # The stage once more: one that ended meanwhile may be another one by now.
            if stage and self._memory[at]:
                texts = (text.rstrip(b"\0").decode("latin-1") for text in (method, uri))
                yield Entry(pid, Stage(stage), arrived, started, thread, *texts)

    def move_to(self, kept: Seat) -> None:
        """Add the sums to those of `kept`, and begin anew."""
        for counter in range(_SUMS):
            kept.counters[counter] += self.counters[counter]
        start = self._table - _COUNTERS * 8
        stop = self._table + self._places * _PLACE.size
        self._memory[start:stop] = bytes(stop - start)

    def _at(self, info: RequestInfo) -> int:
        return self._table + info.place * _PLACE.size


def quantile(latencies: list[int], share: float) -> float:
    """The seconds within which `share` of the requests were answered, to the next of `BOUNDS`; 0 if there were none."""
    wanted = sum(latencies) * share
    seen = 0
    for bound, count in zip((*BOUNDS, BOUNDS[-1]), latencies, strict=True):
        seen += count
        if count and seen >= wanted:
            return bound
    return 0.0


def is_alive(pid: int, born: int = 0) -> bool:
    """Whether there is such a process, and is the one that was `born` then: its number may be another's by now."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not born or birth(pid) in (0, born)


def birth(pid: int) -> int:
    """When the process `pid` began, in ticks of the kernel's clock; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Behind the name, which may hold anything.
            return int(file.read().rpartition(b")")[2].split()[_BIRTH])
    except OSError:
        return 0


def own_process() -> tuple[Scoreboard, Seat]:
    """A board that has room for no other process, and the part of this one."""
    board = Scoreboard()
    return board, board.claim(board.allot())
