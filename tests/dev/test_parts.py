"""Parts of the development server on bad days, which its whole meets too rarely."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.dev.front import Front
from simple_fastcgi.dev.messages import Orders
from simple_fastcgi.dev.process import AppProcess
from simple_fastcgi.dev.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    Message = MutableMapping[str, Any]

pytestmark = pytest.mark.once


async def ask(front: Front, path: str) -> list[Message]:
    """What is answered to a browser that stays."""
    said: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await front(scope, receive, send)
    return said


def test_a_restart_cuts_what_is_under_way_and_not_what_waits() -> None:
    async def main() -> None:
        begun, never = asyncio.Event(), asyncio.Event()

        async def proxy(scope: Message, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                begun.set()
                await never.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        front = Front(proxy, Terminal(), root_path="", private=True, reloads=True)
        front.serve()
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(ask(front, "/slow"))
            await begun.wait()
            front.hold()
            waiting = tasks.create_task(ask(front, "/waiting"))
            while len(front._tasks) < 2:
                await asyncio.sleep(0)
            front.cut()
            assert (await slow)[0]["status"] == 503
            front.serve()
            assert (await waiting)[0]["status"] == 200

    asyncio.run(main())


def test_a_process_that_does_not_listen_to_reason_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text("def app(environ, start_response): pass\n")
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("app.sock")
            listening.listen()
            orders = Orders(
                app="app:app",
                factory=False,
                interface="wsgi",
                threads=1,
                debug=False,
                listening=listening.fileno(),
                folder=str(tmp_path / "gone"),
                patience=0.01,
                argv=["dev"],
            )
            process = await AppProcess.start(orders)
            try:
                assert (await process.report()).kind == "serving"
                os.kill(process._process.pid, signal.SIGSTOP)
                # One thread takes the signal, and the one that obeys may run on until then.
                await asyncio.to_thread(os.waitid, os.P_PID, process._process.pid, os.WSTOPPED | os.WNOWAIT)
            finally:
                await process.end()
            assert process._process.returncode == -signal.SIGKILL

    asyncio.run(main())
