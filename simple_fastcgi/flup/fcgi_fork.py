"""For ``flup.server.fcgi_fork``: one request after the other, in this process alone."""

from __future__ import annotations

from ..log import logger
from . import fcgi_single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["WSGIServer"]


class WSGIServer(fcgi_single.WSGIServer):
    """As :class:`simple_fastcgi.flup.WSGIServer`, but without threads, as flup's, and without child processes.

    A web server that spawns, as mod_fcgid does, starts as many processes as it needs; elsewhere the command
    ``simple-fastcgi serve MODULE:ATTR --workers N`` has several.
    """

    _is_one_of_many = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self._bind is not None:
            logger().warning(
                "flup.server.fcgi_fork's child processes are not made: one request is served at a time; "
                "simple-fastcgi serve MODULE:ATTR --workers N has several processes"
            )
