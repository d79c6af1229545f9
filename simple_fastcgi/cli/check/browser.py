"""Asks a web server, as a browser does; every question is bounded in time, and what comes in size."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from contextlib import contextmanager

from ..call.status import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from ..call.url import Url

MAX_PAGE = 1 << 20
"""Bytes of an answer that are read."""
_BLOCK = 65536


class AskError(Exception):
    """There is no answer. `kind` is "name", "refused", "unreachable", "tls", "time", "http" or "broken"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Answer:
    """A response, read to its end, or to MAX_PAGE; `seconds` is how long that took since the question began."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes, seconds: float, *, sent_all: bool) -> None:
        self.status = response.status
        self.reason = response.reason
        self.body = body
        self.seconds = seconds
        self.sent_all = sent_all
        """All of the request's body went out; else the web server answered before."""
        self._response = response

    def get(self, name: str) -> str:
        """The value of the header field `name`, "" if there is none."""
        return self._response.getheader(name) or ""


class Browser:
    """Asks the server of `url`; one question at a time, on one connection as long as the server keeps it.

    `timeout`: seconds for a whole question, the resolution of the name left out. A certificate that is not trusted is
    told in :attr:`distrust`, and accepted: all that is sent is made up. With a password in `url` it is refused.
    """

    def __init__(self, url: Url, timeout: float) -> None:
        assert url.server is not None
        self._url = url
        self._host, self._port = url.server[0].strip("[]"), url.server[1]
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._wire: _Wire | None = None
        self.distrust = ""
        """Why the certificate is not trusted."""

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._wire is not None:
            self._wire.end()
        self._connection = self._wire = None

    def ask(
        self,
        method: str,
        target: str,
        fields: Mapping[str, str],
        body: Iterable[bytes] = (),
        *,
        length: int | None = None,
        chunked: bool = False,
    ) -> Answer:
        """The answer to one request; AskError if there is none.

        `target` as it is sent, `fields` the header fields beside Host and those that tell of the body: `length` bytes
        of it, or as many as there are, `chunked`.
        """
        begin = time.monotonic()
        deadline = begin + self._timeout
        used = self._connection is not None
        with self._explaining():
            try:
                response, sent_all = self._exchange(deadline, method, target, fields, body, length, chunked=chunked)
            except ConnectionError:
                if not used or time.monotonic() >= deadline:
                    raise
                # It was kept, and the server has closed it meanwhile, as it may.
                self.close()
                response, sent_all = self._exchange(deadline, method, target, fields, body, length, chunked=chunked)
            page = response.read(MAX_PAGE)
            if len(page) < MAX_PAGE and response.length:
                raise http.client.IncompleteRead(page, response.length)
        if not sent_all or not response.isclosed():
            self.close()
        return Answer(response, page, time.monotonic() - begin, sent_all=sent_all)

    def open_stream(self, target: str, fields: Mapping[str, str]) -> Stream:
        """The answer to a GET, to be read in pieces within the timeout; AskError if none begins."""
        with self._explaining():
            response, _ = self._exchange(time.monotonic() + self._timeout, "GET", target, fields, (), None)
        return Stream(self, response)

    def _exchange(
        self,
        deadline: float,
        method: str,
        target: str,
        fields: Mapping[str, str],
        body: Iterable[bytes],
        length: int | None,
        *,
        chunked: bool = False,
    ) -> tuple[http.client.HTTPResponse, bool]:
        connection = self._connected(deadline)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", self._url.host)
        for name, value in fields.items():
            connection.putheader(name, value)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif length is not None:
            connection.putheader("Content-Length", str(length))
        connection.endheaders()
        sent_all = self._send(body, chunked=chunked)
        return connection.getresponse(), sent_all

    def _send(self, body: Iterable[bytes], *, chunked: bool) -> bool:
        """Send the body, as long as it is wanted; whether all of it was."""
        assert self._wire is not None
        try:
            for block in body:
                if self._wire.has_answer():
                    return False
                self._wire.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            if chunked:
                self._wire.sendall(b"0\r\n\r\n")
        except ConnectionError:
            # Its answer may be here all the same.
            return False
        return True

    def _connected(self, deadline: float) -> http.client.HTTPConnection:
        if self._connection is None:
            self._wire = _Wire(self._connect(deadline))
            self._connection = http.client.HTTPConnection(self._host, self._port)
            self._connection.sock = self._wire
        elif self._connection.sock is None:
            # The server's last answer said so.
            self.close()
            return self._connected(deadline)
        assert self._wire is not None
        self._wire.deadline = deadline
        return self._connection

    def _connect(self, deadline: float) -> socket.socket:
        sock = socket.create_connection((self._host, self._port), max(deadline - time.monotonic(), 0.001))
        if self._url.scheme == "http":
            return sock
        try:
            try:
                context = ssl.create_default_context()
                if self.distrust:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                return context.wrap_socket(sock, server_hostname=self._host)
            except ssl.SSLCertVerificationError as error:
                self.distrust = error.verify_message or str(error)
                if self._url.userinfo is not None:
                    raise AskError(
                        "tls",
                        f"the certificate of {self._url.host} is not trusted ({self.distrust}), so the "
                        "password in the URL is not sent",
                    ) from None
        except BaseException:
            sock.close()
            raise
        sock.close()
        return self._connect(deadline)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Close the connection, and raise AskError, for what fails within."""
        try:
            yield
        except AskError:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> AskError:
        place = self._url.host
        if isinstance(error, socket.gaierror):
            return AskError("name", f"the name {self._host!r} cannot be resolved ({error.strerror})")
        if isinstance(error, TimeoutError):
            return AskError("time", f"{place} did not answer within {self._timeout:g} s")
        if isinstance(error, ConnectionRefusedError):
            return AskError("refused", f"nobody listens at port {self._port} of {self._host}")
        if isinstance(error, ssl.SSLError):
            return AskError("tls", f"no TLS with {place}: {error.reason or error}")
        if isinstance(error, ConnectionError):  # http.client's RemoteDisconnected is one, too
            return AskError("broken", f"{place} closed the connection without a whole answer")
        if isinstance(error, OSError):
            return AskError("unreachable", f"{place} cannot be reached: {reason_of(error)}")
        if isinstance(error, http.client.IncompleteRead):
            return AskError("broken", f"{place} closed the connection within its answer")
        return AskError("http", f"what {place} answers is no HTTP ({type(error).__name__})")


class Stream:
    """An answer that is read in pieces."""

    def __init__(self, browser: Browser, response: http.client.HTTPResponse) -> None:
        self._browser = browser
        self._response = response
        self.status = response.status

    def read(self) -> bytes:
        """What comes next, waiting for the first byte; b"" is the end. AskError if it breaks off."""
        try:
            return self._response.read1(_BLOCK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._browser._explained(error) from None


class _Wire:
    """What http.client takes for a socket; :attr:`deadline` (time.monotonic()) holds for all that is done on it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader: _Reader | None = None
        self.deadline = float("inf")

    def armed(self) -> socket.socket:
        """The socket, with the time that is left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: Any) -> None:
        self.armed().sendall(data)

    def has_answer(self) -> bool:
        """Whether something came already. Under TLS that need be no answer, so there nobody looks."""
        if isinstance(self._sock, ssl.SSLSocket):
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def makefile(self, mode: str) -> io.BufferedReader:
        """For http.client's reading."""
        self._reader = _Reader(self)
        return io.BufferedReader(self._reader)

    def close(self) -> None:
        """http.client closes a socket before it reads the last answer, whose reader holds it open."""
        if self._reader is None or self._reader.closed:
            self.end()

    def end(self) -> None:
        """Close the socket now."""
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.armed().recv_into(buffer)
