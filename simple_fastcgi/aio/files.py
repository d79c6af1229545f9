"""Files that the kernel sends, past the transport."""

from __future__ import annotations

import os
import socket
from asyncio import Lock, sleep

from ..cgi.response import loses_ranges
from ..net.files import ENDED, TURN, after, record_size, send_records, send_some, widen_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future

    from ..net.files import FilePart, SourceFile
    from ..protocol.records import Buffer
    from ..protocol.streams import Request
    from .connection import Connection


class FileSender:
    """Sends the files of one connection, in turns; it is there as long as a request sends one.

    The transport knows no sendfile between the headers of records, so its socket is used directly, through a duplicate
    that the event loop can watch. That is sound because of two things: a turn begins when the transport's buffer is
    empty, and until it ends nobody hands anything to the transport (:attr:`Connection.bypassed`). What other requests
    have to send leaves with the next record. A record that was begun is sent to its end, even if the request is
    aborted meanwhile, or its task cancelled.

    While the connection has no other request turns follow each other, one for each time that the loop tells of room: to
    wake the task and to watch the socket anew would take as long as to send.
    """

    __slots__ = (
        "_connection",
        "_done",
        "_end",
        "_file",
        "_lock",
        "_paused",
        "_request",
        "_sent",
        "_sock",
        "_start",
        "_stop",
        "_users",
        "_waiting",
        "_watching",
    )

    _request: Request
    _file: SourceFile

    def __init__(self, connection: Connection) -> None:
        transport_socket = connection.transport.get_extra_info("socket")
        self._connection = connection
        self._sock = socket.socket(
            transport_socket.family,
            transport_socket.type,
            transport_socket.proto,
            fileno=os.dup(transport_socket.fileno()),
        )
        self._sock.setblocking(False)
        self._lock = Lock()
        self._users = 0
        # How often something has left.
        self._sent = 0
        # Of the turn under way, if `_done` is there: from where to where, how far turns may follow it, and what is left
        # of the record.
        self._start = self._stop = self._end = 0
        self._waiting: list[Buffer | FilePart] = []
        # Done when others may have their turn; where to go on.
        self._done: Future[int] | None = None
        self._watching = False
        # It was us who have paused the connection.
        self._paused = False

    def progress(self) -> int:
        """0 unless the web server keeps us waiting; then a number that is another one when something has left."""
        if not self._paused:
            return 0
        # Unix sockets tell of room late, when most of what waited has left: slow is not dead.
        self._advance()
        return self._sent + 1

    async def send(self, request: Request, file: SourceFile, start: int, stop: int) -> None:
        """Send `file` from `start` to `stop`; raises as :meth:`AsyncFcgiRequest.send_file`."""
        loop = self._connection.loop
        widen_for(stop - start, self._sock, sparingly=loses_ranges(request.params))
        self._users += 1
        try:
            while start < stop:
                end = min(start + TURN, stop)
                file.check_size(end)
                if not file.is_at_hand(start, end):
                    # The disk would keep the whole loop waiting.
                    await loop.run_in_executor(None, file.fetch, start, end)
                await self._lock.acquire()
                start = await self._take_turns(request, file, start, end, stop)
                if request.aborted:
                    raise ConnectionAbortedError("the web server aborted the request")
                if request.ended:
                    # By another task of the application.
                    raise RuntimeError(ENDED)
                file.check()
                await sleep(0)
        finally:
            self._users -= 1
            self._close_if_unused()

    async def _take_turns(self, request: Request, file: SourceFile, start: int, stop: int, end: int) -> int:
        """Send a file from `start` to `stop`, or on towards `end`; where to go on.

        The lock is held, and released at the end.
        """
        connection = self._connection
        connection.bypass()
        try:
            await self._wait_for_transport()
        except BaseException:
            self._end_turn()
            raise
        self._request, self._file = request, file
        self._start, self._stop, self._end = start, stop, end
        done: Future[int] = connection.loop.create_future()
        self._done = done
        self._advance()
        try:
            return await done
        finally:
            if self._done is done:
                # Cancelled: what is left of the record leaves without us.
                self._stop = self._end = self._start

    async def _wait_for_transport(self) -> None:
        """Until its buffer is empty."""
        connection = self._connection
        transport = connection.transport
        if not transport.get_write_buffer_size():
            return
        # So it tells when nothing at all is left.
        transport.set_write_buffer_limits(high=0)
        try:
            while transport.get_write_buffer_size() and not transport.is_closing():
                await sleep(0)
                await connection.drained()
        finally:
            if not transport.is_closing():
                connection.set_write_buffer_limits()

    def _advance(self) -> None:
        """Send as much as the socket takes, a turn at most; called by the loop, too, when it takes more."""
        connection, request, file = self._connection, self._request, self._file
        try:
            while self._waiting:
                self._waiting = after(self._waiting, send_some(self._sock, self._waiting))
                self._sent += 1
            while self._start < self._stop and not (
                self._waiting or request.aborted or request.ended or file.error is not None
            ):
                lead = connection.core.announce(request, record_size(self._start, self._stop))
                self._start, self._waiting = send_records(self._sock, lead, file, self._start, self._stop)
                self._sent += 1
        except BlockingIOError:
            pass
        except OSError:
            self._waiting = []
            connection.lose()
        if not self._waiting and not self._goes_on():
            self._end_turn()
            return
        if not self._paused:
            self._paused = True
            connection.pause_writing()
        if not self._watching:
            self._watching = True
            connection.loop.add_writer(self._sock.fileno(), self._advance)

    def _goes_on(self) -> bool:
        """Whether the same file has the next turn: nobody else can wait for one, and it does not wait for the disk."""
        request, file, start = self._request, self._file, self._start
        if start >= self._end or request.aborted or request.ended or file.error is not None:
            return False
        if len(self._connection.core.requests) > 1 or self._users > 1:
            return False
        stop = min(start + TURN, self._end)
        try:
            file.check_size(stop)
        except OSError:
            # Its task is told when it looks itself.
            return False
        if not file.is_at_hand(start, stop):
            return False
        self._stop = stop
        return True

    def _end_turn(self) -> None:
        connection = self._connection
        if self._watching:
            self._watching = False
            connection.loop.remove_writer(self._sock.fileno())
        connection.bypassed = False
        if self._paused or connection.paused is None:
            self._paused = False
            # What came up meanwhile goes through the transport again.
            connection.resume_writing()
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_result(self._start)
        self._lock.release()
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        # Not in the middle of a record of a task that was cancelled.
        if not self._users and self._done is None:
            self._sock.close()
            if self._connection.files is self:
                self._connection.files = None

    def lost(self) -> None:
        """The transport is closed."""
        self._waiting = []
        if self._done is not None:
            self._end_turn()
        # Whoever waits for the disk must not keep the connection open.
        self._sock.close()
