"""uvicorn in a thread of the test's process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


@contextmanager
def serving_http(app: Any, **options: Any) -> Iterator[int]:
    """Serve an ASGI application over HTTP on a port of 127.0.0.1, which is returned."""
    settings = {"port": 0, "log_config": None, "timeout_graceful_shutdown": 10, "loop": "asyncio", **options}
    server = _Server(uvicorn.Config(app, **settings))

    def run() -> None:
        try:
            server.run()
        finally:
            server.settled.set()

    thread = threading.Thread(target=run, name="uvicorn")
    thread.start()
    try:
        assert server.settled.wait(TIMEOUT)
        assert server.started
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)
        assert not thread.is_alive()
