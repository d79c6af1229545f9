"""One request over a socket, and its response: bytes are moved both ways at once."""

from __future__ import annotations

import select
import time

from ...client.exchange import Exchange
from ...errors import BrokenResponseError, ProtocolError, RequestRefusedError, ResponseHeadError
from ...protocol.constants import FCGI_REQUEST_COMPLETE
from ...protocol.webserver import WebServerConnection
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
_BUFFERS_AT_ONCE = 64
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class Link:
    """A connection to the application, to be closed.

    `logs`, if any, are told of what is sent, and of what comes. `deadline` is on time.monotonic()'s clock,
    `connect_timeout` in seconds. Raises CallError if there is no connection.
    """

    __slots__ = ("_closed_for_sending", "_logs", "_pending", "address", "connection", "sent", "socket")

    sent: bool
    """Something was sent since it was last set to False."""

    def __init__(self, address: BindAddress, connect_timeout: float, deadline: float, logs: Logs | None = None) -> None:
        self.address = address
        self.socket = connect(address, min(time.monotonic() + connect_timeout, deadline))
        self.connection = WebServerConnection()
        self.sent = False
        self._logs = logs
        self._pending: list[memoryview] = []
        self._closed_for_sending = False

    def close(self) -> None:
        """Close it; a request that is under way is thereby aborted."""
        self.socket.close()

    def is_stale(self) -> bool:
        """Whether it is of no use for another request: the application has closed it, or says what nobody asked for."""
        try:
            data = self.socket.recv(_AT_ONCE)
            return not data or bool(self.connection.receive_data(data)) or not self.connection.can_begin
        except BlockingIOError:
            return not self.connection.can_begin
        except (OSError, ProtocolError):
            return True

    @property
    def has_room(self) -> bool:
        """Whether more should be queued: not much is waiting, and what is sent may arrive."""
        return not self._closed_for_sending and sum(map(len, self._pending)) < _AT_ONCE

    def queue(self, buffers: Iterable[Buffer]) -> None:
        """Have `buffers` sent."""
        for buffer in buffers:
            if self._logs is not None:
                for _ in self._logs[0].split(buffer):
                    pass
            if not self._closed_for_sending:
                self._pending.append(memoryview(buffer))

    def wait(self, source: int | None, deadline: float) -> tuple[bool, bool]:
        """Send what is queued, or wait; whether something can be received, and whether `source` can be read from.

        Raises TimeoutError at `deadline`.
        """
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLIN | (select.POLLOUT if self._pending else 0))
        if source is not None:
            poll.register(source, select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        # At most some days: the system takes no more.
        ready = dict(poll.poll(None if deadline == FOREVER else left * 1000 + 1))
        events = ready.get(self.socket.fileno(), 0)
        if events & select.POLLOUT and self._pending:
            self._send()
        return bool(events & _READABLE), source is not None and source in ready

    def receive(self) -> Iterable[bytes]:
        """What came, in pieces of which each is to be dealt with before the next one is asked for; b"" is the end."""
        try:
            data = self.socket.recv(_AT_ONCE)
        except BlockingIOError:
            return ()
        return (data,) if self._logs is None or not data else map(bytes, self._logs[1].split(data))

    def _send(self) -> None:
        try:
            sent = self.socket.sendmsg(self._pending[:_BUFFERS_AT_ONCE])
        except BlockingIOError:
            return
        except OSError:
            # What comes tells why.
            self._closed_for_sending = True
            self._pending.clear()
            return
        self.sent = True
        while self._pending and sent >= len(self._pending[0]):
            sent -= len(self._pending.pop(0))
        if sent:
            self._pending[0] = self._pending[0][sent:]


class Transfer:
    """A request on `link`, and its response; `deadline` is on time.monotonic()'s clock."""

    __slots__ = ("_body", "_deadline", "_has_more", "_link", "exchange", "uploaded")

    uploaded: int
    """How many bytes of the body were handed over."""

    def __init__(
        self, link: Link, params: Mapping[str, str], body: Body, *, role: int, keep_conn: bool, deadline: float
    ) -> None:
        self.exchange = Exchange(link.connection, params, role=role, keep_conn=keep_conn)
        self.uploaded = 0
        self._link = link
        self._body = body
        self._deadline = deadline
        self._has_more = True
        link.sent = False
        link.queue(self.exchange.data_to_send())

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
        exchange, address = self.exchange, self._link.address
        if isinstance(error, TimeoutError):
            what = "the response is not complete" if exchange.received else "nothing has come; is it a FastCGI server?"
            return CallError(status.TIMEOUT, f"--max-time is over: {address}: {what}")
        if isinstance(error, OSError):
            return CallError(status.RECEIVE, f"{address}: the connection broke: {reason_of(error)}")
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
        link, body = self._link, self._body
        while self._wants_body and body.awaited is None and link.has_room:
            self._read_body()
        source = body.awaited if self._wants_body and link.has_room else None
        readable, has_input = link.wait(source, self._deadline)
        if has_input:
            self._read_body()
        return link.receive() if readable else ()

    @property
    def _wants_body(self) -> bool:
        return self._has_more and self.exchange.wants_input

    def _read_body(self) -> None:
        data = self._body.read()
        if data:
            self.exchange.send_body(data)
            self.uploaded += len(data)
        else:
            self._has_more = False
            self.exchange.end_body()
        self._link.queue(self.exchange.data_to_send())


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
