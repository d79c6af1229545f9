"""One request by plain CGI (RFC 3875): the web server started this process for it and gave it no socket to listen on.

A thread plays the web server of FastCGI: it tells the one request, which stands in the environment and on standard
input, over a connection to the ordinary server, and writes the response to standard output. So handlers and gateways
are the same, and what they promise holds here, too.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections import deque
from contextlib import contextmanager

from ..log import stderr_is_ours
from ..net import FCGI_LISTENSOCK_FILENO, ListeningSocket, describe_fd
from ..net.single import SingleConnection
from ..protocol.webserver import WebServerConnection
from ..protocol.webserver_events import RequestBroken, RequestEnded, StderrReceived, StdoutReceived
from .signals import StopSignals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..limits import Limits
    from ..protocol.records import Buffer

_READ_SIZE = 64 * 1024
# How much a pipe takes at least without blocking, once it is ready.
_WRITE_SIZE = select.PIPE_BUF
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


def is_plain_cgi() -> bool:
    """Whether the environment is that of a CGI script (GATEWAY_INTERFACE, REQUEST_METHOD) and fd 0 may be its input.

    To be asked only when fd 0 is no listening socket. A terminal is no web server, whatever the environment says.
    """
    return (
        os.environ.get("GATEWAY_INTERFACE", "").startswith("CGI/")
        and "REQUEST_METHOD" in os.environ
        and describe_fd(FCGI_LISTENSOCK_FILENO) != "a terminal"
    )


@contextmanager
def one_request(limits: Limits) -> Iterator[ListeningSocket]:
    """What a server is to serve on, which gives it the one request and ends it then.

    Standard input is empty from then on and standard output is standard error, so that a print() of the application
    goes to the web server's error log instead of into the response. Stop signals end nothing before the response is
    complete, unless that takes ``graceful_timeout``.
    """
    stderr_is_ours()
    params = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in os.environb.items()]
    # The first is a request's header field under a name that HTTP clients obey (httpoxy), the second is about sockets.
    for misleading in ("HTTP_PROXY", "FCGI_WEB_SERVER_ADDRS"):
        os.environ.pop(misleading, None)
    stdin, stdout, stderr = _take_descriptors()
    ours, servers = socket.socketpair()
    listening = _OneRequest(servers)
    conversation = Conversation(ours, stdin, stdout, stderr, params, limits.write_timeout)

    def converse() -> None:
        try:
            conversation.run()
        finally:
            # The end of its output is what the web server waits for.
            for descriptor in (stdout, stdin, stderr):
                os.close(descriptor)
            ours.close()
            listening.over()

    def nothing() -> None:
        """The response is on its way, and this process ends behind it."""

    thread = threading.Thread(target=converse, name="plain-cgi", daemon=True)
    with StopSignals(nothing, graceful_timeout=limits.graceful_timeout, at_once=nothing):
        thread.start()
        try:
            with listening:
                yield listening
        finally:
            thread.join()


def _take_descriptors() -> tuple[int, int, int]:
    """Duplicates of what the web server gave; the originals are turned away from the conversation."""
    taken = [_duplicate(descriptor) for descriptor in range(3)]
    null = os.open(os.devnull, os.O_RDONLY)
    if null != FCGI_LISTENSOCK_FILENO:
        os.dup2(null, FCGI_LISTENSOCK_FILENO)
        os.close(null)
    os.dup2(taken[2], 1)
    if sys.stdout is not None:
        # What was printed until now goes there, too.
        sys.stdout.flush()
    return taken[0], taken[1], taken[2]


def _duplicate(descriptor: int) -> int:
    """Never one of the first three, which may have been closed."""
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        try:
            return fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(null)


class _OneRequest(ListeningSocket):
    """Ends its server behind the one request."""

    __slots__ = ("_is_over", "_lock", "_stop")

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(SingleConnection(connection), "plain CGI")
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._is_over = False

    def arrange_end(self, stop: Callable[[], object]) -> Callable[[], object]:
        with self._lock:
            self._stop = stop
            is_over = self._is_over
        if is_over:
            stop()
        return lambda: None

    def over(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._is_over = True
            stop = self._stop
        if stop is not None:
            stop()


class Conversation:
    """The web server's part, on three descriptors and a connection, none of which it closes."""

    def __init__(
        self,
        sock: socket.socket,
        stdin: int,
        stdout: int,
        stderr: int,
        params: list[tuple[str, str]],
        write_timeout: float,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._write_timeout = write_timeout
        self._connection = WebServerConnection()
        self._request = self._connection.begin(params, keep_conn=False)
        # How much of the body is still to be read; None: until its end.
        self._left = body_length(dict(params))
        self._has_input = self._left != 0
        if not self._has_input:
            self._connection.end_stdin(self._request)
        self._to_application: deque[memoryview] = deque()
        self._to_web_server: deque[memoryview] = deque()
        self._over = False

    def run(self) -> None:
        """Until the response has been written, or nobody wants it any more."""
        while not self._over or self._to_web_server:
            self._to_application.extend(map(memoryview, self._connection.data_to_send()))
            ready = self._wait()
            output = ready.get(self._stdout, 0)
            # The application hears of a web server that takes no more as of any that hangs up.
            if output & _GONE or (not ready and self._to_web_server):
                return
            if output & select.POLLOUT and not self._write():
                return
            events = ready.get(self._sock.fileno(), 0)
            if events & select.POLLOUT:
                self._send()
            if events & ~select.POLLOUT and not self._to_web_server:
                self._receive()
            if self._stdin in ready and not self._over:
                self._read()

    def _wait(self) -> dict[int, int]:
        """What can go on; nothing if the web server took none of the response for ``write_timeout``."""
        poll = select.poll()
        poll.register(self._stdout, select.POLLOUT if self._to_web_server else 0)
        if not self._over:
            # What is not written yet is enough to hold.
            events = 0 if self._to_web_server else select.POLLIN
            events |= select.POLLOUT if self._to_application else 0
            if events:
                poll.register(self._sock, events)
            if self._has_input and not self._to_application:
                poll.register(self._stdin, select.POLLIN)
        return dict(poll.poll(self._write_timeout * 1000 if self._to_web_server else None))

    def _read(self) -> None:
        """More of the body."""
        try:
            data = os.read(self._stdin, _READ_SIZE if self._left is None else min(self._left, _READ_SIZE))
        except BlockingIOError:
            # It is shared, and another process was quicker.
            return
        except OSError:
            data = b""
        if data:
            self._connection.send_stdin(self._request, data)
            if self._left is not None:
                self._left -= len(data)
        elif self._left is not None:
            # Half a body is not to look like a whole one.
            self._has_input = False
            self._connection.abort(self._request)
            return
        if not data or self._left == 0:
            self._has_input = False
            self._connection.end_stdin(self._request)

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._to_application[0])
        except OSError:
            # It reads no more; what it still says is there to be received.
            self._to_application.clear()
            self._has_input = False
            return
        _drop(self._to_application, sent)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except OSError:
            data = b""
        for event in self._connection.receive_data(data) if data else self._connection.receive_eof():
            if isinstance(event, StdoutReceived):
                self._to_web_server.append(memoryview(event.data))
            elif isinstance(event, StderrReceived):
                self._complain(event.data)
            elif isinstance(event, RequestEnded | RequestBroken):
                self._over = True
        if not data:
            self._over = True

    def _write(self) -> bool:
        """Whether the web server, or a file in its place, still takes the response."""
        try:
            written = os.write(self._stdout, self._to_web_server[0][:_WRITE_SIZE])
        except BlockingIOError:
            return True
        except OSError:
            return False
        _drop(self._to_web_server, written)
        return True

    def _complain(self, data: Buffer) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._stderr, left) :]
        except OSError:
            # Nobody reads the error log.
            pass


def body_length(params: dict[str, str]) -> int | None:
    """How many bytes of standard input are the request's body (RFC 3875 4.2); None: all until its end.

    Without a length there is none, and the input may never end; only a body that came in chunks says so.
    """
    from ..cgi.request import content_length

    length = content_length(params)
    if length is None and not params.get("HTTP_TRANSFER_ENCODING"):
        return 0
    return length


def _drop(waiting: deque[memoryview], count: int) -> None:
    """Take away what was written of the first buffer."""
    first = waiting.popleft()[count:]
    if first:
        waiting.appendleft(first)
