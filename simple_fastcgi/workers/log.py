"""Gunicorn's log as part of ours."""

from __future__ import annotations

from logging import NOTSET
from typing import TYPE_CHECKING

from gunicorn.glogging import Logger

from ..log import logger

if TYPE_CHECKING:
    from typing import Any

    from .failures import Failures


class Log(Logger):
    """Gunicorn's words among our own lines; what it tells of its every step is for debugging."""

    failures: Failures | None = None

    def setup(self, cfg: Any) -> None:
        """At the start, and again when reloading."""
        super().setup(cfg)
        self.error_log = logger().getChild("workers")
        self.error_log.setLevel(NOTSET)

    def info(self, msg: object, *args: object, **more: Any) -> None:
        """A step."""
        self.debug(msg, *args, **more)

    def error(self, msg: object, *args: object, **more: Any) -> None:
        """A failure; a step, if a worker has told what is behind it."""
        if self.failures is not None and self.failures.told():
            self.debug(msg, *args, **more)
        else:
            super().error(msg, *args, **more)
