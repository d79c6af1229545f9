"""What gunicorn offers besides processes, with our workers: hooks, logs, statsd, sockets, users, files."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, params_for

from .support import ENDED_HERE, ROOT, Kind, Service, among, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Service]

WSGI, THREADS, ASGI = Kind("gunicorn", "wsgi"), Kind("gunicorn", "wsgi", 3), Kind("gunicorn", "asgi")
each = among(WSGI, THREADS, ASGI, everywhere=ASGI)
pytestmark = pytest.mark.once
HOOKS = str(ROOT / "tests/workers/gunicorn_conf.py")


@each
def test_hooks_logs_and_metrics(kind: Kind, start: Start, folder: str) -> None:
    notes, pidfile = Path(folder, "notes"), Path(folder, "pid")

    def noted(*expected: str) -> bool:
        lines = notes.read_text().splitlines()
        return all(any(line.startswith(one) for line in lines) for one in expected)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(60)
        options = ["-c", HOOKS, "--pid", str(pidfile), "--umask", "007"]
        options += ["--statsd-host", f"127.0.0.1:{statsd.getsockname()[1]}", "--statsd-prefix", "shop"]
        service = start(kind, *options, workers=1, env={"NOTES": str(notes)})
        pid = service.pid()
        with service.connect() as web:
            answer = web.request(params_for("/path?x=1", REQUEST_METHOD="POST"), b"body", keep=False)
        size = len(answer.body)
        line = f'192.0.2.7 POST /path?x=1 "POST /path?x=1 HTTP/1.1" 200 {size} example.org <{pid}> '
        wait_until(lambda: service.has_told(f"ours: gunicorn.access {line}"))
        told = b""
        while b"shop.gunicorn.request.status.200:1|c" not in told or b"shop.gunicorn.workers:1|g" not in told:
            told += statsd.recv(1000) + b"\n"
        assert noted("on_starting", "when_ready", "pre_fork 1", "post_fork 1", "post_worker_init 1")
        assert noted(f"pre_request {pid} POST /path x=1")
        wait_until(lambda: noted(f"post_request {pid} /path?x=1 POST 200 {size}"))
        assert int(pidfile.read_text()) == service.process.pid
        assert stat.S_IMODE(os.stat(service.path).st_mode) == 0o770

        service.signal(signal.SIGTTIN)
        wait_until(lambda: len(service.workers()) == 2)
        service.signal(signal.SIGTTOU)
        wait_until(lambda: len(service.workers()) == 1)
        assert noted("nworkers_changed 1 2", "nworkers_changed 2 1")

        # Perhaps another one than that of the beginning.
        old = service.workers()
        service.signal(signal.SIGHUP)
        wait_until(lambda: noted("on_reload"))
        wait_until(lambda: not service.workers() & old and len(service.workers()) == 1)
        wait_until(lambda: noted("worker_exit", "child_exit"))

        assert not service.has_told("Traceback")
        # As gunicorn does with a worker that hangs.
        aborted = service.pid()
        os.kill(aborted, signal.SIGABRT)
        wait_until(lambda: noted("worker_abort"))
        wait_until(lambda: aborted not in service.workers() and len(service.workers()) == 1)
        interrupted = service.pid()
        os.kill(interrupted, signal.SIGINT)
        wait_until(lambda: noted("worker_int"))
        wait_until(lambda: interrupted not in service.workers() and len(service.workers()) == 1)
        service.end(signal.SIGTERM)
        assert noted("on_exit")
        assert not pidfile.exists()


@each
def test_who_is_still_busy_at_the_end_is_cut_off(kind: Kind, start: Start) -> None:
    # A twentieth of it is what the worker has before its master kills it, on a machine that may be busy.
    service = start(kind, "--graceful-timeout", "3", workers=1)
    with service.hold() as held:
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        with pytest.raises((AssertionError, EOFError, ConnectionError)):
            held.finish()
    if kind != WSGI:  # where nobody else can, it is the master who ends it, without a word
        assert service.has_told("1 connections cut off after 2.85 s (graceful_timeout)")


@among(WSGI, ASGI, everywhere=ASGI)
def test_log_files_are_opened_anew(kind: Kind, start: Start, folder: str) -> None:
    log, moved = Path(folder, "access"), Path(folder, "access.1")
    service = start(kind, "--access-logfile", str(log), "--access-logformat", "%(m)s %(U)s %(s)s", workers=1)
    service.ask("/before")
    wait_until(lambda: "GET /before 200" in log.read_text())
    log.rename(moved)
    service.signal(signal.SIGUSR1)

    def arrives() -> bool:
        service.ask("/behind")
        return log.exists() and "GET /behind 200" in log.read_text()

    wait_until(arrives)


def test_a_socket_of_systemd(start: Start, folder: str) -> None:
    path = f"{folder}/app.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        gunicorn = ASGI.command("127.0.0.1:1", workers=1)[1:]
        gunicorn[gunicorn.index("--bind") : gunicorn.index("--bind") + 2] = []
        command = ["tests.workers.activate", str(sock.fileno()), *gunicorn]
        with Service(command, path, pass_fds=[sock.fileno()]) as service:
            assert service.pid() in service.workers()
        # It is not the program's own.
        assert os.path.exists(path)


def test_user_and_group(start: Start, folder: str) -> None:
    root = os.geteuid() == 0
    user = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
    group = grp.getgrgid(user.pw_gid)
    # It has to be reachable for that user; the application is loaded before.
    os.chmod(folder, 0o755)
    service = start(WSGI, "--preload", "--user", user.pw_name, "--group", group.gr_name, "-m", "027", workers=1)
    status = Path(f"/proc/{service.pid()}/status").read_text()
    assert f"\nUid:\t{user.pw_uid}\t{user.pw_uid}\t" in status
    assert f"\nGid:\t{group.gr_gid}\t{group.gr_gid}\t" in status
    socket_status = os.stat(service.path)
    assert (socket_status.st_uid, socket_status.st_gid) == (user.pw_uid, group.gr_gid)
    assert stat.S_IMODE(socket_status.st_mode) == 0o750


@among(WSGI, ASGI, everywhere=ASGI)
def test_an_upgrade_to_a_new_master(kind: Kind, start: Start, folder: str) -> None:
    pidfile, second, notes = Path(folder, "pid"), Path(folder, "pid.2"), Path(folder, "notes")
    options = ["-c", HOOKS, "--pid", str(pidfile)]
    service = start(kind, *options, workers=1, ends_with=None, env={"NOTES": str(notes)})
    old = service.pid()
    with service.hold() as held:
        service.signal(signal.SIGUSR2)
        wait_until(second.exists)
        # The hook runs in the new process, just before the program is started anew there.
        before = f"pre_exec {service.process.pid} {service.process.pid}\n"
        wait_until(lambda: "on_starting" in notes.read_text().partition(before)[2].splitlines())
        # Both serve; the old one lets what is under way end.
        assert old != next(pid for pid in iter(service.pid, None) if pid != old)
        service.signal(signal.SIGTERM)
        held.finish()
    assert service.wait() == 0
    master = int(wait_until(lambda: not second.exists() and pidfile.exists() and pidfile.read_text()))
    with contextlib.ExitStack() as stack:
        stack.callback(os.kill, master, signal.SIGTERM)
        assert master != service.process.pid
        with WebServer(service.path) as web:
            assert web.request(params_for("/"), keep=False).status == 200


def test_jitter(start: Start) -> None:
    """Of each worker's own; requests that are there when it ends are served, too."""
    service = start(ASGI, "--max-requests", "5", "--max-requests-jitter", "3", workers=1)
    served: dict[int, int] = {}
    while len(served) < 4:
        pid = service.pid()
        served[pid] = served.get(pid, 0) + 1
    # Up to 8, and one or two that come while the end is asked for.
    assert all(5 <= count <= 10 for count in list(served.values())[:3])


@pytest.mark.once
def test_a_signal_of_others_is_told_from_that_of_the_test(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads why a test has failed sees what had ended its workers before it did so itself."""
    path = f"{folder}/app.sock"
    with pytest.raises(AssertionError, match="no socket file"), Service(WSGI.command(path), path) as service:
        service.connect().close()
        service.signal(signal.SIGTERM)
        wait_until(lambda: not os.path.exists(path))
        raise AssertionError("no socket file")
    before, _, after = capsys.readouterr().out.partition(f"\n{ENDED_HERE}\n")
    assert "Handling signal: term" in before
    assert "Shutting down" in before + after
