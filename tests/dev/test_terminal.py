"""What is written for people: lines of the log, the page of a failure, and why an application does not start."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.dev.child import _explain
from simple_fastcgi.dev.page import failure_page
from simple_fastcgi.dev.terminal import Terminal, amount, duration, printable, wants_colour
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.gateways.lifespan import LifespanError


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "wanted"),
    [
        (Tty(), {}, True),
        (Tty(), {"TERM": "dumb"}, False),
        (Tty(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (Tty(), {"NO_COLOR": ""}, True),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
    ],
    ids=["terminal", "dumb", "no-color", "empty", "file", "forced"],
)
def test_colour(stream: io.StringIO, environ: dict[str, str], wanted: bool) -> None:
    assert wants_colour(stream, environ) is wanted


def test_a_line_of_a_request() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, colour=True)
    terminal.request("GET", b"/\x1b[31m?x=\xff", 404, 1234, 0.01234, "cut off")
    _, _, rest = stream.getvalue().partition("  ")
    assert rest == "GET      \x1b[33m404\x1b[0m   12.3 ms   1.23 kB  /\\x1b[31m?x=\\xff  \x1b[33m(cut off)\x1b[0m\n"
    terminal.request("GET", b"/", None, 0, 0, "")
    assert "  \x1b[31m  -\x1b[0m  " in stream.getvalue()
    stream.close()
    terminal.say("nobody reads this")


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB")])
def test_amounts(size: int, text: str) -> None:
    assert amount(size) == text


@given(st.integers(0, 10**12))
def test_amounts_are_short(size: int) -> None:
    assert len(amount(size)) <= 8


@given(st.floats(1e-6, 1e5))
def test_durations_are_short(seconds: float) -> None:
    assert len(duration(seconds)) <= 10


@given(st.text())
def test_nothing_that_a_terminal_would_obey(text: str) -> None:
    assert all(" " <= character <= "~" for character in printable(text))


def test_a_page_for_strangers_shows_no_traceback() -> None:
    for html in (True, False):
        _, page = failure_page("app:app failed to start", "secret", hint="", html=html, shown=False)
        assert b"secret" not in page
        assert b"The traceback is in the terminal" in page


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ConfigurationError("threads=0"), "refused", "threads=0"),
        (LifespanError("the application failed to start: why"), "failed", "the application failed to start: why"),
        (SystemExit(3), "failed", "app:app ended the process while it was loaded: SystemExit(3)"),
        (OSError("full"), "failed", "OSError: full\n"),
    ],
    ids=["refused", "lifespan", "exit", "other"],
)
def test_why_an_application_does_not_start(error: BaseException, kind: str, text: str) -> None:
    report = _explain("app:app", error)
    assert (report.kind, report.text) == (kind, text)
    assert type(report).decode(report.encode()) == report
