"""The access log: one line for each request, whatever is in it, and wherever it goes."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.monitor import access_log
from simple_fastcgi.monitor.access_log import AccessLog, combined_line, json_line, shortened
from simple_fastcgi.monitor.info import RequestInfo
from simple_fastcgi.monitor.monitor import Monitor

if TYPE_CHECKING:
    from pathlib import Path

PARAMS = {
    "REQUEST_METHOD": "POST",
    "REQUEST_URI": "/gr%C3%BCn?a=b",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_USER": "zo\xc3\xab",
    "HTTP_HOST": "shop.example",
    "HTTP_REFERER": "https://a.example/",
    "HTTP_USER_AGENT": 'A "browser"\n',
    "UNIQUE_ID": "Zk3",
}
COMBINED = re.compile(
    r'(\S+) - (\S+) \[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "([^"]*)" (\d{3}) (\d+) '
    r'"([^"]*)" "([^"]*)" (\d+\.\d{6}) (\d+\.\d{6})\n'
)


def ended(params: dict[str, str] | None = None, **facts: Any) -> RequestInfo:
    info = RequestInfo(PARAMS if params is None else params)
    info.started = info.arrived + 0.25
    info.ended = info.arrived + 1.5
    for name, value in {"status": 201, "bytes_out": 12, **facts}.items():
        setattr(info, name, value)
    return info


def test_a_combined_line() -> None:
    found = COMBINED.fullmatch(combined_line(ended()))
    assert found is not None
    assert found.groups()[:2] == ("192.0.2.7", r"zo\xc3\xab")
    assert found.groups()[3:] == (
        "POST /gr%C3%BCn?a=b HTTP/1.1",
        *("201", "12", "https://a.example/", r"A \x22browser\x22\x0a", "1.500000", "0.250000"),
    )


def test_a_line_of_json() -> None:
    told = json.loads(json_line(ended(bytes_in=3)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", told.pop("time"))
    assert told == {
        "remote_addr": "192.0.2.7",
        "remote_user": "zoë",
        "method": "POST",
        "uri": "/gr%C3%BCn?a=b",
        "protocol": "HTTP/1.1",
        "host": "shop.example",
        "status": 201,
        "bytes_in": 3,
        "bytes_out": 12,
        "referer": "https://a.example/",
        "user_agent": 'A "browser"\n',
        "request_id": "Zk3",
        "request_time": 1.5,
        "queue_time": 0.25,
        "aborted": False,
        "failed": False,
        "pid": os.getpid(),
    }


def test_what_is_not_known() -> None:
    found = COMBINED.fullmatch(combined_line(ended({}, status=0, aborted=True, bytes_out=-5)))
    assert found is not None
    assert found.groups()[:2] == ("-", "-")
    assert found.groups()[3:8] == ("-  -", "499", "0", "-", "-")
    told = json.loads(json_line(ended({}, status=0)))
    assert (told["remote_addr"], told["status"], told["uri"]) == (None, None, None)


BYTES = st.text(st.characters(max_codepoint=255))


@given(st.dictionaries(st.sampled_from(sorted(PARAMS)), BYTES))
def test_nothing_that_was_sent_breaks_a_line(params: dict[str, str]) -> None:
    info = ended(params)
    line = combined_line(info)
    assert COMBINED.fullmatch(line)
    assert line[:-1].isprintable()
    assert line.isascii()
    told = json_line(info)
    assert told.count("\n") == 1
    assert told.isascii()
    sent = params.get("REQUEST_URI", "").encode("latin-1").decode("utf-8", "backslashreplace")
    assert (json.loads(told)["uri"] or "") == sent


@given(st.dictionaries(st.sampled_from(sorted(PARAMS)), BYTES | st.builds(str.__mul__, BYTES, st.just(300))))
def test_nothing_that_was_sent_breaks_a_line_that_is_cut(params: dict[str, str]) -> None:
    info = ended(params)
    line = shortened(combined_line, info, 1000)
    assert len(line) <= 1000
    assert COMBINED.fullmatch(line)
    told = shortened(json_line, info, 1000)
    assert len(told) <= 1000
    sent = json.loads(json_line(info))
    for name, value in json.loads(told).items():
        if value != sent[name] and name != "time":
            assert value.endswith("...")
            assert sent[name].startswith(value[:-3])


def test_the_longest_fields_are_cut() -> None:
    info = ended({**PARAMS, "REQUEST_URI": "/" + "é".encode().decode("latin-1") * 5000, "HTTP_REFERER": "r" * 6000})
    for line_of, uri in ((combined_line, r"/(\\xc3\\xa9)+\.\.\."), (json_line, r"/(\\u00e9)+\.\.\.")):
        line = shortened(line_of, info, 4096)
        # As much as there is room for.
        assert 4080 < len(line) <= 4096
        assert re.search(f'[" ]{uri}[" ]', line)
        assert re.search(r'"r{500,}\.\.\."', line)
        assert "192.0.2.7" in line
        assert "shop.example" in line or line_of is combined_line


def test_the_time_of_what_has_not_ended_makes_no_line_longer_than_it_was_measured() -> None:
    for _ in range(50):
        assert len(shortened(json_line, RequestInfo({"REQUEST_URI": "/" + "a" * 6000}), 4096)) <= 4096


def test_where_no_uri_was_sent_one_is_cut() -> None:
    line = shortened(combined_line, ended({"SCRIPT_NAME": "/" + "s" * 900, "PATH_INFO": "/" + "p" * 900}), 1100)
    assert re.search(r" /s{900}/p+\.\.\. ", line)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_lines_go_to_the_file_that_is_at_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_LOOK_SECONDS", 0.0)
    path = tmp_path / "access.log"
    path.write_text("before\n")
    with AccessLog(str(path), "json") as log:
        monitor = Monitor([log])
        for _ in range(2):
            info = monitor.arrived(PARAMS)
            monitor.start(info)
            monitor.end(info, aborted=False)
            monitor.end(info, aborted=False)  # counts for nothing
        assert len(lines(path)) == 3
        path.rename(tmp_path / "access.log.1")
        log.ended(ended())
        assert len(lines(path)) == 1
        path.unlink()
        path.write_text("")
        log.ended(ended())
        log.reopen()
        log.ended(ended())
        assert len(lines(path)) == 2
    assert len(lines(tmp_path / "access.log.1")) == 3


def test_a_log_that_cannot_be_opened_anew_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_LOOK_SECONDS", 0.0)
    folder, old = tmp_path / "logs", tmp_path / "old"
    folder.mkdir()
    path = folder / "access.log"
    with AccessLog(str(path)) as log, caplog.at_level(logging.ERROR, "simple_fastcgi"):
        for times in (1, 2):
            folder.rename(old)
            for _ in range(3):
                log.ended(ended())
            assert len(caplog.messages) == times
            assert caplog.messages[-1].startswith(
                f"the access log {path} cannot be opened anew: No such file or directory; what was open before is "
                "written on (told once): "
            )
            assert len(lines(old / "access.log")) == times + 2
            # It works again, and if it should ever not it is told again.
            folder.mkdir()
            log.ended(ended())
            assert len(lines(path)) == 1
            (old / "access.log").unlink()
            old.rmdir()
        assert len(caplog.messages) == 2


def test_a_new_log_that_only_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "_LOOK_SECONDS", 0.0)
    path = tmp_path / "access.log"
    with AccessLog(str(path)) as log, caplog.at_level(logging.ERROR, "simple_fastcgi"):
        path.rename(tmp_path / "access.log.1")
        # Something that nobody may write, not even root.
        path.mkdir()
        for _ in range(3):
            log.ended(ended())
        (told,) = caplog.messages
        assert "cannot be opened anew: Is a directory; " in told
        path.rmdir()
        # The same one as before: nothing is to be opened, and it is right again.
        (tmp_path / "access.log.1").rename(path)
        log.ended(ended())
        assert len(lines(path)) == 4
        path.unlink()
        path.mkdir()
        log.ended(ended())
        assert len(caplog.messages) == 2


def test_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    with AccessLog("/dev/full") as log:
        for _ in range(2):
            log.ended(ended())
    # Behind the end of its server a handler has none any more, and makes none.
    log.ended(ended())
    assert caplog.messages == ["the access log /dev/full: No space left on device (told once)"]


def test_nothing_is_opened_behind_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with AccessLog(str(path)) as log:
        path.unlink()
    log.ended(ended())
    assert not path.exists()


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with AccessLog("-") as log:
        log.ended(ended())
        log.reopen()
        log.ended(ended())
    os.write(1, b"it is still open\n")
    assert capfd.readouterr().out.count('"POST /gr') == 2


def test_lines_of_threads_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with AccessLog(str(path)) as log:
        stop = monotonic() + 0.2

        def write() -> None:
            while monotonic() < stop:
                log.ended(ended())

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        while monotonic() < stop:
            log.reopen()
        for thread in threads:
            thread.join()
    assert all(COMBINED.fullmatch(line + "\n") for line in lines(path))


WRITER = """
import sys
from simple_fastcgi.monitor.access_log import AccessLog
from simple_fastcgi.monitor.info import RequestInfo
with AccessLog("-", "json") as log:
    for _ in range(100):
        log.ended(RequestInfo({"REQUEST_URI": "/" + sys.argv[1] * 6000}))
"""


def test_lines_of_processes_do_not_mix_in_a_pipe() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-c", WRITER]
    processes = [subprocess.Popen([*command, letter], stdout=writing) for letter in "ab"]
    os.close(writing)
    with open(reading, "rb") as pipe:
        written = pipe.readlines()
    assert [process.wait() for process in processes] == [0, 0]
    told = [json.loads(line) for line in written]
    assert len(told) == 200
    assert all(re.fullmatch(r"/(a+|b+)\.\.\.", line["uri"]) for line in told)


def test_a_file_takes_lines_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with AccessLog(str(path)) as log:
        log.ended(ended({"REQUEST_URI": "/" + "x" * 6000}))
    (line,) = lines(path)
    assert "/" + "x" * 6000 + " " in line


FULL = """
import logging, os, resource, signal, sys
from simple_fastcgi.monitor.access_log import AccessLog
from simple_fastcgi.monitor.info import RequestInfo
logging.basicConfig(format="%(message)s", stream=sys.stdout)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with AccessLog(sys.argv[1]) as log:
    log.ended(RequestInfo({"REQUEST_URI": "/"}))
    size = os.path.getsize(sys.argv[1])
    for room in (10, 10, 10_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
        log.ended(RequestInfo({"REQUEST_URI": f"/{room}"}))
"""


def test_a_line_for_which_there_is_no_room(tmp_path: Path) -> None:
    """What there was room for is told once, and stands on a line of its own, as on a disk that was full."""
    path = tmp_path / "access.log"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"the access log {path}: File too large (told once)\n"
    whole, cut, last = lines(path)
    assert COMBINED.fullmatch(whole + "\n")
    assert len(cut) == 10
    assert '"- /10000 -"' in last
    assert COMBINED.fullmatch(last + "\n")


def test_standard_output_may_be_closed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, "a"], capture_output=True, text=True, check=True, preexec_fn=lambda: os.close(1)
    )
    assert done.stderr.count("the access log -: Bad file descriptor (told once)") == 1


def test_what_cannot_be_a_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give one of combined, json"):
        AccessLog("-", "xml")
    with pytest.raises(FileNotFoundError):
        AccessLog(str(tmp_path / "no" / "access.log"))
