"""On which terms requests are served: what all connections of an application have in common."""

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
