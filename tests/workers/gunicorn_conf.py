"""gunicorn's configuration with all server hooks but that for TLS: each notes that it was called, and with what."""

from __future__ import annotations

import os
from typing import Any

_notes = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

accesslog = "-"
access_log_format = '%(h)s %(m)s %(U)s?%(q)s "%(r)s" %(s)s %(B)s %({host}i)s %(p)s %(D)s'
logconfig_dict = {
    "formatters": {"ours": {"format": "ours: %(name)s %(message)s"}},
    "handlers": {"ours": {"class": "logging.StreamHandler", "formatter": "ours", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["ours"], "level": "INFO"},
    "loggers": {
        name: {"handlers": ["ours"], "level": "INFO", "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access")
    },
}


def note(*facts: object) -> None:
    os.write(_notes, (" ".join(map(str, facts)) + "\n").encode())


def on_starting(server: Any) -> None:
    note("on_starting")


def on_reload(server: Any) -> None:
    note("on_reload")


def when_ready(server: Any) -> None:
    note("when_ready")


def pre_fork(server: Any, worker: Any) -> None:
    note("pre_fork", worker.age)


def post_fork(server: Any, worker: Any) -> None:
    note("post_fork", worker.age)


def post_worker_init(worker: Any) -> None:
    note("post_worker_init", worker.age)


def worker_int(worker: Any) -> None:
    note("worker_int")


def worker_abort(worker: Any) -> None:
    note("worker_abort")


def pre_request(worker: Any, req: Any) -> None:
    note("pre_request", worker.pid, req.method, req.path, req.query)


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    note("post_request", worker.pid, req.uri, environ["REQUEST_METHOD"], resp.status_code, resp.sent)


def child_exit(server: Any, worker: Any) -> None:
    note("child_exit")


def worker_exit(server: Any, worker: Any) -> None:
    note("worker_exit")


def nworkers_changed(server: Any, new_value: int, old_value: int | None) -> None:
    note("nworkers_changed", old_value, new_value)


def pre_exec(server: Any) -> None:
    note("pre_exec", server.pid, os.getppid())


def on_exit(server: Any) -> None:
    note("on_exit")
