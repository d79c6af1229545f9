"""What `make demo` runs."""

from __future__ import annotations

import re
import signal
import sys
from typing import TYPE_CHECKING

from .children import Child
from .sites import client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEMO = [sys.executable, "scripts/demo.py", "--port", "0"]  # a port that is free, for other demonstrations may run


def test_the_demonstration_answers(program: Callable[[str], str], tmp_path: Path) -> None:
    program("nginx")
    with Child([*DEMO, "--once"], tmp_path / "log") as demo:
        assert demo.wait() == 0
    assert re.fullmatch(r"200 OK http://127\.0\.0\.1:\d+/\n", demo.log_since())


def test_the_demonstration_goes_on_until_ctrl_c(program: Callable[[str], str], tmp_path: Path) -> None:
    program("nginx")
    with Child(DEMO, tmp_path / "log") as demo:
        url = demo.wait_for(r"open (http://127\.0\.0\.1:\d+/)")[1]
        with client(url) as browser:
            assert "It works." in browser.get("/app/").text
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    assert demo.log_since().count("\n") == 1
