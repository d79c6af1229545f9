"""Mixed load (uploads, streams, visitors who leave) on `serve --workers 4`, and what that leaves behind in its workers.

In between, while nothing is asked, it prints memory (RSS, MB), descriptors, threads and asyncio's tasks of each worker.
It ends with status 1 if from the first of these lines to the last a worker's memory grows by a tenth and 4 MB,
or another of these grows, but for connections that nginx keeps.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

WORKERS = 4
CLIENTS = 24
# Connections that nginx keeps, whichever worker has them.
KEPT = 16
UPLOAD = 300_000
PIECES, PIECE = 60, 16_384
HEAD = [("Content-Type", "application/octet-stream")]

# ---------------------------------------------------------------------------- the application


def facts(tasks: int = 0) -> bytes:
    """Answer who has been asked, and how many tasks there are."""
    return json.dumps({"pid": os.getpid(), "tasks": tasks}).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes]:
    """Take uploads, and send streams."""
    path = environ["REQUEST_URI"]
    size = 0
    while data := environ["wsgi.input"].read(65536):
        size += len(data)
    start_response("200 OK", HEAD)
    if path == "/stream":
        for _ in range(PIECES):
            yield bytes(PIECE)
            time.sleep(0.001)
    else:
        yield facts() if path == "/facts" else str(size).encode()


async def asgi(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Do the same on an event loop."""
    if scope["type"] != "http":
        raise NotImplementedError
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    else:
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if scope["path"] == "/stream":
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": True})
            await asyncio.sleep(0.001)
    body = facts(len(asyncio.all_tasks())) if scope["path"] == "/facts" else str(size).encode()
    await send({"type": "http.response.body", "body": body})


# ---------------------------------------------------------------------------- the visitors


class Counts(NamedTuple):
    """What one worker has."""

    memory: int
    descriptors: int
    threads: int
    tasks: int


async def visit(port: int, counted: dict[str, int]) -> None:
    """One request on a connection of its own, of any kind."""
    kind = random.choice(("page", "upload", "stream", "left while uploading", "left while reading"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if kind in {"page", "stream", "left while reading"}:
            path = "/" if kind == "page" else "/stream"
            writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        else:
            writer.write(f"POST /upload HTTP/1.0\r\nHost: localhost\r\nContent-Length: {UPLOAD}\r\n\r\n".encode())
            writer.write(bytes(UPLOAD if kind == "upload" else UPLOAD // 2))
        if kind.startswith("left"):
            if kind.endswith("reading"):
                await reader.readexactly(PIECE)
            else:
                await asyncio.sleep(0.02)
        else:
            answer = await reader.read()
            head, _, body = answer.partition(b"\r\n\r\n")
            while data := await reader.read(1 << 20):
                body += data
            expected = len(str(UPLOAD)) if kind == "upload" else 1 if kind == "page" else PIECES * PIECE
            if b" 200 " not in head.split(b"\r\n")[0] or (kind != "stream" and len(body) != expected):
                raise ValueError(f"{kind}: {head!r}")
        counted[kind] = counted.get(kind, 0) + 1
    except (OSError, EOFError, ValueError) as error:
        counted[f"failed: {error!r:.60}"] = counted.get(f"failed: {error!r:.60}", 0) + 1
    finally:
        writer.transport.abort()


async def load(port: int, seconds: float, counted: dict[str, int]) -> None:
    """Visit without a pause."""
    until = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            await visit(port, counted)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


# ---------------------------------------------------------------------------- what is left


def look(port: int) -> dict[int, Counts]:
    """What each worker has, once all of them have answered."""
    tasks: dict[int, int] = {}
    deadline = time.monotonic() + 60
    while len(tasks) < WORKERS and time.monotonic() < deadline:
        # Several at once: a worker that is busy leaves the next one to another.
        for answer in asyncio.run(_ask(port)):
            tasks[answer["pid"]] = answer["tasks"]
    found = {}
    for pid, count in sorted(tasks.items()):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        found[pid] = Counts(int(status["VmRSS"].split()[0]) >> 10, descriptors, int(status["Threads"]), count)
    return found


async def _ask(port: int) -> list[dict[str, int]]:
    def ask() -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/facts", timeout=60) as answer:
            told: dict[str, int] = json.load(answer)
        return told

    return await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(2 * WORKERS)))


def soak(interface: str, seconds: float, every: float) -> bool:
    """Whether nothing has grown."""
    from tests.workers.reload import free_port, wait_until, web_server

    lines: list[dict[int, Counts]] = []
    counted: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="soak-") as name, contextlib.ExitStack() as stack:
        folder, port = Path(name), free_port()
        bind = f"unix:{folder}/app.sock"
        command = [sys.executable, "-m", "simple_fastcgi", "serve", f"soak:{interface}", "--bind", bind]
        command += ["--workers", str(WORKERS), "--threads", "4", "--lifespan", "off"]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"}
        log = stack.enter_context((folder / "log").open("wb"))
        master = subprocess.Popen(command, env=env, cwd=folder, stderr=log)
        stack.callback(master.wait)
        stack.callback(master.terminate)
        wait_until(lambda: (folder / "app.sock").exists() or master.poll() is not None)
        stack.enter_context(web_server("nginx", folder, bind, port))
        began = time.monotonic()
        print(f"\n{interface}: for each worker MB of memory / descriptors / threads / tasks", flush=True)
        while time.monotonic() < began + seconds:
            asyncio.run(load(port, min(every, began + seconds - time.monotonic()), counted))
            # Connections that were just closed, and handlers of visitors who have left, are gone by then.
            time.sleep(2)
            lines.append(look(port))
            shown = "   ".join("/".join(map(str, counts)) for counts in lines[-1].values())
            print(f"{time.monotonic() - began:6.0f} s   {shown}", flush=True)
        print(", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())), flush=True)
        told = [line for line in (folder / "log").read_text().splitlines() if "INFO" not in line]
        print(f"{len(told)} lines in the log beyond INFO", *told[:3], sep="\n    ", flush=True)
    return lines[0].keys() == lines[-1].keys() and not any(
        after.memory > before.memory * 1.1 + 4
        or after.descriptors > before.descriptors + KEPT
        or after.threads > before.threads
        or after.tasks > before.tasks + 2 * WORKERS  # so many are asked at once
        for before, after in zip(lines[0].values(), lines[-1].values(), strict=True)
    )


def main() -> int:
    """Soak what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for how long each (default: 600)")
    parser.add_argument("--every", type=float, default=30, help="seconds between two looks (default: 30)")
    parser.add_argument("--interface", choices=("wsgi", "asgi"), action="append", help="default: both")
    given = parser.parse_args()
    flat = [soak(interface, given.seconds, given.every) for interface in given.interface or ("wsgi", "asgi")]
    return 0 if all(flat) else 1


if __name__ == "__main__":
    sys.exit(main())
