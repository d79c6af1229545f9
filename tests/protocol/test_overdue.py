"""Which connections are closed because something takes too long, as both kinds of server decide it."""

from __future__ import annotations

import pytest

from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.terms import LEFTOVER, LINGERS, OTHERS, PARAMETERS, Awaited, overdue

NOW = 1000.0
LIMITS = Limits(params_timeout=10, write_timeout=20, linger_timeout=2, idle_timeout=30, graceful_timeout=40)
PARAMS = "its parameters took more than 10 s (params_timeout)"
LATE = "the input of a request that has ended took more than 30 s (idle_timeout)"
BROKEN = "what was under way beside a broken response took more than 40 s (graceful_timeout)"
WRITE = "it took nothing for 20 s (write_timeout)"


def why(
    *,
    quiet: float = 0,
    awaited: float | None = None,
    stalled: float | None = None,
    finished: float | None = None,
    idle: bool = False,
    what: Awaited = PARAMETERS,
) -> str | None:
    """What is said of a connection of which all this has been so for so many seconds."""

    def since(seconds: float | None) -> float | None:
        return None if seconds is None else NOW - seconds

    return overdue(
        LIMITS,
        NOW,
        last_active=NOW - quiet,
        awaited_since=since(awaited),
        stalled_since=since(stalled),
        finished_since=since(finished),
        idle=idle,
        awaited=what,
    )


def test_a_request_under_way_may_take_its_time() -> None:
    assert why(quiet=1e6) is None


@pytest.mark.parametrize(("seconds", "told"), [(10, None), (10.5, PARAMS)])
def test_parameters(seconds: float, told: str | None) -> None:
    assert why(quiet=seconds, awaited=seconds) == told


@pytest.mark.parametrize(("seconds", "told"), [(30, None), (30.5, LATE)])
def test_input_of_a_request_that_has_ended(seconds: float, told: str | None) -> None:
    """It may come slowly, but not for ever."""
    assert why(quiet=0, awaited=seconds, what=LEFTOVER) == told


@pytest.mark.parametrize(("seconds", "told"), [(40, None), (40.5, BROKEN)])
def test_requests_beside_a_broken_response(seconds: float, told: str | None) -> None:
    assert why(awaited=seconds, what=OTHERS) == told


@pytest.mark.parametrize(("seconds", "told"), [(20, None), (20.5, WRITE)])
def test_a_peer_that_takes_nothing(seconds: float, told: str | None) -> None:
    assert why(quiet=seconds, stalled=seconds) == told


def test_what_is_to_be_sent_keeps_a_connection() -> None:
    """That nothing comes meanwhile is no reason to close it, whether it is idle or finished."""
    assert why(quiet=1e6, stalled=1, idle=True) is None
    assert why(quiet=1e6, stalled=1, finished=1e6) is None


def test_parameters_of_one_who_reads_slowly() -> None:
    assert why(awaited=11, stalled=1) == PARAMS


@pytest.mark.parametrize(
    ("quiet", "finished", "told"), [(2, 2, None), (2.5, 2, ""), (0, 2 * LINGERS, None), (0, 2 * LINGERS + 0.5, "")]
)
def test_the_end_of_the_peer_s_sending(quiet: float, finished: float, told: str | None) -> None:
    assert why(quiet=quiet, finished=finished, idle=True) == told


@pytest.mark.parametrize(("seconds", "told"), [(30, None), (30.5, "")])
def test_idle(seconds: float, told: str | None) -> None:
    assert why(quiet=seconds, idle=True) == told
