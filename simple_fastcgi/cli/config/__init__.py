"""``simple-fastcgi config SERVER``: a configuration that is ready to be used, for the web server that somebody has."""

from __future__ import annotations

from .command import add_command

__all__ = ["add_command"]
