"""Services as ``simple-fastcgi config`` prints them, with a supervisord, and as systemd starts programs."""

from __future__ import annotations

import configparser
import getpass
import grp
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import Child, wait_until

from .support import Hello, activated, folders, listen_at

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once


@pytest.fixture
def hello() -> Iterator[Hello]:
    with folders(1) as (folder,):
        yield Hello(folder, "wsgi")


def plan(hello: Hello, **settings: Any) -> Plan:
    group = grp.getgrgid(os.getgid()).gr_name
    bind, folder, user = f"unix:{hello.sock}", str(hello.folder), getpass.getuser()
    return Plan(app="hello:app", name="a.hello-1", bind=bind, directory=folder, user=user, group=group, **settings)


def test_supervisord(hello: Hello) -> None:
    (file,) = make("supervisor", plan(hello, root_path="/app", threads=2)).files
    conf = hello.folder / "supervisord.conf"
    conf.write_text(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=pid\n"
        f"childlogdir={hello.folder}\n{file.text}stdout_logfile={hello.log}\n"
    )
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)]
    with Child(command, hello.folder / "supervisord.log", cwd=hello.folder) as supervisord:
        wait_until(
            lambda: (
                hello.log.read_text().count("serving hello:app (WSGI, 2 threads) on fd 0") == 2 or not supervisord.runs
            )
        )
        assert hello.sock.stat().st_mode & 0o777 == 0o660
        with WebServer(str(hello.sock)) as web_server:
            assert web_server.request(params_for("/")).status == 200
        with hello.in_flight(supervisord, str(hello.sock)):
            supervisord.signal(signal.SIGTERM)
        assert supervisord.wait() == 0
    assert hello.log.read_text().count("INFO simple_fastcgi: stopped\n") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_systemd(hello: Hello, workers: int) -> None:
    units = []
    for file in make("systemd", plan(hello, workers=workers)).files:
        unit = configparser.RawConfigParser()
        unit.read_string(file.text)
        units.append(unit)
    socket, service = units
    assert socket["Socket"]["ListenStream"] == str(hello.sock)
    with listen_at(hello.sock) as listening:
        command = shlex.split(service["Service"]["ExecStart"])
        child = activated([listening], command, hello.log, cwd=hello.folder)
        with child:
            with hello.in_flight(child, str(hello.sock)):
                if workers > 1:  # ExecReload
                    child.signal(signal.SIGHUP)
                    child.wait_for("reload")
                else:
                    child.signal(signal.SIGTERM)
            if workers > 1:
                with WebServer(str(hello.sock)) as web_server:
                    assert web_server.request(params_for("/")).status == 200
                child.signal(signal.SIGTERM)
            assert child.wait() == 0
