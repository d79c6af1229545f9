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
    only if it has none at all.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def submit(self, task: Task) -> None:
        """Run `task` in one of the threads, as soon as one is free."""
        if not self._idle.acquire(blocking=False) and len(self._threads) < self.size:
            thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The host's limit of threads.
                if not self._threads:
                    raise
            else:
                self._threads.append(thread)
        self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException:
                # A thread that dies would shrink the pool without a word.
                logger().exception("error in %s", threading.current_thread().name)
            # What the task holds must not live until the next one comes.
            del task
            self._idle.release()

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
