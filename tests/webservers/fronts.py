"""What every way to set up a web server has in common, for the tests that run behind all of them."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from .children import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App, Spawned

Framework = Literal["flask", "starlette"]

_ports = itertools.count(8000)


def free_address() -> tuple[str, int]:
    """An address of this machine's own network on which nobody else listens, for a server that inherits no sockets.

    Host and port cannot be had by others meanwhile: the host is this process's, and the port none that the system
    gives away.
    """
    pid = os.getpid()
    host = f"127.{64 + (pid >> 16) % 64}.{(pid >> 8) & 255}.{pid & 255 or 1}"
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return host, port


@dataclass(frozen=True, eq=False, kw_only=True)
class Front:
    """One way to set up a web server; the classes below this one know how it is written."""

    name: str
    mount: str = ""
    """The place in the URL: empty, or as ``/app``."""
    root_path: str | None = None
    """What the application must be told, where the set-up is ambiguous."""
    transport: Literal["unix", "tcp"] = "unix"
    kept: bool = False
    """Whether connections to the application are kept."""
    example: bool = False
    """The configuration that comes with the example, as it stands."""
    full: bool = True
    """Whether all scenarios run behind it, or only those about URLs."""
    ways: tuple[str, ...] = ("",)
    """Prefixes of URLs below which the application stands, too, without the buffering of bodies."""
    transfer: int = 24 << 20
    """Bytes of a large upload or download."""
    one_process: bool = True
    """Whether one process serves all requests, so that what a page has put into its memory another page finds."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Scenario -> why the web server itself cannot; the tests look at what really happens."""

    # What the application is told

    server_name: str = "localhost"
    """SERVER_NAME, as configured; empty: the name that the client asked for."""
    tells_port: bool | None = True
    """Whether HTTP_HOST has the port that the client sent with it; None: that is up to a file of the system's."""
    joins_fields: bool = False
    """Whether several header fields of one name arrive as one."""
    passes_empty: bool = True
    """Whether a header field without a value is passed on."""
    tells_user: bool = False
    """Whether REMOTE_USER is told of credentials that nobody has checked."""
    longest_head: int = 16384
    """Bytes of a request's head, with its URL, that are passed on."""

    # What becomes of bodies

    chunked_status: int | None = None
    """With what an upload in chunks is refused; None: it is passed on."""
    chunked_up_to: int = -1
    """Bytes of an upload in chunks that is passed on all the same."""
    streams: bool = True
    """Whether a piece of an answer reaches the client before the next one has been made."""
    notices_leaving: bool = True
    """Whether the application learns of a client that has left before the answer is complete."""
    notices_at_once: bool = True
    """Whether it learns of that while it is silent, too, and not with what it writes next."""
    breaks_off: bool = True
    """Whether the client can tell an answer that breaks off from a complete one, where its length was not told."""
    breaks_off_early: bool = True
    """Whether it can also when none of such an answer has been passed on before."""
    adds_error_page: bool = False
    """Whether an answer that breaks off gets an error page of the web server's at its end."""
    logs_errors: bool = True
    """Whether what comes by FCGI_STDERR is logged; what the application logs itself is another matter."""

    server: ClassVar[type[Server]]
    software: ClassVar[str]
    """What the web server, or the module of it, is called in the matrix."""
    spawns: ClassVar[bool] = False
    """Whether the web server starts the application itself."""

    @property
    def group(self) -> tuple[object, ...]:
        """Fronts that agree in this share an application and a web server."""
        return type(self), self.transport, self.root_path, self.example

    def site(self, listen: str, app: App) -> str:
        """Its part of the file of a `SitesServer`, which listens at `listen`."""
        raise NotImplementedError


class Server(Child):
    """A web server that runs, for several fronts of one group."""

    ends_with: tuple[int, ...] = (0,)
    statuses_without_application: ClassVar[frozenset[int]] = frozenset({502})

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Server:
        """Start it in front of `app`; where it spawns the application itself that is None, and `command` starts it."""
        raise NotImplementedError

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Ends it if what it has to do within is not done."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def origin(self, front: Front) -> str:
        """Scheme, host and port at which `front` is found."""
        raise NotImplementedError

    def errors_since(self, mark: int = 0) -> str:
        """What came by FCGI_STDERR and was logged behind `mark` of :attr:`log`."""
        raise NotImplementedError

    def spawned(self) -> Spawned:
        """The application, where the server spawned it."""
        raise NotImplementedError


class SitesServer(Server):
    """One in whose file each front has a part, with an address of its own."""

    def __init__(self, program: str, sites: Mapping[Front, tuple[str, str]], folder: Path) -> None:
        """Start it; `sites` are the origins and the parts of its fronts."""
        self._sites = sites
        command = self.prepare(program, folder, "".join(text for _, text in sites.values()))
        homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
        super().__init__(command, folder / "server.log", cwd=folder, env=homes)
        with self.starting():
            self.wait_until_ready()

    def prepare(self, program: str, folder: Path, parts: str) -> Sequence[str]:
        """Write the file, with the `parts` of all fronts; the command."""
        raise NotImplementedError

    def wait_until_ready(self) -> None:
        """Wait until it listens everywhere."""
        raise NotImplementedError

    def origin(self, front: Front) -> str:
        return self._sites[front][0]

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Self:
        assert app is not None
        sites: dict[Front, tuple[str, str]] = {}
        for front in fronts:
            host, port = free_address()
            sites[front] = f"http://{host}:{port}", front.site(f"{host}:{port}", app)
        return cls(program(cls.__name__.lower()), sites, folder)
