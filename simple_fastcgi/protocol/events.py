"""What the core tells a shell; there is no event per record."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .streams import Request


class Event:
    """Something happened to `request`, which is set when it is told."""

    __slots__ = ("request",)
    __match_args__ = ("request",)

    request: Request

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.request.id})"


class RequestBegun(Event):
    """The parameters are complete; the input may still be coming."""

    __slots__ = ()


class InputReceived(Event):
    """More of an input stream has arrived, or its end."""

    __slots__ = ()


class RequestAborted(Event):
    """FCGI_ABORT_REQUEST came, or the connection is gone."""

    __slots__ = ()
