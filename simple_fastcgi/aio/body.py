"""What stands for a connection while its loop reads a long body."""

from __future__ import annotations

from asyncio import BufferedProtocol

from ..net.heap import BODY, BodyBuffers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection

_buffers = BodyBuffers()
_NOWHERE = memoryview(b"")


class BodyReceiver(BufferedProtocol):
    """Gives `connection` views of buffers that are used again, instead of memory of its own for each read.

    With the first that comes behind the body the connection stands for itself again.
    """

    __slots__ = ("_connection", "_is_shared", "_view")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Where the loop is about to read into: nowhere at other times, for a view keeps its buffer from being used.
        self._view = _NOWHERE
        self._is_shared = True

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop reads into next."""
        view = _buffers.view()
        self._is_shared = view is not None
        self._view = memoryview(bytearray(BODY)) if view is None else view
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """So much has come."""
        connection, view = self._connection, self._view[:nbytes]
        self._view = _NOWHERE
        if connection.core.body_lead:
            # Of memory of its own a small part would keep all of it.
            connection.data_received(view if self._is_shared else bytes(view))
        else:
            connection.in_body = False
            connection.transport.set_protocol(connection)
            connection.data_received(bytes(view))

    def eof_received(self) -> bool | None:
        """As that of the connection."""
        self._view = _NOWHERE
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As that of the connection."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """As that of the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """As that of the connection."""
        self._connection.resume_writing()
