"""The signals by which a worker is told what to do: an application that is loaded may set handlers of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_NEEDED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2)
# What is under way is not to be interrupted by them.
_QUIET = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


class Handlers:
    """Those of a worker that has just set them."""

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in _NEEDED}

    def restore(self) -> list[str]:
        """Have them in place again; the names of signals for which others were."""
        replaced = [number for number, handler in self._handlers.items() if signal.getsignal(number) is not handler]
        for number in replaced:
            signal.signal(number, self._handlers[number])
            if number in _QUIET:
                signal.siginterrupt(number, False)
        return [number.name for number in replaced]
