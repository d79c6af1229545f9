"""The package's logger, and what is told of an application's failure."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import os
import re
import subprocess
import sys
import textwrap
import types
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.log import LOGGER_NAME, log_to_stderr, logger, report_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ROOT = Path(__file__).parents[1]
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """Without handlers, which other code of this process may have set up; and so again afterwards."""
    ours, root = logging.getLogger(LOGGER_NAME), logging.getLogger()
    before = (ours.handlers, ours.level, ours.propagate, root.handlers)
    ours.handlers, ours.propagate = [], True
    yield
    ours.handlers, level, ours.propagate, root.handlers = before
    ours.setLevel(level)


@contextmanager
def bare_root() -> Iterator[None]:
    """Nobody has set up logging: pytest's own handlers are away, which would come back behind a fixture."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


def test_logger() -> None:
    assert logger() is logging.getLogger("simple_fastcgi")


# --------------------------------------------------------------------- failures


def raised(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def ours(name: str) -> types.ModuleType:
    """A module that stands for one of this package, or of another one."""
    module = types.ModuleType(name)
    exec("def call(act):\n    return act()\n", module.__dict__)
    return module


def fail() -> None:
    raise ValueError("caf\u00e9")


def test_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    text = report_failure(raised(fail), "GET /x", aborted=False)
    assert text is not None
    assert text.startswith(b"Traceback (most recent call last):\n")
    assert text.endswith(b"ValueError: caf\xc3\xa9\n")
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == (LOGGER_NAME, "ERROR", "GET /x failed")
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


def test_what_is_no_utf_8_is_told_all_the_same() -> None:
    # Not even test reports can hold it.
    logger().propagate = False
    logger().addHandler(logging.NullHandler())
    assert (
        report_failure(ValueError("caf\u00e9 \ud800"), "GET /", aborted=False) == b"ValueError: caf\xc3\xa9 \\ud800\n"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
def test_whatever_is_raised_is_told(error: BaseException) -> None:
    text = report_failure(error, "GET /", aborted=True)
    assert text is not None
    assert type(error).__name__.encode() in text


def test_the_traceback_begins_with_the_applications_own_code() -> None:
    inner, between = ours("simple_fastcgi.sync.server"), ours("socketserver")
    error = raised(lambda: inner.call(lambda: between.call(fail)))
    # What called us stands above; a server's first frame is its own.
    error.__traceback__ = error.__traceback__.tb_next.tb_next if error.__traceback__ else None  # type: ignore[union-attr]
    text = report_failure(error, "GET /", aborted=False)
    assert text is not None
    names = [line.rpartition(b", in ")[2] for line in text.splitlines() if line.startswith(b"  File")]
    assert names == [b"<lambda>", b"call", b"fail"]


def test_our_own_failure_keeps_its_traceback() -> None:
    module = ours("simple_fastcgi.protocol.application")
    exec("def fail():\n    raise KeyError\n", module.__dict__)
    error = raised(module.fail)
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    text = report_failure(error, "GET /", aborted=False)
    assert text is not None
    assert b", in fail\n" in text


def test_a_failure_without_a_traceback() -> None:
    assert report_failure(ValueError("x"), "GET /", aborted=False) == b"ValueError: x\n"


def chained(*errors: BaseException, by: str) -> BaseException:
    """The first one, which the second one caused, and so on."""
    for error, cause in pairwise(errors):
        setattr(error, by, cause)
    return errors[0]


HANG_UPS = [
    ConnectionError(),
    ConnectionAbortedError(),
    BrokenPipeError(),
    chained(RuntimeError("framework"), ConnectionResetError(), by="__cause__"),
    chained(RuntimeError("framework"), ConnectionResetError(), by="__context__"),
    chained(*(RuntimeError() for _ in range(19)), ConnectionError(), by="__context__"),
]


@pytest.mark.parametrize("error", HANG_UPS, ids=range(len(HANG_UPS)))
def test_a_hang_up_is_no_failure(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", LOGGER_NAME)
    assert report_failure(error, "GET /", aborted=True) is None
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert record.exc_info is None
    # An application's own trouble with other servers is one.
    assert report_failure(error, "GET /", aborted=False) is not None


def test_a_failure_behind_a_hang_up() -> None:
    assert report_failure(ValueError(), "GET /", aborted=True) is not None
    assert report_failure(chained(ValueError(), KeyError(), by="__context__"), "GET /", aborted=True) is not None


def test_a_circle_of_causes() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert report_failure(one, "GET /", aborted=True) is not None


# --------------------------------------------------------------------- to standard error


def test_log_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with bare_root():
        log_to_stderr("WARNING")
        logger().info("unheard")
        logger().warning("heard %d", 5)
        assert capsys.readouterr().err.endswith(" WARNING simple_fastcgi: heard 5\n")
        # The root logger is left alone: frameworks look at it.
        assert logging.getLogger().handlers == []
        assert not logger().propagate
        log_to_stderr()
        assert len(logger().handlers) == 1
        assert logger().level == logging.WARNING


@pytest.mark.parametrize("name", [None, LOGGER_NAME])
def test_a_program_that_logs_is_left_alone(name: str | None) -> None:
    handler = logging.NullHandler()
    with bare_root():
        logging.getLogger(name).addHandler(handler)
        log_to_stderr()
        assert logging.getLogger(name).handlers == [handler]
        assert logging.getLogger(LOGGER_NAME).handlers == ([handler] if name else [])
        assert logger().propagate


# --------------------------------------------------------------------- before anything has imported logging


def fresh(program: str) -> str:
    """What a new process writes to standard error, in which nothing has imported logging."""
    program = f"import sys; from simple_fastcgi.log import *\nassert 'logging' not in sys.modules\n{program}"
    # Without site-packages, whose .pth files may load anything.
    command = (sys.executable, "-S", "-c", textwrap.dedent(program))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT, check=True)
    return done.stderr


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO simple_fastcgi: (.*)\n")


def test_a_line_before_logging_is_imported_and_one_after() -> None:
    said = fresh("""\
log_to_stderr()
log_to_stderr("ERROR")
info("%s %d", "early", 100)
info("100 %")
assert "logging" not in sys.modules
logger().info("%s", "late")
info("%s", "later")
""")
    assert LINE.findall(said) == ["early 100", "100 %", "late", "later"]
    assert len(said.splitlines()) == 4


def test_lines_that_nobody_wants_import_nothing() -> None:
    said = fresh("""\
log_to_stderr("WARNING")
info("unheard")
assert "logging" not in sys.modules
logger().info("unheard")
logger().warning("heard")
""")
    assert said.endswith(" WARNING simple_fastcgi: heard\n")
    assert "unheard" not in said


def test_as_long_as_logging_cannot_be_imported() -> None:
    """As where no descriptor is left: warnings and errors are told, and nobody who tells them fails."""
    said = fresh("""\
log_to_stderr()
sys.modules["logging"] = None
logger().debug("unheard")
logger().info("unheard")
logger().warning("%d warning", 1, extra={})
logger().error("error")
logger().error("with one", exc_info=ValueError("an error"))
logger().error("with %s", "one", exc_info=(ValueError, ValueError("an error"), None))
try:
    raise ValueError("an error")
except ValueError:
    logger().exception("raised")
assert not logger().handlers
del sys.modules["logging"]
logger().error("by logging")
""")
    assert "unheard" not in said
    assert re.findall(r"(WARNING|ERROR) simple_fastcgi: (.*)\n", said) == [
        ("WARNING", "1 warning"),
        ("ERROR", "error"),
        ("ERROR", "with one: ValueError('an error')"),
        ("ERROR", "with one: ValueError('an error')"),
        ("ERROR", "raised: ValueError('an error')"),
        ("ERROR", "by logging"),
    ]
    assert len(said.splitlines()) == 6


def test_without_standard_error() -> None:
    assert fresh("sys.stderr = None; log_to_stderr(); info('unheard')") == ""


@pytest.mark.parametrize("why", ("no reader", "full", "closed"))
def test_a_standard_error_that_takes_nothing(why: str) -> None:
    if why == "no reader":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    close = "sys.stderr.close()" if why == "closed" else ""
    program = f"""\
import sys
from simple_fastcgi.log import info, log_to_stderr
log_to_stderr()
{close}
info("unheard")
info("unheard")
assert "logging" not in sys.modules
print("served")
"""
    command = (sys.executable, "-S", "-c", program)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, cwd=ROOT, timeout=TIMEOUT, check=False)
    finally:
        os.close(writer)
    assert (done.stdout, done.returncode) == (b"served\n", 0)


def test_what_the_application_says_of_our_logger_stands() -> None:
    said = fresh("""\
log_to_stderr()
import logging
ours = logging.getLogger("simple_fastcgi")
ours.setLevel("ERROR")
logging.basicConfig(format="root %(message)s")
log_to_stderr()
logger().warning("unheard")
logger().error("heard")
""")
    # The program had not set up logging when ours was made visible; so it is told once, by our handler.
    assert said.endswith(" ERROR simple_fastcgi: heard\n")
    assert len(said.splitlines()) == 1


def test_the_applications_own_handler_stands() -> None:
    said = fresh("""\
log_to_stderr()
import logging
handler = logging.StreamHandler()
logging.getLogger("simple_fastcgi").addHandler(handler)
logger().error("heard")
""")
    assert said == "heard\n"


def test_many_threads_make_one_handler() -> None:
    said = fresh("""\
import threading
log_to_stderr()
together = threading.Barrier(8)
def tell():
    together.wait()
    logger().error("heard")
threads = [threading.Thread(target=tell) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(logger().handlers) == 1
logger().error("the end")
""")
    assert said.endswith(": the end\n")


def test_processes_are_told_apart() -> None:
    assert re.search(
        r" ERROR simple_fastcgi\[\d+\]: heard\n$", fresh("log_to_stderr(processes=True); logger().error('heard')")
    )


def test_lines_of_json() -> None:
    said = fresh("""\
log_to_stderr(json=True)
info("%s", "early")
try:
    1 / 0
except ZeroDivisionError as error:
    report_failure(error, "GET /x", aborted=False, fields={"uri": "/x"})
""")
    first, second = map(json.loads, said.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", first.pop("time"))
    assert isinstance(first.pop("pid"), int)
    assert first == {"level": "INFO", "logger": "simple_fastcgi", "message": "early"}
    assert (second["message"], second["event"], second["uri"]) == ("GET /x failed", "failed", "/x")
    assert second["exception"].endswith("\nZeroDivisionError: division by zero")


def test_an_application_that_configures_its_own_log() -> None:
    """By default logging.config disables the loggers that are there already: so no error would be told any more."""
    said = fresh("""\
log_to_stderr(processes=True)
logger().getChild("workers")
import logging.config
logging.config.dictConfig({"version": 1})
logger().error("heard")
logger().getChild("workers").error("heard, too")
""")
    assert said.count("heard") == 2


def test_other_threads_make_loggers_meanwhile() -> None:
    """While ours are enabled again, which an application's configuration had disabled."""
    said = fresh("""\
import logging, sys, threading
log_to_stderr(processes=True)
sys.setswitchinterval(1e-6)
names = [f"shop.{number}" for number in range(5_000)]
making = threading.Thread(target=lambda: [logging.getLogger(name) for name in names])
making.start()
while making.is_alive():
    logging.getLogger("simple_fastcgi").disabled = True
    logger()
making.join()
logger().error("heard")
""")
    assert said.count("\n") == 1
    assert said.endswith(": heard\n")


def test_loggers_are_made_while_pytest_goes_through_them() -> None:
    known = logging.getLogger().manager.loggerDict
    before = len(known)
    for _ in known.values():
        logging.getLogger(f"made.behind.{before}")
    assert len(known) > before


def test_records_of_others_as_json() -> None:
    """With logging's own configuration, of which our formatter is a part."""
    written = io.StringIO()
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "simple_fastcgi.json_log.JsonFormatter"}},
        "handlers": {"ours": {"class": "logging.StreamHandler", "formatter": "json", "stream": written}},
        "loggers": {"shop": {"handlers": ["ours"], "propagate": False}},
    }
    logging.config.dictConfig(config)
    shop = logging.getLogger("shop")
    # Whatever an attribute of that name is, and whatever is in it.
    shop.warning("caf\u00e9\n%s", "x", extra={"fcgi": {"message": "mine", "level": 1, "set": {1}, "stack": "x"}})
    shop.warning("y", extra={"fcgi": "somebody else's"}, stack_info=True)
    record = logging.LogRecord("shop", logging.ERROR, "p", 1, "z", None, None)
    record.exc_text = "as another formatter left it"
    shop.handle(record)
    shop.handlers.clear()
    first, second, third = map(json.loads, written.getvalue().splitlines())
    assert (first["message"], first["level"], first["set"], first["stack"]) == ("caf\u00e9", "WARNING", "{1}", "x")
    assert second["stack"].startswith("Stack (most recent call last):")
    assert third["exception"] == "as another formatter left it"


def test_logging_is_imported_on_first_use() -> None:
    module: Any = sys.modules["simple_fastcgi.log"]
    assert "logging" not in vars(module)
