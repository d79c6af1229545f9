"""A server that has as many connections as it may: told in the log, with the setting to change."""

from __future__ import annotations

from time import monotonic

from ..log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 60.0


class Saturation:
    """Of one server. `begun` is called each time that it comes about."""

    def __init__(self) -> None:
        self.begun: Callable[[], object] | None = None
        self._next_line = 0.0

    def reached(self, most: int) -> None:
        """All `most` connections (``max_connections``) are there: further ones wait in the listen queue."""
        if self.begun is not None:
            self.begun()
        now = monotonic()
        if now >= self._next_line:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            logger().warning(
                "%d connections are open (max_connections), further ones wait in the listen queue: raise "
                "--max-connections or --workers, or let the web server keep fewer",
                most,
            )
