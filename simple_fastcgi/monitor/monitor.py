"""`Monitor`: what the servers of a process report to."""

from __future__ import annotations

from .info import RequestInfo, Stage
from .scoreboard import FAILED, REJECTED, SATURATED
from .telling import Telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .info import Observer
    from .scoreboard import Seat

    Page = Callable[[Mapping[str, str]], bytes]


class Monitor:
    """Knows every request under way in this process, tells observers of it, and answers pings and status pages.

    A server is given one when it is made; several servers may share it. `seat`: where all of it is counted. An observer
    that raises is logged, once for each of its methods, and nothing else becomes of it.
    """

    def __init__(self, observers: Iterable[Observer] = (), seat: Seat | None = None) -> None:
        observers = tuple(observers) if seat is None else (seat, *observers)
        self._tell_arrived = Telling(observers, "arrived")
        self._tell_started = Telling(observers, "started")
        self._tell_responding = Telling(observers, "responding")
        self._tell_ended = Telling(observers, "ended")
        self._seat = seat
        self.in_flight: dict[RequestInfo, None] = {}
        """The requests under way, the oldest first. Other threads look at a copy."""
        self.hopeless: set[RequestInfo] = set()
        """Those that were given up, as far as anything was done about it."""
        self.pages: dict[str, Page] = {}
        """What is answered without asking the application: the path below the mount point, and what makes the whole
        response, with its head, out of the request's parameters."""

    # What servers call

    def arrived(self, params: Mapping[str, str]) -> RequestInfo:
        """A request has arrived; what is to be told of it further."""
        info = RequestInfo(params, self._tell_responding)
        if self.pages and find_page(self.pages, params) is not None:
            info.is_page = True
        self.in_flight[info] = None
        self._tell_arrived(info)
        return info

    def start(self, info: RequestInfo) -> bytes | None:
        """Its handler is about to begin; the response if the monitor has one, in place of the handler's."""
        info.start()
        self._tell_started(info)
        if info.is_page and (page := find_page(self.pages, info.params)) is not None:
            return page(info.params)
        return None

    @property
    def is_left(self) -> bool:
        """Whether the process ends because of one that was given up: whoever sees to that tells what ends with it."""
        return not self.hopeless.isdisjoint(list(self.in_flight))

    def fail(self, info: RequestInfo, *, replaced: bool) -> None:
        """Its handler raised; `replaced`: see :meth:`RequestInfo.fail`.

        Behind the end of the response, of which observers were told, that is only counted, once.
        """
        if info.stage != Stage.ENDED:
            info.fail(replaced=replaced)
        elif not info.failed:
            info.failed = True
            self.count(FAILED)

    def end(self, info: RequestInfo, *, aborted: bool) -> None:
        """It has ended; further calls count for nothing."""
        # One thread alone takes it out: its handler's may end it while another one cuts it off.
        if self.in_flight.pop(info, info) is info:
            return
        info.end(aborted=aborted)
        self._tell_ended(info)

    def connected(self) -> None:
        """A connection was accepted."""
        if self._seat is not None:
            self._seat.connected()

    def disconnected(self) -> None:
        """A connection was closed."""
        if self._seat is not None:
            self._seat.disconnected()

    def rejected(self, count: int = 1) -> None:
        """Connections or requests were refused."""
        self.count(REJECTED, count)

    def saturated(self) -> None:
        """Others have to wait from now on."""
        self.count(SATURATED)

    def count(self, counter: int, by: int = 1) -> None:
        """Add to a counter of the scoreboard."""
        if self._seat is not None:
            self._seat.count(counter, by)


def find_page(pages: Mapping[str, Page], params: Mapping[str, str]) -> Page | None:
    """What stands at the path that was asked for; mostly nothing, and that quickly."""
    return (
        pages.get(params.get("PATH_INFO", ""))
        or pages.get(params.get("SCRIPT_NAME", ""))
        or pages.get(params.get("REQUEST_URI", "").partition("?")[0])
    )
