"""Event loops that run in other threads."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from simple_fastcgi import AsyncFcgiServer


def ask_to_shut_down(server: AsyncFcgiServer) -> None:
    """Call `shutdown` in the server's loop, which may be ending by itself at this very moment."""
    loop = server.get_loop()
    tasks: list[asyncio.Task[None]] = []
    with suppress(RuntimeError):
        # A loop that has stopped takes calls and never makes them: the coroutine is not to exist before its turn.
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(server.shutdown())))
