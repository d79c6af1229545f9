"""What a server's requests tell its monitor, be they synchronous or not."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..protocol.streams import InputStream, Request
    from .info import RequestInfo
    from .monitor import Monitor


class Counted:
    """Mixed into the requests of a server that has a monitor."""

    __slots__ = ()

    core: Request
    info: RequestInfo
    _monitor: Monitor

    def log_fields(self) -> dict[str, object]:
        """What is known of it, for the log, with what has been counted and measured."""
        return self.info.fields()

    def _count_input(self, size: int, stream: InputStream | None = None) -> None:
        """So many bytes were read of `stream` (default: FCGI_STDIN); the file that a Filter reads is no body."""
        if stream is None or stream is self.core.stdin:
            self.info.bytes_in += size

    def _count(self, data: bytes) -> None:
        """It is about to be written; where the web server has gone it will not be, and was no answer."""
        if not self.core.aborted:
            self.info.output(data)

    def _count_file(self, size: int) -> None:
        """So many bytes of a file were sent as a part of the response's body."""
        self.info.bytes_out += size

    def _tell_end(self) -> None:
        """Before the web server can know: whoever asks for figures behind its answer finds it counted."""
        self._monitor.end(self.info, aborted=self.core.aborted)

    def _tell_failure(self, error: bytes, *, replaced: bool) -> None:
        """The same of one whose handler raised; `replaced`: see :meth:`RequestInfo.fail`."""
        # A handler that only found the web server gone has nothing to tell, and has not failed.
        if error or not self.core.aborted:
            self._monitor.fail(self.info, replaced=replaced)
        self._tell_end()
