"""What becomes of a response: shown, written, counted, and looked at for what people ask about most."""

from __future__ import annotations

import time
from http import HTTPStatus

from ...cgi.reply import ResponseHead
from ...protocol.webserver_events import RequestEnded, StderrReceived, StdoutReceived
from . import status
from .status import CallError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from ...client.exchange import ExchangeEvent
    from .output import Messages, Output

_FAILURES = 400
# A body that nobody wants to see is read to its end for what comes behind it, unless it is longer.
_MAX_UNSEEN = 1 << 20
_REMEMBERED = 4096


class Response:
    """Takes a response as it comes; `body` and `head_file` are where its parts are written to."""

    def __init__(self, arguments: Namespace, messages: Messages, body: Output, head_file: Output) -> None:
        self.head: ResponseHead | None = None
        self.end: RequestEnded | None = None
        self.size = 0
        """Bytes of the body."""
        self.first_byte: float | None = None
        """When the head was there, on time.monotonic()'s clock."""
        self._arguments = arguments
        self._messages = messages
        self._body = body
        self._head_file = head_file
        self._stderr = b""
        self._beginning = b""
        self._unseen = False

    def receive(self, event: ExchangeEvent) -> bool:
        """Take what came next; whether more is wanted."""
        if isinstance(event, StdoutReceived):
            self.size += len(event.data)
            if len(self._beginning) < _REMEMBERED:
                self._beginning += bytes(event.data[:_REMEMBERED])
            if self._unseen:
                return self.size <= _MAX_UNSEEN
            self._body.write(event.data)
        elif isinstance(event, StderrReceived):
            if len(self._stderr) < _REMEMBERED:
                self._stderr += bytes(event.data[:_REMEMBERED])
            self._messages.application(event.data)
        elif isinstance(event, ResponseHead):
            self._take_head(event)
        else:
            self.end = event
        return True

    def check(self) -> None:
        """Raises CallError for a response that is a failure to ``--fail``."""
        arguments = self._arguments
        if not (arguments.fail or arguments.fail_with_body):
            return
        if self.head is not None and self.head.status >= _FAILURES:
            raise CallError(
                status.HTTP_ERROR, f"the application answered {self.head.status} {reason(self.head)}".rstrip()
            )
        if self.end is not None and self.end.app_status:
            raise CallError(status.HTTP_ERROR, f"the application ended with its status {self.end.app_status}")

    def hint(self, params: Mapping[str, str]) -> str | None:
        """What PHP says too shortly, explained."""
        return explain_php(params.get("SCRIPT_FILENAME"), self._beginning, self._stderr)

    def _take_head(self, head: ResponseHead) -> None:
        arguments = self._arguments
        self.head = head
        self.first_byte = time.monotonic()
        self._unseen = arguments.fail and not arguments.fail_with_body and head.status >= _FAILURES
        lines = head_lines(head)
        if arguments.verbose:
            for line in lines:
                self._messages.line(f"<   {shown(line)}")
        block = b"".join(line + b"\r\n" for line in [*lines, b""])
        self._head_file.write(block)
        if arguments.include or arguments.head:
            self._body.write(block)
        elif not self._unseen:
            self._body.write(b"")


def explain_php(script: str | None, body: bytes, stderr: bytes) -> str | None:
    """What PHP says too shortly, explained: `script` is SCRIPT_FILENAME, `body` and `stderr` how its answer begins."""
    told = f"SCRIPT_FILENAME={shown((script or '').encode('latin-1'))}"
    beginning = body.strip()
    if b"Primary script unknown" in stderr or beginning in (b"File not found.", b"No input file specified."):
        if script is None:
            return "PHP was not told which file to run: give --document-root DIR or --script FILE"
        return (
            f"PHP finds no file at {told}, or may not read it: that path is as PHP sees it "
            "(its chroot, its user's rights); see --document-root and --script"
        )
    if b"security.limit_extensions" in stderr or beginning == b"Access denied.":
        return f"PHP-FPM runs only files whose names its setting security.limit_extensions allows (.php), not {told}"
    return None


def head_lines(head: ResponseHead) -> list[bytes]:
    """The head as a browser gets it from a web server."""
    start = b"HTTP/1.1 %d %s" % (head.status, reason(head).encode("latin-1"))
    return [start.rstrip(), *(b"%s: %s" % field for field in head.headers)]


def reason(head: ResponseHead) -> str:
    """The reason phrase, the usual one if none came."""
    if head.reason:
        return head.reason.decode("latin-1")
    try:
        return HTTPStatus(head.status).phrase
    except ValueError:
        return ""
