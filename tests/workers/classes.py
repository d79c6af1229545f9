"""A worker class as users write it, for settings that gunicorn does not have."""

from __future__ import annotations

from simple_fastcgi.workers import WsgiWorker


class Mounted(WsgiWorker):
    root_path = "/mounted"
    limits = {"max_connections": 7}
