"""The HTTP connection scope of ASGI."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simple_fastcgi.cgi import asgi, asgi_plan, request
from simple_fastcgi.cgi.asgi import http_headers, http_scope
from simple_fastcgi.cgi.asgi_plan import Plan, Plans
from simple_fastcgi.cgi.paths import find_mount
from simple_fastcgi.protocol.runs import Layout

Params = dict[str, str]


@pytest.fixture(autouse=True)
def _no_names_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_plan, "_header_names", {})
    monkeypatch.setattr(asgi, "_plans", Plans())


def scope_of(params: Params, root_path: str | None = None) -> dict[str, Any]:
    return http_scope(params, [], root_path)


def test_nothing_sent() -> None:
    assert scope_of({}) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": None,
        "extensions": {"fastcgi": {"params": {}}, "http.response.pathsend": {}},
    }


def test_everything_sent() -> None:
    params = {
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/app/caf%C3%A9?a=b%20c",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "a=b%20c",
        "SERVER_PROTOCOL": "HTTP/2.0",
        "HTTPS": "on",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "57000",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "443",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "HTTP_HOST": "example.com",
        "HTTP_X_B_C": "\xff",
    }
    before = dict(params)
    scope = scope_of(params)
    assert params == before
    assert scope["extensions"]["fastcgi"]["params"] is params
    del scope["extensions"], scope["asgi"]
    assert scope == {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "scheme": "https",
        "path": "/app/caf\xe9",
        "raw_path": b"/app/caf%C3%A9",
        "query_string": b"a=b%20c",
        "root_path": "/app",
        "headers": [
            (b"host", b"example.com"),
            (b"x-b-c", b"\xff"),
            (b"content-type", b"text/plain"),
            (b"content-length", b"5"),
        ],
        "client": ("192.0.2.1", 57000),
        "server": ("example.com", 443),
    }


def test_a_scope_belongs_to_its_request() -> None:
    one, two = scope_of({}), scope_of({})
    one["headers"].append((b"a", b"b"))
    one["state"] = {}
    assert two["headers"] == []
    assert "state" not in two
    one["asgi"]["mine"] = 1
    assert "mine" not in two["asgi"]
    assert scope_of({})["asgi"] == two["asgi"]


def test_httpoxy() -> None:
    repeated = [("HTTP_PROXY", "http://evil.invalid"), ("HTTP_PROXY", "")]
    scope = http_scope({"HTTP_PROXY": "", "A": "b"}, repeated, None)
    assert scope["headers"] == []
    assert scope["extensions"]["fastcgi"]["params"] == {"A": "b"}


@pytest.mark.parametrize(
    ("root_path", "root", "path"),
    [(None, "", "/app/x"), ("", "", "/app/x"), ("/app", "/app", "/app/x"), ("/other", "/other", "/other/app/x")],
)
def test_path_includes_the_mount_point(root_path: str | None, root: str, path: str) -> None:
    scope = scope_of({"SCRIPT_NAME": "/app/x", "REQUEST_URI": "/app/x"}, root_path)
    assert (scope["root_path"], scope["path"]) == (root, path)


@pytest.mark.parametrize(
    ("uri", "raw_path"),
    [
        ("/a%20b/%2F%c3%a9?x", b"/a%20b/%2F%c3%a9"),
        ("/a//b/../c", b"/a//b/../c"),
        ("/\xff", b"/\xff"),
        ("/?", b"/"),
        ("http://example.com/a%20b?x=/y", b"/a%20b"),
        ("https://example.com", b"/"),
        ("http://example.com?x", b"/"),
        ("*", b"*"),
        ("example.com:443", b"example.com:443"),
        ("a+b://c/d", b"a+b://c/d"),
        ("://c/d", b"://c/d"),
    ],
)
def test_raw_path(uri: str, raw_path: bytes) -> None:
    assert scope_of({"REQUEST_URI": uri})["raw_path"] == raw_path


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/a b", b"/a%20b"),
        ("/caf\xc3\xa9\xff", b"/caf%C3%A9%FF"),
        ("/a%2Fb?c#d", b"/a%252Fb%3Fc%23d"),
        ("/:@!$&'()*+,;=~-._", b"/:@!$&'()*+,;=~-._"),
        ('/\\"<>', b"/%5C%22%3C%3E"),
    ],
)
def test_raw_path_without_a_request_uri(path: str, raw_path: bytes) -> None:
    assert scope_of({"PATH_INFO": path})["raw_path"] == raw_path
    assert scope_of({"SCRIPT_NAME": "/app", "PATH_INFO": path})["raw_path"] == b"/app" + raw_path


@pytest.mark.parametrize(
    ("path", "text"), [("/caf\xc3\xa9", "/caf\xe9"), ("/\xff", "/\ufffd"), ("/\xe2\x82\xac", "/\u20ac")]
)
def test_path_is_text(path: str, text: str) -> None:
    scope = scope_of({"SCRIPT_NAME": path, "PATH_INFO": path})
    assert (scope["root_path"], scope["path"]) == (text, text + text)


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, b""),
        ({"QUERY_STRING": "a=%20&\xff"}, b"a=%20&\xff"),
        ({"REQUEST_URI": "/?a?b"}, b"a?b"),
        # Taken away by a rewrite.
        ({"REQUEST_URI": "/?a", "QUERY_STRING": ""}, b""),
        ({"REQUEST_URI": "/?a", "QUERY_STRING": "b"}, b"b"),
    ],
)
def test_query_string(params: Params, query: bytes) -> None:
    assert scope_of(params)["query_string"] == query


@pytest.mark.parametrize(("method", "expected"), [("", "GET"), ("PUT", "PUT"), ("PROPFIND", "PROPFIND")])
def test_method(method: str, expected: str) -> None:
    assert scope_of({"REQUEST_METHOD": method})["method"] == expected


# --------------------------------------------------------------------- headers


def headers_of(params: Params, *repeated: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return http_headers(params, list(repeated), Plan(params, {}))


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"HTTP_X_FORWARDED_FOR": "a"}, [(b"x-forwarded-for", b"a")]),
        ({"HTTP_X": ""}, [(b"x", b"")]),
        ({"SERVER_NAME": "a", "http_x": "b", "HTTPS": "on"}, []),
        ({"HTTP_\xc4": "\xe4"}, [(b"\xe4", b"\xe4")]),
        ({"HTTP_PROXY": "http://evil.invalid"}, []),
        ({"CONTENT_TYPE": "", "CONTENT_LENGTH": ""}, []),
        ({"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "0"}, [(b"content-type", b"a/b"), (b"content-length", b"0")]),
        ({"CONTENT_TYPE": "a/b", "HTTP_CONTENT_TYPE": "c/d"}, [(b"content-type", b"a/b")]),
        ({"CONTENT_TYPE": "", "HTTP_CONTENT_TYPE": "c/d"}, [(b"content-type", b"c/d")]),
        ({"HTTP_CONTENT_TYPE": "", "HTTP_CONTENT_LENGTH": "5"}, []),
        ({"CONTENT_LENGTH": "5", "HTTP_CONTENT_LENGTH": "6"}, [(b"content-length", b"5")]),
        ({"CONTENT_LENGTH": "-1"}, []),
        ({"CONTENT_LENGTH": "\xb2"}, []),
    ],
)
def test_headers(params: Params, headers: list[tuple[bytes, bytes]]) -> None:
    assert headers_of(params) == headers


def test_headers_that_came_more_than_once_are_all_there() -> None:
    params = {
        "HTTP_A": "2",
        "HTTP_B": "x",
        "HTTP_COOKIE": "d",
        "SERVER_NAME": "two",
        "HTTP_PROXY": "b",
        "HTTP_HOST": "two",
    }
    repeated = [
        *(("HTTP_A", "1"), ("HTTP_COOKIE", "c"), ("HTTP_A", "2"), ("SERVER_NAME", "one"), ("SERVER_NAME", "two")),
        *(("HTTP_PROXY", "a"), ("HTTP_PROXY", "b"), ("HTTP_COOKIE", "d"), ("HTTP_HOST", "one"), ("HTTP_HOST", "two")),
    ]
    assert sorted(headers_of(params, *repeated)) == [
        (b"a", b"1"),
        (b"a", b"2"),
        (b"b", b"x"),
        (b"cookie", b"c"),
        (b"cookie", b"d"),
        # Frameworks read the first of them; the last is the web server's own word.
        (b"host", b"two"),
    ]


def test_repeated_headers_keep_their_order() -> None:
    repeated = [("HTTP_A", str(number)) for number in range(9, 0, -1)]
    assert headers_of({"HTTP_A": "1"}, *repeated) == [(b"a", str(number).encode()) for number in range(9, 0, -1)]


def test_fields_with_variables_of_their_own_may_be_fixed() -> None:
    params = {"CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "5", "HTTP_A": "c"}
    layout = Layout(params, params, [])
    for _ in range(2):
        headers = http_scope(dict(params), [], None, layout)["headers"]
        assert headers == [(b"a", b"c"), (b"content-type", b"a/b"), (b"content-length", b"5")]
        headers.clear()


@pytest.mark.parametrize("name", request.AUTHORIZATION_NAMES)
def test_authorization(name: str) -> None:
    assert headers_of({"HTTP_AUTHORIZATION": "", name: "Basic dTpw"}) == [(b"authorization", b"Basic dTpw")]
    assert headers_of({name: "Basic dTpw"}) == [(b"authorization", b"Basic dTpw")]


def test_authorization_order() -> None:
    params = {"Authorization": "b", "HTTP_AUTHORIZATION": "a", "REDIRECT_HTTP_AUTHORIZATION": "c"}
    assert headers_of(params) == [(b"authorization", b"a")]


def test_what_is_remembered_of_names_is_bounded() -> None:
    for number in range(3000):
        assert headers_of({f"HTTP_X_{number}": "a"}) == [(f"x-{number}".encode(), b"a")]
    assert len(asgi_plan._header_names) == 1024
    assert headers_of({"HTTP_X_2999": "a", "HTTP_X_0": "b"}) == [(b"x-2999", b"a"), (b"x-0", b"b")]


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        pytest.param([[f"HTTP_X_{number}"] for number in range(200)], 64, id="many of them"),
        pytest.param(
            [[f"HTTP_{series}_{number}" for number in range(2000)] for series in "ABCDEFG"], 5, id="large ones"
        ),
        pytest.param([[f"HTTP_X_{number}" for number in range(4000)]], 0, id="many names"),
        pytest.param([["HTTP_" + 300_000 * "X"]], 0, id="a long name"),
    ],
)
def test_what_is_remembered_of_all_names_together_is_bounded(names: list[list[str]], kept: int) -> None:
    most = 0
    for variables in names * 2:
        headers = scope_of(dict.fromkeys(variables, "a"))["headers"]
        assert headers == [(name[5:].replace("_", "-").lower().encode(), b"a") for name in variables]
        most = max(most, len(asgi._plans.known))
    assert most == kept


def test_what_is_remembered_of_sites_is_bounded() -> None:
    for number in [*range(100), 99]:
        name = f"{number}.example"
        assert scope_of({"SERVER_NAME": name, "SERVER_PORT": "80"})["server"] == (name, 80)
        assert scope_of({"SERVER_NAME": name + 400 * "x", "SERVER_PORT": "80"})["server"] == (name + 400 * "x", 80)
    (plan,) = asgi._plans.known.values()
    assert 0 < len(plan._sites) <= 16
    assert all(len(key) == 2 and len(key[0]) < 400 and len(key[1]) < 400 for key in plan._sites)


@pytest.mark.parametrize("name", ["HTTPS", "SERVER_NAME", "A"])
def test_the_second_scope_is_like_the_first(name: str) -> None:
    for value in ("on", "", "on"):
        params = {name: value}
        assert scope_of(params) == scope_of(dict(params))
        assert scope_of(params)["scheme"] == ("https" if params == {"HTTPS": "on"} else "http")
        assert scope_of(params)["server"] == (("on", None) if params == {"SERVER_NAME": "on"} else None)


def test_long_names_are_not_remembered() -> None:
    """A thousand of a hundred kilobytes would be a hundred megabytes."""
    assert headers_of({"HTTP_" + 60 * "X": "a"}) == [(60 * b"x", b"a")]
    assert not asgi_plan._header_names


# --------------------------------------------------------------------- anything

latin = st.text(st.characters(max_codepoint=255), max_size=12)
NAMES = [
    *("REQUEST_METHOD", "REQUEST_URI", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "SERVER_NAME"),
    *("SERVER_PORT", "SERVER_ADDR", "REMOTE_ADDR", "REMOTE_PORT", "HTTPS", "REQUEST_SCHEME", "CONTENT_TYPE"),
    *("CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY", "HTTP_HOST", "HTTP_COOKIE", "HTTP_"),
    *request.AUTHORIZATION_NAMES,
]
values = latin | st.text(st.sampled_from("/a:[]1*~_.%?-"), max_size=8) | st.just("")
pairs = st.lists(st.tuples(st.sampled_from(NAMES) | latin.map("HTTP_".__add__) | latin, values), max_size=15)


@given(st.data())
def test_a_layout_changes_nothing(data: st.DataObject) -> None:
    """Not even in the second request, and whatever part of the first was fixed in it."""
    first = data.draw(st.dictionaries(st.sampled_from(NAMES) | latin.map("HTTP_".__add__), values, max_size=15))
    fixed = {name: value for name, value in first.items() if data.draw(st.booleans())}
    layout = Layout(dict.fromkeys(first, "") | fixed, fixed, [])
    for params in (first, {name: fixed.get(name) or data.draw(values) for name in first}):
        params |= fixed
        for root_path in (None, "/app"):
            assert http_scope(dict(params), [], root_path, layout) == http_scope(dict(params), [], root_path)


paths = st.sampled_from(["", "/", "/a", "/a/b", "/app/a", "a", "/a?b", "/%61", "/\xff"])


@given(
    st.dictionaries(st.sampled_from(["SCRIPT_NAME", "PATH_INFO", "REQUEST_URI"]), paths),
    st.dictionaries(
        st.sampled_from(["SCRIPT_FILENAME", "SERVER_SOFTWARE"]), st.sampled_from(["", "nginx/1", "Apache"])
    ),
    st.sets(st.sampled_from(["SCRIPT_NAME", "PATH_INFO", "SCRIPT_FILENAME", "SERVER_SOFTWARE"])),
    st.sampled_from([None, "", "/app"]),
)
def test_the_short_way_to_a_path_finds_no_other(
    where: Params, more: Params, fixed: set[str], root_path: str | None
) -> None:
    params = where | more
    layout = Layout(dict.fromkeys(params, ""), {name: value for name, value in params.items() if name in fixed}, [])
    root, path = find_mount(params, root_path)
    for known in (None, layout):
        scope = http_scope(dict(params), [], root_path, known)
        assert scope["root_path"] == root.encode("latin-1").decode("utf-8", "replace")
        assert scope["path"] == (root + path).encode("latin-1").decode("utf-8", "replace")


@given(pairs, st.sampled_from([None, "", "/app", "/\xc3\xa9"]))
@example([("HTTP_CONTENT-TYPE", "a"), ("HTTP_CONTENT-TYPE", "b")], None)
@example([("HTTP_Proxy", "a")], None)
def test_whatever_is_sent_makes_a_scope(pairs: list[tuple[str, str]], root_path: str | None) -> None:
    sent = [name for name, _ in pairs]
    repeated = [(name, value) for name, value in pairs if sent.count(name) > 1]
    scope = http_scope(dict(pairs), repeated, root_path)
    for name in ("type", "http_version", "method", "scheme", "path", "root_path"):
        assert type(scope[name]) is str
        scope[name].encode()  # no surrogates
    assert scope["http_version"] in {"1.0", "1.1", "2", "3"}
    assert scope["scheme"] in {"http", "https"}
    assert scope["method"]
    assert scope["path"].startswith(scope["root_path"])
    assert scope["path"][:1] == "/"
    assert scope["root_path"][-1:] != "/"
    for name in ("raw_path", "query_string"):
        assert type(scope[name]) is bytes
    assert scope["raw_path"]
    headers = [header for header, _ in scope["headers"]]
    for header, value in scope["headers"]:
        assert type(header) is bytes
        assert type(value) is bytes
        assert header == header.decode("latin-1").lower().encode("latin-1")
        assert header != b"proxy"
        assert headers.count(header) == 1 or header not in {b"host", b"content-type", b"content-length"}
    for peer in (scope["client"], scope["server"]):
        assert peer is None or (type(peer[0]) is str and (peer[1] is None or type(peer[1]) is int))
