"""The command line, and the report that people and programs read."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.check import add_command
from simple_fastcgi.cli.check.cures import _CURES as CURES
from simple_fastcgi.cli.check.cures import CANNOT, Software
from simple_fastcgi.cli.check.report import Report, ok, problem, warning
from simple_fastcgi.cli.check.url import CHECKS
from tests.cli.check.support import answering
from tests.webservers.children import ROOT

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.cli.check.conftest import Setup


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: simple-fastcgi check URL-or-SOCKET [options]\n")
    assert max(map(len, text.splitlines())) <= 120
    commands = argparse.ArgumentParser().add_subparsers()
    add_command(commands)
    for action in commands.choices["check"]._actions:
        assert action.help, action.option_strings
        assert not action.help.endswith(".")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "URL-or-SOCKET"),
        (["unix:x", "--timeout", "0"], "above 0"),
        (["unix:x", "--timeout", "nan"], "above 0"),
        (["unix:x", "--timeout", "soon"], "above 0"),
        (["http://h/", "--max-body-size", "0"], "from 1 to 4096"),
        (["http://h/", "--max-body-size", "1.5"], "from 1 to 4096"),
        (["http://h/", "--max-body-size", "9" * 5000], "from 1 to 4096"),
        (["/run/app.sock"], "'unix:/run/app.sock'"),
        (["app.sock"], "a URL begins with http:// or https://"),
        (["9000"], "127.0.0.1:9000"),
        (["fd://0"], "a client connects to a name"),
        (["ftp://host/"], "no such scheme as 'ftp'"),
        (["127.0.0.1:0"], "from 1 on"),
        (["http:///"], "no host"),
        (["http://host:99999/"], "is no port"),
        (["http://host/?a=b"], "without a query"),
        (["http://host/\n"], "control characters"),
        (["http://host/", "--path", "/"], "--path is for sockets"),
        (["http://host/", "--script", "/x"], "--script is for sockets"),
        (["HTTPS://host/", "--web-server-user", "root"], "--web-server-user is for sockets"),
        (["unix:x", "--max-body-size", "1"], "--max-body-size is for URLs"),
        (["unix:x", "--path", "x"], "it begins with a slash"),
        (["unix:x", "--script", "index.php"], "--script 'index.php'"),
        (["unix:x", "--root-path", "http://h/"], "--root-path 'http://h/'"),
        (["unix:x", "--root-path", "/a", "--script", "/b"], "root_path is for applications"),
        (["unix:x", "--root-path", "/a?b"], "without ? and #"),
        (["unix:x", "--path", "/a#b"], "--path '/a#b'"),
        (["unix:x", "--web-server-user", "no-such-user"], "no such user: nginx, Apache and lighttpd run as www-data"),
    ],
)
def test_what_cannot_be_asked(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(["check", *words])
    except SystemExit as ended:  # argparse
        status = ended.code
    assert status == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


def report(stream: io.StringIO, *, as_json: bool = False) -> tuple[str, bool]:
    told = Report("target", ["one", "two", "three", "four"], as_json=as_json, stream=stream)
    told.add("one", ok("well", "though"))
    told.add("two", warning("café", "\x1b[2J", "nothing"))
    told.add("four", problem("bad", "because", "do"))
    good = told.finish()
    return stream.getvalue(), good


def test_the_report_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text, good = report(io.StringIO())
    assert not good
    assert text == (
        "ok       1 one             well\n"
        "           why:  though\n"
        "warning  2 two             café\n"
        "           why:  \\x1b[2J\n"
        "           cure: nothing\n"
        "problem  4 four            bad\n"
        "           why:  because\n"
        "           cure: do\n"
        "1 problem, 1 warning, 1 ok, 1 not checked\n"
    )
    coloured, _ = report(Terminal())
    assert "\x1b[31mproblem\x1b[0m  4 four" in coloured
    assert "\x1b[33mwarning\x1b[0m  2 two             caf\\xe9\n" in coloured
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert "\x1b" not in report(Terminal())[0]


def test_the_report_for_programs() -> None:
    text, _ = report(Terminal(), as_json=True)
    told = json.loads(text)
    assert told.pop("checks")[1] == {
        "number": 2,
        "name": "two",
        "status": "warning",
        "what": "café",
        "why": "\x1b[2J",
        "cure": "nothing",
    }
    assert told == {"target": "target", "problems": 1, "warnings": 1, "ok": 1, "not_checked": 1}


def test_a_warning_alone_is_no_failure() -> None:
    told = Report("target", ["one"], as_json=True, stream=io.StringIO())
    told.add("one", warning("so", "so", "so"))
    assert told.finish()


@pytest.mark.parametrize("software", ["nginx", "mod_proxy_fcgi", "mod_fcgid", "lighttpd", "haproxy", "caddy", ""])
def test_every_web_server_has_a_cure_for_everything(software: str) -> None:
    values = {"mount": "/app", "bytes": 1048576, "kib": 1024, "mib": 1}
    for topic in CURES:
        cure = Software(software).cure(topic, **values)
        assert not re.search(r"\{\w+\}|\{\{", cure)
        assert cure or topic == "root" or Software(software).cannot(topic)
    assert Software(software).log.startswith("look into its error log")
    assert set(CANNOT) <= set(CURES)


def test_web_servers_are_known_by_their_names() -> None:
    for text, name in (("Apache/2.4", "mod_proxy_fcgi"), ("NGINX", "nginx"), ("lighttpd/1.4", "lighttpd"), ("IIS", "")):
        assert Software.named(text).name == name


def test_whoever_reads_it_may_go(setup: Setup) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "simple_fastcgi", "check", f"unix:{setup.probe.address}"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(connection: socket.socket) -> None:
        connection.recv(1)

    def check(visit: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(CHECKS, "web server", check)
    with answering(interrupt, 0) as port:
        assert main(["check", f"http://127.0.0.1:{port}/"]) == 130
    assert capsys.readouterr().out == ""


def test_without_any_other_package(tmp_path: Path) -> None:
    """The bare install has none, and -I and -S keep those of the machine away."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from simple_fastcgi.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, "check", "http://127.0.0.1:1/"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "nobody listens at port 1" in done.stdout
