"""Applications that tell which process serves them, and wait when they are told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import simple_fastcgi.cgi.parting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import FrameType

# A worker that ends waits for the request of whoever has just connected, for a second; a test may stand still longer.
simple_fastcgi.cgi.parting.FRESH_SECONDS = 3600

LOADED_BY = os.getpid()
TEXT = [("Content-Type", "text/plain")]
at_once = [0, 0]  # requests now, and the most there ever were
counting = threading.Lock()


def facts(**more: Any) -> bytes:
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    known = {"pid": os.getpid(), "loaded_by": LOADED_BY, "thread": threading.current_thread().name, "most": at_once[1]}
    return json.dumps(known | {"descriptors": descriptors} | more).encode()


def hang() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGABRT, give_time)
    while True:
        time.sleep(0.01)


# As gunicorn has set it.
abort: Any = signal.getsignal(signal.SIGABRT)


def give_time(number: int, frame: FrameType | None) -> None:
    """Gunicorn's master gives a worker that it interrupts a second until it kills it: a busy machine needs longer."""
    abort.__self__.notify()
    abort(number, frame)


def hang_for_good() -> None:
    while True:
        try:
            while True:
                time.sleep(0.01)
        except SystemExit:
            pass


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with counting:
        at_once[0] += 1
        at_once[1] = max(at_once)
    path = environ["PATH_INFO"]
    try:
        if path == "/hang":
            hang()
        if path == "/hang-for-good":
            hang_for_good()
        start_response("200 OK", TEXT)
        if path == "/hold":
            yield b"started"
            environ["wsgi.input"].read()
            yield b", ended"
            return
        yield facts(
            **{name: environ[f"wsgi.{name}"] for name in ("multiprocess", "multithread", "run_once")},
            script_name=environ["SCRIPT_NAME"],
        )
    finally:
        with counting:
            at_once[0] -= 1


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope["state"], receive, send)
        return
    path = scope["path"]
    if path == "/hang":
        hang()
    if path == "/hang-for-good":
        hang_for_good()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/hold":
        await send({"type": "http.response.body", "body": b"started", "more_body": True})
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.body", "body": b", ended"})
        return
    loop = type(asyncio.get_running_loop()).__module__
    body = facts(loop=loop, state=scope.get("state"), script_name=scope["root_path"])
    if path == "/hang-behind":
        # When the request is forgotten, its answer has left.
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: asyncio.get_running_loop().call_later(0.05, hang))
    await send({"type": "http.response.body", "body": body})


starts = 0


async def lifespan(
    state: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    global starts
    await receive()
    if os.environ.get("FAILS_TO_START"):
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    starts += 1
    state["starts"] = starts
    await send({"type": "lifespan.startup.complete"})
    await receive()
    # At once: print() writes text and line end apart, and other workers write between them.
    os.write(1, b"shut down\n")
    await send({"type": "lifespan.shutdown.complete"})


def make() -> Callable[..., Iterable[bytes]]:
    return wsgi


not_callable = 3
