"""``simple-fastcgi ping`` and ``status``: what they print, and with which exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from simple_fastcgi import serve
from simple_fastcgi.cli import main
from simple_fastcgi.testing import AppServer
from tests.support.php import PING_PATH, STATUS_PATH
from tests.webservers.children import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.php import PhpFpm

    Say = Callable[..., tuple[int, str, str]]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"\nthe application at ", environ["PATH_INFO"].encode(), b"\nand more"]


@contextmanager
def served(**settings: Any) -> Iterator[str]:
    """The address of a server with these settings."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as sock:
        path = f"{folder}/app.sock"
        sock.bind(path)
        sock.listen()
        stop = threading.Event()
        thread = threading.Thread(target=lambda: serve(app, sock=sock, stop=stop, name="shop", **settings))
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server that has both pages."""
    with served(ping_path="/fcgi-ping", status_path="/a/status") as where:
        yield where


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """The exit status of a command, what it prints, and what it complains of, which is one line."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(words)
        said = capfd.readouterr()
        assert said.err.count("\n") == (1 if status else 0)
        return status, said.out, said.err.removeprefix("simple-fastcgi: ")

    return run


def test_a_server_that_is_well(address: str, say: Say) -> None:
    assert say("ping", address) == (0, "pong\n", "")
    status, text, _ = say("status", address, "--path", "/a/status")
    assert status == 0
    assert text.startswith("pool:                        shop\n")
    told = json.loads(say("status", address, "--path=/a/status", "--json", "--full")[1])
    (itself,) = told["requests under way"]
    assert itself["request URI"] == "/a/status?json&full"
    metrics = say("status", address, "--path", "/a/status", "--openmetrics")[1]
    assert "fcgi_requests" in {family.name for family in text_string_to_metric_families(metrics)}
    assert say("status", address, "--path", "/a/status", "--html")[1].startswith("<!doctype html>")


def test_a_server_without_pages(say: Say) -> None:
    with AppServer(app) as server:
        status, out, err = say("ping", server.address)
        assert (status, out) == (1, "")
        assert err == (
            'no pong but 404 Not Found ("the application at /fcgi-ping") at /fcgi-ping: start the server with '
            "--ping-path /fcgi-ping (PHP-FPM: ping.path = /fcgi-ping), or tell with --path where its ping is\n"
        )
        status, out, err = say("status", server.address)
        assert (status, out) == (1, "")
        assert err.startswith(
            'no status but 404 Not Found ("the application at /fcgi-status") at /fcgi-status: start the server '
        )


def test_php_fpm(php: PhpFpm, say: Say) -> None:
    assert say("ping", php.address, "--path", PING_PATH) == (0, "pong\n", "")
    status, text, _ = say("status", php.address, "--path", STATUS_PATH)
    assert (status, text.splitlines()[0].split()) == (0, ["pool:", "www"])
    told = json.loads(say("status", php.address, "--path", STATUS_PATH, "--json", "--full")[1])
    # PHP-FPM's own count of them, "total processes", is now and then a wrong one where they are busy.
    assert len(told["processes"]) == 4
    assert "phpfpm_up 1" in say("status", php.address, "--path", STATUS_PATH, "--openmetrics")[1]
    assert "PHP-FPM Status Page" in say("status", php.address, "--path", STATUS_PATH, "--html")[1]
    status, _, err = say("ping", php.address)
    assert status == 1
    assert err.startswith('no pong but 404 Not Found ("File not found.") at /fcgi-ping: ')


def test_nobody_there(say: Say, tmp_path: Any) -> None:
    missing = f"unix:{tmp_path}/no.sock"
    for command in ("ping", "status"):
        status, out, err = say(command, missing)
        assert (status, out) == (1, "")
        assert err.startswith(f"cannot connect to {missing}: there is no such socket file; is the application running")


def test_somebody_who_says_nothing(say: Say) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{folder}/mute.sock")
        sock.listen()
        status, _, err = say("ping", f"unix:{folder}/mute.sock", "--timeout", "0.05")
    assert (status, err) == (
        1,
        f"--timeout 0.05 is over: unix:{folder}/mute.sock: nothing has come; is it a FastCGI server, or busy?\n",
    )


def test_what_metrics_need(address: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.openmetrics.exposition", None)
    status, _, err = say("status", address, "--path", "/a/status", "--openmetrics")
    assert (status, err) == (1, "OpenMetrics needs prometheus_client: pip install 'simple_fastcgi[metrics]'\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["app.sock"], "address 'app.sock': "),
        (["unix:/x", "--path", "ping"], "--path 'ping': give a path that begins with a slash, as /fcgi-ping"),
        (["unix:/x", "--path", "/ping?x"], "--path '/ping?x': give a path"),
    ],
)
def test_what_cannot_be_asked(words: list[str], told: str, say: Say) -> None:
    status, _, err = say("ping", *words)
    assert status == 2
    assert err.startswith(told)


@pytest.mark.parametrize("words", (["ping"], ["ping", "x:1", "--timeout", "0"], ["status", "x:1", "--json", "--html"]))
def test_what_the_command_line_cannot_say(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert f"usage: simple-fastcgi {words[0]} ADDRESS [options]" in capsys.readouterr().err


def test_ctrl_c(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simple_fastcgi.client.target.parse_target", interrupted)
    assert main(["ping", address]) == 130


@pytest.mark.once
def test_an_output_that_is_closed(address: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "simple_fastcgi", "ping", address]
        ended = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (
        1,
        "simple-fastcgi: cannot write to standard output: broken pipe\n",
    )
