"""A server that has as much to do as it may: told in the log, with figures and the setting to change."""

from __future__ import annotations

from time import monotonic

from ..log import about, logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 60.0


class Saturation:
    """Of one server. `begun` is called each time that it has as many connections as it may."""

    def __init__(self) -> None:
        self.begun: Callable[[], object] | None = None
        self._next_line = 0.0

    def reached(self, most: int) -> None:
        """All `most` connections (``max_connections``) are there: further ones wait in the listen queue."""
        if self.begun is not None:
            self.begun()
        self._tell(
            "%d connections are open (max_connections), further ones wait in the listen queue: raise "
            "--max-connections or --workers, or let the web server keep fewer",
            most,
            fields={"connections": most},
        )

    def waited(self, busy: int, waiting: int, seconds: float) -> None:
        """All `busy` threads are so; of the requests that wait for one the first has done so for `seconds`."""
        self._tell(
            "%d requests are being served, and %d wait for a thread, the first for more than %.1f s: "
            "raise --threads or --workers",
            *(busy, waiting, seconds),
            fields={"serving": busy, "waiting": waiting, "longest_wait": round(seconds, 3)},
        )

    def _tell(self, message: str, *figures: float, fields: dict[str, object]) -> None:
        now = monotonic()
        if now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            logger().warning(message, *figures, extra=about("saturated", fields))
