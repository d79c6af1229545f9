"""Sockets that systemd passes: one or several, named or not, and what is wrong with them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.net import adopt
from simple_fastcgi.net.several import SeveralSockets
from simple_fastcgi.net.single import SingleConnection
from tests.support.webserver import WebServer, params_for

from .support import SERVE, Hello, activated, listen_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.webserver import Address


@pytest.fixture(params=["wsgi", "asgi"])
def hello(request: pytest.FixtureRequest) -> Iterator[Hello]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Hello(Path(folder), request.param)


@pytest.fixture
def sockets(hello: Hello) -> Iterator[list[socket.socket]]:
    with listen_at(hello.sock) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield [one, other]


def told(address: Address) -> dict[str, object]:
    with WebServer(address) as web_server:
        facts: dict[str, object] = json.loads(web_server.request(params_for("/")).body)
    return facts


@pytest.mark.parametrize("options", [(), ("--threads", "1", "--loop", "asyncio")])
def test_several_sockets(hello: Hello, sockets: list[socket.socket], options: tuple[str, ...]) -> None:
    """All of them are served, and nothing of how they came is left in the environment."""
    hello.set_an_address()
    command = [*SERVE, "hello:app", *options]
    addresses = [sock.getsockname() for sock in sockets]
    with activated(sockets, command, hello.log, names="local:remote", cwd=hello.folder) as program:
        program.wait_for("serving")
        host, port = addresses[1]
        assert f"on fd 3 (local, unix:{hello.sock}) and fd 4 (remote, {host}:{port})\n" in program.log_since()
        for sock in sockets:
            sock.close()
        for address in addresses * 2:
            assert told(address)["activation"] == []
        with ExitStack() as stack:
            # Connections to both of them wait at once.
            servers = [stack.enter_context(WebServer(address)) for address in addresses * 10]
            assert {server.request(params_for("/")).status for server in servers} == {200}
        # The programs that it starts have neither.
        assert not [fd for fd in inheritable(program.process.pid) if fd > 2]
    # Nobody listens any more.
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            WebServer(address)


def inheritable(pid: int) -> list[int]:
    """The descriptors of a process that programs started by it get."""
    found = []
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        # A connection may be closed just now.
        with suppress(FileNotFoundError):
            flags = int(path.read_text().partition("flags:")[2].split()[0], 8)
            if not flags & os.O_CLOEXEC:
                found.append(int(path.name))
    return found


@pytest.mark.once
def test_a_program_that_begins_anew_keeps_them(hello: Hello, sockets: list[socket.socket]) -> None:
    addresses = [sock.getsockname() for sock in sockets]
    command = [*SERVE, "hello:app", "--reload-on-touch"]
    with activated(sockets, command, hello.log, names="local:remote", cwd=hello.folder) as program:
        program.wait_for("serving")
        mark = program.mark()
        (hello.folder / "restart.txt").touch()
        program.wait_for(r"serving .* on fd 3 \(local, .* and fd 4 \(remote, ", mark)
        for address in addresses:
            assert told(address)["pid"] == program.process.pid
            assert told(address)["activation"] == []


def test_several_sockets_and_processes() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        hello = Hello(Path(folder), "wsgi")
        with listen_at(hello.sock) as one, listen_at(hello.folder / "other.sock") as other:
            command = [*SERVE, "hello:app", "--workers", "2"]
            with activated([one, other], command, hello.log, cwd=hello.folder) as program:
                program.wait_for("serving")
                for _ in range(5):
                    for path in (hello.sock, hello.folder / "other.sock"):
                        assert told(str(path))["activation"] == []


def failure(hello: Hello, sockets: list[socket.socket], *, pid: str = "") -> str:
    """The one line by which a program refuses what it was given."""
    with activated(sockets, [*SERVE, "hello:app"], hello.log, pid=pid, cwd=hello.folder) as program:
        program.ends_with = (2,)
        program.wait()
        # Behind what is printed while the application is loaded.
        *_, line = program.log_since().splitlines()
    return line


@pytest.mark.once
@pytest.mark.parametrize("hello", ["wsgi"], indirect=True)
def test_variables_of_another_process(hello: Hello, sockets: list[socket.socket]) -> None:
    """Which were only inherited: systemd started a wrapper, and that this program."""
    line = failure(hello, [sockets[0]], pid="1")
    assert "nothing to serve on" in line
    assert "LISTEN_FDS is set, but for process 1, which is not this one" in line


@pytest.mark.once
@pytest.mark.parametrize("hello", ["wsgi"], indirect=True)
def test_sockets_that_cannot_be_served(hello: Hello) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "LISTEN_FDS=1: fd 3 is a connected socket, not a listening stream" in failure(hello, [theirs])
        with listen_at(hello.sock) as listening:
            line = failure(hello, [listening, datagrams])
        assert "LISTEN_FDS=2: fd 4 is a datagram socket, not" in line
        assert "ListenStream= and Accept=no" in line


@pytest.mark.once
@pytest.mark.parametrize("count", ["0", "-1", "three", "9" * 30, ""])
def test_a_count_that_is_none(count: str) -> None:
    program = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid()); "
        "from simple_fastcgi import serve; serve(print, interface='wsgi')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LISTEN_FDS": count},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert f"ConfigurationError: LISTEN_FDS={count!r}: that is no number of sockets from 1 to 1024" in done.stderr


def test_several_sockets_as_one() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        paths = [Path(folder) / name for name in ("one", "other")]
        several = SeveralSockets([listen_at(path) for path in paths])
        with several, adopt(several) as adopted:
            assert adopted.getsockname() == str(paths[0])
            assert adopted.fileno() not in {-1, several.fileno()}
            adopted.setblocking(False)
            with pytest.raises(BlockingIOError):
                adopted.accept()
            for path in paths:
                with WebServer(str(path)), adopted.accept()[0] as accepted:
                    assert accepted.getsockname() == str(path)
            with WebServer(str(paths[0])), several.accept()[0], pytest.raises(BlockingIOError):
                adopted.accept()
        assert (several.fileno(), adopted.fileno()) == (-1, -1)
        for path in paths:
            with pytest.raises(ConnectionRefusedError):
                WebServer(str(path))


def test_a_connection_that_another_process_was_quicker_to_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        paths = [Path(folder) / name for name in ("one", "other")]
        with SeveralSockets([listen_at(path) for path in paths]) as several, several.dup() as other_process:
            several.setblocking(False)
            with WebServer(str(paths[1])):
                seen = several._selector.select(0)
                other_process.accept()[0].close()
            monkeypatch.setattr(several._selector, "select", lambda timeout: seen)
            with pytest.raises(BlockingIOError):
                several.accept()


def test_one_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, SingleConnection(theirs) as single, adopt(single) as adopted:
        single.setblocking(False)
        with adopted.accept()[0] as accepted:
            ours.send(b"a")
            assert accepted.recv(1) == b"a"
        for listener in (single, adopted):
            with pytest.raises(BlockingIOError):
                listener.accept()
        single.close()
        with pytest.raises(BlockingIOError):
            adopted.accept()


def test_one_connection_that_nobody_accepts() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        SingleConnection(theirs).close()
        assert ours.recv(1) == b""
