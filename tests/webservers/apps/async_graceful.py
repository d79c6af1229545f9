"""The same as graceful.py, asynchronous."""

from __future__ import annotations

import asyncio
import signal
import sys

from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, AsyncHttpResponseMixin


class Slow(AsyncHttpResponseMixin, AsyncFcgiHandler):
    async def handle(self) -> None:
        print("began", file=sys.stderr, flush=True)
        await asyncio.sleep(1)
        await self.send_response(200, data="done")


async def main() -> None:
    async with AsyncFcgiServer(Slow) as server:
        stop = asyncio.Event()
        server.get_loop().add_signal_handler(signal.SIGTERM, stop.set)
        serving = asyncio.create_task(server.serve_forever())
        await stop.wait()
        await server.shutdown()
        await serving


if __name__ == "__main__":
    asyncio.run(main())
