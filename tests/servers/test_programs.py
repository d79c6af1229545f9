"""Whole programs: those that the API promises, and what importing costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import textwrap
from typing import TYPE_CHECKING

import pytest

import simple_fastcgi
from simple_fastcgi.protocol.constants import FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import TIMEOUT, child_environment, listening_socket, python
from tests.support.webserver import WebServer, params_for

if TYPE_CHECKING:
    from pathlib import Path

SYNC_PROGRAM = """\
from simple_fastcgi import *
class Echo(HttpResponseMixin, FcgiHandler):
    def handle(self):
        self.send_response(200, "application/json", self.environ)
if __name__ == "__main__":
    with FcgiServer(Echo) as server:
        server.serve_forever()
"""
ASYNC_PROGRAM = """\
import asyncio
from simple_fastcgi import *
class Echo(AsyncHttpResponseMixin, AsyncFcgiHandler):
    async def handle(self):
        await self.send_response(200, "application/json", self.environ)
async def main():
    async with AsyncFcgiServer(Echo) as server:
        await server.serve_forever()
if __name__ == "__main__":
    asyncio.run(main())
"""
programs = pytest.mark.parametrize("program", [SYNC_PROGRAM, ASYNC_PROGRAM], ids=["sync", "async"])


@programs
@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET], ids=["unix", "tcp"])
def test_the_promised_programs_run_as_they_stand(program: str, family: socket.AddressFamily, tmp_path: Path) -> None:
    """Spawned with a listening socket on fd 0."""
    file = tmp_path / "echo.py"
    file.write_text(program)
    with (
        listening_socket(family) as (sock, address),
        subprocess.Popen(
            python(str(file)), stdin=sock.fileno(), stderr=subprocess.PIPE, env=child_environment()
        ) as child,
    ):
        try:
            with WebServer(address) as web:
                params = params_for("/a?b=c", HTTP_X="\xc3\xa9")
                for keep in (True, False):
                    response = web.request(params, b"a body that nobody reads", keep=keep)
                    assert response.head == {"status": "200 OK", "content-type": "application/json"}
                    assert json.loads(response.body) == {**params, "HTTP_X": "é"}
                web.eof()
        finally:
            child.terminate()
            _, errors = child.communicate(timeout=TIMEOUT)
    assert errors == b""


@programs
def test_a_program_without_a_listening_socket(program: str, tmp_path: Path) -> None:
    """One clear error, whatever stdin is."""
    file = tmp_path / "echo.py"
    file.write_text(program)
    ways = {
        "a pipe": python(str(file)),
        "closed": ["sh", "-c", 'exec "$@" 0<&-', "sh", *python(str(file))],
        "/dev/null": ["sh", "-c", 'exec "$@" 0</dev/null', "sh", *python(str(file))],
    }
    for what, command in ways.items():
        done = subprocess.run(command, input=b"", capture_output=True, timeout=TIMEOUT, env=child_environment())
        assert done.returncode == 1
        last = done.stderr.decode().splitlines()[-1]
        if what == "closed" and program == ASYNC_PROGRAM:
            # The event loop has come first.
            what = "neither a file nor a socket"
        assert last.startswith(f"simple_fastcgi.errors.ConfigurationError: fd 0 is {what}, not a listening socket: ")
        server = "AsyncFcgiServer" if program == ASYNC_PROGRAM else "FcgiServer"
        # It has no bind= and no --bind.
        assert last.endswith(
            "let the web server or spawn-fcgi start this program, "
            f"or give the server a listening socket: {server}(Handler, sock)"
        )


def run(program: str, *, stdin: str = "") -> str:
    """What a program prints; it prints nothing on standard error."""
    command = python("-c", textwrap.dedent(program))
    if stdin == "closed":
        command = ["sh", "-c", 'exec "$@" 0<&-', "sh", *command]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, env=child_environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_star_import_gives_the_public_names() -> None:
    program = """
        before = set(globals())
        from simple_fastcgi import *
        print(*sorted(set(globals()) - before - {"before"}))
    """
    assert run(program).split() == sorted(simple_fastcgi.__all__)
    assert set(simple_fastcgi.__all__) == {
        "AsyncAuthorizerMixin",
        "AsyncFcgiHandler",
        "AsyncFcgiServer",
        "AsyncHttpResponseMixin",
        "AuthorizerMixin",
        "FcgiHandler",
        "FcgiServer",
        "FcgiThreadingServer",
        "HttpResponseMixin",
        "ProtocolError",
        "serve",
    }


def test_names() -> None:
    assert set(simple_fastcgi.__all__) <= set(dir(simple_fastcgi))
    for name in simple_fastcgi.__all__:
        assert getattr(simple_fastcgi, name).__name__ == name
    assert issubclass(simple_fastcgi.ProtocolError, Exception)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = simple_fastcgi.Nothing


def test_importing_works_without_stdin() -> None:
    program = """
        import os
        try:
            os.fstat(0)
        except OSError:
            from simple_fastcgi import *
            print("imported")
    """
    assert run(program, stdin="closed") == "imported\n"


# What a spawned process should not spend its time on.
COSTLY = {"asyncio", "ssl", "logging", "typing", "dataclasses", "inspect", "email", "urllib.parse", "ipaddress", "http"}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("imports", "may_load"),
    [
        ("import simple_fastcgi", set()),
        ("from simple_fastcgi import *", {"logging"}),
        ("from simple_fastcgi import FcgiHandler, FcgiServer, FcgiThreadingServer, HttpResponseMixin", set()),
        ("from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, AsyncHttpResponseMixin", set()),
        ("import simple_fastcgi.cli, simple_fastcgi.serving.run, simple_fastcgi.gateways.wsgi", set()),
        ("import simple_fastcgi.cli.serve, simple_fastcgi.cli.auto, simple_fastcgi.sync.threading_server", set()),
    ],
)
def test_imports_are_cheap(imports: str, may_load: set[str]) -> None:
    """Above all, a synchronous program does not load asyncio."""
    # Without site-packages, whose .pth files may load anything.
    root = child_environment()["PYTHONPATH"]
    program = f"import sys; sys.path.insert(0, {root!r}); {imports}; print(*sys.modules)"
    done = subprocess.run(
        python("-I", "-S", "-c", program), capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    loaded = COSTLY & set(done.stdout.split())
    assert loaded <= may_load


@pytest.mark.usefixtures("unmeasured")
def test_a_synchronous_server_does_not_load_asyncio() -> None:
    """Nor does it while it serves: what a request needs is looked at, too."""
    program = """
        import sys
        from simple_fastcgi import *
        class Modules(HttpResponseMixin, FcgiHandler):
            def handle(self):
                self.send_response(200, "application/json", sorted(sys.modules))
                self.server.shutdown()
        with FcgiServer(Modules) as server:
            server.serve_forever()
    """
    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        subprocess.Popen(python("-c", textwrap.dedent(program)), stdin=sock.fileno(), env=child_environment()) as child,
    ):
        with WebServer(address) as web:
            modules = json.loads(web.request(params_for()).body)
        assert child.wait(TIMEOUT) == 0
    assert "asyncio" not in modules
    assert "simple_fastcgi.sync.server" in modules
    assert not [name for name in modules if name.startswith("simple_fastcgi.gateways")]


def test_ctrl_c_ends_the_program() -> None:
    """While it waits and while a handler runs; the request in flight is answered with an error, or cut."""
    program = """
        import sys
        from simple_fastcgi import *
        class Slow(FcgiHandler):
            def handle(self):
                self.write(b"Status: 200 OK\\r\\n\\r\\n", flush=True)
                self.read()
        try:
            with globals()[sys.argv[1]](Slow) as server:
                print("ready", flush=True)
                server.serve_forever()
        except KeyboardInterrupt:
            print("interrupted")
    """
    import signal

    for server in ("FcgiServer", "FcgiThreadingServer"):
        for busy in (False, True):
            with (
                listening_socket(socket.AF_UNIX) as (sock, address),
                subprocess.Popen(
                    python("-c", textwrap.dedent(program), server),
                    stdin=sock.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env={**child_environment(), "PYTHONUNBUFFERED": "1"},
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                ) as child,
                WebServer(address) as web,
            ):
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
                if busy:
                    web.begin(params_for())
                    assert web.record().content
                else:
                    # An answer tells that the connection has left the listen queue, which outlives the program.
                    web.send(encode_record(FCGI_GET_VALUES, 0))
                    assert web.record().type == FCGI_GET_VALUES_RESULT
                child.send_signal(signal.SIGINT)
                assert child.stdout.read() == "interrupted\n"
                assert child.wait(TIMEOUT) == 0
                if busy and server == "FcgiServer":
                    while (record := web.record()).id == 1:
                        assert record.type != 3
                else:
                    assert web.at_eof()
                os.sched_yield()


INTERRUPTED = """
import signal, socket
from simple_fastcgi.protocol.terms import Terms
from simple_fastcgi.sync.connection import Connection
from tests.support.webserver import encode_request, params_for

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
data = encode_request(params_for("/"), b"body")
held = served = 0
for number in range(400):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    events = []
    tell = lambda _, found: events.extend(found)
    connection = Connection()
    connection.open(theirs.fileno(), None, Terms(concurrent=False), tell, 0.0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + number * 1e-6)
        while True:
            ours.send(data)
            connection.receive()
            request = events[0].request
            events.clear()
            connection.read(request, request.stdin, -1, in_loop=True)
            connection.end(request, b"Status: 200 OK\\r\\n\\r\\n", 0)
            ours.recv(65536)
            served += 1
    except Interrupt:
        held += connection.lock.locked()
    ours.close()
    theirs.close()
print(held, served > 0)
"""


def test_ctrl_c_never_leaves_a_connection_locked() -> None:
    """Wherever it comes: closing the server would wait for ever."""
    ended = subprocess.run(
        python("-c", INTERRUPTED),
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert (ended.stdout, ended.stderr) == ("0 True\n", "")
