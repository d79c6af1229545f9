"""One exchange on a connection in an event loop: sends and receives until there is an event."""

from __future__ import annotations

from .call import CallState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .async_connection import AsyncConnection
    from .exchange import ExchangeEvent


class AsyncCall(CallState):
    """A :class:`.CallState` that waits in an event loop. May be cancelled at any point."""

    __slots__ = ()

    connection: AsyncConnection
    _body: AsyncIterator[bytes] | None

    async def next_event(self) -> ExchangeEvent:
        """What comes next of the response; as :meth:`.Exchange.next_event`, but it waits.

        The request's body is sent meanwhile, as far as it is wanted; while the next piece of `body` is waited for,
        nothing is received. Also raises ReadTimeoutError and WriteTimeoutError, RequestBodyError, and what `body`
        raises.
        """
        exchange = self.exchange
        while (event := exchange.next_event()) is None:
            await self._move()
        return event

    async def _move(self) -> None:
        """Send or receive something."""
        connection = self.connection
        if not connection.unsent and self._has_more():
            # An answer that is there already may make all further input needless.
            if connection.sent and self._receive():
                return
            # Not beside a wait for the answer: a task would be left within the iterator when an event is handed out,
            # and to cancel it would lose the rest of the body.
            self._queue_piece(await anext(self._body, None) if self._body is not None else None)
        if connection.unsent:
            self._send()
            if connection.unsent:
                # While the application waits for somebody to take its answer, it may read nothing.
                await connection.readable_or_writable(self.write_timeout)
                self._receive()
        elif not self._has_more():
            await connection.readable(self.read_timeout)
            self._receive()
