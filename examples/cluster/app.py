"""What each host runs: a WSGI application that takes its time and tells where it runs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

HOST = os.environ.get("CLUSTER_HOST", "?")
SECONDS = float(os.environ.get("CLUSTER_SECONDS", "0.005"))


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(SECONDS)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Host", HOST)])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["QUERY_STRING"].encode(), b"\n"]
