"""`RequestInfo`: what is known of one request while it is served, and when it has ended."""

from __future__ import annotations

from enum import IntEnum
from threading import get_ident
from time import monotonic
from typing import Protocol

from ..cgi.environ import request_fields
from ..cgi.reply import glance
from ..cgi.response import INTERNAL_SERVER_ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .telling import Telling

# Bytes; what comes without a blank line for so long is no head that a web server takes.
_LONGEST_HEAD = 16 * 1024


class Stage(IntEnum):
    """How far a request has come."""

    QUEUED = 1
    """Its parameters have arrived; it waits for a thread, or for its turn."""
    RUNNING = 2
    """Its handler runs, and has not written the head of a response yet, not all of it at least."""
    RESPONDING = 3
    """The head of the response has been written, perhaps more."""
    ENDED = 4


class Waiting(Protocol):
    """What an asynchronous server has of a request."""

    def waiting_task(self) -> object:
        """The task that serves it; None while it does not wait, so that the thread's stack tells what it does."""

    def give_up(self) -> None:
        """End it, from any thread."""


class RequestInfo:
    """One request under observation. Times are of ``time.monotonic()``, in seconds; sizes are bytes."""

    __slots__ = (
        "_head",
        "aborted",
        "arrived",
        "bytes_in",
        "bytes_out",
        "ended",
        "failed",
        "is_page",
        "params",
        "place",
        "served_by",
        "stage",
        "started",
        "status",
        "tell_responding",
        "thread",
        "told_slow",
    )

    params: Mapping[str, str]
    """As the web server sent them, one character per byte."""
    arrived: float
    """When the parameters were complete."""
    started: float
    """When the handler began; until then, 0."""
    ended: float
    """When the response was complete, or the request given up; until then, 0."""
    status: int
    """The HTTP status of the response; 0 until it is known."""
    bytes_in: int
    """Of the request's body, as far as the handler has read it."""
    bytes_out: int
    """Of the response's body."""
    aborted: bool
    """The web server has aborted the request, or was gone before its end."""
    failed: bool
    """The handler raised."""
    is_page: bool
    """The monitor itself answers: a ping, or a status page."""
    place: int
    """Where the scoreboard has it; -1: nowhere."""

    def __init__(self, params: Mapping[str, str], tell_responding: Telling | None = None) -> None:
        self.params = params
        # Who is told of the beginning of its response.
        self.tell_responding = tell_responding
        self.arrived = monotonic()
        self.started = self.ended = 0.0
        self.stage = Stage.QUEUED
        self.status = 0
        self.bytes_in = self.bytes_out = 0
        self.aborted = self.failed = self.is_page = self.told_slow = False
        self.place = -1
        # The number of the thread that serves it, and the request of an asynchronous server, which has a task.
        self.thread = 0
        self.served_by: Waiting | None = None
        # What has been written of a head, until its end.
        self._head = b""

    def start(self) -> None:
        """The handler begins, in this thread."""
        self.started = monotonic()
        self.stage = Stage.RUNNING
        self.thread = get_ident()

    def output(self, data: bytes) -> None:
        """The handler writes `data` to FCGI_STDOUT."""
        if self.stage != Stage.RESPONDING:
            if not data or self.stage == Stage.ENDED:
                return
            # Mostly the whole head comes first, and at once.
            if self._head:
                data = self._head + data
            status, size, ended = glance(data)
            if not ended and len(data) < _LONGEST_HEAD:
                self._head = data
                return
            self._respond(status, size)
        self.bytes_out += len(data)

    def _respond(self, status: int, size: int) -> None:
        """The head is known: the status, if it has none yet, and so many bytes that are no body."""
        self._head = b""
        self.stage = Stage.RESPONDING
        self.status = self.status or status
        self.bytes_out -= size
        if self.tell_responding is not None:
            self.tell_responding(self)

    def fail(self, *, replaced: bool) -> None:
        """The handler raised; `replaced` tells whether a 500 goes out in place of all that it has written."""
        self.failed = True
        if replaced:
            self._head = b""
            self.status, head, _ = glance(INTERNAL_SERVER_ERROR)
            self.bytes_out = len(INTERNAL_SERVER_ERROR) - head

    def end(self, *, aborted: bool) -> None:
        """It has ended."""
        if head := self._head:
            # One that never ended is all that was written.
            status, size, _ = glance(head)
            self._respond(status, size)
            self.bytes_out += len(head)
        self.stage = Stage.ENDED
        self.ended = monotonic()
        self.aborted = aborted
        self.served_by = None

    @property
    def method(self) -> str:
        """REQUEST_METHOD."""
        return self.params.get("REQUEST_METHOD") or "-"

    @property
    def uri(self) -> str:
        """REQUEST_URI, or what stands for it where a web server sends none."""
        params = self.params
        return params.get("REQUEST_URI") or params.get("SCRIPT_NAME", "") + params.get("PATH_INFO", "")

    def fields(self) -> dict[str, object]:
        """What is known of it, for the log, under the names that the access log has in JSON; None: not known (yet)."""
        return {
            **request_fields(self.params),
            "status": self.status or None,
            "bytes_in": self.bytes_in,
            "bytes_out": max(self.bytes_out, 0),
            "request_time": round(self.seconds, 6),
            "queue_time": round(self.queue_seconds, 6),
            "aborted": self.aborted,
            "failed": self.failed,
        }

    @property
    def seconds(self) -> float:
        """From its arrival to its end, or until now."""
        return (self.ended or monotonic()) - self.arrived

    @property
    def queue_seconds(self) -> float:
        """From its arrival to the handler's beginning."""
        return (self.started or self.ended or monotonic()) - self.arrived


class Observer(Protocol):
    """Whoever wants to know what becomes of requests; called by the servers' threads, and quick.

    What one raises is logged, the first time, and no request is the worse for it.
    Whoever inherits from it overrides what it is interested in; the rest does nothing.
    """

    def arrived(self, info: RequestInfo) -> None:
        """The parameters of a request are complete."""
        return

    def started(self, info: RequestInfo) -> None:
        """Its handler begins."""
        return

    def responding(self, info: RequestInfo) -> None:
        """The head of its response has been written: its status is known."""
        return

    def ended(self, info: RequestInfo) -> None:
        """Its response is complete, or it was given up; told once, before the web server can know."""
        return
