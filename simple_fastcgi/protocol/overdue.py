"""How long a connection may take, and for what: told from the limits and the times that a server has noted."""

from __future__ import annotations

from ..limits import LINGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import Limits


def overdue(
    limits: Limits,
    now: float,
    *,
    last_active: float,
    awaited_since: float | None,
    stalled_since: float | None,
    finished_since: float | None,
    idle: bool,
) -> str | None:
    """Why a connection is to be closed: a sentence for the log, or "" where it needs none; None while it may stay.

    All times are in seconds, of one clock, and None of what is not the case. `last_active`: when something came or
    left last. `awaited_since`: since when the rest of a request's parameters, or of a record, is awaited;
    `stalled_since`: since when the web server has taken nothing of what is to be sent; `finished_since`: since when
    its end is all that is awaited. `idle`: no request is under way.
    """
    quiet = now - last_active
    if awaited_since is not None and now - awaited_since > limits.params_timeout:
        return f"its parameters took more than {limits.params_timeout:g} s (params_timeout)"
    if stalled_since is not None:
        is_stuck = now - stalled_since > limits.write_timeout
        return f"it took nothing for {limits.write_timeout:g} s (write_timeout)" if is_stuck else None
    if finished_since is not None:
        is_over = quiet > limits.linger_timeout or now - finished_since > LINGERS * limits.linger_timeout
    else:
        is_over = idle and quiet > limits.idle_timeout
    return "" if is_over else None
