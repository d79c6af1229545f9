"""Where the code is that serves a request: the stack of its thread or task, for the log."""

from __future__ import annotations

import sys
import threading
from traceback import StackSummary, format_list, walk_stack

from ..log import about, logger
from .info import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .info import RequestInfo
    from .monitor import Monitor

    Frames = list[tuple[FrameType, int]]

_MOST_FRAMES = 64
_WORTH_TELLING_SECONDS = 0.1
"""So long a wait before the handler began is told beside the whole time, which is more than the timeouts count."""


def tell_all(monitor: Monitor | None, interrupted: FrameType | None = None) -> None:
    """Tell every request under way in the log, with its stack; nothing in it that a signal handler may not do.

    Without a monitor nobody knows of requests: then every thread and task is told that runs, or waits in, code which is
    not this package's. `interrupted` is the frame that a signal handler is given.
    """
    if _telling:
        # The signal has come again meanwhile.
        return
    _telling.append(True)
    try:
        _tell(monitor, interrupted)
    finally:
        _telling.clear()


_telling: list[bool] = []


def _tell(monitor: Monitor | None, interrupted: FrameType | None) -> None:
    if monitor is not None:
        stacks = [(info, stack_of(info)) for info in list(monitor.in_flight)]
        told = "".join(f"\n{describe(info, stack)}" for info, stack in stacks)
        fields = {"requests": [fields_of(info, stack) for info, stack in stacks]}
        plural = "" if len(stacks) == 1 else "s"
        logger().warning("%d request%s under way%s", len(stacks), plural, told, extra=about("under_way", fields))
        return
    found = [
        f"\n{name}\n{_printed(_of_application(frames))}"
        for name, frames in _everything(interrupted)
        if not _is_idle(frames)
    ]
    logger().warning(
        "%d threads and tasks are busy (their requests are told with --ping-path, --status-path or --access-log)%s",
        *(len(found), "".join(found)),
    )


def describe(info: RequestInfo, stack: str | None = None) -> str:
    """Its request line, how long it has taken, and the `stack` of the thread or task that serves it, now by default."""
    if stack is None:
        stack = stack_of(info)
    line = f"{info.method} {info.uri}".encode("unicode_escape").decode("ascii")
    told = f"{line}, {info.seconds:.3f} s"
    if info.started and info.queue_seconds >= _WORTH_TELLING_SECONDS:
        told += f" ({info.queue_seconds:.3f} s of it queued)"
    told += f", {info.stage.name.lower()}"
    return f"{told}\n{stack}" if stack else told


def fields_of(info: RequestInfo, stack: str) -> dict[str, object]:
    """The same for the fields of a record."""
    return {**info.fields(), "stage": info.stage.name.lower(), "stack": stack or None}


def stack_of(info: RequestInfo) -> str:
    """The stack of the thread or task that serves it, its innermost frame last; empty if nobody serves it."""
    if info.stage in {Stage.QUEUED, Stage.ENDED}:
        return ""
    served_by = info.served_by
    task = None if served_by is None else served_by.waiting_task()
    frames = _frames_of_thread(info.thread) if task is None else _frames_of_task(task)
    return _printed(_of_application(frames) or frames)


def _of_application(frames: Frames) -> Frames:
    """Without what started the server (a command, gunicorn, an event loop), and without our own frames."""
    begin = next((number for number, frame in enumerate(frames) if _module(frame[0]).startswith(_SERVING)), 0)
    return [frame for frame in frames[begin:] if not _is_ours(frame[0])]


def _printed(frames: Frames) -> str:
    summary = StackSummary.extract(iter(frames[-_MOST_FRAMES:]), capture_locals=False)
    return "".join(format_list(summary)).rstrip("\n")


def _frames_of_thread(thread: int) -> Frames:
    frame = sys._current_frames().get(thread)
    return list(walk_stack(frame))[::-1] if frame is not None else []


def _frames_of_task(task: object) -> Frames:
    """A task that waits has a stack of coroutines, each awaited by the one before."""
    found: Frames = []
    awaited = getattr(task, "get_coro", lambda: None)()
    while awaited is not None and len(found) < 1000:
        frame = (
            getattr(awaited, "cr_frame", None)
            or getattr(awaited, "gi_frame", None)
            or getattr(awaited, "ag_frame", None)
        )
        if frame is None:
            break
        found.append((frame, frame.f_lineno))
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
            or getattr(awaited, "ag_await", None)
        )
    return found


def _everything(interrupted: FrameType | None) -> Iterator[tuple[str, Frames]]:
    """Each thread and each task of this thread's loop, by its name, with its stack."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for thread, top in sys._current_frames().items():
        frame = interrupted if thread == threading.get_ident() and interrupted is not None else top
        yield f"thread {names.get(thread, thread)}", list(walk_stack(frame))[::-1]
    if "asyncio" in sys.modules:
        import asyncio

        try:
            tasks = asyncio.all_tasks()
        except RuntimeError:
            # No loop runs in this thread.
            return
        for task in tasks:
            frames = _frames_of_task(task)
            # An application's lifespan waits for its end; the task that runs now is its thread's stack.
            if not (task is asyncio.current_task() or any(_is_lifespan(frame[0]) for frame in frames)):
                yield f"task {task.get_name()}", frames


def _is_lifespan(frame: FrameType) -> bool:
    return _module(frame) == f"{_OURS}gateways.lifespan"


def _module(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name


def _is_idle(frames: Frames) -> bool:
    """Whether nothing of it is anybody's code but ours, from where that begins."""
    begin = next((number for number, frame in enumerate(frames) if _is_ours(frame[0])), 0)
    return all(_is_ours(frame) or _module(frame).partition(".")[0] in _IDLE for frame, _ in frames[begin:])


_IDLE = {"selectors", "threading", "asyncio", "concurrent", "gunicorn"}
_OURS = __name__.partition(".")[0] + "."
_SERVING = tuple(f"{_OURS}{layer}." for layer in ("sync", "aio", "gateways"))


def _is_ours(frame: FrameType) -> bool:
    name = _module(frame)
    return name.startswith(_OURS) or name in {"socketserver", "threading", "asyncio.base_events", "asyncio.events"}
