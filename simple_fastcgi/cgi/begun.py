"""What the requests of synchronous and asynchronous servers have in common: nothing of it waits."""

from __future__ import annotations

from ..protocol.events import RequestBegun
from .environ import request_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..protocol.streams import Request


class BegunRequest(RequestBegun):
    """What a handler's streams stand on.

    It is what the core tells when a request has begun: to make one object for each is faster than two.
    """

    __slots__ = ()

    core: Request = RequestBegun.request  # type: ignore[misc]

    @property
    def params(self) -> dict[str, str]:
        """The parameters as they came, one character per byte; a handler's `environ` has them decoded."""
        return self.core.params

    @property
    def replaceable(self) -> bool:
        """Nothing of the response has left, and somebody waits for one: a 500 can stand for it."""
        core = self.core
        return not (core.stdout_begun or core.ended or core.aborted)

    def log_fields(self) -> dict[str, object]:
        """What is known of it, for the log, under the names that the access log has in JSON."""
        return request_fields(self.core.params)
