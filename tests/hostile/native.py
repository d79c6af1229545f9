"""Native handlers that flood FCGI_STDERR: ``native.py SHELL FD`` serves the listening socket FD."""

from __future__ import annotations

import asyncio
import sys

from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, FcgiHandler, FcgiServer, FcgiThreadingServer
from simple_fastcgi.limits import Limits
from simple_fastcgi.serving.loops import loop_factory

ERRORS = b"something is wrong\n" * 500
HELLO = b"Status: 200 OK\r\n\r\nhello"
# As those of the others.
LIMITS = Limits(write_timeout=3600, idle_timeout=3600)


class Errors(FcgiHandler):
    def handle(self) -> None:
        for _ in range(int(self.environ["QUERY_STRING"] or 0) // len(ERRORS)):
            self.write_err(ERRORS)
        self.write(HELLO)


class AsyncErrors(AsyncFcgiHandler):
    async def handle(self) -> None:
        for _ in range(int(self.environ["QUERY_STRING"] or 0) // len(ERRORS)):
            await self.write_err(ERRORS)
        await self.write(HELLO)


async def serve_async(number: int) -> None:
    async with AsyncFcgiServer(AsyncErrors, number, limits=LIMITS) as server:
        await server.serve_forever()


def main(shell: str, number: int) -> None:
    if shell in {"asyncio", "uvloop"}:
        with asyncio.Runner(loop_factory=loop_factory(shell)) as runner:
            runner.run(serve_async(number))
    else:
        with (FcgiServer if shell == "sync" else FcgiThreadingServer)(Errors, number, limits=LIMITS) as server:
            server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
