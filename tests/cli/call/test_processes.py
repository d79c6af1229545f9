"""`call` as a process of its own: help, signals, closed descriptors, and output that is not held back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.call.options import _parser
from simple_fastcgi.cli.call.status import STATUSES
from tests.cli.call.support import ANSWER, HEAD, end, fake, stdout
from tests.servers.support import listening_socket
from tests.support.webserver import TIMEOUT
from tests.webservers.children import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = (sys.executable, "-m", "simple_fastcgi", "call")
# As nobody, once everything is imported: another user may be unable to read the interpreter's folder.
UNPRIVILEGED = """
import grp, os, pwd, sys
import simple_fastcgi.cli.call.command as command
command.call(["unix:/none", "-s"])
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
status = command.call(sys.argv[1:])
if os.getuid() == 0:
    os.seteuid(0)
sys.exit(status)
"""


def start(*words: str, stdin: int = subprocess.DEVNULL, command: Sequence[str] = COMMAND) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, *words],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What a shell without job control starts in the background would ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_help_tells_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["call", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: simple-fastcgi call TARGET [URL] [options]\n")
    assert max(map(len, text.splitlines())) <= 120
    for number, meaning in STATUSES.items():
        assert f"{number:3}  {meaning}\n" in text + "\n"
    for action in _parser()._actions:
        assert action.help, action.option_strings
        assert not action.help.endswith(".") or action.help.endswith("...")


def test_the_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "call a FastCGI application, as curl calls an HTTP server" in capsys.readouterr().out


def test_events_are_seen_at_once_and_ctrl_c_ends_it() -> None:
    event = b"data: 1\n\n"
    with fake([stdout(HEAD + event), ...]) as (target, _), start(target) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(event)) == event
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_ends_a_measurement_with_its_summary() -> None:
    with fake([ANSWER, stdout(HEAD), ...]) as (target, application):
        with start(target, "--repeat", "9") as process:
            while len(application.received) < 2:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
    assert out.startswith(b"1 request in ")
    assert (process.returncode, err) == (130, b"")


def test_input_is_sent_as_it_comes() -> None:
    reading, writing = os.pipe()
    with (
        listening_socket(socket.AF_UNIX) as (listening, address),
        start(f"unix:{address}", "-T", "-", stdin=reading) as process,
    ):
        os.close(reading)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(TIMEOUT)
            received = b""
            for piece in (b"first", b"second"):
                os.write(writing, piece)
                while not received.rstrip(b"\0").endswith(piece):
                    received += connection.recv(65536)
            os.close(writing)
            while not received.endswith(b"\1\5\0\1\0\0\0\0"):
                received += connection.recv(65536)
            connection.sendall(stdout(HEAD + b"thanks") + end())
            assert process.communicate(timeout=TIMEOUT) == (b"thanks", b"")
    assert process.returncode == 0


def test_a_reader_that_has_had_enough() -> None:
    much = stdout(HEAD) + stdout(bytes(65535)) * 32 + end()
    with fake([much]) as (target, _), start(target) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(TIMEOUT) == 23
    assert err == b"simple-fastcgi: (23) cannot write to standard output: broken pipe\n"


def test_output_that_would_block() -> None:
    much = bytes(65535) * 8
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    answer = stdout(HEAD) + stdout(much[:65535]) * 8 + end()
    with fake([answer]) as (target, _), subprocess.Popen([*COMMAND, target], cwd=ROOT, stdout=writing) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == much
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(("closed", "status"), [("0", 0), ("1", 23), ("2", 0)])
def test_closed_descriptors(closed: str, status: int) -> None:
    shell = ("/bin/sh", "-c", f'exec "$@" {closed}>&-', "sh", *COMMAND)
    with fake([ANSWER]) as (target, _), start(target, command=shell) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status
    assert out == (b"" if closed == "1" else b"hello\n")
    assert err == (b"simple-fastcgi: (23) cannot write to standard output: it is closed\n" if closed == "1" else b"")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o755, "permission denied; it belongs to "),
        (0o600, "permission denied; a folder on the way is closed to this user ("),
    ],
)
def test_a_socket_that_is_not_for_everybody(mode: int, says: str) -> None:
    with listening_socket(socket.AF_UNIX) as (_, address):
        assert isinstance(address, str)
        folder = os.path.dirname(address)
        os.chmod(address, 0)
        os.chmod(folder, mode)
        try:
            with start(f"unix:{address}", command=(sys.executable, "-c", UNPRIVILEGED)) as process:
                _, err = process.communicate(timeout=TIMEOUT)
        finally:
            os.chmod(folder, 0o700)
    assert (process.returncode, err.count(b"\n")) == (7, 1)
    assert says in err.decode()
