"""Every way in which a call may fail: its exit status, and the one line that tells why."""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.call.body import Body, file_part
from simple_fastcgi.cli.call.status import INTERRUPTED, OK, STATUSES, CallError
from simple_fastcgi.cli.call.target import parse_target
from simple_fastcgi.cli.call.transfer import FOREVER, Link, Transfer
from simple_fastcgi.protocol.constants import FCGI_STDIN, FCGI_STDOUT
from simple_fastcgi.protocol.records import encode_record
from tests.cli.call.support import ANSWER, HEAD, fake, stdin_of, target_of, unknown_type
from tests.servers.support import listening_socket
from tests.support.lying import end, stderr, stdout
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.cli.call.support import Call

SHORT = ("-m", "0.05")
HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"

# What an application answers with before it closes the connection (`...`: it does not), the options, and what is said.
ANSWERS: list[tuple[int, Sequence[bytes | object], Sequence[str], str]] = [
    (1, [end(protocol_status=2)], (), "FCGI_OVERLOADED"),
    (1, [end(protocol_status=3)], ("--role", "responder"), "FCGI_UNKNOWN_ROLE"),
    (1, [unknown_type()], ("--get-values",), "does not tell any of FCGI_MAX_CONNS"),
    (8, [HTTP], (), "this is an HTTP server, which curl --unix-socket "),
    (8, [HTTP], ("--get-values",), "this is an HTTP server"),
    (8, [b"\x15\x03\x01\x00\x02\x02\x50"], (), "FastCGI version 21"),
    (8, [encode_record(FCGI_STDIN, 1, b"x")], (), "which no application sends"),
    (8, [stdout(b"no head\n\n") + end()], (), "no header field, but b'no head'"),
    (8, [stdout(b"Status: 99\n\n") + end()], (), "none from 200 to 999"),
    (8, [stdout(b"Content-Type: te") + end()], (), "the request ended within its head"),
    (18, [stdout(HEAD + b"hel")], (), "closed the connection within the response's body"),
    (18, [stdout(HEAD + b"hel") + encode_record(FCGI_STDOUT, 65534), ...], (), "within the response's body"),
    (18, [stdout(b"Content-Length: 3\n\nhel")], (), "closed the connection before the response's end"),
    (18, [stdout(b"Content-Length: 5\n\nhel") + end()], (), "2 bytes shorter than its Content-Length"),
    (18, [stdout(b"Content-Length: 1\n\nhel") + end()], (), "longer than its Content-Length"),
    (22, [stdout(b"Status: 404\n\nhe") + end()], ("-f",), "the application answered 404 Not Found"),
    (22, [stdout(b"Status: 599\n\nhe") + end()], ("--fail-with-body",), "the application answered 599"),
    (22, [stdout(b"Status: 500 My Fault\n\n") + end()], ("-f",), "the application answered 500 My Fault"),
    (22, [ANSWER[:-16] + end(app_status=3)], ("-f",), "the application ended with its status 3"),
    (28, [...], SHORT, "--max-time is over: unix:"),
    (28, [...], ("--get-values", *SHORT), "answers no FCGI_GET_VALUES in time"),
    (52, [b""], (), "closed the connection before any response; it may allow other clients only"),
    (52, [b""], ("--get-values",), "closed the connection instead of an answer"),
    (52, [end(app_status=1)], (), "the request ended without a response, application status 1"),
    (56, [b"\1\6\0"], (), "closed the connection before any response"),
    (56, [stdout(b"Content-Ty")], (), "closed the connection within the response's head"),
]


@pytest.mark.parametrize(("status", "answers", "options", "says"), ANSWERS)
def test_what_applications_do(
    call: Call, status: int, answers: Sequence[bytes | object], options: Sequence[str], says: str
) -> None:
    with fake(answers) as (target, _):
        said = call(target, *options)
    assert said.status == status
    assert says in said.complaint


def test_a_response_that_is_not_complete_in_time() -> None:
    with fake([stdout(HEAD + b"hel"), ...]) as (target, _), Body() as body:
        link = Link(parse_target(target), TIMEOUT, FOREVER)
        transfer = Transfer(link, {}, body, role=1, keep_conn=False, deadline=FOREVER)

        def receive(event: object) -> bool:
            transfer._deadline = 0.0
            return True

        try:
            with pytest.raises(TimeoutError) as caught:
                transfer.run(receive)
        finally:
            link.close()
        told = transfer.explain(caught.value)
    assert (told.status, str(told)) == (28, f"--max-time is over: {target}: the response is not complete")


def test_what_is_told_before_it_breaks_off(call: Call) -> None:
    with fake([stderr(b"oh") + stdout(HEAD + b"hel")]) as (target, _):
        said = call(target)
    assert (said.status, said.out) == (18, b"hel")
    first, second = said.err.splitlines()
    assert first == "oh"
    assert second.startswith("simple-fastcgi: (18) unix:")


@pytest.mark.parametrize("words", [(), ("--get-values",)])
def test_a_reset(call: Call, words: Sequence[str]) -> None:
    with listening_socket(socket.AF_INET) as (listening, address):
        thread = threading.Thread(target=reset_next, args=(listening,), daemon=True)
        thread.start()
        said = call(target_of(address), *words)
        thread.join()
    assert said.status == 56
    assert "the connection broke: connection reset by peer" in said.complaint


def test_a_reset_within_the_response(call: Call) -> None:
    def answer_and_reset() -> None:
        connection, _ = listening.accept()
        with connection:
            # The rest of the request is not read, which makes a reset of the end.
            connection.recv(1)
            connection.sendall(stdout(HEAD + b"hel"))

    with listening_socket(socket.AF_UNIX) as (listening, address):
        thread = threading.Thread(target=answer_and_reset, daemon=True)
        thread.start()
        said = call(target_of(address))
        thread.join()
    assert (said.status, said.out) == (18, b"hel")
    assert "the connection broke within the response's body: connection reset by peer" in said.complaint


def reset_next(listening: socket.socket) -> None:
    """Close the next connection while there is something in it that was not read."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_an_upload_into_a_connection_that_was_closed(call: Call, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(4 << 20)
    with fake([ANSWER[:-16]], first_bytes=True) as (target, _):
        said = call(target, "-T", f"{tmp_path}/big")
    # Whether the end or the breaking off is noticed first is the system's to say.
    assert said.status in (18, 56)
    assert said.complaint


def test_an_http_server_on_a_port(call: Call) -> None:
    with fake([HTTP], family=socket.AF_INET) as (target, _):
        said = call(target)
    assert said.status == 8
    assert said.complaint.endswith(f"which curl http://{target}/ calls")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/run/app.sock", "write 'unix:/run/app.sock'"),
        ("9000", 'write "127.0.0.1:9000"'),
        (":9000", 'write "127.0.0.1:9000"'),
        ("fd://0", "a client connects to a name"),
        ("127.0.0.1:0", "give the port"),
        ("http://localhost/", "no such scheme"),
        ("nonsense", "neither an address with a port nor a socket file"),
        ("a\nb", "neither"),
    ],
)
def test_wrong_targets(call: Call, target: str, says: str) -> None:
    said = call(target)
    assert said.status == 2
    assert says in said.complaint
    assert "bind" not in said.complaint


def test_a_wrong_url(call: Call) -> None:
    said = call("unix:x", "nonsense")
    assert (said.status, said.out) == (3, b"")
    assert said.complaint


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid"])
def test_an_unknown_host(call: Call, host: str) -> None:
    said = call(f"{host}:9000")
    assert said.status in (2, 6)
    assert host in said.complaint


def test_nobody_takes_the_connection(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("stale.sock")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for target, says in (
            ("unix:none.sock", "there is no such socket file; is the application running, and does it listen there?"),
            ("unix:none/a.sock", "no folder none either"),
            ("unix:file", "this file is no socket"),
            ("unix:stale.sock", "nobody listens on this file (connection refused)"),
            ("unix:file/x", "Not a directory"),
            ("unix:@no-such-name", "nobody listens there"),
            (f"127.0.0.1:{port}", "nobody listens there (connection refused)"),
            (f"localhost:{port}", f" 127.0.0.1:{port}"),
        ):
            said = call(target)
            assert said.status == 7
            assert f"cannot connect to {target}" in said.complaint
            assert says in said.complaint


def test_a_full_listen_queue(call: Call) -> None:
    with listening_socket(socket.AF_UNIX, backlog=0) as (_, address), socket.socket(socket.AF_UNIX) as first:
        first.connect(address)
        for option, other in (("--connect-timeout", "--max-time"), ("--max-time", "--connect-timeout")):
            said = call(target_of(address), option, "0.05", other, "60")
            assert said.status == 28
            assert f" s ({option}): its listen queue is full" in said.complaint


def test_what_cannot_be_read(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, says in (
        (("-d", "@none"), "cannot read none: no such file or directory"),
        (("-d", "x", "-d", "@/"), "cannot read /: is a directory"),
        (("-T", "none"), "cannot read none"),
        (("-F", "x=@none"), "cannot read none"),
        (("--data-urlencode", "x@none"), "cannot read none"),
        (("-T", "a\0b"), "embedded null"),
    ):
        said = call("unix:x", *words)
        assert said.status == 26
        assert says in said.complaint
    monkeypatch.setattr(sys, "stdin", None)
    assert call("unix:x", "-d", "@-").complaint == "cannot read standard input: it is closed"


class Folder(io.RawIOBase):
    """A folder as standard input, which can be opened and not be read."""

    def __init__(self) -> None:
        self._fd = os.open("/", os.O_RDONLY)

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        os.read(self._fd, 1)
        return 0

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


@pytest.mark.parametrize("words", [("-T", "-"), ("-d", "@-")])
def test_what_can_be_opened_and_not_read(
    call: Call, one_target: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
) -> None:
    with stdin_of(Folder()) as stdin:  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdin", stdin)
        said = call(one_target, *words)
    assert said.status == 26
    assert said.complaint == "cannot read standard input: is a directory"


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    with Body(file_part(str(path))) as body:
        os.truncate(path, 3)
        assert body.read() == b"123"
        with pytest.raises(CallError, match="it has become shorter, 3 of 8 bytes are left") as raised:
            body.read()
    assert raised.value.status == 26


def test_what_cannot_be_written(call: Call, one_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, says in (
        (("-o", "/dev/full"), "cannot write /dev/full: no space left on device"),
        (("-D", str(tmp_path)), "is a directory"),
        (("-o", f"{tmp_path}/none/x"), "no such file or directory"),
        (("-o", "a\0b"), "embedded null"),
    ):
        said = call(one_target, *words)
        assert said.status == 23
        assert says in said.complaint
    monkeypatch.setattr(sys, "stdout", None)
    for options in ([], ["-o", "/dev/null", "-w", "x"]):
        said = call(one_target, *options)
        assert (said.status, said.complaint) == (23, "cannot write to standard output: it is closed")


def test_silent_failures(call: Call) -> None:
    assert call("unix:none", "-s").err == ""
    assert call("unix:none", "-sS").complaint
    assert call("unix:none", "-s", "-w", "%{exitcode} %{errormsg}\\n").out.startswith(
        b"7 cannot connect to unix:none: "
    )


def test_every_exit_status_is_tested() -> None:
    by_applications = {status for status, *_ in ANSWERS}
    elsewhere = {2, 3, 6, 7, 23, 26}
    assert by_applications | elsewhere | {OK, INTERRUPTED} == STATUSES.keys()
