"""Through a real web server: what is well is called well, and what is broken is found, with its cure."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.call.url import parse_url
from simple_fastcgi.cli.check.browser import Browser
from tests.cli.check.support import Twist, answering, twisted

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from tests.cli.check.conftest import Setup
    from tests.cli.check.support import Check

SMALL = ("--max-body-size", "1")


def test_what_config_prints_is_well(check: Check, setup: Setup) -> None:
    said = check(setup.url(port=8000))
    assert (said.status, said.bad) == (0, {})
    assert said.told["ok"] == 17
    assert said.told["not_checked"] == 0
    assert said.of("body limit")["what"] == "uploads of 10 MiB come through"
    assert "nginx/" in said.of("probe")["what"]


@pytest.mark.once
@pytest.mark.parametrize("path", ["/app", "/app/"])
def test_a_mount_point_that_config_prints_is_well(check: Check, setup: Setup, path: str) -> None:
    said = check(setup.url(path, 8001), *SMALL)
    assert (said.status, said.bad) == (0, {})
    assert said.of("mount point")["what"].startswith("at /app: ")
    assert said.of("PATH_INFO")["what"] == "it is sent, and REQUEST_URI, too"


def test_all_that_nginx_gets_wrong_by_itself_or_when_told(check: Check, setup: Setup) -> None:
    said = check(setup.url(port=8002), "--timeout", "2")
    assert said.status == 1
    assert said.bad == {
        "host": "problem",
        "scheme": "problem",
        "Authorization": "problem",
        "body limit": "problem",
        "streaming": "warning",
        "keep-alive": "warning",
    }
    assert "without its port" in said.of("host")["what"]
    assert said.of("host")["cure"].startswith("nginx: fastcgi_param HTTP_HOST $http_host;")
    assert "fastcgi_param HTTPS on;" in said.of("scheme")["cure"]
    assert "fastcgi_param HTTP_AUTHORIZATION" in said.of("Authorization")["cure"]
    assert said.of("body limit")["what"].startswith("an upload of 2 MiB is refused (413 ")
    assert said.of("body limit")["what"].endswith(", 1 MiB comes through")
    assert said.of("body limit")["cure"] == "nginx: client_max_body_size 10m;"
    assert "X-Accel-Buffering" in said.of("streaming")["cure"]
    assert "keepalive 8;" in said.of("keep-alive")["cure"]


@pytest.mark.once
def test_a_mount_point_that_is_not_told(check: Check, setup: Setup) -> None:
    said = check(setup.url("/stock/"), *SMALL)
    assert said.of("mount point")["what"] == "the application takes itself to be mounted at /, not at /stock"
    assert "fastcgi_split_path_info ^(/stock)(/.*)$;" in said.of("mount point")["cure"]
    assert "--root-path /stock" in said.of("mount point")["cure"]
    assert set(said.bad) == {"mount point", "keep-alive"}


@pytest.mark.once
def test_a_mount_point_that_is_split_off_wrongly(check: Check, setup: Setup) -> None:
    said = check(setup.url("/split/"), *SMALL)
    assert said.of("mount point")["what"].startswith("the application takes itself to be mounted at /split/one/two")
    assert "SCRIPT_NAME=/split/one/two, PATH_INFO=, REQUEST_URI=/split/one/two" in said.of("mount point")["why"]


@pytest.mark.once
def test_a_rewrite_that_loses_most_of_the_request(check: Check, setup: Setup) -> None:
    said = check(setup.url("/lost/"), *SMALL)
    assert said.of("mount point")["what"] == "asked for /lost/one/two, the application sees /one/two"
    assert "no REQUEST_URI" in said.of("mount point")["why"]
    assert said.of("PATH_INFO")["status"] == "warning"
    assert "fastcgi_param REQUEST_URI $request_uri;" in said.of("PATH_INFO")["cure"]
    assert said.of("query")["what"].endswith("arrives as ''")
    assert said.of("host")["what"].endswith("arrives as app.internal")
    assert said.of("streaming")["what"].startswith("not tried")


@pytest.mark.once
def test_requests_that_the_web_server_refuses(check: Check, setup: Setup) -> None:
    said = check(setup.url("/nohead/"), *SMALL)
    assert said.of("slashes")["what"] == "the web server answers 400 Bad Request itself"
    assert said.of("HEAD")["what"] == "HEAD is answered 405 by the web server itself"
    assert said.of("chunked body")["what"] == "it is refused: 411 Length Required"
    assert said.of("chunked body")["status"] == "warning"


@pytest.mark.once
def test_a_web_server_with_rules_of_its_own(check: Check, setup: Setup) -> None:
    said = check(setup.url("/strict/"), "--timeout", "4", *SMALL)
    assert said.of("query")["what"] == "the web server answers 403 Forbidden itself"
    assert "encoded slash (%2F) is answered 404 Not Found" in said.of("slashes")["what"]
    assert said.of("Authorization")["status"] == "ok"
    assert said.of("body limit")["what"].startswith("an upload of 1 MiB is refused (413 ")
    assert said.of("body limit")["what"].endswith("512 KiB comes through")


@pytest.mark.once
def test_tls_that_the_application_is_not_told_of(check: Check, setup: Setup) -> None:
    said = check(setup.url("/plain/", 8005), "--timeout", "4", *SMALL)
    assert said.of("scheme")["what"] == "asked with https, the application sees http"
    assert said.of("scheme")["cure"].startswith("nginx: fastcgi_param HTTPS on;")


@pytest.mark.once
def test_kept_connections_that_are_asked_for_and_closed(check: Check, setup: Setup) -> None:
    said = check(setup.url(port=8004), *SMALL)
    assert said.bad == {"keep-alive": "warning"}
    assert "FCGI_KEEP_CONN" in said.of("keep-alive")["why"]
    assert said.status == 0


@pytest.mark.once
@pytest.mark.parametrize(
    ("path", "what", "cure"),
    [
        ("/dead/", "the web server has no answer from the application (502)", "--web-server-user www-data"),
        ("/late/", "has waited in vain for the application (504)", "--web-server-user www-data"),
        ("/broken/", "the answer is an error (500)", "/var/log/nginx/error.log"),
        ("/closed/", "the web server forbids it (403)", "/var/log/nginx/error.log"),
        ("/secret/", "the web server asks for a password", "http://user:password@host/path"),
        ("/moved/", "/moved/ redirects to 'https://elsewhere.example/'", "check that URL"),
        ("/nowhere", "nothing is mounted at /nowhere/ (404)", "fastcgi_split_path_info ^(/nowhere)(/.*)$;"),
        ("/page/", 'the page "My & Shop" answers (200), not the probe', "serve simple_fastcgi.check:app"),
        ("/text/", "something else (text/plain) answers (200), not the probe", "check unix:/run/app.sock"),
    ],
)
def test_who_answers_instead_of_the_probe(check: Check, setup: Setup, path: str, what: str, cure: str) -> None:
    said = check(setup.url(path))
    assert said.status == 1
    assert what in said.of("probe")["what"]
    assert cure in said.of("probe")["cure"]
    assert said.told["not_checked"] == 15


@pytest.mark.once
def test_a_password_in_the_url(check: Check, setup: Setup) -> None:
    said = check(setup.url("/secret/").replace("://", "://ali:s%20s@"), "--timeout", "2", *SMALL)
    assert said.of("Authorization")["what"] == "it arrives"


def test_a_certificate_that_is_not_trusted(check: Check, setup: Setup) -> None:
    said = check(setup.url(port=8005), *SMALL)
    assert said.of("web server")["status"] == "warning"
    assert "not trusted" in said.of("web server")["why"]
    assert set(said.bad) == {"web server", "keep-alive"}
    assert said.of("scheme")["what"] == "the application sees https"
    said = check(setup.url(port=8005).replace("://", "://ali:secret@"))
    assert "the password in the URL is not sent" in said.of("web server")["what"]


def test_plain_http_to_a_port_with_tls_and_back(check: Check, setup: Setup) -> None:
    said = check(setup.url(port=8005).replace("https", "http"))
    assert said.of("probe")["what"].startswith("something else (text/html)") or "400" in said.of("probe")["what"]
    said = check(setup.url(port=8000).replace("http", "https"))
    assert said.of("web server")["what"].startswith("no TLS with 127.0.0.1:")


def test_nobody_listens(check: Check) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        said = check(f"http://127.0.0.1:{port}/")
    assert said.status == 1
    assert said.of("web server")["what"] == f"nobody listens at port {port} of 127.0.0.1"
    assert said.told["not_checked"] == 16


def test_a_name_that_is_none(check: Check) -> None:
    said = check("http://no-such-host.invalid/")
    assert "the name 'no-such-host.invalid' cannot be resolved" in said.of("web server")["what"]


def trickle(connection: socket.socket) -> None:
    """A head that never ends, and is never silent for long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda connection: None, "closed the connection without a whole answer"),
        (lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n"), "is no HTTP"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "within its answer"),
        (lambda connection: connection.recv(1), "did not answer within 0.3 s"),
        (trickle, "did not answer within 0.3 s"),
    ],
    ids=["closes", "no-http", "truncates", "silent", "trickles"],
)
def test_what_is_no_web_server(check: Check, answer: Callable[[socket.socket], None], what: str) -> None:
    with answering(answer) as port:
        said = check(f"http://127.0.0.1:{port}/", "--timeout", "0.3" if "0.3 s" in what else "20")
    assert what in said.of("web server")["what"]
    assert said.of("web server")["cure"]


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def test_an_endless_page(check: Check) -> None:
    with answering(endless, 2) as port:
        said = check(f"http://127.0.0.1:{port}/")
    assert "something else (without a Content-Type) answers" in said.of("probe")["what"]


@pytest.mark.parametrize("page", [b"[]", b"{}", b'{"probe": 1}', b'{"probe": 1, "process": []}', b"[" * 9999])
def test_a_probe_that_talks_nonsense(check: Check, page: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nX-Fastcgi-Probe: GET\r\n\r\n" + page)

    with answering(answer, 2) as port:
        said = check(f"http://127.0.0.1:{port}/")
    assert "not the probe" in said.of("probe")["what"]


def _own_path(handler: BaseHTTPRequestHandler) -> dict[str, object]:
    """Decoded twice, and its first segment taken for the mount point."""
    path = handler.path.partition("?")[0]
    known = {"/one/two": "/one/two", "/caf%C3%A9%20%2520": "/café  ", "/a//b": "/b", "/a%2Fb": "/a%2Fb"}
    return {"path": known.get(path, path), "root_path": "/one" if path == "/one/two" else ""}


@pytest.mark.parametrize(
    ("twist", "found"),
    [
        (
            Twist(_own_path),
            {
                "mount point": "the application takes itself to be mounted at /one, not at /",
                "encoding": "asked for /caf%C3%A9%20%2520, the application sees '/café  '",
                "slashes": "asked for /a//b, the application sees /b",
            },
        ),
        (
            Twist(
                lambda handler: {"headers": [["proxy", handler.headers.get("Proxy", "")], ["authorization", "Basic"]]}
            ),
            {
                "host": "the header field Host does not arrive",
                "Authorization": "the header field Authorization arrives changed",
                "Proxy": "the header field Proxy arrives",
            },
        ),
        (
            Twist(lambda handler: {"connection": None}, method="GET"),
            {
                "HEAD": "HEAD arrives as GET",
                "body": "of a body of 100000 bytes 0 arrive",
                "body limit": "of a body of 1048576 bytes 0 arrive",
                "chunked body": "of a body of 100000 bytes 0 arrive",
            },
        ),
        (
            Twist(lambda handler: {"body": {"size": int(handler.headers.get("Content-Length", 0)), "sha256": ""}}),
            {
                "body": "a body of 100000 bytes arrives with other bytes in it",
                "body limit": "a body of 1048576 bytes arrives with other bytes in it",
            },
        ),
    ],
    ids=["paths", "fields", "bodies", "damage"],
)
def test_what_other_web_servers_do(check: Check, twist: Twist, found: dict[str, str]) -> None:
    with twisted(twist) as url:
        said = check(url, *SMALL)
    assert {name: said.of(name)["what"] for name in found} == found
    for name in found:
        assert said.of(name)["why"]
        assert said.of(name)["cure"]


def _hang(handler: BaseHTTPRequestHandler) -> bool:
    """On streams and large uploads, until the other side has enough."""
    if "stream=" not in handler.path and int(handler.headers.get("Content-Length", 0)) < 1 << 20:
        return False
    while handler.rfile.read1(65536):
        pass
    return True


def test_questions_that_are_not_answered_in_time(check: Check) -> None:
    with twisted(Twist(act=_hang)) as url:
        said = check(url, "--timeout", "0.6", *SMALL)
    assert said.of("body limit")["what"] == "an upload of 1 MiB did not come through within 0.6 s"
    assert said.of("streaming")["status"] == "problem"
    assert "did not answer within 0.6 s" in said.of("streaming")["what"]
    assert said.of("keep-alive")["status"] == "ok"


def _reset(handler: BaseHTTPRequestHandler) -> bool:
    """What has a body."""
    if handler.command != "POST":
        return False
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    return True


def test_uploads_whose_connection_is_closed(check: Check) -> None:
    with twisted(Twist(act=_reset)) as url:
        said = check(url, *SMALL)
    assert said.of("body")["what"].endswith("closed the connection without a whole answer")
    assert said.of("body limit")["what"] == (
        "an upload of 64 KiB is refused (the connection was closed), nothing less comes through"
    )


def test_a_web_server_that_closes_connections_without_a_word_and_keeps_none(check: Check) -> None:
    numbers = itertools.count()
    otherwise = Twist(
        lambda handler: {"connection": next(numbers), "params": {"SERVER_SOFTWARE": "lighttpd/1.4.69"}}, drops=True
    )
    with twisted(otherwise) as url:
        said = check(url, *SMALL)
    assert said.of("keep-alive")["what"] == "a connection to the application for each request"
    assert said.of("keep-alive")["why"] == "lighttpd opens one for each request"
    assert said.of("query")["status"] == "ok"


def test_a_host_that_cannot_be_reached() -> None:
    browser = Browser(parse_url("http://192.0.2.1/"), 1.0)
    error = browser._explained(OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH)))
    assert (error.kind, str(error)) == ("unreachable", "192.0.2.1 cannot be reached: no route to host")
