"""The worker of ``simple-fastcgi serve --workers N``."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from gunicorn.arbiter import Arbiter

from ..errors import ConfigurationError
from ..gateways.detect import detect_interface
from ..limits import Limits
from ..log import logger
from ..serving.load import AppCrashError
from ..serving.refuse import refuse_behind_the_last
from .asgi import AsgiService
from .base import SHORTEST_SECONDS
from .crew import CrewWorker
from .wsgi import WsgiService

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, NoReturn

    from ..net import ListeningSocket
    from ..serving.status_server import StatusServer
    from .base import Service
    from .failures import Failures
    from .once import Once
    from .stage import Ending

_METRICS = f"{__package__.partition('.')[0]}.monitor.metrics"
SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2)
"""What its master sends; blocked from before it is forked until it has its handlers, so that none is lost."""
_ORPHANS_PATIENCE = 1.0
"""For those that wait in the queue of a master that is gone; over TCP its address is busy until then."""


class Worker(CrewWorker):
    """Finds out itself which interface the application has: the master never imports it, so that it can be reloaded."""

    name: str
    listening: ListeningSocket
    status: StatusServer | None
    interface: str
    where: str
    machine: Mapping[str, str]
    failures: Failures
    first_to_serve: Once
    ending: ClassVar[Ending]
    """The master's."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Nothing: the settings and the address were checked when they were given."""

    def init_signals(self) -> None:
        """Leave Ctrl+C, which a terminal sends to every process, to the master."""
        super().init_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def bounds_at_the_end(self) -> Limits:
        """With what is left of ``graceful_timeout`` if the master ends, which has waited for others before."""
        bounds = dict(self.bounds())
        left = round(bounds["graceful_timeout"] - self.ending.seconds_ago(), 1)
        return Limits(**{**bounds, "graceful_timeout": max(SHORTEST_SECONDS, left)})

    def lose_master(self) -> None:
        """Nobody takes over: let nobody connect any more, so that the address is free for a restart, then end."""
        if self.status is not None:
            self.status.refuse()
        if self.listening.exclusive:
            # In a thread: the workers accept meanwhile what waits.
            threading.Thread(target=self._refuse, name="fcgi-refuse", daemon=True).start()
        else:
            self.end()

    def _refuse(self) -> None:
        refuse_behind_the_last(self.listening.socket, _ORPHANS_PATIENCE)
        self.end()

    def load_wsgi(self) -> None:
        """Load the application; what is wrong with it is told to the master, which ends if no worker ever served."""
        # The master may have made a page of metrics. The application decides anew about multiprocess mode.
        for name in [name for name in sys.modules if name.startswith(("prometheus_client", _METRICS))]:
            del sys.modules[name]
        try:
            super().load_wsgi()
            if self.interface == "auto":
                self.interface = "wsgi" if detect_interface(self.wsgi) == "wsgi" else "asgi"
        except AppCrashError as error:
            self.refuse(
                f"{self.name} failed while it was loaded:\n{error.user_traceback().rstrip()}",
                Arbiter.WORKER_BOOT_ERROR,
            )
        except ConfigurationError as error:
            self.refuse(str(error), Arbiter.APP_LOAD_ERROR)
        except BaseException as error:
            if isinstance(error, Exception) or not self.alive:
                # Of the latter it was told to end.
                raise
            # Else it would be started again, for ever.
            self.refuse(f"{self.name} ended the process while it was loaded: {error!r}", Arbiter.WORKER_BOOT_ERROR)

    def make_service(self) -> Service:
        """What fits the application's interface."""
        return WsgiService(self) if self.interface == "wsgi" else AsgiService(self)

    def threads(self) -> int:
        """None for an ASGI application."""
        return super().threads() if self.interface == "wsgi" else 0

    def is_one_thread(self) -> bool:
        """A WSGI application's, unless it was told to have several."""
        return self.interface == "wsgi" and bool(self.cfg.threads == 1)

    def serving(self) -> None:
        """Say so once, and tell the master."""
        super().serving()
        if self.first_to_serve.is_first():
            cfg = self.cfg
            processes = f"{cfg.workers} worker{'s' if cfg.workers > 1 else ''}"
            if self.interface == "wsgi":
                processes += f" of {cfg.threads} thread{'s' if cfg.threads > 1 else ''}"
            if machine := self.machine[self.interface]:
                processes += f" for {machine}"
            logger().info("serving %s (%s, %s) on %s", self.name, self.interface.upper(), processes, self.where)

    def refuse(self, why: str, status: int) -> NoReturn:
        """End this process; the master tells why."""
        self.exits = True
        if not self.alive:
            # The end that it was told to come to, whatever has become of it in the application.
            sys.exit(0)
        self.failures.tell(why)
        sys.exit(status)
