"""What `make demo` runs, and what a browser's visit to the examples' pages needs."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.webservers.children import ROOT

from .support import DevServer, browser, wait_for_requests

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.once, pytest.mark.no_cover]


class Demo(DevServer):
    """``scripts/demo.py``, or the development server in an example's folder."""

    def __init__(self, log: Path, *command: str, cwd: Path = ROOT) -> None:
        super(DevServer, self).__init__([sys.executable, *command], log, cwd=cwd)


def test_the_demonstration(tmp_path: Path) -> None:
    with Demo(tmp_path / "log", "scripts/demo.py", "--port", "0") as demo, browser(demo.url) as client:
        page = client.get("/")
        assert "It works." in page.text
        (style,) = re.findall(r'href="(/static/style\.css)"', page.text)
        assert client.get(style).headers["content-type"].startswith("text/css")
        form = client.post("/form", data={"name": "Grün", "message": "five!"}, follow_redirects=True)
        assert "Thank you, Grün. Your message of 5 characters has arrived." in form.text
        content = bytes(range(256)) * 4096
        upload = client.post("/upload", files={"file": ("noise.bin", content)})
        assert hashlib.sha256(content).hexdigest() in upload.text
        with client.stream("GET", "/stream?count=2&interval=0.1") as stream:
            assert list(stream.iter_bytes()) == [b"line 1 of 2\n", b"line 2 of 2\n"]
        with client.stream("GET", "/events?count=2&interval=0.1") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in stream.iter_lines() if line]
        assert [json.loads(line.removeprefix("data: "))["event"] for line in lines[:2]] == [1, 2]
        assert lines[2:] == ["event: end", "data: {}"]
        wait_for_requests(demo, "/stream?count=2&interval=0.1")
        assert demo.interrupt() == 0
    first, second, *requests, last = demo.log_since().splitlines()
    assert first == "app:app (WSGI, 4 threads) answers over FastCGI"
    assert re.fullmatch(r"open http://127\.0\.0\.1:\d+/ — Ctrl\+C ends, changes of its code restart it", second)
    assert all(re.match(r"\d\d:\d\d:\d\d  (GET |POST)", line) for line in requests)
    assert last == "stopped"


def test_the_example_of_starlette_with_its_event_stream(tmp_path: Path) -> None:
    command = ("-m", "simple_fastcgi", "dev", "app:app", "--http", "127.0.0.1:0")
    cwd = ROOT / "examples" / "starlette_app"
    with Demo(tmp_path / "log", *command, cwd=cwd) as demo, browser(demo.url) as client:
        assert "It works." in client.get("/").text
        with client.stream("GET", "/events") as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            assert [json.loads(next(lines).removeprefix("data: "))["event"] for _ in range(2)] == [1, 2]
        wait_for_requests(demo, "/events")
        assert client.get("/state").json()["sse_left"] == 1
