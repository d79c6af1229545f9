"""One request by plain CGI: the environment, standard input and output, and how the process ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.protocol.constants import FCGI_ABORT_REQUEST, FCGI_END_REQUEST, FCGI_STDERR, FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_record
from simple_fastcgi.serving.plain_cgi import Conversation, _duplicate, body_length
from tests.servers.support import child_environment
from tests.support.measure import is_of_coverage
from tests.support.webserver import TIMEOUT, params_for
from tests.webservers.children import wait_until

from .support import SERVE, Hello, listen_at

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPE = subprocess.PIPE
INTERFACES = ("wsgi", "asgi")
FCGI_ABORT = encode_record(FCGI_ABORT_REQUEST, 1)


def buffered_environment(*, measured: bool = False) -> dict[str, str]:
    """Else what is printed while the application is imported leaves at once, before anybody can turn it away.

    Most scripts are not measured, which would take longer than what they do.
    """
    return {
        name: value
        for name, value in child_environment().items()
        if name != "PYTHONUNBUFFERED" and (measured or not is_of_coverage(name))
    }


@pytest.fixture(params=INTERFACES)
def hello(request: pytest.FixtureRequest) -> Iterator[Hello]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Hello(Path(folder), request.param)


wsgi = pytest.mark.parametrize("hello", ["wsgi"], indirect=True)
asgi = pytest.mark.parametrize("hello", ["asgi"], indirect=True)


class Script:
    """A process that a web server has started for one request; its standard error is a file."""

    def __init__(self, hello: Hello, stdin: Any, stdout: Any, options: tuple[str, ...], params: dict[str, str]) -> None:
        self.log = hello.log
        environment = {
            **buffered_environment(measured=bool({"HTTP_PROXY", "CONTENT_LENGTH"} & params.keys())),
            **params,
        }
        with hello.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*SERVE, "hello:app", *options],
                cwd=hello.folder,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=log,
            )

    def send(self, data: bytes, *, end: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        if end:
            self.process.stdin.close()

    def read_until(self, end: bytes) -> bytes:
        """What it has written up to `end`, which is waited for."""
        assert self.process.stdout is not None
        data = b""
        while end not in data:
            assert select.select([self.process.stdout], [], [], TIMEOUT)[0]
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, data
            data += more
        return data

    def rest(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def began(self) -> None:
        wait_until(lambda: "began" in self.log.read_text())

    def errors(self) -> str:
        """What it wrote to standard error, once it has ended."""
        self.process.wait(TIMEOUT)
        return self.log.read_text()


@contextmanager
def script(
    hello: Hello,
    url: str = "/",
    *options: str,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = PIPE,
    status: int = 0,
    **params: str,
) -> Iterator[Script]:
    """A script that is called for `url`, and has to end with `status`."""
    started = Script(hello, stdin, stdout, options, params_for(url, **params))
    with started.process as process:
        try:
            yield started
            assert process.wait(TIMEOUT) == status, started.log.read_text()
        finally:
            process.kill()


def call(hello: Hello, url: str = "/", body: bytes = b"", **params: str) -> tuple[str, bytes]:
    """The head and the body of what a script answers."""
    if body:
        params = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body)), **params}
    with script(hello, url, stdin=PIPE, stdout=PIPE, status=0, **params) as started:
        output, _ = started.process.communicate(body, timeout=TIMEOUT)
    head, _, content = output.partition(b"\r\n\r\n")
    return head.decode(), content


def test_what_an_application_sees(hello: Hello) -> None:
    hello.set_an_address()
    head, body = call(hello, body=bytes(300_000), HTTP_PROXY="http://evil.example", FCGI_WEB_SERVER_ADDRS="192.0.2.1")
    assert head.splitlines()[0] == "Status: 200 OK"
    told = json.loads(body)
    assert (told["body"], told["stdin"], told["activation"]) == (300_000, "", [])
    if hello.interface == "wsgi":
        assert (told["multithread"], told["multiprocess"], told["run_once"]) == (False, True, True)
        assert told["proxies"] == []
    else:
        assert told["lifespan"] == ["lifespan.startup"]
    errors = hello.log.read_text().splitlines()
    # Neither "serving" nor "stopped", each time; nor does a print() come into the response.
    expected = ["a print while it is imported", "a print into nobody's response"]
    if hello.interface == "asgi":
        expected.append("lifespan: lifespan.startup lifespan.shutdown")
    assert sorted(errors) == sorted(expected)


def test_a_body_and_a_response_are_streamed(hello: Hello) -> None:
    """Each line is answered before the next one is sent."""
    with script(hello, "/echo", stdin=PIPE, REQUEST_METHOD="POST", CONTENT_LENGTH="8") as started:
        assert started.read_until(b"\r\n\r\n" if hello.interface == "asgi" else b"") is not None
        started.send(b"one\n")
        assert started.read_until(b"ONE\n").endswith(b"ONE\n")
        # Standard input stays open: the length alone tells the end.
        started.send(b"two\n")
        assert started.rest() == b"TWO\n"


@wsgi
@pytest.mark.once
def test_a_body_without_a_length(hello: Hello) -> None:
    """One that came in chunks is read to its end; else there is none, and nobody waits for an end."""
    with script(hello, "/echo", stdin=PIPE, REQUEST_METHOD="POST", HTTP_TRANSFER_ENCODING="chunked") as started:
        started.send(b"one\n", end=True)
        assert started.rest().endswith(b"\r\n\r\nONE\n")
    with script(hello, stdin=PIPE) as started:
        assert json.loads(started.rest().partition(b"\r\n\r\n")[2])["body"] == 0


def converse(stdin: int, stdout: int, stderr: int, answer: bytes | None, *, body: int = 0) -> bytes:
    """A conversation with an application that sends `answer` at once, and closes; what it was told.

    An answer of None: it is only told.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        params = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", str(body))]
        conversation = Conversation(ours, stdin, stdout, stderr, params, TIMEOUT)
        if answer is not None:
            theirs.sendall(answer)
            theirs.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=conversation.run)
        thread.start()
        told = b""
        if answer is None:
            theirs.settimeout(TIMEOUT)
            while FCGI_ABORT not in told:
                told += theirs.recv(65536)
            theirs.shutdown(socket.SHUT_WR)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    return told


def test_descriptors_that_fail() -> None:
    """A full disk in place of the web server, and of the error log; a body that cannot be read."""
    answer = encode_record(FCGI_STDERR, 1, b"an error") + encode_record(FCGI_STDOUT, 1, b"Status: 200 OK\r\n\r\n")
    answer += encode_record(FCGI_END_REQUEST, 1, bytes(8))
    full, null, folder = os.open("/dev/full", os.O_WRONLY), os.open(os.devnull, os.O_RDWR), os.open("/", os.O_RDONLY)
    reader, writer = os.pipe()
    try:
        converse(null, full, null, answer)
        converse(null, writer, full, answer)
        assert os.read(reader, 100) == b"Status: 200 OK\r\n\r\n"
        converse(folder, null, null, None, body=5)
    finally:
        for descriptor in (full, null, folder, reader, writer):
            os.close(descriptor)


def test_descriptors_that_are_shared() -> None:
    """Another process has read what was there, or filled the pipe."""
    (stdin, other), (reader, stdout) = os.pipe2(os.O_NONBLOCK), os.pipe2(os.O_NONBLOCK)
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs:
            conversation = Conversation(ours, stdin, stdout, stdout, [("CONTENT_LENGTH", "5")], TIMEOUT)
            conversation._read()
            os.write(other, b"hello")
            conversation._read()
            assert b"hello" in b"".join(conversation._connection.data_to_send())
            waiting = conversation._to_web_server
            waiting.append(memoryview(bytes(8 << 20)))
            before = 0
            while len(waiting[0]) != before:
                before = len(waiting[0])
                assert conversation._write()
            assert before > 1 << 20
    finally:
        for descriptor in (stdin, other, reader, stdout):
            os.close(descriptor)


def test_a_descriptor_that_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    descriptor = _duplicate(writer)
    try:
        assert os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    finally:
        os.close(descriptor)


def test_an_application_that_hangs_up() -> None:
    """It takes no more of the body, and then there is no answer."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as body, open(os.devnull, "r+b") as null:
        body.write(bytes(1_000_000))
        body.seek(0)
        params = [("CONTENT_LENGTH", "1000000")]
        conversation = Conversation(ours, body.fileno(), null.fileno(), null.fileno(), params, TIMEOUT)
        theirs.close()
        conversation.run()
        assert body.tell() < 1_000_000


def test_lengths() -> None:
    assert body_length({"CONTENT_LENGTH": "5"}) == 5
    assert body_length({"CONTENT_LENGTH": "0", "HTTP_TRANSFER_ENCODING": "chunked"}) == 0
    for useless in ("", "-1", "five", "9" * 30):
        assert body_length({"CONTENT_LENGTH": useless}) == 0
        assert body_length({"CONTENT_LENGTH": useless, "HTTP_TRANSFER_ENCODING": "chunked"}) is None
    assert body_length({}) == 0


@asgi
@pytest.mark.once
def test_a_body_that_ends_too_early(hello: Hello) -> None:
    """Half a body looks like no whole one: the application is told that the client has gone."""
    with script(hello, "/echo", stdin=PIPE, REQUEST_METHOD="POST", CONTENT_LENGTH="8") as started:
        started.began()
        started.send(b"one\n", end=True)
        assert b"Status: 500" not in started.rest()
        assert "Traceback" not in started.errors()
    assert "disconnected" in started.errors()


@wsgi
@pytest.mark.once
def test_a_web_server_that_leaves(hello: Hello) -> None:
    """The end of whoever reads the response is the end of the request; nothing is said of it."""
    with script(hello, "/large?100000") as started:
        started.read_until(b"\0")
        assert started.process.stdout is not None
        started.process.stdout.close()
    assert "Traceback" not in started.errors()


@asgi
@pytest.mark.once
def test_a_web_server_that_leaves_a_silent_application(hello: Hello) -> None:
    with script(hello, "/echo", stdin=PIPE, REQUEST_METHOD="POST", CONTENT_LENGTH="8") as started:
        started.began()
        assert started.process.stdout is not None
        started.process.stdout.close()
    assert "Traceback" not in started.errors()


@wsgi
@pytest.mark.once
def test_a_web_server_that_reads_nothing(hello: Hello) -> None:
    """It has ``write_timeout``, as one of FastCGI has."""
    with script(hello, "/large?100", "--write-timeout", "0.1") as started:
        started.errors()
        assert len(started.rest()) < 100 * 65536


@wsgi
@pytest.mark.once
def test_large_responses(hello: Hello) -> None:
    with tempfile.TemporaryFile() as file, script(hello, "/large?50", stdout=file) as started:
        started.process.wait(TIMEOUT)
        file.seek(0)
        assert len(file.read().partition(b"\r\n\r\n")[2]) == 50 * 65536


@wsgi
@pytest.mark.once
def test_a_body_in_a_file(hello: Hello) -> None:
    """As lighttpd gives it."""
    with tempfile.TemporaryFile() as file:
        file.write(b"some lines\nand more than that")
        file.seek(0)
        with script(hello, "/echo", stdin=file, CONTENT_LENGTH="11", REQUEST_METHOD="POST") as started:
            assert started.rest().endswith(b"\r\n\r\nSOME LINES\n")


@wsgi
@pytest.mark.once
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(hello: Hello, closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *SERVE, "hello:app"],
        cwd=hello.folder,
        env={**buffered_environment(), **params_for("/early")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"Status: 500 ") == (closed in {"<&-", "2>&-"})
    assert (b"LookupError: too early" in done.stderr) == ("2>&-" not in closed)


def test_an_application_that_raises(hello: Hello) -> None:
    head, body = call(hello, "/early")
    assert head.startswith("Status: 500 ")
    assert b"LookupError" not in body
    errors = hello.log.read_text()
    # By FCGI_STDERR; the log tells only of what request.
    assert errors.count("LookupError: too early") == errors.count("Traceback") == 1
    assert errors.count("ERROR simple_fastcgi: GET /early failed\n") == 1


@wsgi
@pytest.mark.once
def test_an_application_that_raises_in_the_middle(hello: Hello) -> None:
    head, body = call(hello, "/late")
    assert (head.splitlines()[0], body) == ("Status: 200 OK", b"a part")
    assert hello.log.read_text().count("LookupError: too late") == 1


@wsgi
@pytest.mark.once
def test_a_log_of_the_programs_own_has_the_traceback(hello: Hello) -> None:
    program = (
        "import logging; from simple_fastcgi import serve; from hello import app; "
        "logging.basicConfig(filename='own.log'); serve(app)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=hello.folder,
        env={**buffered_environment(), **params_for("/early")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout.startswith("Status: 500 ")) == (0, True)
    for text in ((hello.folder / "own.log").read_text(), done.stderr):
        assert text.count("LookupError: too early") == 1


@pytest.mark.parametrize(
    ("hello", "number"),
    [("wsgi", signal.SIGTERM), ("asgi", signal.SIGINT), ("wsgi", signal.SIGUSR1)],
    indirect=["hello"],
)
def test_a_signal_lets_the_request_end(hello: Hello, number: signal.Signals) -> None:
    with script(hello, "/wait") as started:
        started.began()
        started.process.send_signal(number)
        (hello.folder / "release").touch()
        assert json.loads(started.rest().partition(b"\r\n\r\n")[2])["pid"] == started.process.pid
    assert "Traceback" not in started.errors()


@wsgi
@pytest.mark.once
def test_a_second_signal_ends_at_once(hello: Hello) -> None:
    with script(hello, "/wait", status=-signal.SIGTERM) as started:
        started.began()
        while started.process.poll() is None:
            # The first may not have been seen yet, and the system makes one of two.
            started.process.terminate()
            select.select([], [], [], 0.01)


@wsgi
@pytest.mark.once
def test_a_handler_that_never_ends_is_given_up(hello: Hello) -> None:
    with script(hello, "/wait", "--graceful-timeout", "0.1", status=1) as started:
        started.began()
        started.process.terminate()
        assert "ending although a handler is still busy" in started.errors()


@wsgi
@pytest.mark.once
@pytest.mark.parametrize(
    ("option", "value", "why"),
    [("--workers", "2", "is one process: omit --workers"), ("--socket-mode", "600", "only for a unix socket that")],
)
def test_options_that_cannot_be_obeyed(hello: Hello, option: str, value: str, why: str) -> None:
    with script(hello, "/", option, value, status=2) as started:
        pass
    assert why in started.errors()


@wsgi
@pytest.mark.once
def test_the_socket_of_the_status_beside_one_that_is_given(hello: Hello) -> None:
    """A file says who may connect to both; of the one that is given somebody else has said it."""
    hello.settings.write_text(
        '[tool.simple-fastcgi]\nbind = "unix:run/by-hand.sock"\nsocket-mode = "600"\nstatus-bind = "unix:run/st.sock"\n'
    )
    with listen_at(hello.sock) as listening:
        started = Script(hello, listening, subprocess.DEVNULL, (), {})
        with started.process as process:
            wait_until(lambda: "the status is at unix:" in hello.log.read_text() and hello.served())
            assert (hello.folder / "run" / "st.sock").stat().st_mode & 0o777 == 0o600
            process.terminate()
        assert process.returncode == 0


@wsgi
@pytest.mark.once
def test_settings_of_processes_that_are_meant_for_another_start(hello: Hello, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, or the environment, is that of each way to start the program; here there is one request."""
    monkeypatch.delenv("SIMPLE_FASTCGI_WORKERS")
    hello.settings.write_text(
        '[tool.simple-fastcgi]\nbind = "unix:run/by-hand.sock"\nworkers = 2\nmax-requests-jitter = 5\n'
    )
    head, _ = call(hello, SIMPLE_FASTCGI_MAX_REQUESTS="500")
    assert head.startswith("Status: 200 ")


def test_what_is_seen_of_the_request(hello: Hello) -> None:
    """The access log has it, and a ping is answered without the application; the status is of this process alone."""
    hello.settings.write_text(
        '[tool.simple-fastcgi]\naccess-log = "access.log"\nping-path = "/ping"\nstatus-path = "/status"\n'
    )
    call(hello, "/early")
    assert call(hello, "/ping")[1] == b"pong\n"
    assert re.search(rb"requests in flight: +1\n", call(hello, "/status")[1])
    lines = (hello.folder / "access.log").read_text().splitlines()
    assert [line.split('"')[1:3] for line in lines] == [
        ["GET /early HTTP/1.1", " 500 22 "],
        ["GET /ping HTTP/1.1", " 200 5 "],
        ["GET /status HTTP/1.1", lines[2].split('"')[2]],
    ]


@wsgi
@pytest.mark.once
def test_an_access_log_on_standard_output_spoils_no_response(hello: Hello) -> None:
    with script(hello, "/", "--access-log", "-") as started:
        assert started.rest().endswith(b"}")
    assert '"GET / HTTP/1.1" 200 ' in started.errors()


@wsgi
@pytest.mark.once
def test_a_request_that_takes_too_long(hello: Hello) -> None:
    """It is told, then given up: the process ends, and the web server answers for it."""
    options = ("--slowlog-timeout", "0.05", "--request-timeout", "0.1", "--access-log", "access.log")
    with script(hello, "/wait", *options, status=1) as started:
        assert started.rest() == b""
    assert " slow: GET /wait, " in started.errors()
    assert '"GET /wait HTTP/1.1" 500 ' in (hello.folder / "access.log").read_text()


@wsgi
@pytest.mark.once
@pytest.mark.parametrize("where", ["file", "command line"])
def test_a_status_of_its_own_has_no_time_to_be_asked(hello: Hello, where: str) -> None:
    """Of what is typed, or said in Python, the log says so; a file may be meant for another start."""
    options: tuple[str, ...] = ("--status-bind", "unix:run/st.sock")
    if where == "file":
        hello.settings.write_text('[tool.simple-fastcgi]\nstatus-bind = "unix:run/st.sock"\nsocket-mode = "600"\n')
        options = ()
    with script(hello, "/", *options) as started:
        assert started.rest().startswith(b"Status: 200 ")
    assert ("WARNING simple_fastcgi: status_bind: not by plain CGI" in started.errors()) == bool(options)


@asgi
def test_an_application_that_does_not_start(hello: Hello) -> None:
    (hello.folder / "refuse").touch()
    with script(hello, status=1) as started:
        assert started.rest() == b""
    assert "no database" in started.errors()


@wsgi
@pytest.mark.once
def test_what_fd_0_is_comes_first(hello: Hello) -> None:
    """A web server that spawns FastCGI programs may be in a CGI environment itself; a terminal is no web server."""
    hello.set_an_address()
    with listen_at(hello.sock) as listening:
        started = Script(hello, listening, subprocess.DEVNULL, (), params_for("/"))
        with started.process as process:
            wait_until(lambda: f"on fd 0 (unix:{hello.sock})" in hello.log.read_text())
            process.terminate()
        assert process.returncode == 0
    hello.settings.unlink()
    ours, theirs = os.openpty()
    try:
        with script(hello, stdin=theirs, status=2) as started:
            assert started.rest() == b"a print while it is imported\n"
        assert "nothing to serve on" in started.errors()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_native_program_needs_a_listening_socket(tmp_path: Path) -> None:
    """It speaks FastCGI alone, whatever the environment says."""
    program = "from simple_fastcgi import *\nFcgiServer(FcgiHandler)\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**buffered_environment(), **params_for("/")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert "ConfigurationError: fd 0 is /dev/null, not a listening socket: " in done.stderr
