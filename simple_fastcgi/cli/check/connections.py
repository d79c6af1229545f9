"""Checks of what comes in time: streamed responses, kept connections."""

from __future__ import annotations

import secrets
import time

from ...check import FIRST_PIECE, RELEASED
from .browser import Browser
from .report import ok, warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Finding
    from .visit import Visit

_HOLD_EVENTS = 2.0
"""Seconds for which the probe keeps the second piece back, if nobody asks for it."""
_HOLD_OTHERS = 1.0
"""The same where nothing depends on it."""
_REQUESTS = 6


class _UnaskedError(Exception):
    """What came is not what was asked for."""


def streaming(visit: Visit) -> Finding:
    """Whether the first piece of a response comes before there is a second one."""
    try:
        events = _streams(visit, _HOLD_EVENTS, "&events")
        others = events and _streams(visit, _HOLD_OTHERS)
    except _UnaskedError as error:
        return warning(f"not tried: {error}", "the probe was asked for a stream in the query", "mend the query first")
    if events:
        if others:
            return ok("pieces of a response come at once")
        return ok(
            "events (text/event-stream) come at once; other responses are buffered",
            f"that frees the application early; to have all of them at once: {visit.software.cure('unbuffered')}",
        )
    return warning(
        "the web server holds back what the application sends, until all of it is there",
        "events (text/event-stream), progress and long answers come late, in one piece",
        visit.software.cure("buffering"),
    )


def _streams(visit: Visit, hold: float, more: str = "") -> bool:
    name = secrets.token_hex(8)
    hold = min(hold, visit.timeout / 4)
    browser = Browser(visit.url, visit.timeout)
    try:
        stream = browser.open_stream(f"{visit.base}/?stream={name}&hold={hold:.3f}{more}", visit.fields())
        received = stream.read()
        if stream.status != 200 or not FIRST_PIECE.startswith(received[: len(FIRST_PIECE)]):
            raise _UnaskedError(f"the answer ({stream.status}) is no stream")
        first = time.monotonic()
        if len(received) <= len(FIRST_PIECE):
            # Another process than the one that streams may get this: then the time tells.
            visit.ask(f"/?release={name}")
        while piece := stream.read():
            received += piece
        return received.endswith(RELEASED) or time.monotonic() - first > hold / 2
    finally:
        browser.close()


def keep_alive(visit: Visit) -> Finding:
    """Whether one FastCGI connection is used for many requests."""
    seen = [visit.look() for _ in range(_REQUESTS)]
    used = [(one.process, one.connection) for one in seen]
    if any(connection is None for _, connection in used):
        return ok("the probe cannot tell: it does not run under simple-fastcgi serve")
    count = len(set(used))
    if count < len(used):
        return ok(f"connections to the application are kept ({len(used)} requests on {count})")
    cannot = visit.software.cannot("keep")
    if cannot:
        return ok("a connection to the application for each request", cannot)
    if any(one.keep_conn for one in seen):
        why = "the web server asks for kept connections (FCGI_KEEP_CONN), and closes them all the same"
    else:
        why = "connecting takes longer than many an answer does"
    return warning("there is a new connection to the application for each request", why, visit.software.cure("keep"))
