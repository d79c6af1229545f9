"""Keeps an application running: starts it, starts it anew when its code has changed, and says what became of it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, TypeVar

from .process import AppProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .front import Front
    from .messages import Orders, Report
    from .terminal import Terminal
    from .watch import Watcher

    T = TypeVar("T")


_MOMENT = 0.2


class Supervisor:
    """One process of the application after the other; requests wait in `front` while there is none.

    `greet` is called with the report of the first one that serves. Without a `watcher` the first failure ends it.
    """

    def __init__(
        self,
        orders: Orders,
        front: Front,
        terminal: Terminal,
        watcher: Watcher | None,
        greet: Callable[[Report], object],
        *,
        graceful_timeout: float,
    ) -> None:
        self._orders = orders
        self._front = front
        self._terminal = terminal
        self._watcher = watcher
        self._greet = greet
        self._graceful_timeout = graceful_timeout
        self._process: AppProcess | None = None
        self._failed = False
        self._served = False

    def kill(self) -> None:
        """End the application's process at once."""
        if self._process is not None:
            self._process.kill()

    async def run(self) -> str:
        """Run until it cannot go on: "failed" or "refused", which has been said by then."""
        while True:
            began = time.monotonic()
            self._process = await AppProcess.start(self._orders)
            try:
                verdict = await self._follow(self._process, began)
            finally:
                await self._process.end()
            if verdict:
                return verdict

    async def _follow(self, process: AppProcess, began: float) -> str:
        """Watch one process until another one is due; the final verdict if there will be none."""
        report = await self._unless_changed(process.report())
        if report is None:
            self._tell_of_change()
            return ""
        if report.kind != "serving":
            return self._fail(report) or await self._replace(process)
        self._front.serve()
        if not self._served:
            self._served = True
            self._greet(report)
        else:
            self._terminal.say(f"{report.text} is back after {time.monotonic() - began:.1f} s", "green")
        how = await self._unless_changed(process.wait())
        if how is not None:
            verdict = self._fail_later(how)
            # Those that the process had have heard of its end; what is left waits in the listen queue, for nobody.
            await self._front.quiet(_MOMENT)
            self._front.cut()
            return verdict or await self._replace(process)
        self._tell_of_change()
        self._front.hold()
        await self._front.quiet(self._graceful_timeout)
        self._front.cut()
        return ""

    async def _replace(self, process: AppProcess) -> str:
        """Have it gone, and wait for a change."""
        assert self._watcher is not None
        await process.end()
        await self._watcher.changed.wait()
        self._tell_of_change()
        self._front.hold()
        return ""

    def _fail(self, report: Report) -> str:
        app, text = self._orders.app, report.text.rstrip()
        if report.kind == "refused" and (self._watcher is None or not (self._served or self._failed)):
            # Nothing that a change of the code would mend: the command line is wrong.
            self._terminal.say(f"simple-fastcgi: {text}")
            return "refused"
        self._failed = True
        self._terminal.say(text)
        self._front.fail(f"{app} failed to start", text)
        if self._watcher is None:
            self._terminal.say(f"{app} failed to start", "red")
            return "failed"
        self._terminal.say(f"{app} failed to start: waiting for its code to change", "red")
        return ""

    def _fail_later(self, how: str) -> str:
        what = f"the process of {self._orders.app} {how}"
        self._front.fail(f"{self._orders.app} has ended", f"{what}; the terminal may tell more.")
        if self._watcher is None:
            self._terminal.say(what, "red")
            return "failed"
        self._terminal.say(f"{what}: waiting for its code to change", "red")
        return ""

    def _tell_of_change(self) -> None:
        assert self._watcher is not None
        # What changes from now on may come too late for the process that is started next.
        names = [os.path.relpath(path) for path in self._watcher.take()]
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self._terminal.say(f"{names[0]}{others} changed: starting anew", "cyan")

    async def _unless_changed(self, awaited: Awaitable[T]) -> T | None:
        """The result, or None as soon as some code has changed."""
        task = asyncio.ensure_future(awaited)
        waiting = [task] if self._watcher is None else [task, asyncio.ensure_future(self._watcher.changed.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in waiting:
                each.cancel()
