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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from tests.webservers.children import wait_until

from . import responder
from .servers import SERVERS, Listening, listeners, prepare
from .setups import SETUPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.webservers.children import Child

    from .setups import Setup

    Fields = tuple[tuple[str, str], ...]

FIXTURE = Path(__file__).parents[1] / "quirks.json"
URLS = ("/a%20b/c?x=1", "/", "/a%2Fb", "/a//b", "/caf%C3%A9/d", "/100%25", "/e%2520f")
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
# Larger than what Apache waits for to tell its length.
LARGE_BODY = BODY * 8000
TYPE = ("Content-Type", "application/x-www-form-urlencoded")
LENGTH, CHUNKED = ("Content-Length", str(len(BODY))), ("Transfer-Encoding", "chunked")
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
            stack.enter_context(_answering(sock))
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
                if server == "caddy":
                    # It sends them in another order each time.
                    row["params"].sort()
                made["captures"].append(row)
            made["setups"][_key(front.setup)] = _describe(front.setup, made["captures"][-1]["params"])
        return made


@contextlib.contextmanager
def _answering(sock: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=responder.listen, args=(sock,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        # Closing it would not wake accept() up.
        sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        sock.close()


def _filled_in(setup: Setup, words: dict[str, str]) -> Setup:
    text = setup.text
    for word, meaning in words.items():
        text = re.sub(rf"\b{word}\b", meaning, text)
    return replace(setup, text=text)


def _key(setup: Setup) -> str:
    return f"{setup.server} {setup.name}"


def _wait_for(front: Listening, child: Child) -> None:
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


def _describe(setup: Setup, params: list[list[str]]) -> dict[str, object]:
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
    requests: list[tuple[str, str, Fields]] = [("GET", url, ()) for url in urls]
    if setup.role == "authorizer":
        requests = [("GET", "/", FIELDS)]
    elif setup.fields:
        requests.append(("GET", urls[0], FIELDS))
        requests += [("POST", urls[0], (TYPE, length)) for length in (LENGTH, CHUNKED)]
    rows = []
    for method, url, fields in requests:
        params = _ask(front, method, url, fields)
        # None of those that the web server answers by itself.
        if params is not None:
            row = {"setup": _key(setup), "method": method, "url": url, "fields": fields, "params": params}
            if url == setup.mount and not setup.slashless:
                row["root_path"] = setup.mount
            rows.append(row | {"expected": _expect(setup, url, fields)})
    return rows


def _expect(setup: Setup, url: str, fields: Fields) -> dict[str, object]:
    """What an application must see, told by the configuration and the URL alone."""
    told = dict(fields)
    is_tls = setup.listen == "tls" or setup.https == "told"
    is_tls |= setup.https == "forwarded" and told.get("X-Forwarded-Proto") == "https"
    address = {"ipv6": "::1"}.get(setup.listen, HOST)
    server: list[object] = [setup.host or address, TLS_PORT if setup.listen == "tls" else PORT]
    if setup.listen == "unix":
        told_by: dict[str, list[object]] = {"nginx": [f"/srv/{setup.name}.front", None], "caddy": ["localhost", 80]}
        server = told_by.get(setup.server, ["localhost", None])
    expected: dict[str, object] = {
        "scheme": "https" if is_tls else "http",
        "client": None if setup.listen == "unix" else [address, CLIENT_PORT],
        "server": server,
        "authorization": told.get("Authorization") if setup.passes_authorization else None,
    }
    if setup.role != "authorizer":
        path = url.partition("?")[0].removeprefix(setup.mount)
        expected |= {"root": setup.mount, "path": decode(path, merges=setup.merges, keeps_2f=setup.keeps_2f)}
    return expected


def decode(path: str, *, merges: bool, keeps_2f: bool) -> str:
    """A path as a web server decodes it; both in latin-1 text."""
    pieces = path.split("%2F") if keeps_2f else [path]
    decoded = "%2F".join(unquote_to_bytes(piece.encode("latin-1")).decode("latin-1") for piece in pieces)
    return re.sub("/+", "/", decoded) if merges else decoded


def _ask(front: Listening, method: str, url: str, fields: Fields) -> responder.Pairs | None:
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
        if CHUNKED in fields:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(LARGE_BODY), LARGE_BODY)
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
