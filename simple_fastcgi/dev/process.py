"""The application's process as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from typing import TYPE_CHECKING

from .messages import STOP, Report

if TYPE_CHECKING:
    from typing import Self

    from .messages import Orders

# Not -m, which would put the current directory before the standard library; load_app() puts it where it belongs.
# A terminal's Ctrl+C comes to it too, and it has nothing to say about it.
_PROGRAM = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path[:] = {path!r}
from {package}.child import main
main({control})
"""
_LONGEST_REPORT = 1 << 20
_EXTRA_PATIENCE = 1.0
_MOMENT = 0.2


class AppProcess:
    """A running process of the application; made by :meth:`start`, to be ended with :meth:`end`."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._patience = 0.0

    @classmethod
    async def start(cls, orders: Orders) -> Self:
        """Start it with `orders`, whose listening socket it inherits, and standard input, output and error as well."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_REPORT)
            program = _PROGRAM.format(path=sys.path, package=__package__, control=theirs.fileno())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", program), pass_fds=(theirs.fileno(), orders.listening)
            )
        writer.write(orders.encode())
        found = cls(process, reader, writer)
        found._patience = orders.patience + _EXTRA_PATIENCE
        return found

    async def report(self) -> Report:
        """How its start went; it waits until that is known."""
        with contextlib.suppress(OSError, ValueError):
            if (line := await self._reader.readline()).endswith(b"\n"):
                return Report.decode(line)
        return Report("failed", f"the process {await self.wait()} while it started\n")

    async def wait(self) -> str:
        """How it ended; it waits until it has."""
        status = await self._process.wait()
        if status in (0, -signal.SIGINT):
            # It was told to end, and so, probably, is this process just now, by the same Ctrl+C.
            await asyncio.sleep(_MOMENT)
        if status >= 0:
            return f"ended with status {status}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
        return f"was ended by signal {-status}"

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Let it end gracefully, or by force when it takes too long; returns when it is gone."""
        if self._writer.is_closing():
            return
        self._writer.write(STOP)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._process.wait()
        finally:
            self.kill()
            self._writer.close()
        await self._process.wait()
