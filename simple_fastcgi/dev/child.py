"""The process that runs the application, from its orders to its end.

It ends when the parent says so, and when the parent is gone, whatever ended that: the kernel closes the other end of
the socket pair.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time

from ..errors import ConfigurationError
from ..gateways.lifespan import LifespanError
from ..limits import MAX_SECONDS, Limits
from ..log import log_to_stderr, logger
from ..net import ListeningSocket
from ..serving.load import AppCrashError, load_app
from ..serving.run import check_settings, find_interface, serve_on
from .messages import STOP, Orders, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, BinaryIO

# Whoever is to have more time has had it from the parent, which no longer hands requests on.
_GRACEFUL_SECONDS = 1.0
_ASGI_DEBUG = (
    "--debug: werkzeug's debugger is for WSGI, and this is an ASGI application; its framework has a page of its own: "
    "Starlette(debug=True), FastAPI(debug=True)"
)


def main(control_fd: int) -> None:
    """Serve as the parent orders on the other end of the socket `control_fd`; SystemExit with 1 if nothing serves."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    lines = control.makefile("rb")
    orders = Orders.read(lines)
    sys.argv[:] = orders.argv
    stop = threading.Event()
    threading.Thread(target=_obey, args=(lines, orders, stop), name="development-server", daemon=True).start()
    log_to_stderr("WARNING")
    logger().addFilter(_is_news)
    try:
        _serve(orders, control, stop)
    except BaseException as error:
        control.sendall(_explain(orders.app, error).encode())
        sys.exit(1)


def _serve(orders: Orders, control: socket.socket, stop: threading.Event) -> None:
    check_settings(threads=orders.threads, interface=orders.interface, lifespan="auto", loop="auto")
    if orders.debug:
        # Flask looks at it when an application is made, and else handles every exception itself.
        os.environ.setdefault("FLASK_DEBUG", "1")
    app: Any = load_app(orders.app, factory=orders.factory)
    interface = find_interface(app, orders.interface)
    note = ""
    if orders.debug and interface == "wsgi":
        app, note = _debugged(app)
    elif orders.debug:
        note = _ASGI_DEBUG
    # What waits for the developer (a breakpoint, a slow query) is not to be cut off.
    limits = Limits(graceful_timeout=_GRACEFUL_SECONDS, read_timeout=MAX_SECONDS, write_timeout=MAX_SECONDS)
    with ListeningSocket(socket.socket(fileno=orders.listening), "the development server's socket") as listening:
        serve_on(
            listening,
            app,
            limits,
            interface=interface,
            threads=orders.threads,
            stop=stop,
            name=orders.app,
            when_ready=lambda described: control.sendall(Report("serving", described, note).encode()),
        )


def _debugged(app: Any) -> tuple[Any, str]:
    try:
        from werkzeug.debug import DebuggedApplication
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "werkzeug":
            raise
        raise ConfigurationError("--debug needs werkzeug: pip install werkzeug") from None
    debugged = DebuggedApplication(app, evalex=True)
    debugged.trusted_hosts.append("[::1]")
    return debugged, f"werkzeug's debugger is on, its PIN is {debugged.pin}" if debugged.pin else ""


def _explain(app: str, error: BaseException) -> Report:
    if isinstance(error, AppCrashError):
        return Report("failed", error.user_traceback())
    if isinstance(error, ConfigurationError):
        return Report("refused", str(error))
    if isinstance(error, LifespanError):
        # What the application raised is in the log already.
        return Report("failed", str(error))
    if isinstance(error, SystemExit):
        return Report("failed", f"{app} ended the process while it was loaded: {error!r}")
    import traceback

    return Report("failed", "".join(traceback.format_exception(error)))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the parent does not tell the same, which has it from FCGI_STDERR."""
    return not getattr(record, "on_stderr", False)


def _obey(lines: BinaryIO, orders: Orders, stop: threading.Event) -> None:
    """Wait for the parent's word, or its death; then see to it that the end comes."""
    if lines.readline() != STOP:
        # Before the end, which does not wait for this thread.
        shutil.rmtree(orders.folder, ignore_errors=True)
    stop.set()
    time.sleep(orders.patience)
    os._exit(1)
