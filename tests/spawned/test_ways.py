"""Each way to start a program, as docs/spawning.md tells it, and how it ends: a request in flight completes."""

from __future__ import annotations

import configparser
import getpass
import grp
import json
import os
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.support.examples import blocks_of
from tests.support.processes import has_ended
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import Child, wait_until

from .support import PAGE, Hello, activated, folders, listen_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.once

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture
def hellos() -> Iterator[list[Hello]]:
    """One for each signal; in the middle ASGI, and WSGI otherwise."""
    with folders(len(SIGNALS)) as made:
        yield [Hello(folder, interface) for folder, interface in zip(made, ("wsgi", "asgi", "wsgi"), strict=True)]


def console(words: str) -> str:
    """The page's command with `words` in it."""
    lines = [line for block in blocks_of(PAGE, "console") for line in block.splitlines()]
    (found,) = [line.removeprefix("$ ") for line in lines if words in line]
    return found


def is_listening(path: Path) -> bool:
    try:
        WebServer(str(path)).close()
    except OSError:
        return False
    return True


def facts(path: Path) -> dict[str, object]:
    """What the program at `path` tells of itself."""
    with WebServer(str(path)) as web_server:
        response = web_server.request(params_for("/"))
    assert response.status == 200
    told: dict[str, object] = json.loads(response.body)
    assert told["activation"] == []
    assert told.get("multiprocess", True)
    assert not told.get("run_once")
    return told


def check_ends(hellos: list[Hello], start: Callable[[Hello], Child]) -> None:
    """Each of the signals ends a program that `start` starts on ``hello.sock``."""
    with ExitStack() as stack:
        children = [stack.enter_context(start(hello)) for hello in hellos]
        for hello, child, number in zip(hellos, children, SIGNALS, strict=True):
            wait_until(lambda hello=hello, child=child: is_listening(hello.sock) or not child.runs)  # type: ignore[misc]
            assert facts(hello.sock)["pid"] == child.process.pid
            with hello.in_flight(child, str(hello.sock)) as pid:
                os.kill(pid, number)
            assert child.wait() == 0, child.log_since()
            assert child.log_since().endswith("INFO simple_fastcgi: stopped\n")


def check_managed(hello: Hello, manager: Child) -> None:
    """The signals end a program which `manager` starts anew, and the last one ends both."""
    with manager:
        for number in SIGNALS[1:]:
            served = hello.served()
            with hello.in_flight(manager, str(hello.sock)) as pid:
                os.kill(pid, number)
            # One that begins is not told to end before it can be: supervisord loses the signal then.
            wait_until(lambda served=served: hello.served() > served)  # type: ignore[misc]
            assert has_ended(pid)
        assert facts(hello.sock)
        with hello.in_flight(manager, str(hello.sock)) as pid:
            manager.signal(signal.SIGTERM)
        assert manager.wait() == 0
    assert has_ended(pid)


def test_spawn_fcgi(hellos: list[Hello], program: Callable[[str], str]) -> None:
    def start(hello: Hello) -> Child:
        _, *words = shlex.split(hello.placed(console("660 -- /srv/hello/venv/bin/simple-fastcgi")))
        return Child([program("spawn-fcgi"), *words], hello.log, cwd=hello.folder)

    check_ends(hellos, start)
    assert hellos[0].sock.stat().st_mode & 0o777 == 0o660


def test_multiwatch(hellos: list[Hello], program: Callable[[str], str]) -> None:
    hello = hellos[0]
    _, *words = shlex.split(hello.placed(console("multiwatch")).replace("/usr/bin/multiwatch", program("multiwatch")))
    with Child([program("spawn-fcgi"), *words], hello.log, cwd=hello.folder) as multiwatch:
        wait_until(lambda: hello.served() == 4)
        check_managed(hello, multiwatch)


def plan(hello: Hello, **settings: Any) -> Plan:
    """As somebody plans it who has only this folder and this user."""
    folder, group = str(hello.folder), grp.getgrgid(os.getgid()).gr_name
    return Plan(
        app="hello:app",
        bind=f"unix:{hello.sock}",
        directory=folder,
        python=f"{folder}/venv/bin/python",
        user=getpass.getuser(),
        group=group,
        **settings,
    )


def test_supervisord(hellos: list[Hello]) -> None:
    """As ``simple-fastcgi config supervisor`` prints it."""
    hello = hellos[1]
    (file,) = make("supervisor", plan(hello)).files
    conf = hello.folder / "supervisord.conf"
    conf.write_text(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=pid\n"
        # Else it waits for a second until it takes one for started.
        f"{file.text}stdout_logfile={hello.log}\nstartsecs=0\n"
    )
    log = hello.folder / "supervisord.log"
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)]
    with Child(command, log, cwd=hello.folder) as supervisord:
        wait_until(lambda: hello.served() == 2 or not supervisord.runs)
        assert hello.sock.stat().st_mode & 0o777 == 0o660
        check_managed(hello, supervisord)


def units(hello: Hello, **settings: Any) -> tuple[configparser.RawConfigParser, configparser.RawConfigParser]:
    """The socket and the service, as ``simple-fastcgi config systemd`` prints them."""
    socket, service = configparser.RawConfigParser(), configparser.RawConfigParser()
    for unit, file in zip((socket, service), make("systemd", plan(hello, **settings)).files, strict=True):
        unit.optionxform = str  # type: ignore[method-assign,assignment]
        unit.read_string(file.text)
    return socket, service


def start_as_systemd_does(hello: Hello, **settings: Any) -> Child:
    socket, service = units(hello, **settings)
    assert service["Unit"]["Requires"] == "hello.socket"
    assert socket["Socket"]["ListenStream"] == str(hello.sock)
    command = shlex.split(service["Service"]["ExecStart"])
    with listen_at(hello.sock) as listening:
        folder = service["Service"]["WorkingDirectory"]
        return activated([listening], command, hello.log, names="hello.socket", cwd=Path(folder))


def test_systemd(hellos: list[Hello]) -> None:
    check_ends(hellos, lambda hello: start_as_systemd_does(hello, workers=1))
    assert f"on fd 3 (hello.socket, unix:{hellos[0].sock})" in hellos[0].log.read_text()


def test_systemd_with_several_processes(hellos: list[Hello]) -> None:
    """Its reload loses no request."""
    hello = hellos[0]
    _, service = units(hello, workers=2)
    assert service["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    with start_as_systemd_does(hello, workers=2) as child:
        with hello.in_flight(child, str(hello.sock)):
            child.signal(signal.SIGHUP)
            child.wait_for("reload")
        assert facts(hello.sock)["multiprocess"]
        child.signal(signal.SIGTERM)
        assert child.wait() == 0


def test_an_inherited_descriptor(hellos: list[Hello]) -> None:
    (source,) = [block for block in blocks_of(PAGE, "python") if block.startswith("# start.py")]

    def start(hello: Hello) -> Child:
        return Child([sys.executable, "-c", hello.placed(source)], hello.log, cwd=hello.folder)

    check_ends(hellos, start)


def test_the_program_of_the_page(hellos: list[Hello], program: Callable[[str], str]) -> None:
    hello = hellos[0]
    (source,) = [block for block in blocks_of(PAGE, "python") if block.startswith("# hello.py")]
    (hello.folder / "hello.py").write_text(source)
    command = [program("spawn-fcgi"), "-n", "-s", str(hello.sock), "--", sys.executable, "hello.py"]
    with Child(command, hello.log, cwd=hello.folder):
        wait_until(lambda: is_listening(hello.sock))
        with WebServer(str(hello.sock)) as web_server:
            assert web_server.request(params_for("/")).body == b"Hello\n"
