"""A canned answer on uvloop: python limit_uvloop.py SOCKET. See limit_epoll.py."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from canned import ANSWER, FLAGS, KEEP_CONN, is_complete


class Canned(asyncio.Protocol):
    transport: asyncio.Transport
    begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self.begun:
            data = self.begun + data
            self.begun = b""
        if not is_complete(data):
            self.begun = data
            return
        self.transport.write(ANSWER)
        if not data[FLAGS] & KEEP_CONN:
            self.transport.close()


async def main(path: str) -> None:
    server = await asyncio.get_running_loop().create_unix_server(Canned, path, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
