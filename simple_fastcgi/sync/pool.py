"""A bounded number of threads which take tasks in the order in which they came."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic

from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Task = Callable[[], None]


class ThreadPool:
    """At most `size` threads, each started when there is work and no thread is idle.

    Where the system allows no further thread the pool works with those it has; :meth:`submit` raises RuntimeError
    only if it has none at all. Threads submit one after the other, as those that run a loop in turn do: of several at
    once each may start a thread, and `size` may be exceeded.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.under_way = 0
        """Tasks that were submitted and have not ended."""
        self.submitted = 0
        """Tasks that were submitted, in all."""

    @property
    def has_room(self) -> bool:
        """Whether a thread would take a task at once."""
        return self.under_way < self.size

    @property
    def waiting(self) -> int:
        """Tasks that no thread has begun."""
        return self._tasks.qsize()

    def submit(self, task: Task) -> bool:
        """Run `task` in one of the threads, as soon as one is free; whether one is free now."""
        is_free = self.under_way < len(self._threads) or self._start_thread()
        with self._lock:
            self.under_way += 1
        self.submitted += 1
        self._tasks.put(task)
        return is_free

    def _start_thread(self) -> bool:
        if len(self._threads) >= self.size:
            return False
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The host's limit of threads.
            if not self._threads:
                raise
            return False
        self._threads.append(thread)
        return True

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException:
                # A thread that dies would shrink the pool without a word.
                logger().exception("error in %s", threading.current_thread().name)
            # What the task holds must not live until the next one comes.
            del task
            with self._lock:
                self.under_way -= 1

    def __contains__(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def close(self, timeout: float) -> bool:
        """Let the threads end after their tasks; whether all have within `timeout` seconds."""
        for _ in self._threads:
            self._tasks.put(None)
        deadline = monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        alive = any(thread.is_alive() for thread in self._threads)
        self._threads.clear()
        return not alive
