"""``--repeat``: how long requests take, one after the other, on a connection that is kept if it can be."""

from __future__ import annotations

import time
from array import array

from ...client.pool import may_retry
from . import status
from .command import ROLES, deadline_of
from .output import Output
from .response import Response
from .status import CallError
from .transfer import Link, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from ...net.address import BindAddress
    from .output import Messages
    from .request import Request


def repeat(address: BindAddress, arguments: Namespace, request: Request, messages: Messages) -> int:
    """Send `request` as often as asked, and print a summary; the exit status, of the first that fails in the end."""
    if request.body.parts and request.body.length is None:
        raise CallError(
            status.USAGE, "--repeat: what comes from standard input as it comes can be sent once: use -d @-"
        )
    runs = _Runs(address, arguments, request, messages)
    error: CallError | None = None
    result = status.OK
    begin = time.monotonic()
    try:
        for _ in range(arguments.repeat):
            runs.one()
    except CallError as failure:
        error = failure
    except KeyboardInterrupt:
        result = status.INTERRUPTED
    finally:
        runs.close()
    seconds = time.monotonic() - begin
    if runs.times:
        with Output("-") as output:
            output.write("".join(f"{line}\n" for line in runs.summary(seconds)).encode())
    if runs.hint is not None:
        messages.hint(runs.hint)
    if error is None and result == status.OK and runs.failure is not None:
        error = runs.failure
    if error is not None:
        done = f"request {len(runs.times) + 1} of {arguments.repeat}: " if error is not runs.failure else ""
        raise CallError(error.status, f"{done}{error}")
    return result


class _Runs:
    """What was sent, and what it took."""

    def __init__(self, address: BindAddress, arguments: Namespace, request: Request, messages: Messages) -> None:
        self.times = array("d")
        """Seconds of each request."""
        self.statuses: dict[int, int] = {}
        """How many responses had which HTTP status."""
        self.connections = 0
        self.failure: CallError | None = None
        """The first failure in the sense of ``--fail``."""
        self.hint: str | None = None
        self._address = address
        self._arguments = arguments
        self._request = request
        self._messages = messages
        self._link: Link | None = None
        self._keep_conn = arguments.keep_conn is not False

    def one(self) -> None:
        """Send it once more, on the kept connection if there is one that still stands."""
        begin = time.monotonic()
        deadline = deadline_of(self._arguments)
        if self._link is not None and not self._link.take():
            self.close()
        response = self._exchange(self._link, deadline) if self._link is not None else None
        if response is None:
            self.connections += 1
            self._link = Link(self._address, self._arguments.connect_timeout, deadline)
            response = self._exchange(self._link, deadline)
        assert response is not None
        self.times.append(time.monotonic() - begin)
        assert response.head is not None
        self.statuses[response.head.status] = self.statuses.get(response.head.status, 0) + 1
        self.hint = self.hint or response.hint(self._request.params)
        try:
            response.check()
        except CallError as failure:
            self.failure = self.failure or failure

    def _exchange(self, link: Link, deadline: float) -> Response | None:
        """The response; None if the connection, a kept one, had been closed and the request may be sent again."""
        self._request.body.rewind()
        response = Response(self._arguments, self._messages, Output(None), Output(None))
        transfer = Transfer(
            link,
            self._request.params,
            self._request.body,
            role=ROLES[self._arguments.role],
            keep_conn=self._keep_conn,
            deadline=deadline,
        )
        try:
            transfer.run(response.receive)
        except Exception as error:
            self.close()
            if may_retry(transfer.exchange, error, kept=link.kept, sent=bool(link.sent), replayable=True):
                return None
            raise transfer.explain(error) from None
        if not transfer.reusable:
            self.close()
        return response

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def summary(self, seconds: float) -> list[str]:
        """The lines of the summary, for what was done within `seconds`."""
        times = sorted(self.times)
        statuses = ", ".join(f"{count} x {code}" for code, count in sorted(self.statuses.items()))
        ranks = f"median {_ms(_at(times, 50))}, p95 {_ms(_at(times, 95))}"
        rate = len(times) / max(seconds, 1e-9)
        return [
            f"{len(times)} request{'s' * (len(times) > 1)} in {seconds:.3f} s: {rate:.1f} requests/s",
            f"latency: min {_ms(times[0])}, {ranks}, max {_ms(times[-1])}",
            f"connections: {self.connections}",
            f"HTTP status: {statuses}",
        ]


def _at(times: Sequence[float], percent: int) -> float:
    """The smallest of the sorted `times` that `percent` of them do not exceed (nearest rank)."""
    return times[-(-len(times) * percent // 100) - 1]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
