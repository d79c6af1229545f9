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
    from collections.abc import Iterable, Mapping
    from typing import Protocol, TypeVar

    class Idle(Protocol):
        """A connection on which nothing is under way."""

        last_active: float
        heeds_parting: bool | None

    AnyIdle = TypeVar("AnyIdle", bound=Idle)

PARTING_SECONDS = 1.0
"""For so long an idle connection waits to be closed by its web server; then it is closed all the same."""
PARTING_INTERVAL = 0.05
"""Seconds until it is told once more: HAProxy hears nothing while it still has to do with the last answer."""
FRESH_SECONDS = 1.0
"""For so long a connection on which nothing has come yet is waited for: whoever has just connected has a request."""
LAST_CALL_SECONDS = 1.0
"""For so long, at most, a server that ends serves those who have connected meanwhile, when all others are done."""
ROOM_SECONDS = 1.0
"""An idle connection gives way to others no sooner: its web server may be about to use it again."""

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


class GivingWay:
    """Idle connections give way while others wait in the listen queue for which a server has no room.

    Otherwise one web server, or one of its processes, which keeps more connections than it needs would keep all others
    out until `idle_timeout`.
    """

    def __init__(self) -> None:
        # Those whose web servers were told, and when they had been active last.
        self._told: dict[Idle, float] = {}

    def choose(self, idle: Iterable[AnyIdle], now: float) -> tuple[list[AnyIdle], list[AnyIdle]]:
        """Of all that are idle at `now` those whose web servers are to be told, and those that are to be closed.

        A quarter of them each time, the longest idle first; it is to be asked again after PARTING_SECONDS.
        """
        waited = sorted((one for one in idle if now - one.last_active > ROOM_SECONDS), key=_last_active)
        to_tell, to_close = [], []
        told, self._told = self._told, {}
        for one in waited[: -(-len(waited) // 4)]:
            if one.heeds_parting and told.get(one) != one.last_active:
                to_tell.append(one)
                self._told[one] = one.last_active
            else:
                to_close.append(one)
        return to_tell, to_close

    def forget(self) -> None:
        """Nobody waits: whoever was told and has not closed stays."""
        self._told.clear()


def _last_active(connection: Idle) -> float:
    return connection.last_active
