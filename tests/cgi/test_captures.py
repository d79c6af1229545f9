"""What applications see behind every web server that was captured, in every set-up, and for any URL put into it."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote
from wsgiref.util import request_uri
from wsgiref.validate import check_environ  # type: ignore[attr-defined]

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simple_fastcgi.cgi import request
from simple_fastcgi.cgi.asgi import http_scope
from simple_fastcgi.cgi.paths import find_by_rules, find_mount
from simple_fastcgi.cgi.wsgi import Environs

from .captured.capture import BODY, CHUNKED, FIELDS, LARGE_BODY, URLS, decode
from .captures import CAPTURES, RESPONDERS, Capture

SETUPS = {capture.setup: [c for c in RESPONDERS if c.setup == capture.setup] for capture in RESPONDERS}

every_setup = pytest.mark.parametrize("setup", SETUPS)


@every_setup
def test_mount_and_path(setup: str) -> None:
    for capture in SETUPS[setup]:
        expected = capture.expected["root"], capture.expected["path"]
        assert find_mount(capture.params, capture.told) == expected, capture.name
        assert find_by_rules(capture.params, capture.told) == expected, capture.name
        # Nothing changes when the operator tells what is so.
        assert find_mount(capture.params, capture.expected["root"]) == expected, capture.name


def test_what_else_is_told() -> None:
    for capture in CAPTURES:
        params, expected = capture.params, capture.expected
        client = expected["client"] and tuple(expected["client"])
        assert request.scheme(params) == expected["scheme"], capture.name
        assert request.client(params) == client, capture.name
        assert request.server(params) == tuple(expected["server"]), capture.name
        assert request.authorization(params) == expected["authorization"], capture.name
        assert request.http_version(params) == "1.1", capture.name


@every_setup
def test_wsgi(setup: str) -> None:
    for capture in SETUPS[setup]:
        expected, path = capture.expected, capture.url.partition("?")[0]
        environ = Environs(capture.told).make(capture.params, capture.repeated)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (expected["root"], expected["path"])
        assert environ["wsgi.url_scheme"] == expected["scheme"]
        assert environ["REQUEST_METHOD"] == capture.method
        assert environ["QUERY_STRING"] == capture.url.partition("?")[2]
        assert environ.get("HTTP_AUTHORIZATION") == expected["authorization"]
        assert "HTTP_PROXY" not in environ
        check_environ(environ | WSGI_KEYS)
        # What frameworks make of it leads back to where the browser was.
        generated = request_uri(environ, include_query=False)
        assert generated.startswith(f"{expected['scheme']}://")
        assert merged(generated.split("/", 3)[3]) == merged(path[1:])
        if capture.method == "POST":
            assert environ.get("CONTENT_LENGTH", length_of(capture)) == length_of(capture)
            assert environ["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
        else:
            assert environ.get("CONTENT_LENGTH", "0") == "0"
            assert "CONTENT_TYPE" not in environ
        if tuple(capture.fields) == FIELDS:
            # Apache and Caddy join cookies with the wrong sign themselves.
            assert environ["HTTP_COOKIE"] == ("a=1, b=2" if capture.server.startswith(JOINING) else "a=1; b=2")
            assert environ["HTTP_X_MULTI"] == "alpha, beta"
            # Caddy believes no client that it was not told to believe.
            assert environ["HTTP_X_FORWARDED_PROTO"] == ("http" if capture.server == "caddy" else "https")


@every_setup
def test_asgi(setup: str) -> None:
    for capture in SETUPS[setup]:
        expected = capture.expected
        path, _, query = capture.url.partition("?")
        params = capture.params
        scope = http_scope(params, capture.repeated, capture.told)
        assert scope["root_path"] == expected["root"]
        assert scope["path"].encode() == (expected["root"] + expected["path"]).encode("latin-1")
        # Without REQUEST_URI it is put together from the decoded path.
        assert scope["raw_path"].decode() == (path if "REQUEST_URI" in params else quote(scope["path"])), capture.name
        assert scope["query_string"] == query.encode()
        assert (scope["method"], scope["scheme"]) == (capture.method, expected["scheme"])
        assert scope["client"] == (expected["client"] and tuple(expected["client"]))
        assert scope["server"] == tuple(expected["server"])
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        assert len(headers.get(b"host", [])) == ("HTTP_HOST" in params)
        assert b"proxy" not in headers
        assert headers.get(b"authorization", [None]) == [expected["authorization"] and b"Basic dTpw"]
        if capture.method == "POST":
            assert headers[b"content-type"] == [b"application/x-www-form-urlencoded"]
            length = length_of(capture).encode()
            assert headers.get(b"content-length", [length]) == [length]
        else:
            assert b"content-type" not in headers
            assert headers.get(b"content-length", [b"0"]) == [b"0"]
        if tuple(capture.fields) == FIELDS:
            assert headers[b"cookie"] in ([b"a=1", b"b=2"], [b"a=1; b=2"], [b"a=1, b=2"])
            assert headers[b"x-multi"] in ([b"alpha", b"beta"], [b"alpha, beta"])


JOINING = ("apache", "caddy")
WSGI_KEYS: dict[str, Any] = {
    "wsgi.version": (1, 0),
    "wsgi.input": BytesIO(),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


def length_of(capture: Capture) -> str:
    return str(len(LARGE_BODY if CHUNKED in capture.fields else BODY))


def merged(path: str) -> str:
    """With nothing encoded, and slashes merged: what all web servers agree upon."""
    decoded = unquote(path, encoding="latin-1")
    return re.sub("/+", "/", decoded.replace("%2F", "/"))


# --------------------------------------------------------------------- any URL

ASKED = "/a%20b/c"


def put_in(capture: Capture, path: str) -> dict[str, str]:
    """`capture`, which is of ASKED, as its web server would have sent it for `path`."""
    how = capture.how
    made = decode(path, merges=how["merges"], keeps_2f=how["keeps_2f"])
    params = {}
    for name, value in capture.params.items():
        if name == "REQUEST_URI":
            params[name] = f"{capture.mount}{path}?x=1"
        elif value.startswith("proxy:"):
            pieces = (
                quote(decode(piece, merges=False, keeps_2f=False), encoding="latin-1") for piece in path.split("%2F")
            )
            params[name] = value.replace(ASKED, re.sub("/+", "/", "%2F".join(pieces)))
        elif name == "PATH_INFO" and decodes_twice(capture):
            params[name] = decode(made, merges=True, keeps_2f=True)
        else:
            params[name] = value.replace("/a b/c", made)
    if how["first"]:
        first, slash, rest = made[1:].partition("/")
        params["SCRIPT_NAME"] = f"/{first}"
        del params["PATH_INFO"]
        if slash:
            params["PATH_INFO"] = f"/{rest}"
    return params


def decodes_twice(capture: Capture) -> bool:
    """Apache's .htaccess, where the path goes through a RewriteRule."""
    script = capture.params.get("SCRIPT_NAME", "")
    return capture.server.startswith("apache") and "/index." in script and "/index." not in capture.url


BASES = [capture for capture in RESPONDERS if capture.url == f"{capture.mount}{URLS[0]}" and not capture.fields]
BASES = [capture for capture in BASES if capture.method == "GET" and capture.server != "iis"]
BELOW_MOUNT = [c for c in RESPONDERS if not c.fields and c.url.startswith(f"{c.mount}/") and "?" not in c.url]


def test_what_is_put_in_is_what_the_web_server_sends() -> None:
    """For the other URLs that were captured."""
    bases = {capture.setup: capture for capture in BASES}
    names = ("SCRIPT_NAME", "PATH_INFO")
    for capture in BELOW_MOUNT:
        if capture.setup in bases:
            params = put_in(bases[capture.setup], capture.url.removeprefix(capture.mount))
            sent = capture.params
            assert {n: params.get(n) for n in names} == {n: sent.get(n) for n in names}, capture.name
            if sent.get("SCRIPT_FILENAME", "").startswith("proxy:") and not capture.how["first"]:
                # With a <Location> in its configuration Apache encodes %2F once more.
                assert params["SCRIPT_FILENAME"] == sent["SCRIPT_FILENAME"].replace("%252F", "%2F"), capture.name


segments = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="/"), min_size=1, max_size=6)
encoded = segments.filter(lambda text: text not in (".", "..")).map(lambda text: quote(text, "", encoding="latin-1"))
some_paths = st.lists(encoded | st.sampled_from(["a%2Fb", "%2Fa", "%2520", "app", "a", ""]), min_size=1)


@given(st.sampled_from(BASES), some_paths)
@example(BASES[0], ["", "", ""])
def test_mount_and_path_are_what_the_browser_asked_for(capture: Capture, path: list[str]) -> None:
    url = "/" + "/".join(path)
    params = put_in(capture, url)
    root, found = find_mount(params, capture.told)
    assert root == capture.mount
    # Where the path was decoded twice, that of REQUEST_URI counts, %2F and all.
    keeps_2f = {capture.how["keeps_2f"], capture.how["keeps_2f"] and not decodes_twice(capture)}
    assert found in {decode(url, merges=capture.how["merges"], keeps_2f=keeps) for keeps in keeps_2f}
    assert find_by_rules(params, capture.told) == (root, found)
