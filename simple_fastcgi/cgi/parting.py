"""Before a kept connection is closed its web server is told: FastCGI itself has no word for that.

A web server may send a request at the very moment at which we close. It cannot know whether that was begun, so it fails
what it must not repeat. But nginx and HAProxy close a connection of their own accord when anything arrives on it while
it is idle; and if they have just sent a request, an empty FCGI_STDERR record says nothing about it. So one is sent, and
what still comes is answered, until the web server has closed.

Not to others: Apache takes a connection with unread bytes for a good one, even if it is closed behind them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PARTING_SECONDS = 1.0
"""For so long an idle connection waits to be closed by its web server; then it is closed all the same."""
PARTING_INTERVAL = 0.05
"""Seconds until it is told once more: HAProxy hears nothing while it still has to do with the last answer."""
FRESH_SECONDS = 1.0
"""For so long a connection on which nothing has come yet is waited for: whoever has just connected has a request."""
LAST_CALL_SECONDS = 1.0
"""For so long, at most, a server that ends serves those who have connected meanwhile, when all others are done."""

_HEEDING = ("nginx/", "HAProxy ", "openresty/", "Angie/", "Tengine/", "freenginx/")


def heeds_parting(params: Mapping[str, str]) -> bool:
    """Whether the web server that sent `params` closes an idle connection on which a record arrives."""
    return params.get("SERVER_SOFTWARE", "").startswith(_HEEDING)


def is_fresh(now: float, connected_at: float) -> bool:
    """Whether a request is to be expected on a connection on which nothing has come."""
    return now - connected_at <= FRESH_SECONDS


def has_waited(now: float, last_active: float, ending_since: float, graceful_timeout: float) -> bool:
    """Whether an idle connection has waited long enough for its web server to close it.

    That is well before the `graceful_timeout` seconds are over that the end as a whole, begun at `ending_since`, takes.
    """
    return now - max(last_active, ending_since) > min(PARTING_SECONDS, graceful_timeout / 4)


def is_to_be_told(now: float, last_active: float, told_at: float) -> bool:
    """Whether the web server of an idle connection is told of the end, or told once more."""
    return told_at < last_active or now - told_at >= PARTING_INTERVAL
