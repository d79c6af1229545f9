"""Asks a web server that was just started, and tells what it sent and what an application must see of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.webservers.children import wait_until

from . import responder
from .servers import SERVERS, Listening, listeners, prepare
from .setups import SETUPS

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURE = Path(__file__).parents[1] / "quirks.json"
URLS = ("/a%20b/c?x=1", "/", "/a%2Fb", "/a//b", "/caf%C3%A9/d", "/100%25")
FIELDS = (
    ("Authorization", "Basic dTpw"),
    ("Cookie", "a=1"),
    ("Cookie", "b=2"),
    ("X-Multi", "alpha"),
    ("X-Multi", "beta"),
    ("X-Empty", ""),
    ("X_Under", "1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("Proxy", "http://evil.example:3128"),
)
BODY = b"name=value"
TYPE = ("Content-Type", "application/x-www-form-urlencoded")
# Addresses, as the fixture has them.
HOST, PORT, TLS_PORT, CLIENT_PORT = "127.0.0.1", 8080, 8443, 50000


class Connection(http.client.HTTPConnection):
    """To where a set-up listens."""

    def __init__(self, front: Listening) -> None:
        super().__init__(front.host, front.port, timeout=20)
        self._front = front

    def connect(self) -> None:
        front = self._front
        if front.setup.listen == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(front.host)
        else:
            self.sock = socket.create_connection((front.host, front.port), 20)
        if front.setup.listen == "tls":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname="shop.example")


def capture(server: str, program: Callable[[str], str]) -> dict[str, Any]:
    """The fixture's part about `server`."""
    setups = [setup for setup in SETUPS if setup.server.partition("-")[0] == server]
    with tempfile.TemporaryDirectory(prefix="captured-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        prepare(folder)
        path, tcp = str(folder / "app.sock"), socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen()
        for sock in (unix, tcp):
            stack.callback(sock.close)
            threading.Thread(target=responder.listen, args=(sock,), daemon=True).start()
        address = "{}:{}".format(*tcp.getsockname())
        words = {"SOCKET": path, "TCP": address, "DIR": name}
        fronts = [
            Listening(_filled_in(front.setup, words), front.host, front.port) for front in listeners(setups, folder)
        ]
        child = stack.enter_context(SERVERS[server](program, fronts, folder))
        made: dict[str, Any] = {"setups": {}, "captures": []}
        for front in fronts:
            try:
                _wait_for(front, child)
                rows = _ask_all(front)
            except (OSError, AssertionError, http.client.HTTPException):
                print(_key(front.setup), child.log_since(), *(path.read_text() for path in folder.glob("error.log")))
                raise
            for row in rows:
                row["params"] = [
                    [name, _neutral(name, value, front, folder, tcp.getsockname()[1])] for name, value in row["params"]
                ]
                made["captures"].append(row)
            made["setups"][_key(front.setup)] = _describe(front.setup, made["captures"][-1]["params"])
        return made


def _filled_in(setup: Any, words: dict[str, str]) -> Any:
    from dataclasses import replace

    text = setup.text
    for word, meaning in words.items():
        text = re.sub(rf"\b{word}\b", meaning, text)
    return replace(setup, text=text)


def _key(setup: Any) -> str:
    return f"{setup.server} {setup.name}"


def _wait_for(front: Listening, child: Any) -> None:
    def answers() -> bool:
        assert child.runs, child.log_since()
        connection = Connection(front)
        try:
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True

    wait_until(answers)


def _describe(setup: Any, params: list[list[str]]) -> dict[str, object]:
    software = dict(params).get("SERVER_SOFTWARE", setup.server)
    return {
        "server": setup.server,
        "source": f"captured behind {software}",
        "mount": setup.mount,
        "root_path": setup.root_path,
        "listen": setup.listen,
        "role": setup.role,
        "merges": setup.merges,
        "keeps_2f": setup.keeps_2f,
        "first": setup.first,
    }


def _ask_all(front: Listening) -> list[dict[str, Any]]:
    setup = front.setup
    urls = [setup.mount + url for url in URLS] + [setup.mount] * bool(setup.mount)
    rows = [{"setup": _key(setup), "url": url, "params": _ask(front, "GET", url)} for url in urls]
    if setup.role == "authorizer" or setup.fields:
        url = setup.mount + URLS[0]
        rows.append({"setup": _key(setup), "url": url, "fields": FIELDS, "params": _ask(front, "GET", url, FIELDS)})
    if setup.fields:
        for fields in (("Content-Length", str(len(BODY))), ("Transfer-Encoding", "chunked")):
            sent = (TYPE, fields)
            rows.append({"setup": _key(setup), "url": url, "method": "POST", "fields": sent, "params": _ask(front, "POST", url, sent)})
    # Without those that the web server answers by itself.
    return [row for row in rows if row["params"] is not None]


def _ask(front: Listening, method: str, url: str, fields: Any = ()) -> responder.Pairs | None:
    """What the application was sent; None if it was not asked."""
    before = len(responder.seen)
    connection = Connection(front)
    connection.putrequest(method, url, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", "localhost" if front.setup.listen == "unix" else front.authority)
    for name, value in fields:
        connection.putheader(name, value)
    body = None
    if method == "POST":
        body = BODY
        if ("Transfer-Encoding", "chunked") in fields:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    if front.setup.role == "authorizer":
        return responder.seen[-1] if len(responder.seen) > before else None
    if response.status != 200 or response.getheader("Content-Type") != "application/json":
        print(f"{_key(front.setup)} {method} {url}: {response.status}, by the web server itself")
        return None
    pairs: responder.Pairs = [tuple(pair) for pair in json.loads(content)]
    return pairs


def _neutral(name: str, value: str, front: Listening, folder: Path, tcp_port: int) -> str:
    """`value` without what is different each time."""
    port = TLS_PORT if front.setup.listen == "tls" else PORT
    if name == "REMOTE_PORT":
        return str(CLIENT_PORT) if value.isdigit() and value != "0" else value
    value = value.replace(str(folder), "/srv").replace(f":{tcp_port}", ":9000")
    if front.setup.listen not in ("unix", "ipv6"):
        value = value.replace(front.host, HOST)
    return re.sub(rf"(?<!\d){front.port}(?!\d)", str(port), value) if front.port else value
