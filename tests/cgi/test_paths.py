"""The mount point and the path, for anything that can be sent; test_captures.py has what web servers do send."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simple_fastcgi.cgi.paths import RULES, _stock_software, find_by_rules, find_mount, normalize_root_path
from simple_fastcgi.errors import ConfigurationError

Params = dict[str, str]


def sent(
    script: str | None, path: str | None, uri: str | None, software: str = "", filename: str = "", **more: str
) -> Params:
    values = {
        **more,
        "SCRIPT_NAME": script,
        "PATH_INFO": path,
        "REQUEST_URI": uri,
        "SERVER_SOFTWARE": software,
        "SCRIPT_FILENAME": filename,
    }
    return {name: value for name, value in values.items() if value is not None}


NOTHING_TOLD = [
    # nothing at all, or nearly
    ({}, ("", "/")),
    (sent("", "", ""), ("", "/")),
    (sent("", None, "/"), ("", "/")),
    (sent("*", None, "*"), ("", "/*")),
    # no REQUEST_URI: nginx with its own list
    (sent(None, "/x", None), ("", "/x")),
    (sent("/app", "/x", None), ("/app", "/x")),
    (sent("/app", "", None), ("/app", "")),
    (sent("/x", None, None), ("", "/x")),
    (sent("/", "/x", None), ("", "/x")),
    # S + P = U
    (sent("/app", "/x", "/app/x?y=/app/z"), ("/app", "/x")),
    (sent("/app", "/%20", "/app/%2520"), ("/app", "/%20")),
    (sent("/caf\xc3\xa9", "/\xff", "/caf%c3%A9/%FF"), ("/caf\xc3\xa9", "/\xff")),
    (sent("/app", "/x", "//app/./y/../x"), ("/app", "/x")),
    (sent("/app", "//x/../y", "/app//x/../y"), ("/app", "//x/../y")),
    (sent("/app", "/a", "/app/a#b"), ("/app", "/a")),
    (sent("/app", "/a#b", "/app/a#b"), ("/app", "/a#b")),
    (sent("/app", "/a%2Fb c", "/app/a%2Fb%20c"), ("/app", "/a%2Fb c")),
    (sent("/app", "/100%", "/app/100%"), ("/app", "/100%")),
    (sent("/app", "/%zz a", "/app/%zz%20a"), ("/app", "/%zz a")),
    (sent("/app", "", "/app"), ("/app", "")),
    (sent("/", "", "/"), ("", "/")),
    (sent("/", "/", "/"), ("", "/")),
    (sent("/", "/a b", "/a%20b"), ("", "/a b")),
    (sent("/app", "/x", "http://host/app/x"), ("/app", "/x")),
    (sent("", "/", "http://host?x=/y"), ("", "/")),
    # slashes out of place
    (sent("/app/", "/x", "/app/x"), ("/app", "/x")),
    (sent("/app/", "x", "/app/x"), ("/app", "/x")),
    (sent("/app/", "", "/app/"), ("/app", "/")),
    (sent("//app", "/x", "//app/x"), ("/app", "/x")),
    (sent("app", "/x", "/app/x"), ("/app", "/x")),
    (sent("app", "/x", None), ("/app", "/x")),
    # the regular expression ^(/app)(.*)$ without a slash between must not open /app/admin
    (sent("/app", "admin", "/appadmin"), ("", "/appadmin")),
    # Apache's mod_proxy_fcgi with the prefix dropped in its target
    (sent("/app/x", None, "/app/x", "Apache/2.4", "proxy:fcgi://host/x"), ("/app", "/x")),
    (sent("/app/x", None, "/app/x", "secret", "proxy:fcgi://host/x"), ("/app", "/x")),
    (sent("/app/x", None, "/app/x?y", "Apache/2.4", "proxy:fcgi://host/x?y"), ("/app", "/x")),
    (sent("/app/", None, "/app/", "Apache/2.4", "proxy:fcgi://host:9000/"), ("/app", "/")),
    (sent("/x", None, "/x", "Apache/2.4", "proxy:fcgi://host"), ("", "/x")),
    (sent("/x", None, "/x", "Apache/2.4", "proxy:fcgi://host/other"), ("", "/x")),
    # P absent and S = U
    (sent("/app", None, "/app", "nginx/1"), ("", "/app")),
    (sent("/a b", None, "/a%20b", "nginx/1"), ("", "/a b")),
    (sent("/app", None, "/app", "lighttpd/1"), ("/app", "")),
    (sent("/app/", None, "/app/", "lighttpd/1"), ("/app", "/")),
    (sent("/app", None, "/app", "Apache"), ("/app", "")),
    (sent("/a#b", None, "/a#b", "HAProxy 2"), ("", "/a#b")),
    (sent("/a", None, "/a#b", "nginx/1"), ("", "/a")),
    # P = U beside an S
    (sent("/app/x", "/app/x", "/app/x"), ("", "/app/x")),
    (sent("/app.py", "/app.py/x", "/app.py/x", "Microsoft-IIS/10.0"), ("", "/app.py/x")),
    # rewritten to a script
    (sent("/app/index.fcgi", "/a b", "/app/a%2520b", "Apache"), ("/app", "/a%20b")),
    (sent("/app/index.fcgi", "/a/b", "/app/a%2Fb", "lighttpd/1"), ("/app", "/a/b")),
    (sent("/app/index.fcgi", "/a%2Fb", "/app/a%2Fb", "Apache"), ("/app", "/a%2Fb")),
    (sent("/app/index.fcgi", None, "/app/a//b", "Apache"), ("/app", "/a/b")),
    (sent("/app/index.fcgi", None, "/app/", "Apache"), ("/app", "/")),
    (sent("/app/index.fcgi", None, "/app", "Apache"), ("/app", "")),
    (sent("/app/index.fcgi", "/y", "/app/index.fcgi/x", "Apache"), ("/app/index.fcgi", "/y")),
    (sent("/cgi-bin/index.fcgi", "/y", "/x", "Apache"), ("/cgi-bin/index.fcgi", "/y")),
    (sent("/cgi-bin/index.fcgi", None, "/x", "Apache"), ("/cgi-bin/index.fcgi", "")),
    (sent("/index.fcgi", "/a", "/a%3Fb", "Apache"), ("", "/a?b")),
    (sent("/index.fcgi", "/a?b", "/a%253Fb", "Apache"), ("", "/a%3Fb")),
    (sent("/index.fcgi", "/a", "/a%23b", "Apache"), ("", "/a#b")),
    (sent("/index.fcgi", "/a%2Fb/ ", "/a%2Fb/%2520", "Apache"), ("", "/a/b/%20")),
    (sent("/app/dispatch", "/x", "/app/x", "Apache"), ("/app", "/x")),
    (sent("/app/dispatch", None, "/app/x", "Apache", REDIRECT_URL="/app/x", REDIRECT_STATUS="200"), ("/app", "/x")),
    (sent("/app/index.fcgi", None, "/app/x", "secret", REDIRECT_URL="/app/x"), ("/app", "/x")),
    (sent("/app/index.fcgi", None, "/app/x", "LiteSpeed"), ("/app", "/x")),
    # and the rule has made another path of it
    (sent("/index.fcgi", "/v2/x", "/api/x", "Apache"), ("", "/v2/x")),
    (sent("/index.fcgi", "/missing", "/x", "Apache", REDIRECT_URL="/x", REDIRECT_STATUS="404"), ("", "/missing")),
    # what is refused is not asked for, either
    *(
        (sent("/index.fcgi", path, "/private/x", software, REDIRECT_URL=url, REDIRECT_STATUS=status), mount)
        for status in ("403", "401", "500")
        for software in ("Apache", "lighttpd/1")
        for path, url, mount in (
            (None, "/sorry", ("/index.fcgi", "")),
            (None, "/private/x", ("/index.fcgi", "")),
            ("/sorry", "/private/x", ("/index.fcgi", "/sorry")),
        )
    ),
    (sent("/index.fcgi", None, "/x", "Apache", REDIRECT_URL="/x", REDIRECT_STATUS="404"), ("", "/x")),
    (sent("/app", "/new", "/old", "lighttpd/1", REDIRECT_URI="/old"), ("/app", "/new")),
    (sent("/app", "", "/old", "lighttpd/1", REDIRECT_URI="/old"), ("/app", "")),
    (sent("/error", None, "/x", "Apache", REDIRECT_URL="/x", REDIRECT_STATUS="404"), ("/error", "")),
    # the whole site led into a folder, and there to the script
    (sent("/shop/index.fcgi", None, "/x/y", "Apache", REDIRECT_URL="/shop/x/y"), ("", "/x/y")),
    (sent("/shop/index.fcgi", None, "/x%20y", "Apache", REDIRECT_URL="/shop/x y"), ("", "/x y")),
    (sent("/shop/index.fcgi", None, "/x/y", "Apache", REDIRECT_URL="/shop/z"), ("/shop/index.fcgi", "")),
    (sent("/shop/index.fcgi", None, "/x/y", "Apache", REDIRECT_URL="/shop"), ("/shop/index.fcgi", "")),
    # the name of a file behind the path
    (sent("/index.php", None, "/", "HAProxy 2"), ("", "/")),
    (sent("/app/a b/index.php", None, "/app/a%20b/?x", "HAProxy 2"), ("", "/app/a b/")),
    (sent("/app/index.php", None, "/app", "HAProxy 2"), ("", "/app/index.php")),
    (sent("/private/auth.py", None, "/private/", "nginx/1"), ("", "/private/auth.py")),
    # what nginx asks by itself, and where to go on: neither is what the browser asked for
    (sent("/auth", None, "/private/x", "nginx/1"), ("", "/auth")),
    (sent("/auth.py", None, "/private/x", "nginx/1"), ("", "/auth.py")),
    (sent("/app", "/auth", "/private/x", "nginx/1"), ("/app", "/auth")),
    (sent("/app/auth", None, "/app/private/x", "nginx/1"), ("", "/app/auth")),
    (sent("/auth", "", "/private/x", "Caddy/2"), ("/auth", "")),
    (sent("/articles/5", None, "/articles/5.html", "nginx/1"), ("", "/articles/5")),
    (sent("/404.html", None, "/none", "HAProxy 2"), ("", "/404.html")),
    (sent("/auth", None, "/private/x"), ("", "/auth")),
    # the prefix taken away
    (sent("", "/x", "/app/x"), ("/app", "/x")),
    (sent("", "/", "/app/"), ("/app", "/")),
    (sent("", "//x", "/app/b//x"), ("/app/b", "//x")),
    (sent("", "/b", "/a%20/b"), ("/a ", "/b")),
    (sent("", "/%2Fb", "/a/%2Fb"), ("/a", "/%2Fb")),
    (sent("", "/", "/app"), ("", "/")),
    # h2o, asked as a proxy is
    (sent("", "/http://host/x", "http://host/x?y"), ("", "/x")),
    (sent("", "/http://host/x", "/http://host/x?y"), ("", "/http://host/x")),
    (sent("", "/y", "http://host/x"), ("", "/y")),
    # a rewrite of the whole path
    (sent("/new/x", None, "/old/x", "nginx/1"), ("", "/new/x")),
    (sent("/new/x", None, "/old/x", "Apache", "proxy:fcgi://host/new/x"), ("", "/new/x")),
    (sent("/new/x", "/y", "/old/x", "nginx/1"), ("/new/x", "/y")),
]


@pytest.mark.parametrize(("params", "mount"), NOTHING_TOLD)
def test_nothing_told(params: Params, mount: tuple[str, str]) -> None:
    assert find_mount(params) == mount
    assert find_by_rules(params) == mount


TOLD = [
    # one of P, S + P and S is the whole URL
    ("/app", sent("", "/app/x", "/app/x"), ("/app", "/x")),
    ("/app", sent("/app", "/x", "/app/x"), ("/app", "/x")),
    ("/app", sent("/app/x", None, "/app/x"), ("/app", "/x")),
    ("/app", sent("/app/x", "/app/x", "/app/x"), ("/app", "/x")),
    ("/app", sent("/app/x", "/y", "/app/x"), ("/app", "/x")),
    ("/app", sent("/app/v1", "/x", "/app/v1/x"), ("/app", "/v1/x")),
    ("/app", sent("/app", None, "/app"), ("/app", "")),
    ("/app", sent("/app/", None, "/app/"), ("/app", "/")),
    ("/app", sent("/app/", "/x", "/app//x"), ("/app", "/x")),
    ("/app", sent("", "/app/a b", "/app/a%20b"), ("/app", "/a b")),
    ("/app", sent("//app/x", None, "//app/x"), ("/app", "/x")),
    ("/app", sent("", "/b/../app/x", "/b/../app/x"), ("/app", "/x")),
    ("/caf\xc3\xa9", sent("/caf\xc3\xa9/x", None, "/caf%C3%A9/x"), ("/caf\xc3\xa9", "/x")),
    # at the root
    ("", sent("/a", "/b", "/a/b"), ("", "/a/b")),
    ("/", sent("/a", "/b", "/a/b"), ("", "/a/b")),
    ("", sent("/", None, "/"), ("", "/")),
    ("", sent("/", "/a", "/a"), ("", "/a")),
    ("", sent("*", None, "*"), ("", "/*")),
    ("", {}, ("", "/")),
    # the web server has taken the prefix away
    ("/app", sent("", "/x", "/x"), ("/app", "/x")),
    ("/app", sent("", "/x", "/app/x"), ("/app", "/x")),
    ("/app", sent("", "/app/x", "/app/app/x"), ("/app", "/app/x")),
    ("/app", sent("", "/x", "/outer/x"), ("/app", "/x")),
    ("/app", sent("", "/", "/app"), ("/app", "/")),
    ("/app", sent("/appendix", None, "/appendix"), ("/app", "/appendix")),
    ("/app", sent("/inner", "/x", "/inner/x"), ("/app", "/inner/x")),
    # rewritten to a script
    ("/app", sent("/app/index.fcgi", "/a b", "/app/a%20b"), ("/app", "/a b")),
    ("/app", sent("/app/index.fcgi", "/a b", "/app/a%2520b", "Apache"), ("/app", "/a%20b")),
    ("", sent("/index.fcgi", None, "/a", "Apache"), ("", "/a")),
    ("/index.fcgi", sent("/index.fcgi", "/a", "/index.fcgi/a"), ("/index.fcgi", "/a")),
    ("/shop", sent("/index.fcgi", "/v2/x", "/api/x", "Apache"), ("/shop", "/v2/x")),
    ("", sent("/shop/index.fcgi", None, "/x/y", "Apache", REDIRECT_URL="/shop/x/y"), ("", "/x/y")),
    # the name of a file behind the path
    ("/app", sent("/app/index.php", None, "/app/", "HAProxy 2"), ("/app", "/")),
    # what nginx asks by itself
    ("/app", sent("/app", "/auth", "/private/x", "nginx/1"), ("/app", "/auth")),
    ("/app", sent("/app/auth", None, "/app/private/x", "nginx/1"), ("/app", "/auth")),
    ("", sent("/auth", None, "/private/x", "nginx/1"), ("", "/auth")),
    # a rewrite of the whole path
    ("", sent("/new/x", None, "/old/x"), ("", "/new/x")),
    ("", sent("", "/new/x", "/old/x"), ("", "/new/x")),
    # as a proxy is asked
    ("", sent("", "/http://host/x", "http://host/x"), ("", "/x")),
    ("/app", sent("", "/http://host/app/x", "http://host/app/x"), ("/app", "/x")),
    # no REQUEST_URI
    ("/app", sent("/app/x", None, None), ("/app", "/x")),
    ("/app", sent("/app", "/x", None), ("/app", "/x")),
    ("/app", sent("", "/x", None), ("/app", "/x")),
    ("/app", sent("", "x", None), ("/app", "/x")),
    ("/app", sent("", "/http://host/x", None), ("/app", "/http://host/x")),
    ("/app", {}, ("/app", "")),
]


@pytest.mark.parametrize(("root_path", "params", "mount"), TOLD)
def test_told_by_the_operator(root_path: str, params: Params, mount: tuple[str, str]) -> None:
    assert find_mount(params, root_path) == mount
    assert find_by_rules(params, root_path) == mount


PIECES = ["/", "/a", "/b c", "/app", "/index.fcgi", "/..", "/.", "//", "a", ".", "é", "%2F", "%2f", "%20", "%2e", "%41"]
ODD_PIECES = ["%", "%z", "#", "?", "http://h", "proxy:fcgi://h", "*", "\0", "\udcff", "€", "%25", "[", ":"]
paths = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
texts = st.one_of(paths, st.lists(st.sampled_from(PIECES + ODD_PIECES), max_size=8).map("".join), st.text(max_size=20))
softwares = st.sampled_from(["", "nginx/1.22.1", "Apache/2.4.71", "lighttpd/1.4.69", "HAProxy 2.6"])
roots = st.none() | texts.filter(lambda text: not re.search(r"[?#\0-\x1f\x7f]|://|[\ud800-\udfff]", text)).map(
    normalize_root_path
)


@st.composite
def all_params(draw: st.DrawFn) -> Params:
    """Parameters of all kinds, also those that fit one another as a web server's do."""
    script = draw(st.none() | texts)
    path = draw(st.none() | texts)
    own = draw(st.sampled_from([(script or "") + (path or ""), script, path]))
    uri = draw(st.none() | texts | st.just(own) | texts.map(lambda text: text + (own or "")))
    if uri is not None:
        uri += draw(st.sampled_from(["", "", "?", "?x=/y"]))
    target = draw(st.sampled_from(["", "/srv/app.fcgi", f"proxy:fcgi://host{path}", f"proxy:fcgi://host/{script}"]))
    return sent(script, path, uri, draw(softwares), draw(st.just(target) | texts))


@given(all_params(), roots)
@example(sent("/app", "/../app/x", "/app/../app/x"), "/app")
@example(sent("/.", "/a", "/./a"), "")
@example(sent("/", "/a", "//a"), "")
@example(sent("/%2e", "/a", "/%2e/a"), "")
def test_any_params(params: Params, root_path: str | None) -> None:
    root, path = find_mount(params, root_path)
    assert not root or (root[0] == "/" and root[-1] != "/" and root[1] != "/")
    assert path[:1] == "/" or (root and not path)
    assert root_path is None or root == root_path
    assert find_by_rules(params, root_path) == (root, path)


@given(st.dictionaries(st.sampled_from(["SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "SCRIPT_FILENAME"]), st.text()))
def test_nothing_raises(params: Params) -> None:
    find_mount(params)
    find_mount(params, "/app")
    find_by_rules(params)


segments = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="/"), min_size=1, max_size=8)
plain_segments = segments.filter(lambda text: text not in (".", ".."))
some_paths = st.lists(plain_segments, max_size=4).map(lambda parts: "".join(f"/{part}" for part in parts))


@given(some_paths, some_paths, st.sampled_from(["", "/"]))
def test_split_as_the_specification_has_it(root: str, path: str, end: str) -> None:
    path = path + end if root + path else "/"
    uri = quote(root + path, encoding="latin-1") + "?x=1"
    assert find_mount(sent(root, path, uri)) == (root, path)
    assert find_mount(sent(root, path, uri), root) == (root, path)


@given(some_paths, some_paths, st.sampled_from(["", "/"]))
def test_stock_below_the_told_root(root: str, path: str, end: str) -> None:
    path = path + end if root + path else "/"
    params = sent(root + path, None, quote(root + path, encoding="latin-1"), "nginx/1.22.1")
    assert find_mount(params) == ("", root + path)
    assert find_mount(params, root) == (root, path)


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.parametrize("piece", ["/", "/a", "/.", "/..", "%", "%2F", "/a/..", "#", "?"])
@pytest.mark.parametrize("root_path", [None, "", "/app"])
def test_work_is_linear(piece: str, root_path: str | None) -> None:
    # A quadratic step would take minutes with these.
    long = "/" + piece * 50_000
    find_mount(sent(long, long, long + "/x", "Apache", f"proxy:fcgi://h{long}"), root_path)
    find_mount(sent("", long, "/x" + long), root_path)
    find_mount(sent(long + "/x", None, long, "nginx"), root_path)


def test_every_rule_says_whose_it_is() -> None:
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(
    ("told", "root"),
    [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("/app", "/app"),
        ("app", "/app"),
        ("/app/", "/app"),
        ("app//", "/app"),
        ("//app//v1", "/app/v1"),
        ("/app/./v1/../v2/", "/app/v2"),
        ("/..", ""),
        ("/a b", "/a b"),
        ("/café", "/caf\xc3\xa9"),
        ("/caf\udce9", "/caf\xe9"),
    ],
)
def test_normalize_root_path(told: str, root: str) -> None:
    assert normalize_root_path(told) == root
    assert root.isascii() is False or normalize_root_path(root) == root


@pytest.mark.parametrize(
    ("told", "cure"),
    [
        ("/a\r\nX: y", "control characters"),
        ("/a\0", "control characters"),
        ("/a\x7f", "control characters"),
        ("/a?x", r"without \? and #"),
        ("/a#x", r"without \? and #"),
        ("https://example.com/a", "without scheme and host"),
        ("/\ud800", "surrogates"),
        (5, "give a str"),
        (b"/app", "give a str"),
    ],
)
def test_normalize_root_path_refuses(told: Any, cure: str) -> None:
    with pytest.raises(ConfigurationError, match=cure) as caught:
        normalize_root_path(told)
    assert isinstance(caught.value, ValueError)
    assert "root_path=" in str(caught.value)


def test_software_without_number_is_not_remembered() -> None:
    for number in range(50):
        params = {"SCRIPT_NAME": "/page", "REQUEST_URI": "/page", "SERVER_SOFTWARE": f"server {number}"}
        assert find_mount(params) == ("", "/page")
    assert len(_stock_software) <= 16
