"""What the web server's side of a connection tells its shell."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .records import Buffer


class WebServerEvent:
    """Something came from the application."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        raise TypeError(f"{type(self).__name__} is not hashable")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._values()))})"

    def _values(self) -> list[object]:
        return [getattr(self, name) for name in self.__match_args__]


class _Output(WebServerEvent):
    """Content of a stream, which is never empty. `data` may be a view of what was received, not a copy of it."""

    __slots__ = ("data", "request_id")
    __match_args__ = ("request_id", "data")

    def __init__(self, request_id: int, data: Buffer) -> None:
        self.request_id = request_id
        self.data = data

    def _values(self) -> list[object]:
        return [self.request_id, bytes(self.data)]


class StdoutReceived(_Output):
    """More of FCGI_STDOUT (5.3); in an exchange, of the response's body alone."""

    __slots__ = ()


class StderrReceived(_Output):
    """More of FCGI_STDERR (5.3)."""

    __slots__ = ()


class RequestEnded(WebServerEvent):
    """FCGI_END_REQUEST (5.5): nothing more comes of `request_id`, which is free again.

    `protocol_status` is FCGI_REQUEST_COMPLETE, or tells why the request was refused: FCGI_CANT_MPX_CONN,
    FCGI_OVERLOADED or FCGI_UNKNOWN_ROLE. `app_status` is the application's own, from 0 to 2**32 - 1.
    """

    __slots__ = ("app_status", "protocol_status", "request_id")
    __match_args__ = ("request_id", "app_status", "protocol_status")

    def __init__(self, request_id: int, app_status: int, protocol_status: int) -> None:
        self.request_id = request_id
        self.app_status = app_status
        self.protocol_status = protocol_status


class RequestBroken(WebServerEvent):
    """The application closed the connection before FCGI_END_REQUEST.

    `received` tells whether anything had come under `request_id`: where nothing had, a kept connection was perhaps
    closed before the request reached the application.
    """

    __slots__ = ("received", "request_id")
    __match_args__ = ("request_id", "received")

    def __init__(self, request_id: int, received: bool) -> None:
        self.request_id = request_id
        self.received = received


class ValuesReceived(WebServerEvent):
    """FCGI_GET_VALUES_RESULT (4.1): what the application knows of the `values` that were asked for, by name."""

    __slots__ = ("values",)
    __match_args__ = ("values",)

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values


class TypeUnknown(WebServerEvent):
    """FCGI_UNKNOWN_TYPE (4.2): the application does not know management records of `type`, as FCGI_GET_VALUES."""

    __slots__ = ("type",)
    __match_args__ = ("type",)

    def __init__(self, type_: int) -> None:
        self.type = type_
