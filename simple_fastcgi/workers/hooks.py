"""Gunicorn's access log, statsd and request hooks, told of requests that never were HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ..monitor.info import Observer

if TYPE_CHECKING:
    from typing import Any

    from gunicorn.workers.base import Worker

    from ..monitor.info import RequestInfo


class HttpRequest:
    """What hooks and log formats ask of gunicorn's own requests."""

    def __init__(self, info: RequestInfo) -> None:
        params = info.params
        self.method = info.method
        self.uri = info.uri
        self.path, _, self.query = info.uri.partition("?")
        self.remote_addr = params.get("REMOTE_ADDR", "")
        self.headers = [
            (name[5:].replace("_", "-"), value) for name, value in params.items() if name.startswith("HTTP_")
        ]


class HttpResponse:
    """The same of a response; what its head said besides the status is not known."""

    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, info: RequestInfo) -> None:
        # As nginx logs a client that left before there was an answer.
        code = info.status or (499 if info.aborted else 200)
        self.status = str(code)
        self.status_code = code
        self.sent = max(info.bytes_out, 0)


class GunicornHooks(Observer):
    """An observer that calls what `worker`'s configuration has of them; `wanted` tells whether it has any."""

    def __init__(self, worker: Worker) -> None:
        cfg = worker.cfg
        self._worker = worker
        self._pre_request = _set_by_user(cfg, "pre_request")
        self._post_request = _set_by_user(cfg, "post_request")
        self._logs = bool(getattr(worker.log, "access_log_enabled", cfg.accesslog) or cfg.statsd_host)
        self.wanted = bool(self._logs or self._pre_request or self._post_request)

    def started(self, info: RequestInfo) -> None:
        """Call ``pre_request``."""
        if self._pre_request is not None:
            try:
                self._pre_request(self._worker, HttpRequest(info))
            except Exception:
                self._worker.log.exception("error in the hook pre_request")

    def ended(self, info: RequestInfo) -> None:
        """Write a line of the access log, and call ``post_request``."""
        request, response = HttpRequest(info), HttpResponse(info)
        environ: dict[str, Any] = {
            "SERVER_PROTOCOL": "-",
            "PATH_INFO": request.path,
            **info.params,
            "REQUEST_METHOD": info.method,
            "RAW_URI": info.uri,
        }
        try:
            if self._logs:
                self._worker.log.access(response, request, environ, timedelta(seconds=info.seconds))
            if self._post_request is not None:
                self._post_request(self._worker, request, environ, response)
        except Exception:
            self._worker.log.exception("error in the access log or in the hook post_request")


def _set_by_user(cfg: Any, name: str) -> Any:
    """A hook that is not gunicorn's own, which does nothing."""
    hook = getattr(cfg, name)
    return None if hook is cfg.settings[name].default else hook
