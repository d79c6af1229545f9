"""The ASGI lifespan protocol: start-up before the first request, shutdown behind the last."""

from __future__ import annotations

import asyncio

from ..cgi.asgi_plan import ASGI
from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Literal

    Mode = Literal["auto", "on", "off"]


class LifespanError(RuntimeError):
    """The application's start-up, or its shutdown, failed; the message is the application's own."""


class Lifespan:
    """An async context manager around the time in which `app` serves.

    `mode`: "auto" goes on without where the application raises at the lifespan scope (most that do so do not know it);
    "on" takes that for a failure; "off" does not ask. Raises LifespanError when the start-up fails.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], mode: Mode = "auto") -> None:
        self._app = app
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None
        self.state: dict[str, Any] | None = None
        """What the application put into ``scope["state"]``; None if it has no lifespan."""
        self.error: BaseException | None = None
        """Behind the end: what the application raised, or a LifespanError if it told that its shutdown failed."""

    async def __aenter__(self) -> None:
        if self._mode == "off":
            return
        state: dict[str, Any] = {}
        self._task = asyncio.create_task(self._run(state), name="lifespan")
        await self._to_app.put({"type": "lifespan.startup"})
        await self._first(self._started)
        if self._failure is not None:
            await self._end()
            raise LifespanError(f"the application failed to start: {self._failure or 'it gives no reason'}")
        if self._started.is_set():
            self.state = state
            return
        # It ended without a word.
        error = await self._end()
        if self._mode == "on":
            why = "it returned at once" if error is None else repr(error)
            raise LifespanError(f"the application does not support lifespan: {why}") from error
        if error is not None and self._to_app.empty():
            # It does know lifespan, for it has read what we said.
            logger().warning("the application's start-up failed, going on without (lifespan=auto)", exc_info=error)
        else:
            logger().debug("no lifespan: %r", error)

    async def __aexit__(self, *_: object) -> None:
        if self._task is None or self.state is None:
            return
        await self._to_app.put({"type": "lifespan.shutdown"})
        await self._first(self._stopped)
        error = await self._end()
        if error is not None:
            logger().error("the application's lifespan failed", exc_info=error)
        elif self._failure is not None:
            error = LifespanError(f"the application failed to shut down: {self._failure or 'it gives no reason'}")
            logger().error("%s", error)
        self.error = error

    async def _first(self, event: asyncio.Event) -> None:
        """Wait for `event` or the application's end."""
        assert self._task is not None
        waiter = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            waiter.cancel()

    async def _end(self) -> BaseException | None:
        """End the application's task; the exception that it ended with."""
        assert self._task is not None
        task, self._task = self._task, None
        if self._stopped.is_set() and not task.done():
            # It may have something to do behind its last word.
            await asyncio.wait({task}, timeout=_LAST_WORDS_SECONDS)
        has_ended = task.done()
        task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            # By itself, or by us.
            return asyncio.CancelledError("it cancelled itself") if has_ended else None
        return task.exception()

    async def _run(self, state: dict[str, Any]) -> None:
        try:
            await self._app({"type": "lifespan", "asgi": {**ASGI}, "state": state}, self._to_app.get, self._send)
        except (SystemExit, KeyboardInterrupt) as error:
            # They would end the event loop in the middle of everything.
            self._failure = repr(error)
            raise LifespanError(f"the application called for its end: {error!r}") from error

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._stopped.set()
        elif kind == "lifespan.startup.failed":
            self._failure = str(message.get("message", ""))
            self._started.set()
        elif kind == "lifespan.shutdown.failed":
            self._failure = str(message.get("message", ""))
            self._stopped.set()
        else:
            raise RuntimeError(f"{kind!r} is no message of the lifespan protocol")


_LAST_WORDS_SECONDS = 5.0
