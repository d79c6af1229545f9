"""One exchange on a blocking connection: sends and receives until there is an event."""

from __future__ import annotations

from .connection import READABLE, WRITABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .connection import Connection
    from .exchange import Exchange, ExchangeEvent


class ReadTimeoutError(TimeoutError):
    """Nothing came of the response for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came of the response for {seconds:g} s")
        self.seconds = seconds


class WriteTimeoutError(TimeoutError):
    """Nothing could be sent of the request for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing could be sent of the request for {seconds:g} s")
        self.seconds = seconds


class RequestBodyError(ValueError):
    """A request's body has not the length that was announced."""


class CallState:
    """What moves the bytes of `exchange`, which has begun on `connection`, without waiting for any: half of a shell.

    `body`: the pieces of the request's body; None if `exchange` has got all of it by its `send_body`. `content_length`:
    the length of `body` in bytes, None if that is not known. `read_timeout`, `write_timeout`: seconds for each wait,
    None for no bound.
    """

    __slots__ = ("_body", "_ended", "_left", "connection", "exchange", "read_timeout", "write_timeout")

    def __init__(
        self,
        connection: Connection,
        exchange: Exchange,
        body: Iterator[bytes] | AsyncIterator[bytes] | None = None,
        *,
        content_length: int | None = None,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
    ) -> None:
        self.connection = connection
        self.exchange = exchange
        self.read_timeout = read_timeout
        self.write_timeout = write_timeout
        self._body = body
        self._left = content_length
        self._ended = body is None
        if body is None:
            exchange.end_body()
            connection.queue(exchange.data_to_send())

    @property
    def reusable(self) -> bool:
        """The exchange is over, and the connection can take another one."""
        connection = self.connection
        return self.exchange.reusable and not connection.unsent and not connection.broken and self._ended

    def abort(self) -> None:
        """Tell the application that nobody wants the rest, if it takes that now; the connection is to be closed."""
        exchange, connection = self.exchange, self.connection
        exchange.abort()
        connection.queue(exchange.data_to_send())
        try:
            connection.send()
        except OSError:
            # It has gone: that is the end of the request, too.
            pass

    def _has_more(self) -> bool:
        """Whether more of the body is to be asked for."""
        if self._ended:
            # Behind its announced length there should be nothing.
            return self._body is not None and self.exchange.end is None
        return self.exchange.wants_input

    def _queue_piece(self, piece: bytes | None) -> None:
        """Queue the next piece of the body; None is its end."""
        exchange = self.exchange
        if piece is None:
            self._body = None
            if self._left:
                raise RequestBodyError(f"the request's body is {self._left} bytes shorter than its Content-Length")
            self._end()
        elif piece:
            if self._left is not None:
                self._left -= len(piece)
                if self._left < 0:
                    raise RequestBodyError(
                        f"the request's body is longer than its Content-Length, by at least {-self._left} bytes"
                    )
            exchange.send_body(piece)
            if self._left == 0:
                # It leaves with the last piece, whatever the iterator still does.
                self._end()
        self.connection.queue(exchange.data_to_send())

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.exchange.end_body()

    def _send(self) -> None:
        try:
            self.connection.send()
        except OSError:
            # It takes no more. Its answer may be here all the same: what is received tells.
            self.connection.unsent.clear()
            self._body = None
            self._ended = True

    def _receive(self) -> bool:
        """Take what has come; whether anything had, be it the end."""
        data = self.connection.receive()
        if data is not None:
            self.exchange.receive_data(data)
        return data is not None


class Call(CallState):
    """A :class:`CallState` that blocks."""

    __slots__ = ()

    connection: Connection
    _body: Iterator[bytes] | None

    def next_event(self) -> ExchangeEvent:
        """What comes next of the response; as :meth:`.Exchange.next_event`, but it waits.

        The request's body is sent meanwhile, as far as it is wanted; while the next piece of `body` is waited for,
        nothing is received. Also raises ReadTimeoutError and WriteTimeoutError, RequestBodyError, and what `body`
        raises.
        """
        exchange = self.exchange
        while (event := exchange.next_event()) is None:
            self._move()
        return event

    def _move(self) -> None:
        """Send or receive something."""
        connection = self.connection
        if not connection.unsent and self._has_more():
            # An answer that is there already may make all further input needless.
            if connection.sent and connection.wait(READABLE, 0):
                self._receive()
                return
            self._queue_piece(next(self._body, None) if self._body is not None else None)
            if not connection.unsent:
                return
        if not connection.unsent:
            if not connection.wait(READABLE, self.read_timeout):
                raise ReadTimeoutError(self.read_timeout or 0)
            self._receive()
            return
        if not connection.sent:
            # The first bytes nearly always find room.
            self._send()
            if connection.sent or not connection.unsent:
                return
        ready = connection.wait(READABLE | WRITABLE, self.write_timeout)
        if not ready:
            raise WriteTimeoutError(self.write_timeout or 0)
        if ready & READABLE:
            # While the application waits for somebody to take its answer, it may read nothing.
            self._receive()
        if ready & WRITABLE:
            self._send()
