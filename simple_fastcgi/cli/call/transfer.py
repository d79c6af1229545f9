"""One request over a socket, and its response: bytes are moved both ways at once."""

from __future__ import annotations

import select
import time

from ...client.call import CallState
from ...client.connection import MOST_MILLISECONDS, READABLE, WRITABLE, Connection
from ...client.exchange import Exchange
from ...errors import BrokenResponseError, ProtocolError, RequestRefusedError, ResponseHeadError
from ...protocol.constants import FCGI_REQUEST_COMPLETE
from ...protocol.webserver_events import RequestEnded
from . import status
from .status import CallError, reason_of
from .target import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ...client.exchange import ExchangeEvent
    from ...net.address import BindAddress
    from ...protocol.records import Buffer
    from .body import Body
    from .records import RecordLog

    Logs = tuple[RecordLog, RecordLog]

FOREVER = float("inf")
_AT_ONCE = 65536


class Link(Connection):
    """A connection to the application, to be closed; a request that is under way is thereby aborted.

    `logs`, if any, are told of what is sent, and of what comes. `deadline` is on time.monotonic()'s clock,
    `connect_timeout` in seconds. Raises CallError if there is no connection.
    """

    __slots__ = ("_logs", "address")

    def __init__(self, address: BindAddress, connect_timeout: float, deadline: float, logs: Logs | None = None) -> None:
        super().__init__(connect(address, connect_timeout, deadline))
        self.address = address
        self._logs = logs

    @property
    def has_room(self) -> bool:
        """Whether more should be queued: not much is waiting."""
        return sum(map(len, self.unsent)) < _AT_ONCE

    def queue(self, buffers: list[Buffer]) -> None:
        """Take what is to be sent, and tell of it."""
        if self._logs is not None:
            for buffer in buffers:
                for _ in self._logs[0].split(buffer):
                    pass
        super().queue(buffers)

    def wait_until(self, deadline: float, source: int | None = None) -> tuple[int, bool]:
        """Wait until something can be received, more can be sent, or `source` can be read from.

        What of READABLE and WRITABLE the socket is, and whether `source` can be read from; perhaps none of it.
        Raises TimeoutError at `deadline`.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        events = READABLE | (WRITABLE if self.unsent else 0)
        if source is None:
            return self.wait(events, left), False
        poll = select.poll()
        poll.register(self.sock, events)
        poll.register(source, select.POLLIN)
        has_input = any(file == source for file, _ in poll.poll(min(left * 1000, MOST_MILLISECONDS)))
        return self.wait(events, 0), has_input

    def pieces(self) -> Iterable[bytes]:
        """What has come, in pieces of which each is to be dealt with before the next one is asked for; b"" is the end.

        Raises what broke the connection.
        """
        data = self.receive()
        if self.error is not None:
            raise self.error
        if data is None:
            return ()
        return (data,) if self._logs is None or not data else map(bytes, self._logs[1].split(data))


class Transfer(CallState):
    """A request on `link`, and its response; `deadline` is on time.monotonic()'s clock."""

    __slots__ = ("_deadline", "_source", "uploaded")

    connection: Link
    uploaded: int
    """How many bytes of the body were handed over."""

    def __init__(
        self, link: Link, params: Mapping[str, str], body: Body, *, role: int, keep_conn: bool, deadline: float
    ) -> None:
        exchange = Exchange(link.core, params, role=role, keep_conn=keep_conn)
        super().__init__(link, exchange, iter(body.read, b"") if exchange.wants_input else None)
        self.uploaded = 0
        self._source = body
        self._deadline = deadline
        link.queue(exchange.data_to_send())

    def run(self, receive: Callable[[ExchangeEvent], bool]) -> None:
        """Hand what comes to `receive`, as it comes, to its end, or until `receive` has had enough (False).

        Raises what :meth:`.Exchange.next_event` does, CallError for the body, TimeoutError, and other OSErrors of the
        connection: :meth:`explain` makes one line of them.
        """
        pieces: Iterator[bytes] = iter(())
        while True:
            event = self.exchange.next_event()
            if event is not None:
                if not receive(event) or isinstance(event, RequestEnded):
                    return
                continue
            piece = next(pieces, None)
            if piece is None:
                pieces = iter(self._move())
            else:
                self.exchange.receive_data(piece)

    def explain(self, error: Exception) -> CallError:
        """What is told of an error that :meth:`run` raised."""
        if isinstance(error, CallError):
            return error
        exchange, address = self.exchange, self.connection.address
        if isinstance(error, TimeoutError):
            what = (
                "the response is not complete"
                if exchange.received
                else "nothing has come; is it a FastCGI server, or busy?"
            )
            return CallError(status.TIMEOUT, f"--max-time is over: {address}: {what}")
        if isinstance(error, OSError):
            begun = exchange.head is not None
            where = f" {exchange.where()}" if begun else ""
            told = f"{address}: the connection broke{where}: {reason_of(error)}"
            return CallError(status.PARTIAL if begun else status.RECEIVE, told)
        if isinstance(error, RequestRefusedError):
            return CallError(status.REFUSED, f"{address}: {error}")
        if isinstance(error, BrokenResponseError):
            return CallError(*_broken(exchange, f"{address}: {error}"))
        if isinstance(error, ResponseHeadError) and _ended_in_silence(exchange):
            return CallError(status.EMPTY, f"{address}: {error}")
        assert isinstance(error, ProtocolError)
        return CallError(status.PROTOCOL, f"{address}: {error}{_cure(str(error), address)}")

    def _move(self) -> Iterable[bytes]:
        """Send, and hand out what came."""
        link = self.connection
        while self._wants_more and self._source.awaited is None:
            self._read_body()
        source = self._source.awaited if self._wants_more else None
        ready, has_input = link.wait_until(self._deadline, source)
        if ready & WRITABLE:
            self._send()
        if has_input:
            self._read_body()
        return link.pieces() if ready & READABLE else ()

    @property
    def _wants_more(self) -> bool:
        return self._has_more() and self.connection.has_room

    def _read_body(self) -> None:
        data = self._source.read()
        self.uploaded += len(data)
        self._queue_piece(data or None)


def _broken(exchange: Exchange, told: str) -> tuple[int, str]:
    if exchange.head is not None:
        return status.PARTIAL, told
    if exchange.received:
        return status.RECEIVE, told
    return status.EMPTY, f"{told}; it may allow other clients only, or be no FastCGI server"


def _ended_in_silence(exchange: Exchange) -> bool:
    end = exchange.end
    return end is not None and end.protocol_status == FCGI_REQUEST_COMPLETE and not exchange._reader.begun


def _cure(told: str, address: BindAddress) -> str:
    if "HTTP server" not in told:
        return ""
    if address.kind == "tcp":
        return f", which curl http://{address}/ calls"
    return f", which curl --unix-socket {address.path} http://localhost/ calls" if address.kind == "unix" else ""
