"""Visitors in a closed loop: each sends a request, waits for its answer, and sends the next one.

    python load.py ADDRESS PORT VISITORS

Every twentieth request is a POST. Ten times a second, and at its end (SIGTERM), it prints a line of JSON with what it
has counted. A program of its own, as it runs on a host of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections import Counter

REPORT_SECONDS = 0.1
TIMEOUT = 60.0
"""Seconds for one request; longer than any web server waits."""

REASONS = 20
"""So many failures are told one by one."""


class Gone(Exception):
    """The connection was closed without an answer."""


class Visitors:
    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._numbers = itertools.count(1)
        self._hosts: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._reasons: list[str] = []
        self._again = 0
        self._longest = 0.0
        self._under_way: dict[int, float] = {}
        self.leaving = False

    def report(self) -> str:
        """What was counted so far; the longest answer is that since the last report."""
        longest, self._longest = self._longest, 0.0
        return json.dumps(
            {
                "done": self._hosts.total() + self._failed.total(),
                "hosts": self._hosts,
                "failed": self._failed,
                "again": self._again,
                "reasons": self._reasons,
                "longest": longest,
                # Of the monotonic clock, which all processes of a machine share.
                "oldest": min(self._under_way.values(), default=time.monotonic()),
            }
        )

    async def visit(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.leaving:
            number = next(self._numbers)
            method = "POST" if number % 20 == 0 else "GET"
            began = self._under_way[number] = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT):
                    kept = streams is not None
                    while True:
                        if streams is None:
                            streams = await asyncio.open_connection(self._address, self._port)
                        try:
                            host, stays = await self._ask(streams, method, number)
                            break
                        except Gone:
                            streams[1].close()
                            streams = None
                            if not kept or method == "POST":
                                raise
                            # The web server may have closed it before the request came: every client tries again.
                            kept = False
                            self._again += 1
                self._hosts[host] += 1
            except (OSError, EOFError, ValueError, TimeoutError, Gone) as error:
                self._failed[method] += 1
                if len(self._reasons) < REASONS:
                    self._reasons.append(f"{method} {number} after {time.monotonic() - began:.2f} s: {error!r}")
                stays = False
            self._longest = max(self._longest, time.monotonic() - began)
            del self._under_way[number]
            if streams is not None and not stays:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _ask(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], method: str, number: int
    ) -> tuple[str, bool]:
        """One request: which host has answered, and whether the connection stays open."""
        reader, writer = streams
        body = b"x" * 100 if method == "POST" else b""
        head = f"{method} /page?{number} HTTP/1.1\r\nHost: {self._address}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            status = await reader.readline()
        except OSError:
            raise Gone("closed without an answer") from None
        if not status:
            raise Gone("closed without an answer")
        fields = {}
        while (line := await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        if not line:
            raise EOFError("the head is cut")
        if b" 200 " not in status:
            raise ValueError(status.decode().strip())
        if fields.get("transfer-encoding") == "chunked":
            answer = b""
            while size := int(await reader.readline(), 16):
                answer += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            answer = await reader.readexactly(int(fields["content-length"]))
        if answer != f"{method} {number}\n".encode():
            raise ValueError(f"the answer to another request: {answer!r}")
        return fields["x-host"], fields.get("connection") != "close"


async def main(address: str, port: str, count: str) -> None:
    visitors = Visitors(address, int(port))

    def leave() -> None:
        visitors.leaving = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
    tasks = [asyncio.create_task(visitors.visit()) for _ in range(int(count))]
    pending = set(tasks)
    while pending:
        _, pending = await asyncio.wait(pending, timeout=REPORT_SECONDS)
        print(visitors.report(), flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
