"""The table of web servers' quirks, held against what they sent, and against the page for readers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from simple_fastcgi.cgi import paths, quirks, request, response
from simple_fastcgi.cgi.parting import heeds_parting
from simple_fastcgi.cgi.paths import RULES
from simple_fastcgi.cgi.quirks import QUIRKS, SERVERS, TOPICS

from .captured.capture import CHUNKED, FIELDS
from .captured.page import PAGE, written
from .captured.setups import SETUPS
from .captures import CAPTURES, Capture

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = {
    "nginx": quirks.NGINX,
    "apache-proxy": quirks.PROXY_FCGI,
    "apache-fcgid": quirks.FCGID,
    "apache-cgid": quirks.CGID,
    "apache-authnz": quirks.AUTHNZ_FCGI,
    "lighttpd": quirks.LIGHTTPD,
    "haproxy": quirks.HAPROXY,
    "caddy": quirks.CADDY,
    "h2o": quirks.H2O,
    "iis": quirks.IIS,
}
NOT_CAPTURED = {"rewritten-stock", "led-into-folder", "index-added", "cut-short"}
"""Tests of web servers (test_rewrites.py, test_paths.py) ask for all but the last, which needs one that fails."""


def decided_by(rule: object) -> Callable[[Capture], bool]:
    """Whether that rule is the one that finds the mount point."""

    def decided(capture: Capture) -> bool:
        if capture.role != "responder" or capture.root_path is not None:
            return False
        sent = paths._Sent(capture.params)
        return next(found for found in RULES if found(sent) is not None) is rule

    return decided


def has(name: str, *values: str) -> Callable[[Capture], bool]:
    """Whether that parameter came, with one of these values if there are some."""
    return lambda capture: name in capture.params and (not values or capture.params[name] in values)


def lacks(name: str) -> Callable[[Capture], bool]:
    return lambda capture: name not in capture.params


def came_twice(capture: Capture) -> set[str]:
    return {name for name, _ in capture.repeated}


SEEN: dict[str, Callable[[Capture], bool]] = {
    **{rule.__name__.strip("_").replace("_", "-"): decided_by(rule) for rule in RULES},
    "no-request-uri": decided_by(paths._no_url),
    "decoded-twice": has("PATH_INFO", "/e f"),
    "ambiguous": lambda capture: capture.root_path is not None,
    "encoded-slash-kept": lambda c: "%2F" in c.params.get("SCRIPT_NAME", "") + c.params.get("PATH_INFO", ""),
    "set-twice": lambda capture: any(not name.startswith("HTTP_") for name in came_twice(capture)),
    "https-on": has("HTTPS", "on"),
    "https-off": has("HTTPS", "off"),
    "no-request-scheme": lacks("REQUEST_SCHEME"),
    "https-set-by-hand": lambda c: (c.params.get("HTTPS"), c.params.get("REQUEST_SCHEME")) == ("on", "http"),
    "forwarded-proto": lambda c: tuple(c.fields) == FIELDS and c.params["HTTP_X_FORWARDED_PROTO"] == "https",
    "name-empty": has("SERVER_NAME", ""),
    "name-pattern": lambda capture: capture.params["SERVER_NAME"][:1] in {"_", "*", "~"},
    "name-with-port": lambda capture: capture.params["SERVER_NAME"].endswith((":8080", ":8443")),
    "address-in-brackets": lambda capture: capture.params["SERVER_NAME"].startswith("["),
    "address-bare": has("SERVER_NAME", "::1"),
    "no-port": has("SERVER_PORT", "", "0"),
    "path-of-socket": lambda capture: capture.params.get("SERVER_ADDR", "").startswith("unix:"),
    "host-without-port": has("HTTP_HOST", "127.0.0.1", "[::1]"),
    "unix-socket": lambda capture: capture.params["REMOTE_ADDR"] not in {"127.0.0.1", "::1"},
    "no-client-port": has("REMOTE_PORT", "", "0"),
    "withheld": lambda c: tuple(c.fields) == FIELDS and not any("AUTHORIZATION" in n.upper() for n in c.params),
    "redirected": has("REDIRECT_HTTP_AUTHORIZATION", "Basic dTpw"),
    "renamed": has("Authorization"),
    "set-empty": has("REDIRECT_HTTP_AUTHORIZATION", ""),
    "user-claimed": lambda c: c.params.get("REMOTE_USER") == "u" and c.role == "responder",
    "length-empty": has("CONTENT_LENGTH", ""),
    "others-empty": lambda c: "" in {c.params.get(n) for n in ("CONTENT_TYPE", "REMOTE_USER", "AUTH_TYPE")},
    "length-negative": has("CONTENT_LENGTH", "-1"),
    "length-unknown": lambda capture: CHUNKED in capture.fields and not capture.params.get("CONTENT_LENGTH"),
    "transfer-encoding": has("HTTP_TRANSFER_ENCODING", "chunked"),
    "content-fields-twice": lambda c: not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"}.isdisjoint(c.params),
    "field-twice": lambda capture: "HTTP_X_MULTI" in came_twice(capture),
    "host-twice": lambda capture: "HTTP_HOST" in came_twice(capture),
    "cookies-joined": has("HTTP_COOKIE", "a=1, b=2"),
    "httpoxy": has("HTTP_PROXY"),
    "underscores": has("HTTP_X_UNDER"),
    "redirected-variables": has("REDIRECT_URL"),
    "environment-of-the-server": has("PATH"),
    "password": has("REMOTE_PASSWD"),
    "no-gateway-interface": lacks("GATEWAY_INTERFACE"),
    "drops-errors": lambda capture: capture.params.get("SERVER_SOFTWARE", "").startswith(request.DROPS_ERRORS),
    "empties-redirects": lambda c: c.params.get("SERVER_SOFTWARE", "").startswith(response.EMPTIES_REDIRECTS),
    "follows-locations": lambda c: c.role == "responder" and response.follows_location("200 OK", c.params),
    "loses-ranges": lambda capture: response.loses_ranges(capture.params),
    "heeds-parting": lambda capture: heeds_parting(capture.params),
}


def test_every_row_names_those_that_were_seen_to_do_it() -> None:
    told = {quirk.name: set(quirk.servers) for quirk in QUIRKS if quirk.name not in NOT_CAPTURED}
    seen = {name: {NAMES[c.server] for c in CAPTURES if SEEN[name](c)} for name in told}
    assert seen == told


def test_rows_are_in_order_and_of_different_names() -> None:
    topics = [quirk.topic for quirk in QUIRKS]
    assert topics == sorted(topics, key=TOPICS.index)
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS)
    assert {server for quirk in QUIRKS for server in quirk.servers} == set(SERVERS) == set(NAMES.values())


def test_every_rule_has_a_row() -> None:
    assert {*RULES, paths._told_by_operator} <= {quirk.by for quirk in QUIRKS if callable(quirk.by)}


def test_the_page_has_the_table() -> None:
    """Else write it anew: ``python -m tests.cgi.captured.page``."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page)


def test_what_the_page_tells_to_write_was_written() -> None:
    """Every line that users are to write stands in a set-up that was captured."""
    page = PAGE.read_text(encoding="utf-8")
    tables = re.findall(r"(?m)^\| \| \|\n(?:\|.*\n)+", page)
    lines = [code for table in tables for code in re.findall(r"`([^`]+)`", table) if " " in code]
    assert len(lines) == 9
    assert [line for line in lines if not any(line in setup.text for setup in SETUPS)] == []
