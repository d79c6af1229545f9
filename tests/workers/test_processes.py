"""Workers come and go: who answers, and that no request is lost on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from functools import partial
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.webserver import WebServer, params_for

from .support import KINDS, Held, Kind, Service, among, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Service]

WSGI, THREADS, ASGI, SERVE_WSGI, SERVE_THREADS, SERVE_ASGI = KINDS
each = among(*KINDS, everywhere=SERVE_THREADS)
each_interface = among(WSGI, THREADS, ASGI, everywhere=ASGI)
# What a master does is the same for each interface, and what an interface does under each master.
crosswise = among(WSGI, ASGI, SERVE_THREADS, everywhere=SERVE_THREADS)


@each
def test_several_processes_answer(kind: Kind, start: Start) -> None:
    service = start(kind)
    pids = service.pids(2)
    assert service.process.pid not in pids
    answer = service.ask()
    if kind.interface == "wsgi":
        assert answer["multiprocess"] is True
        assert answer["multithread"] is (kind.threads > 1)
        assert answer["run_once"] is False
        assert answer["thread"].startswith("MainThread" if kind.threads == 1 else "fcgi-handler-")
    else:
        assert answer["state"] == {"starts": 1}


@each_interface
def test_requests_at_once_in_one_process(kind: Kind, start: Start) -> None:
    service = start(kind, workers=1)
    pid = service.pid()
    with contextlib.ExitStack() as stack:
        # Threads keep one of them for requests that have come whole.
        count = 3 if kind.interface == "asgi" else max(1, kind.threads - 1)
        held = [stack.enter_context(service.hold()) for _ in range(count)]
        if kind.threads == 1 and kind.interface == "wsgi":
            # A second worker has the socket to itself.
            service.signal(signal.SIGTTIN)
            assert service.pid() != pid
        else:
            assert service.pid() == pid
        for one in held:
            one.finish()
    assert service.pid()


@crosswise
def test_a_request_under_way_ends_behind_sigterm(kind: Kind, start: Start) -> None:
    service = start(kind)
    service.pids(2)
    with service.hold() as held:
        service.signal(signal.SIGTERM)
        wait_until(lambda: not os.path.exists(service.path))
        held.finish()
    assert service.wait() == 0
    assert not service.has_told("Traceback")


@among(SERVE_THREADS, SERVE_ASGI, everywhere=SERVE_ASGI)
def test_whoever_connects_at_the_end_is_refused(kind: Kind, start: Start) -> None:
    service = start(kind, bind="127.0.0.1:0")
    serving = re.compile(r"serving .* on 127\.0\.0\.1:(\d+)")
    found = wait_until(lambda: serving.search("\n".join(service.lines())))
    assert found is not None
    address = ("127.0.0.1", int(found[1]))
    with Held(WebServer(address)) as held:
        service.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(address))
        held.finish()
    assert service.wait() == 0
    assert not service.has_told("Traceback")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def once_listening(address: str | tuple[str, int]) -> WebServer:
    def connected() -> WebServer | None:
        try:
            return WebServer(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    made = wait_until(connected)
    assert made is not None
    return made


def is_refused(address: str | tuple[str, int]) -> bool:
    try:
        WebServer(address).close()
    except ConnectionRefusedError:
        return True
    return False


def once_serving(service: Service) -> str | tuple[str, int]:
    """Where a service of our own command listens."""
    serving = re.compile(r"serving .* on (?:127\.0\.0\.1:(\d+)|unix:)")
    found = wait_until(lambda: serving.search("\n".join(service.lines())))
    assert found is not None
    return ("127.0.0.1", int(found[1])) if found[1] else service.path


def is_out(address: str | tuple[str, int]) -> bool:
    """Whether a newcomer finds no way in: nobody answers it, or it is refused."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    with sock:
        sock.settimeout(0.2)
        try:
            sock.connect(address)
        except (TimeoutError, ConnectionRefusedError, FileNotFoundError):
            return True
        return False


@contextlib.contextmanager
def waiting_in_queue(address: str | tuple[str, int], count: int) -> Iterator[list[WebServer]]:
    """Connections that have sent a POST, and are accepted by nobody as long as all threads are busy."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(WebServer(address)) for _ in range(count)]
        for connection in found:
            connection.begin(params_for("/", REQUEST_METHOD="POST"), keep=False)
            connection.body(b"", end=True)
        yield found


# Whoever is found in the queue by a worker that ends already is not waited for.
NO_LAST_CALL = """\
from simple_fastcgi.sync import closing
closing.LAST_CALL_SECONDS = 0.0
from tests.workers.apps import wsgi as app
"""


@contextlib.contextmanager
def all_busy(service: Service) -> Iterator[tuple[str | tuple[str, int], list[Held]]]:
    """Where a service of two workers listens, which each have a request, and with it all that they can have."""
    address = once_serving(service)
    with contextlib.ExitStack() as stack:
        yield address, [stack.enter_context(Held(WebServer(address))) for _ in range(2)]


@pytest.mark.parametrize("bind", [None, "127.0.0.1:0"], ids=["unix", "tcp"])
def test_who_waits_in_the_listen_queue_at_the_end_is_served(bind: str | None, start: Start, folder: str) -> None:
    """And nobody else, however long the workers are busy."""
    Path(folder, "app.py").write_text(NO_LAST_CALL)
    service = start(SERVE_WSGI, app="app:app", bind=bind)
    with all_busy(service) as (address, held), waiting_in_queue(address, 4) as waiting:
        service.signal(signal.SIGTERM)
        wait_until(lambda: is_out(address))
        # None of them is turned away.
        assert not select([connection.socket for connection in waiting], [], [], 1.5)[0]
        assert is_out(address)
        for one in held:
            one.finish()
        for connection in waiting:
            assert connection.response().status == 200
    assert service.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.once
def test_a_second_signal_waits_for_no_queue(number: signal.Signals, start: Start) -> None:
    service = start(SERVE_WSGI, "--graceful-timeout", "3600")
    with all_busy(service) as (address, held), waiting_in_queue(address, 1) as waiting:
        service.signal(signal.SIGTERM)
        wait_until(lambda: is_out(address))
        service.signal(number)
        assert service.wait() == 0
        for cut_off in (waiting[0].response, held[0].finish):
            with pytest.raises((AssertionError, EOFError, ConnectionError)):
                cut_off()


@pytest.mark.once
def test_the_queue_and_the_requests_have_one_time_together(start: Start) -> None:
    """Had the workers all of it once more behind the queue, they would be killed by their master."""
    service = start(SERVE_THREADS, "--graceful-timeout", "3", "--max-connections", "1")
    with all_busy(service) as (address, held), waiting_in_queue(address, 1):
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        with pytest.raises((AssertionError, EOFError, ConnectionError)):
            held[0].finish()
    assert not service.has_told("SIGKILL")


@pytest.mark.once
def test_nobody_is_waited_for_where_nobody_serves(start: Start, folder: str) -> None:
    # In short sleeps, for a signal that comes just before one is noted behind it.
    Path(folder, "slow.py").write_text("import time\nprint('loading', flush=True)\nwhile True: time.sleep(0.01)\n")
    service = start(SERVE_WSGI, "--graceful-timeout", "3600", app="slow:app")
    wait_until(lambda: service.has_told("loading"))
    with waiting_in_queue(service.path, 1):
        service.signal(signal.SIGTERM)
        assert service.wait() == 0


@among(SERVE_WSGI, SERVE_THREADS, SERVE_ASGI, everywhere=SERVE_ASGI)
def test_ctrl_c_is_graceful_with_our_own_command(kind: Kind, start: Start) -> None:
    service = start(kind)
    service.pids(2)
    with service.hold() as held:
        # A terminal sends it to all processes.
        os.killpg(service.process.pid, signal.SIGINT)
        wait_until(lambda: not os.path.exists(service.path))
        held.finish()
    assert service.wait() == 0


@crosswise
@pytest.mark.parametrize("behind_term", [False, True], ids=["at once", "behind SIGTERM"])
def test_sigquit_waits_for_nobody(kind: Kind, behind_term: bool, start: Start) -> None:
    # So long it would wait for the one that is held.
    service = start(kind, "--graceful-timeout", "3600")
    service.pids(2)
    with service.hold() as held:
        if behind_term:
            # To the workers themselves: the master of an old gunicorn does not listen to a second signal.
            for worker in service.workers():
                os.kill(worker, signal.SIGTERM)
        for worker in service.workers():
            # One that had nothing to do may have ended already.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGQUIT)
        service.end(signal.SIGQUIT)
        assert service.wait() == 0
        with pytest.raises((AssertionError, EOFError, ConnectionError)):
            held.finish()


@pytest.mark.no_cover
@crosswise
def test_no_request_is_lost_when_workers_are_replaced(kind: Kind, start: Start) -> None:
    service = start(kind)
    service.pids(2)
    descriptors = open_descriptors(service.process.pid)
    with asking(service) as (pids, errors):
        for _ in range(3):
            old = set(pids) | service.workers()
            service.signal(signal.SIGHUP)
            wait_until(lambda old=old: set(pids[-20:]) - old)  # type: ignore[misc]
            wait_until(lambda old=old: not service.workers() & old)  # type: ignore[misc]
        wait_until(lambda: len(pids) > 100 or errors)
    assert not errors
    # The master keeps nothing of the workers that are gone.
    wait_until(lambda: open_descriptors(service.process.pid) <= descriptors)
    assert not service.has_told("Traceback")


@among(WSGI, THREADS, ASGI, SERVE_THREADS, everywhere=ASGI)
def test_workers_end_after_max_requests(kind: Kind, start: Start) -> None:
    # One alone is replaced, too.
    service = start(kind, "--max-requests", "5", workers=1 if kind == SERVE_THREADS else 2)
    with asking(service) as (pids, errors):
        wait_until(lambda: len(set(pids)) >= 6)
    assert not errors
    assert service.has_told("(max_requests)")
    assert not service.has_told("Traceback")


@crosswise
def test_a_killed_worker_is_replaced(kind: Kind, start: Start) -> None:
    service = start(kind)
    killed = service.pid()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(service.workers() - {killed}) == 2)
    assert killed not in {service.pid() for _ in range(20)}


@crosswise
@pytest.mark.once
def test_workers_end_with_a_killed_master(kind: Kind, start: Start) -> None:
    service = start(kind, ends_with=-signal.SIGKILL)
    service.pids(2)
    with service.hold() as held:
        service.signal(signal.SIGKILL)
        assert service.wait() == -signal.SIGKILL
        wait_until(lambda: service.has_told("the master is gone"))
        held.finish()
    wait_until(service.all_gone)


@among(SERVE_WSGI, SERVE_THREADS, SERVE_ASGI, everywhere=SERVE_ASGI)
@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.once
def test_a_killed_master_leaves_its_addresses_to_the_next(
    kind: Kind, transport: str, start: Start, folder: str
) -> None:
    """Though a request is under way that takes its time."""
    port = free_port()
    address: str | tuple[str, int] = f"{folder}/app.sock" if transport == "unix" else ("127.0.0.1", port)
    bind = f"unix:{address}" if transport == "unix" else f"127.0.0.1:{port}"
    status = ["--status-bind", f"unix:{folder}/status.sock"]
    killed = start(kind, *status, bind=bind, ends_with=-signal.SIGKILL)
    with Held(once_listening(address)) as held:
        killed.signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        wait_until(lambda: is_refused(address))
        start(kind, *status, bind=bind)
        with once_listening(address) as connection:
            assert connection.request(params_for("/"), keep=False).status == 200
        assert not killed.all_gone()
        held.finish()
    wait_until(killed.all_gone)


@crosswise
def test_nothing_stays_open_behind_requests(kind: Kind, start: Start) -> None:
    service = start(kind, workers=1 if kind.by == "gunicorn" else 2)
    before: dict[int, int] = {}

    def has_few(answer: dict[str, Any]) -> bool:
        few: bool = answer["descriptors"] <= before.setdefault(answer["pid"], answer["descriptors"]) + 2
        return few  # but for connections that are just being closed

    for _ in range(60):
        wait_until(lambda: has_few(service.ask()))


# ----------------------------------------------------------------------------- hung workers

HUNG = 5  # seconds until a worker is taken to hang: those that are well must not stand still for so long


@pytest.mark.once
@pytest.mark.parametrize("kind", [WSGI, SERVE_ASGI], ids=str)
def test_a_hung_worker_is_replaced(kind: Kind, start: Start) -> None:
    service = start(kind, *kind.timeout(HUNG))
    with service.connect() as connection:
        response = connection.request(params_for("/hang"), keep=False)
    # SystemExit, by which gunicorn ends it, is told like any failure of the application.
    assert response.status == 500
    assert b"in hang" in response.stderr
    assert service.has_told("WORKER TIMEOUT")
    assert service.has_told("GET /hang failed")
    wait_until(lambda: len(service.workers()) == 2)
    assert service.pid()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SERVE_WSGI, ASGI], ids=str)
def test_a_worker_that_cannot_be_interrupted_is_killed(kind: Kind, start: Start) -> None:
    service = start(kind, *kind.timeout(HUNG))
    before = service.pids(2)
    with service.connect() as connection, pytest.raises((EOFError, ConnectionResetError)):
        connection.request(params_for("/hang-for-good"), keep=False)
    wait_until(lambda: len(service.workers() - before) == 1 and len(service.workers()) == 2)
    assert service.has_told("SIGKILL")
    if kind.by == "serve":
        assert service.has_told("had hung and was not to be interrupted: killed (SIGKILL)")
        assert not service.has_told("out of memory")


@pytest.mark.once
def test_a_loop_that_hangs_behind_an_answer(start: Start) -> None:
    service = start(ASGI, *ASGI.timeout(HUNG), workers=1)
    hung = service.ask("/hang-behind")["pid"]
    wait_until(lambda: hung not in service.workers())
    assert service.has_told("WORKER TIMEOUT")
    assert service.pid() != hung


@among(THREADS, SERVE_ASGI, everywhere=SERVE_ASGI)
def test_a_busy_worker_is_not_hung(kind: Kind, start: Start) -> None:
    """It goes on to tell the master that it is alive."""
    service = start(kind, workers=2)
    with service.hold() as held:
        assert service.pids(2) == service.workers()
        for _ in range(2):
            beats = {worker: last_beat(worker) for worker in service.workers()}
            for worker, before in beats.items():
                wait_until(partial(has_beaten_since, before, worker))
        held.finish()
    assert not service.has_told("WORKER TIMEOUT")


@pytest.mark.once
def test_a_worker_with_a_hung_thread_is_replaced(start: Start) -> None:
    options = ["--request-timeout", "1.5", "--slowlog-timeout", "0.5"]
    service = start(SERVE_THREADS, *options)
    before = service.pids(2)
    with service.connect() as hung, asking(service) as (pids, errors):
        hung.begin(params_for("/hang-for-good"), keep=False)
        hung.body(b"", end=True)
        # The line of the application at which it stands.
        wait_until(lambda: service.has_told("in hang_for_good"))
        seen = len(pids)
        wait_until(lambda: len(service.workers() & before) == 1 and len(service.workers()) == 2)
        wait_until(lambda: set(pids[-20:]) - before)
        assert len(pids) > seen
    assert not errors


# ----------------------------------------------------------------------------- several sockets


@each_interface
def test_several_sockets(kind: Kind, start: Start, folder: str) -> None:
    other = f"{folder}/other.sock"
    service = start(kind, "--bind", f"unix:{other}", workers=1)
    pid = service.pid()
    assert service.ask(path=other)["pid"] == pid
    with service.hold(other) as held, service.connect() as connection:
        connection.send(b"")
        connection.begin(params_for("/"), keep=False)
        connection.body(b"", end=True)
        if (kind.interface, kind.threads) != ("wsgi", 1):
            assert connection.response().status == 200
        held.finish()
        if (kind.interface, kind.threads) == ("wsgi", 1):
            assert connection.response().status == 200
    answer = service.ask()
    if kind.interface == "asgi":
        # The application was started once.
        assert answer["state"] == {"starts": 1}
    else:
        assert answer["most"] == (1 if kind.threads == 1 else 2)
    with service.hold(other) as held:
        service.signal(signal.SIGTERM)
        wait_until(lambda: not os.path.exists(other))
        held.finish()
    assert service.wait() == 0


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_the_web_servers_of_the_environment(interface: str, start: Start) -> None:
    service = start(Kind("serve", interface), env={"FCGI_WEB_SERVER_ADDRS": "192.0.2.1"})
    with service.connect() as connection:
        assert connection.at_eof()
    wait_until(lambda: service.has_told("connection from a unix socket refused: the environment allows only 192.0.2.1"))


@pytest.mark.once
def test_a_worker_is_hung_if_it_is_on_one_of_its_sockets(start: Start, folder: str) -> None:
    other = f"{folder}/other.sock"
    service = start(WSGI, "--bind", f"unix:{other}", *WSGI.timeout(HUNG), workers=1)
    pid = service.pid()
    with service.connect(other) as connection, pytest.raises((EOFError, ConnectionResetError)):
        connection.request(params_for("/hang"), keep=False)
    assert service.has_told("WORKER TIMEOUT")
    assert service.pid() != pid


# ----------------------------------------------------------------------------- helpers


def last_beat(pid: int) -> float:
    """When a worker last told gunicorn that it is alive: in its file, which has no name any more."""
    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            # Of all others some may be closed meanwhile.
            if "/wgunicorn-" in os.readlink(f"{folder}/{number}"):
                return os.stat(f"{folder}/{number}").st_mtime
    raise AssertionError(f"process {pid} has no such file")


def has_beaten_since(before: float, pid: int) -> bool:
    return last_beat(pid) != before


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def asking(service: Service, clients: int = 3) -> Iterator[tuple[list[int], list[BaseException]]]:
    """Ask without a pause meanwhile, each time on a new connection: the processes that answered, and all failures."""
    pids: list[int] = []
    errors: list[BaseException] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            try:
                answer: dict[str, Any] = service.ask()
                pids.append(answer["pid"])
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield pids, errors
    finally:
        enough.set()
        for thread in threads:
            thread.join()
