"""Event loops that run in other threads."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simple_fastcgi import AsyncFcgiServer


def ask_to_shut_down(server: AsyncFcgiServer) -> None:
    """Call `shutdown` in the server's loop, which may be ending by itself at this very moment."""

    def ask() -> None:
        # Its first step asks, the others wait. A task might be made too late to be run by a loop that closes.
        shutdown = server.shutdown()
        with suppress(StopIteration):
            shutdown.send(None)
        shutdown.close()

    with suppress(RuntimeError):
        # A loop that has stopped takes calls and never makes them: the coroutine is not to exist before its turn.
        server.get_loop().call_soon_threadsafe(ask)
