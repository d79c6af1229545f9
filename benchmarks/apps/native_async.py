"""Handlers on the asynchronous API: python native_async.py NAME [LOOP], the listening socket on descriptor 0.

simple_fastcgi 0.0.8 runs this same file.
"""

from __future__ import annotations

import asyncio
import sys

from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, AsyncHttpResponseMixin

HELLO = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello, World!"


class Hello(AsyncFcgiHandler):
    async def handle(self) -> None:
        await self.write(HELLO)


class Varied(AsyncHttpResponseMixin, AsyncFcgiHandler):
    async def handle(self) -> None:
        environ = self.environ
        text = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']} {environ.get('HTTP_X_REQUEST_ID', '')}"
        await self.send_response(200, "text/plain", text)


async def main() -> None:
    handler: type[AsyncFcgiHandler] = {"hello": Hello, "varied": Varied}[sys.argv[1]]
    async with AsyncFcgiServer(handler) as server:
        await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[2:] == ["uvloop"]:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
