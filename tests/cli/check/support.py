"""The command's answers, and web servers that do to requests what none that is installed here does."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from simple_fastcgi.check import MARK
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Check = Callable[..., "Said"]


@dataclass
class Said:
    """How a check ended, and what it said in JSON."""

    status: int
    told: dict[str, Any]

    def of(self, name: str) -> dict[str, str]:
        """What the check `name` found."""
        (found,) = [check for check in self.told["checks"] if check["name"] == name]
        return {key: str(value) for key, value in found.items()}

    @property
    def bad(self) -> dict[str, str]:
        """The names of what is not well, and what it is."""
        return {check["name"]: check["status"] for check in self.told["checks"] if check["status"] != "ok"}


def seen(handler: BaseHTTPRequestHandler, **otherwise: object) -> dict[str, object]:
    """What the probe would tell of a request without a body, but for `otherwise`."""
    path, _, query = handler.path.partition("?")
    told: dict[str, object] = {
        "probe": 1,
        "process": 1,
        "connection": 1,
        "keep_conn": True,
        "proxied": False,
        "params": {"SCRIPT_NAME": "", "PATH_INFO": path, "REQUEST_URI": handler.path, "SERVER_SOFTWARE": "other/1"},
        "method": handler.command,
        "scheme": "http",
        "root_path": "",
        "path": path,
        "query_string": query,
        "headers": [[name.lower(), value] for name, value in handler.headers.items() if name != "Proxy"],
        "body": {"size": 0, "sha256": ""},
    }
    return told | otherwise


@dataclass
class Twist:
    """What a web server does to requests."""

    otherwise: Callable[[BaseHTTPRequestHandler], dict[str, object]] = field(default=lambda handler: {})
    method: str = ""
    """As which all requests arrive."""
    act: Callable[[BaseHTTPRequestHandler], bool] = field(default=lambda handler: False)
    """What is done instead of an answer; False: nothing."""
    drops: bool = False
    """Connections are closed behind an answer that does not say so."""


@contextmanager
def twisted(twist: Twist) -> Iterator[str]:
    """The URL of a web server with a probe behind it that sees what `twist` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def do_GET(self) -> None:
            if twist.act(self):
                self.close_connection = True
                return
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            page = json.dumps(seen(self, **twist.otherwise(self))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.send_header(MARK, twist.method or self.command)
            if self.headers.get("Transfer-Encoding"):
                self.send_header("Connection", "close")
            self.close_connection = twist.drops or bool(self.headers.get("Transfer-Encoding"))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_HEAD = do_GET  # noqa: N815 - http.server's name
        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join(TIMEOUT)
        server.server_close()


@contextmanager
def answering(answer: Callable[[socket.socket], None], connections: int = 1) -> Iterator[int]:
    """The port of a server that does `answer` to so many connections, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            for _ in range(connections):
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(TIMEOUT)
                    try:
                        connection.recv(65536)
                        answer(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            try:
                listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            thread.join(TIMEOUT)
            assert not thread.is_alive()
