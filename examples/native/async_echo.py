"""Answers every request with its own parameters, as JSON; the asynchronous form of echo.py.

Run it behind a web server that connects to the socket (nginx.conf, README.md):

    spawn-fcgi -n -s run/app.sock -M 600 -- /usr/bin/env python3 async_echo.py
"""

import asyncio

from simple_fastcgi import *


class Echo(AsyncHttpResponseMixin, AsyncFcgiHandler):
    async def handle(self):
        await self.send_response(200, "application/json", self.environ)


async def main():
    async with AsyncFcgiServer(Echo) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
