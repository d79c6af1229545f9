"""Server processes that are attacked, and what the kernel tells of them meanwhile."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST
from simple_fastcgi.protocol.records import HEADER
from tests.support import webserver
from tests.support.webserver import WebServer, encode_request, params_for
from tests.webservers.children import App, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MEGABYTE = 1 << 20
FOLDER = Path(__file__).parent
FULL = bool(os.environ.get("HOSTILE_FULL"))
"""Transfers at their full size: for `make hostile`, which prints what was measured."""
FIGURES = os.environ.get("HOSTILE_FIGURES")
"""The file to which each case adds its figures."""
TIMEOUT = webserver.TIMEOUT
"""Seconds until a test gives up waiting for something that should happen at once."""
RUNS_FREE = MEGABYTE * 8
"""By how much the memory of a server may grow in a case."""


@dataclass(frozen=True)
class Shell:
    """One way to run a server."""

    name: str
    app: str
    options: tuple[str, ...]
    concurrent: bool = True
    """A request that waits keeps no other from being served."""
    threads: int | None = None
    """How many requests can run at once, if that has a bound."""


PATIENT = ("--params-timeout", "3600", "--write-timeout", "3600", "--idle-timeout", "3600", "--read-timeout", "3600")
"""Limits that no case meets by chance, however long the machine stands still; those that it is about come behind."""
THREADS = 4
SHELLS = [
    Shell("sync", "apps:wsgi", ("--threads", "1"), concurrent=False, threads=1),
    Shell("threads", "apps:wsgi", ("--threads", str(THREADS)), threads=THREADS),
    Shell("asyncio", "apps:asgi", ("--loop", "asyncio")),
    Shell("uvloop", "apps:asgi", ("--loop", "uvloop")),
]


class Server(App):
    """A server process, and the neighbours of whoever attacks it."""

    shell: Shell
    case: str
    """The name of the test, for the table of figures."""

    @classmethod
    def start(cls, shell: Shell, folder: Path, *options: str, tcp: bool = False) -> Self:
        bind = "127.0.0.1:0" if tcp else f"unix:{folder}/app.sock"
        server = cls.serve(shell.app, bind, folder / "log", *shell.options, *PATIENT, *options, cwd=FOLDER)
        server.shell = shell
        return server

    @classmethod
    def start_native(cls, shell: Shell, folder: Path) -> Self:
        address = f"{folder}/app.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()
            number = listening.fileno()
            command = [sys.executable, str(FOLDER / "native.py"), shell.name, str(number)]
            server = cls(command, folder / "log", pass_fds=[number])
        server.shell = shell
        server.address = address
        return server

    def connect(self) -> WebServer:
        def attempt() -> WebServer | None:
            try:
                return WebServer(self.address)
            except BlockingIOError:
                # The kernel of this machine has no room for more that wait.
                return None

        return wait_until(attempt)

    def answers(self) -> bool:
        """A newcomer is served."""
        with self.connect() as web:
            return web.request(params_for(), keep=False).body == b"hello"

    # What the kernel knows of it

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used; finer than the ticks in /proc."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def is_busy_for_nothing(self) -> bool:
        """Whether it burns processor time although nothing happens."""
        for _ in range(200):
            # What has just happened may still take its time; a loop that spins does so for ever.
            before = self.cpu
            time.sleep(QUIET_SECONDS)
            if self.cpu - before < QUIET_SECONDS / 10:
                return False
        return True

    @contextmanager
    def ordeal(self, *, growth: int = RUNS_FREE, complaints: int | None = None) -> Iterator[Ordeal]:
        """What happens in the block leaves the server as it was, and keeps nobody else from being served.

        Its memory never grows by more than `growth` bytes; its log gets at most `complaints` lines.
        """
        with self.connect() as neighbour:
            ordeal = Ordeal(self, neighbour)
            for _ in range(3):
                ordeal.goes_on()
            descriptors, mark = self.descriptors, self.mark()
            memory, cpu, started = self.memory, self.cpu, time.monotonic()
            self.memory_peak(reset=True)
            yield ordeal
            ordeal.grew = self.memory_peak() - memory
            seconds, cpu = time.monotonic() - started, self.cpu - cpu
            ordeal.goes_on()
            # All those others are forgotten, and what was spooled for them.
            wait_until(lambda: self.descriptors <= descriptors)
            assert not self.is_busy_for_nothing()
        self.record(growth=ordeal.grew, cpu=cpu, seconds=seconds, slowest=ordeal.slowest)
        assert ordeal.grew < growth, f"memory grew by {ordeal.grew / MEGABYTE:.1f} MB"
        log = self.log_since(mark)
        assert "report it" not in log, log
        if complaints is not None:
            assert log.count("\n") <= complaints, log

    def work_grows(self, cost: Callable[[int], float], few: int) -> float:
        """How many times as much processor time four times as many cost; squared it would be sixteen.

        Whatever else the machine does disturbs both sides: the best of several attempts counts.
        """
        best = few_cost = float("inf")
        for _ in range(8):
            few_cost = sum(cost(few) for _ in range(2)) / 2
            best = min(best, cost(4 * few) / few_cost)
            if best < 6:
                break
        self.record(few=few, cost=few_cost, work=best)
        return best

    def record(self, **figures: float) -> None:
        """Keep what was measured for the table."""
        if FIGURES is not None:
            with open(FIGURES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"case": self.case, "shell": self.shell.name, **figures}) + "\n")


QUIET_SECONDS = 0.1


class Ordeal:
    """What a case asks of a server meanwhile."""

    def __init__(self, server: Server, neighbour: WebServer) -> None:
        self._server = server
        self._neighbour = neighbour
        self.slowest = 0.0
        """Seconds that the slowest answer to others took."""
        self.grew = 0

    def goes_on(self) -> None:
        """Another connection, kept since before it all, and a new one are served."""
        started = time.monotonic()
        assert self._neighbour.request(params_for()).body == b"hello"
        assert self._server.answers()
        self.slowest = max(self.slowest, time.monotonic() - started)

    def goes_on_meanwhile(self) -> None:
        """The same while a handler is busy, where that keeps no other from running."""
        if self._server.shell.concurrent:
            self.goes_on()


# ------------------------------------------------------------------------------------------ clients


@contextmanager
def crowd(server: Server, count: int) -> Iterator[list[WebServer]]:
    """Many connections at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


def send_until_refused(web: WebServer, data: bytes, most: int, between: Callable[[], None] | None = None) -> int:
    """Send `data` again and again until the server closes, at most `most` bytes; how many it took."""
    sent = 0
    try:
        while sent < most:
            web.send(data)
            sent += len(data)
            if between is not None and sent % MEGABYTE < len(data):
                between()
    except ConnectionError:
        pass
    return sent


def exchange(
    web: WebServer,
    data: bytes | Iterable[bytes],
    *,
    answers: int,
    rate: float = 0,
    between: Callable[[], None] | None = None,
) -> Exchange:
    """Send all of `data` and read meanwhile, until there are that many ends of requests.

    `rate`: how many bytes are read in a second, 0 for as many as come. `between` is called now and then.
    """
    exchange = Exchange(web.socket)
    pieces = iter((data,) if isinstance(data, bytes) else data)
    view = memoryview(next(pieces))
    poll = select.poll()
    started = time.monotonic()
    turns = 0
    with nonblocking(web.socket):
        while exchange.ends < answers or view:
            poll.register(web.socket, select.POLLIN | (select.POLLOUT if view else 0))
            events = poll.poll(TIMEOUT * 1000)
            assert events, f"{exchange.ends} of {answers} were answered, {len(view)} bytes are left to send"
            if events[0][1] & select.POLLOUT:
                view = view[web.socket.send(view[:MEGABYTE]) :] or memoryview(next(pieces, b""))
            if events[0][1] & ~select.POLLOUT:
                exchange.read()
                if rate:
                    ahead = exchange.received / rate - (time.monotonic() - started)
                    if ahead > 0:
                        time.sleep(ahead)
            turns += 1
            if between is not None and turns % 64 == 0:
                between()
    return exchange


def send_until_stuck(web: WebServer, data: Iterable[bytes]) -> int:
    """Send and read nothing, until the server takes no more; how many bytes it took."""
    sent = 0
    poll = select.poll()
    poll.register(web.socket, select.POLLOUT)
    with nonblocking(web.socket):
        for piece in data:
            view = memoryview(piece)
            while view:
                if not poll.poll(300):
                    return sent
                count = web.socket.send(view)
                sent += count
                view = view[count:]
    return sent


@contextmanager
def nonblocking(sock: socket.socket) -> Iterator[None]:
    sock.setblocking(False)
    yield
    sock.settimeout(TIMEOUT)


class Exchange:
    """Counts what comes over a connection, without keeping it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._rest = b""
        self._skip = 0
        self.received = 0
        self.ends = 0
        self.statuses = [0, 0, 0, 0]
        """How often each protocol status came."""

    def read(self) -> None:
        data = self._socket.recv(MEGABYTE)
        if not data:
            raise EOFError(f"the server closed the connection behind {self.ends} answers")
        self.received += len(data)
        if self._skip >= len(data):
            self._skip -= len(data)
            return
        data = self._rest + data[self._skip :]
        position, end = 0, len(data)
        while end - position >= 8:
            _, type_, _, size, padding = HEADER.unpack_from(data, position)
            if type_ == FCGI_END_REQUEST:
                if end - position < 16:
                    break
                self.ends += 1
                self.statuses[data[position + 12]] += 1
            position += 8 + size + padding
        self._skip = max(0, position - end)
        self._rest = data[position:]


def hello(request_id: int = 1, *, keep: bool = True) -> bytes:
    """A small request that is answered at once."""
    return encode_request(params_for(), request_id=request_id, keep=keep)
