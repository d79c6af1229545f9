"""What ``call`` does: reads what was asked for, does it, and says how it ended."""

from __future__ import annotations

import os
import time

from ...protocol.constants import FCGI_AUTHORIZER, FCGI_RESPONDER
from . import status
from .options import parse
from .output import Messages, Output
from .records import RecordLog
from .request import make_request
from .response import Response
from .status import CallError
from .target import parse_target
from .transfer import FOREVER, Link, Transfer
from .writeout import written_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ...net.address import BindAddress
    from .request import Request
    from .transfer import Logs

ROLES = {"responder": FCGI_RESPONDER, "authorizer": FCGI_AUTHORIZER}


def call(words: Sequence[str]) -> int:
    """Do what `words` say; the exit status."""
    messages = Messages()
    try:
        arguments = parse(words)
        messages = Messages(
            errors=not arguments.silent or arguments.show_error,
            hints=not arguments.silent,
        )
        return _run(arguments, messages)
    except CallError as error:
        messages.error(error)
        return error.status
    finally:
        messages.close()


def _run(arguments: Namespace, messages: Messages) -> int:
    address = parse_target(arguments.target)
    if arguments.get_values:
        from .values import print_values

        return print_values(address, arguments, messages, record_logs(arguments, messages))
    request = make_request(arguments)
    with request.body:
        if arguments.repeat is not None:
            from .repeat import repeat

            return repeat(address, arguments, request, messages)
        deadline = deadline_of(arguments)
        call = _Call(arguments, request, messages)
        try:
            call.run(address, deadline)
        except CallError as error:
            call.error = error
        return call.finish()


def deadline_of(arguments: Namespace, default: float = FOREVER) -> float:
    """When ``--max-time``, from now on, is over."""
    seconds = default if arguments.max_time is None else arguments.max_time
    return FOREVER if seconds == FOREVER else time.monotonic() + seconds


def record_logs(arguments: Namespace, messages: Messages) -> Logs | None:
    """Logs for ``-v``."""
    return (RecordLog(">", messages.line), RecordLog("<", messages.line)) if arguments.verbose else None


class _Call:
    """One request, and all that is told about it."""

    def __init__(self, arguments: Namespace, request: Request, messages: Messages) -> None:
        self.error: CallError | None = None
        self._arguments = arguments
        self._request = request
        self._messages = messages
        self._transfer: Transfer | None = None
        self._response: Response | None = None
        self._begin = time.monotonic()
        self._connected: float | None = None

    def run(self, address: BindAddress, deadline: float) -> None:
        """Send the request, and put its response out; CallError if that fails."""
        arguments, messages, request = self._arguments, self._messages, self._request
        link = Link(address, arguments.connect_timeout, deadline, record_logs(arguments, messages))
        self._connected = time.monotonic()
        if arguments.verbose:
            messages.line(f"* connected to {address}")
        try:
            with Output(arguments.output or "-") as body, Output(arguments.dump_header) as head_file:
                response = self._response = Response(arguments, messages, body, head_file)
                transfer = self._transfer = Transfer(
                    link,
                    request.params,
                    request.body,
                    role=ROLES[arguments.role],
                    keep_conn=bool(arguments.keep_conn),
                    deadline=deadline,
                )
                try:
                    transfer.run(response.receive)
                except Exception as error:
                    raise transfer.explain(error) from None
                response.check()
        finally:
            link.close()

    def finish(self) -> int:
        """Say how it ended; the exit status."""
        messages, error = self._messages, self.error
        hint = self._response.hint(self._request.params) if self._response is not None else None
        if error is not None:
            messages.error(error)
        if hint is not None:
            messages.hint(hint)
        if self._arguments.write_out is not None:
            written = written_out(self._arguments.write_out, self._values(), self._unknown_variable)
            try:
                with Output("-") as output:
                    output.write(written)
            except CallError as failure:
                if error is None:
                    messages.error(failure)
                    return failure.status
        return status.OK if error is None else error.status

    def _unknown_variable(self, name: str) -> None:
        self._messages.hint(f"-w: there is no variable {name!r}")

    def _values(self) -> dict[str, object]:
        now, response, params = time.monotonic(), self._response, self._request.params
        head = None if response is None else response.head
        first_byte = None if response is None else response.first_byte
        content_type = None if head is None else head.get(b"content-type")
        code = f"{0 if head is None else head.status:03}"
        return {
            "app_status": None if response is None or response.end is None else response.end.app_status,
            "content_type": None if content_type is None else os.fsdecode(content_type),
            "errormsg": None if self.error is None else str(self.error),
            "exitcode": 0 if self.error is None else self.error.status,
            "http_code": code,
            "method": params["REQUEST_METHOD"],
            "num_headers": 0 if head is None else len(head.headers),
            "response_code": code,
            "size_download": 0 if response is None else response.size,
            "size_upload": 0 if self._transfer is None else self._transfer.uploaded,
            "time_connect": self._since_begin(self._connected),
            "time_starttransfer": self._since_begin(first_byte),
            "time_total": now - self._begin,
            "url": self._arguments.url,
        }

    def _since_begin(self, moment: float | None) -> float:
        return 0.0 if moment is None else moment - self._begin
