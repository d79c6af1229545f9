"""What all connections of an application have in common: on which terms they are served, and how long each may last."""

from __future__ import annotations

from ..limits import Limits
from .constants import FCGI_RESPONDER
from .events import RequestBegun
from .records import Openings
from .runs import decode_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .runs import Decode
    from .spool import SpoolFile
    from .streams import Request

    MakeEvent = Callable[[], RequestBegun]
    OpenSpool = Callable[[], SpoolFile]
    MakeSpool = Callable[[], OpenSpool]

LINGERS = 6
"""How many times ``linger_timeout`` a connection lingers in all, while something comes."""


class Terms:
    """What every ``ApplicationConnection`` of an application is made with; nothing of it changes.

    `limits`: all bounds, by default those of ``Limits()``. `roles`: those that are served, by default FCGI_RESPONDER.
    `concurrent`: whether requests of one connection are served at the same time, as FCGI_MPXS_CONNS tells (default).
    `in_turn`: whether that which receives serves them, so that it may wait in between; this is the shell's own business
    (default: no).
    `make_spool` is called once there is input that memory has no room for while several requests share the connection:
    what it gives opens a file; both may raise OSError. By default there is none, and the web server has to wait.
    `decode` reads parameters: that of a ``PairDecoder`` is faster than the default, which learns nothing. `refusal`
    goes out on FCGI_STDOUT before a request is refused for want of room (default: nothing does): no web server heeds
    the protocol status, and HAProxy waits for a response until its own timeout. `unserved` is told of each role that is
    asked for and not served, and gives the same for such a request (default: nothing). `is_served` tells whether
    somebody has begun to serve a request, so that its input will be read (default: that is so). `begun` makes the event
    of a request that has begun, by default a ``RequestBegun``: a shell's own kind may be what it serves the request
    with.
    """

    __slots__ = (
        "begun",
        "concurrent",
        "decode",
        "in_turn",
        "is_served",
        "limits",
        "make_spool",
        "openings",
        "refusal",
        "roles",
        "unserved",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        roles: Collection[int] = (FCGI_RESPONDER,),
        *,
        concurrent: bool = True,
        in_turn: bool = False,
        make_spool: MakeSpool | None = None,
        decode: Decode = decode_alone,
        refusal: bytes = b"",
        unserved: Callable[[int], bytes] = lambda role: b"",
        is_served: Callable[[Request], bool] = lambda request: True,
        begun: MakeEvent = RequestBegun,
    ) -> None:
        self.limits = Limits() if limits is None else limits
        self.roles = roles
        self.concurrent = concurrent
        self.in_turn = in_turn
        self.make_spool = make_spool
        self.decode = decode
        self.refusal = refusal
        self.unserved = unserved
        self.is_served = is_served
        self.begun = begun
        self.openings = Openings(roles, self.limits.max_params_bytes)


class Awaited:
    """What a connection waits for, `what`, and the name of the `limit` that says for how long."""

    __slots__ = ("limit", "what")

    def __init__(self, what: str, limit: str) -> None:
        self.what = what
        self.limit = limit


PARAMETERS = Awaited("its parameters", "params_timeout")
"""The rest of a request's parameters, or of a record that may begin one."""
LEFTOVER = Awaited("the input of a request that has ended", "idle_timeout")
"""The rest of a record that nobody wants, while no request is under way."""
OTHERS = Awaited("what was under way beside a broken response", "graceful_timeout")
"""The ends of the other requests, behind which the web server is told that a response is cut."""


def overdue(
    limits: Limits,
    now: float,
    *,
    last_active: float,
    awaited_since: float | None,
    stalled_since: float | None,
    finished_since: float | None,
    idle: bool,
    awaited: Awaited = PARAMETERS,
) -> str | None:
    """Why a connection is to be closed: a sentence for the log, or "" where it needs none; None while it may stay.

    All times are in seconds, of one clock, and None of what is not the case. `last_active`: when something came or
    left last. `awaited_since`: since when what is `awaited` is;
    `stalled_since`: since when the web server has taken nothing of what is to be sent; `finished_since`: since when
    its end is all that is awaited. `idle`: no request is under way.
    """
    quiet = now - last_active
    if awaited_since is not None:
        seconds: float = getattr(limits, awaited.limit)
        if now - awaited_since > seconds:
            return f"{awaited.what} took more than {seconds:g} s ({awaited.limit})"
    if stalled_since is not None:
        is_stuck = now - stalled_since > limits.write_timeout
        return f"it took nothing for {limits.write_timeout:g} s (write_timeout)" if is_stuck else None
    if finished_since is not None:
        is_over = quiet > limits.linger_timeout or now - finished_since > LINGERS * limits.linger_timeout
    else:
        is_over = idle and quiet > limits.idle_timeout
    return "" if is_over else None
