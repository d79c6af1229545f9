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

_HEEDING = ("nginx/", "HAProxy ", "openresty/", "Angie/", "Tengine/", "freenginx/")


def patience(graceful_timeout: float) -> float:
    """The same where the end as a whole is to take at most `graceful_timeout` seconds: well before these are over."""
    return min(PARTING_SECONDS, graceful_timeout / 4)


def heeds_parting(params: Mapping[str, str]) -> bool:
    """Whether the web server that sent `params` closes an idle connection on which a record arrives."""
    return params.get("SERVER_SOFTWARE", "").startswith(_HEEDING)
