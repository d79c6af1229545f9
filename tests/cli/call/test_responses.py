"""What becomes of a response: what is shown, written and measured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.call.writeout import VARIABLES
from tests.cli.call.support import ANSWER, HEAD, fake, unknown_type
from tests.support.lying import end, stderr, stdout
from tests.support.php import PING_PATH, STATUS_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.call.support import Call
    from tests.support.php import PhpFpm


def test_heads(target: str, call: Call, tmp_path: Path) -> None:
    body = b"so it is\n"
    head = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\n"
    assert call(target, "/status/404").out == body
    assert call(target, "/status/404", "-i").out == head + body
    assert call(target, "/status/404", "-I").out == head
    assert call(target, "/status/404", "-D", "-").out == head + body
    said = call(target, "/status/404", "-D", f"{tmp_path}/head", "-o", f"{tmp_path}/body")
    assert (said.status, said.out, said.err) == (0, b"", "")
    assert ((tmp_path / "head").read_bytes(), (tmp_path / "body").read_bytes()) == (head, body)


def test_failing(target: str, call: Call, tmp_path: Path) -> None:
    said = call(target, "/status/404", "-f", "-o", f"{tmp_path}/body")
    assert said.complaint == "the application answered 404 Not Found"
    assert not (tmp_path / "body").exists()
    assert call(target, "/status/404", "--fail-with-body").out == b"so it is\n"
    assert call(target, "/status/302", "-f").status == 0


def test_an_endless_failure_is_not_read_for_ever(call: Call) -> None:
    piece = stdout(bytes(65535)) * 17
    with fake([stdout(b"Status: 500\n\n") + piece, ...]) as (target, _):
        assert call(target, "-f").status == 22


def test_an_empty_response_makes_an_empty_file(call: Call, tmp_path: Path) -> None:
    with fake([stdout(HEAD) + end()]) as (target, _):
        assert call(target, "-o", f"{tmp_path}/body").status == 0
    assert (tmp_path / "body").read_bytes() == b""


def test_standard_error(target: str, call: Call) -> None:
    for options in ((), ("-s",)):
        said = call(target, "/stderr", *options)
        assert (said.status, said.out, said.err) == (0, b"done\n", "an error\nand more\n")


def test_an_early_answer_ends_the_upload(target: str, call: Call, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(8 << 20)
    said = call(target, "/early", "-T", f"{tmp_path}/big", "-w", "%{http_code}")
    assert (said.status, said.out) == (0, b"too much\n413")


def test_records_are_shown(call: Call) -> None:
    with fake([stderr(b"oh") + ANSWER]) as (target, _):
        said = call(target, "/x?y=é", "-v", "--param", "A=\x1b[1m", "-d", "abc", "--keep-conn")
    lines = said.err.splitlines()
    assert lines[0] == f"* connected to {target}"
    assert lines[1] == "> FCGI_BEGIN_REQUEST id=1 responder keep_conn=1"
    assert re.fullmatch(r"> FCGI_PARAMS \d+ bytes", lines[2])
    assert ">   REQUEST_URI=/x?y=%C3%A9" in lines
    assert ">   A=\\x1b[1m" in lines
    assert lines[lines.index("> FCGI_PARAMS end") :] == [
        "> FCGI_PARAMS end",
        "> FCGI_STDIN 3 bytes",
        "> FCGI_STDIN end",
        "< FCGI_STDERR 2 bytes",
        "oh",
        "< FCGI_STDOUT 34 bytes",
        "<   HTTP/1.1 200 OK",
        "<   Content-Type: text/plain",
        "< FCGI_END_REQUEST id=1 app_status=0 protocol_status=0 (FCGI_REQUEST_COMPLETE)",
    ]
    assert said.out == b"hello\n"


@pytest.mark.parametrize(
    ("answer", "options", "line"),
    [
        (b"HTTP/1.1 400 Bad\r\n\r\n", (), "< no record: HTTP/1.1 400 Bad\\r\\n\\r\\n"),
        (b"\1\5\0\1\0\1\7\0x" + bytes(7), (), "< FCGI_STDIN 1 byte"),
        (b"\1\3\0\1\0\1\0\0x", (), "< FCGI_END_REQUEST 1 byte"),
        (b"\1\3\0\1\0\0\0\0", (), "< FCGI_END_REQUEST"),
        (b"\1\x63\0\1\0\0\0\0", (), "< a record of type 99 id=1, 0 bytes"),
        (end(1, 9), (), "< FCGI_END_REQUEST id=1 app_status=1 protocol_status=9 (unknown)"),
        (unknown_type(), ("--get-values",), "< FCGI_UNKNOWN_TYPE type=9"),
        (b"\1\x0a\0\0\0\2\0\0\5x", ("--get-values",), "<   no name-value pairs: a name-value pair claims"),
    ],
)
def test_odd_records_are_shown(call: Call, answer: bytes, options: tuple[str, ...], line: str) -> None:
    with fake([answer]) as (target, _):
        said = call(target, "-v", *options)
    assert said.status
    assert any(told.startswith(line) for told in said.err.splitlines()), said.err


def test_what_is_measured(one_target: str, call: Call) -> None:
    template = "".join(f"{name}=%{{{name}}}\\n" for name in VARIABLES)
    said = call(one_target, "/bytes", "-d", "four", "-o", "/dev/null", "-w", template + "100%%\\t\\\\")
    *lines, rest = said.out.decode().split("\n")
    values = dict(line.split("=") for line in lines)
    assert rest == "100%\t\\"
    times = [float(values.pop(f"time_{name}")) for name in ("connect", "starttransfer", "total")]
    assert times == sorted(times)
    assert values == {
        "app_status": "0",
        "content_type": "application/octet-stream",
        "errormsg": "",
        "exitcode": "0",
        "http_code": "200",
        "method": "POST",
        "num_headers": "1",
        "response_code": "200",
        "size_download": "4",
        "size_upload": "4",
        "url": "/bytes",
    }
    said = call("unix:none", "-w", "%{http_code}%{nonsense}")
    assert said.out == b"000"
    assert said.err.splitlines()[1] == "simple-fastcgi: hint: -w: there is no variable 'nonsense'"


# ----------------------------------------------------------------------------- --get-values, --repeat


def test_values(target: str, call: Call) -> None:
    said = call(target, "--get-values")
    assert re.fullmatch(rb"FCGI_MAX_CONNS=\d+\nFCGI_MAX_REQS=\d+\nFCGI_MPXS_CONNS=[01]\n", said.out)
    assert (said.status, said.err) == (0, "")


def test_repeating(target: str, call: Call) -> None:
    said = call(target, "/bytes", "-d", "x", "--repeat", "20")
    lines = said.out.decode().splitlines()
    assert (said.status, said.err) == (0, "")
    assert re.fullmatch(r"20 requests in \d+\.\d{3} s: \d+\.\d requests/s", lines[0])
    number = r"(\d+\.\d\d) ms"
    times = re.fullmatch(rf"latency: min {number}, median {number}, p95 {number}, max {number}", lines[1])
    assert times is not None
    assert sorted(times.groups(), key=float) == list(times.groups())
    assert lines[2:] == ["connections: 1", "HTTP status: 20 x 200"]
    said = call(target, "/status/404", "--repeat", "3", "--no-keep-conn", "-f")
    assert said.out.decode().splitlines()[2:] == ["connections: 3", "HTTP status: 3 x 404"]
    assert (said.status, said.complaint) == (22, "the application answered 404 Not Found")


def test_repeating_with_an_application_that_closes(call: Call) -> None:
    # Closed behind an answer, closed instead of one, and something said that nobody asked for.
    with fake([ANSWER], [ANSWER, b""], [ANSWER + ANSWER], [ANSWER, ANSWER, ...]) as (target, _):
        said = call(target, "--repeat", "5")
    assert said.out.decode().splitlines()[2:] == ["connections: 4", "HTTP status: 5 x 200"]
    assert said.status == 0


def test_an_authorizer_has_no_body_that_would_have_to_end(call: Call) -> None:
    with fake([ANSWER, ANSWER, ...], first_bytes=True) as (target, _):
        said = call(target, "--repeat", "2", "--role", "authorizer")
    assert said.out.decode().splitlines()[2:] == ["connections: 1", "HTTP status: 2 x 200"]


def test_repeating_ends_with_the_first_failure(call: Call) -> None:
    with fake([ANSWER, stdout(HEAD)]) as (target, _):
        said = call(target, "--repeat", "5", "-X", "POST")
    assert said.out.startswith(b"1 request in ")
    assert said.status == 18
    assert said.complaint.startswith("request 2 of 5: unix:")
    with fake([ANSWER, b""]) as (target, _):
        # Nothing came, but it may have been done: POST is not sent again.
        said = call(target, "--repeat", "5", "-X", "POST")
    assert said.status == 52
    assert call("unix:none", "--repeat", "5").out == b""
    assert call("unix:none", "--repeat", "5", "-T", "-", stdin=b"x").status == 2


# ------------------------------------------------------------------------------------------- PHP-FPM


def test_php(php: PhpFpm, call: Call, tmp_path: Path) -> None:
    php.add(
        "index.php", 'echo $_SERVER["REQUEST_METHOD"], "|", $_POST["a"] ?? "", "|", $_FILES["f"]["size"] ?? "", "\\n";'
    )
    php.add("log.php", 'error_log("my log"); echo "ok";')
    (tmp_path / "f").write_bytes(bytes(1000))
    root = ("--document-root", str(php.document_root))
    assert call(php.address, "/", *root).out == b"GET||\n"
    assert call(php.address, "/", *root, "-d", "a=b").out == b"POST|b|\n"
    assert call(php.address, "/", *root, "-d", "@-", stdin=b"a=c\n").out == b"POST|c|\n"
    assert call(php.address, "/", *root, "-F", f"f=@{tmp_path}/f", "-F", "a=d").out == b"POST|d|1000\n"
    assert call(php.address, "/", "--script", f"{php.document_root}/index.php", "-d", "a=e").out == b"POST|e|\n"
    assert "my log" in call(php.address, "/log.php", *root).err
    assert call(php.address, PING_PATH, "--script", PING_PATH).out == b"pong"
    assert b"pool:" in call(php.address, STATUS_PATH, "--script", STATUS_PATH).out
    said = call(php.address, "--get-values")
    assert said.out == b"FCGI_MPXS_CONNS=0\n"
    assert "does not tell FCGI_MAX_CONNS, FCGI_MAX_REQS" in said.err
    assert b"connections: 1\n" in call(php.address, "/", *root, "--repeat", "5").out


def test_what_php_says_too_shortly(php: PhpFpm, call: Call) -> None:
    (php.document_root / "a.txt").write_bytes(b"x")
    root = ("--document-root", str(php.document_root))
    for words, hint in (
        (("/none.php", *root), f"PHP finds no file at SCRIPT_FILENAME={php.document_root}/none.php"),
        (("/none.php",), "PHP was not told which file to run: give --document-root DIR or --script FILE"),
        (("/a.txt", *root), "PHP-FPM runs only files whose names its setting security.limit_extensions allows"),
    ):
        said = call(php.address, *words)
        assert said.status == 0
        assert f"simple-fastcgi: hint: {hint}" in said.err
        assert "hint" not in call(php.address, *words, "-s").err
        assert call(php.address, *words, "-f").status == 22
