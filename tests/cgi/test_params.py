"""Parameters made out of HTTP, and read again by the application's side."""

from __future__ import annotations

import string
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi.asgi import http_scope
from simple_fastcgi.cgi.params import HOP_BY_HOP, ParamsBuilder, end_to_end, header_params, wire_text
from simple_fastcgi.cgi.paths import find_mount
from simple_fastcgi.cgi.wsgi import Environs
from simple_fastcgi.errors import ConfigurationError

ANY = ParamsBuilder()
PHP = ParamsBuilder(document_root="/srv/www/")

# Whatever may stand in a request's target, escaped or not.
RAW = "".join(map(chr, range(0x21, 0x7F))).replace("#", "").replace("?", "").replace("%", "")
segments = (
    st.binary(max_size=8).map(lambda data: quote_from_bytes(data, safe="")) | st.text(st.sampled_from(RAW), max_size=8)
) | (st.sampled_from(["", ".", "..", "%2F", "%2e%2E", "a%20b", "%zz", "%", "caf%C3%A9", "index.php"]))
paths = st.lists(segments, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
queries = st.none() | st.text(st.sampled_from(RAW + "?"), max_size=12)
names = st.text(st.sampled_from(string.ascii_letters + string.digits + "-"), min_size=1, max_size=10).filter(
    lambda name: name.lower().encode() not in HOP_BY_HOP | {b"proxy", b"content-length", b"content-type", b"host"}
)
field_values = (
    st.binary(max_size=12).filter(lambda value: not set(value) & set(b"\r\n\0")).map(lambda value: value.strip(b" \t"))
)
# Values that are empty count as absent in the parameters of some web servers; those of ours are sent as they are.
headers = st.lists(st.tuples(names.map(str.encode), field_values), max_size=6)


def scope_of(params: dict[str, str], root_path: str | None = None) -> dict[str, Any]:
    return http_scope(dict(params), [], root_path)


@given(paths, queries, st.sampled_from(["", "/app", "/ä/b"]))
def test_paths_come_back(path: str, query: str | None, root_path: str) -> None:
    wire_root = quote_from_bytes(root_path.encode(), safe="/")
    target = (wire_root + path + ("" if query is None else "?" + query)).encode()
    params = ParamsBuilder(root_path=root_path).build("GET", target)
    asked = unquote_to_bytes(path).decode("latin-1")
    assert find_mount(params) == (wire_text(root_path), asked)
    scope = scope_of(params)
    assert scope["raw_path"] == (wire_root + path).encode()
    assert scope["query_string"] == (query or "").encode()
    assert scope["root_path"] == root_path
    assert scope["path"] == root_path + unquote_to_bytes(path).decode("utf-8", "replace")
    environ = Environs().make(dict(params), [])
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (wire_text(root_path), asked)
    assert environ["QUERY_STRING"] == (query or "")


@given(headers)
def test_headers_come_back(sent: list[tuple[bytes, bytes]]) -> None:
    params = ANY.build("GET", b"/", sent)
    expected: dict[bytes, bytes] = {}
    for name, value in sent:
        name = name.lower()
        separator = b"; " if name == b"cookie" else b", "
        expected[name] = expected[name] + separator + value if name in expected else value
    assert dict(scope_of(params)["headers"]) == expected
    environ = Environs().make(dict(params), [])
    found = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
    assert found == {
        "HTTP_" + name.decode().upper().replace("-", "_"): value.decode("latin-1") for name, value in expected.items()
    }


@given(
    st.sampled_from(["GET", "POST", "PROPFIND", "M-SEARCH"]),
    st.sampled_from(["http", "https"]),
    st.sampled_from(["1.0", "1.1", "2", "3"]),
    st.sampled_from([("192.0.2.1", 5000), ("2001:db8::1", 0), None]),
    st.sampled_from([("example.com", 8080), ("192.0.2.7", 80), ("::1", 443)]),
    st.none() | st.integers(0, 10**12),
)
def test_the_rest_comes_back(
    method: str,
    scheme: str,
    http_version: str,
    client: tuple[str, int] | None,
    server: tuple[str, int],
    length: int | None,
) -> None:
    params = ANY.build(
        method,
        b"/",
        [(b"Content-Type", b"text/plain")],
        scheme=scheme,
        http_version=http_version,
        client=client,
        server=server,
        content_length=length,
    )
    scope = scope_of(params)
    assert (scope["method"], scope["scheme"], scope["http_version"]) == (method, scheme, http_version)
    assert (scope["client"], scope["server"]) == (client, server)
    expected = [(b"content-type", b"text/plain")]
    expected += [] if length is None else [(b"content-length", str(length).encode())]
    assert scope["headers"] == expected
    environ = Environs().make(dict(params), [])
    assert environ["SERVER_NAME"] == ("[::1]" if server[0] == "::1" else server[0])
    assert environ["SERVER_PORT"] == str(server[1])
    assert environ["wsgi.url_scheme"] == scheme


def test_every_variable() -> None:
    assert ANY.build(
        "POST",
        b"/a%20b?c=d",
        [(b"Host", b"x"), (b"Content-Type", b"t"), (b"Content-Length", b"5"), (b"Authorization", b"Basic eDp5")],
        scheme="https",
        client=("192.0.2.1", 5000),
        server=("192.0.2.2", 443),
    ) == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "simple_fastcgi",
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/a%20b?c=d",
        "QUERY_STRING": "c=d",
        "REQUEST_SCHEME": "https",
        "HTTPS": "on",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REDIRECT_STATUS": "200",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "DOCUMENT_URI": "/a b",
        "CONTENT_TYPE": "t",
        "CONTENT_LENGTH": "5",
        "HTTP_HOST": "x",
        "HTTP_AUTHORIZATION": "Basic eDp5",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_HOST": "192.0.2.1",
        "REMOTE_PORT": "5000",
        "SERVER_NAME": "192.0.2.2",
        "SERVER_ADDR": "192.0.2.2",
        "SERVER_PORT": "443",
    }


@pytest.mark.parametrize(
    ("target", "script_name", "path_info"),
    [
        (b"/index.php", "/index.php", None),
        (b"/index.php?x=/y.php/z", "/index.php", None),
        (b"/index.php/extra", "/index.php", "/extra"),
        (b"/a/b.php/c/d.php/e", "/a/b.php", "/c/d.php/e"),
        (b"/a%20b.php/%C3%A9", "/a b.php", "/\xc3\xa9"),
        (b"/", "/index.php", None),
        (b"/a/", "/a/index.php", None),
        (b"/b.php/", "/b.php", "/"),
        (b"/b.phps", "/b.phps", None),
        (b"/plain", "/plain", None),
        (b"/a%2Fb.php", "/a/b.php", None),
        (b"/..a/b..php", "/..a/b..php", None),
    ],
)
def test_files(target: bytes, script_name: str, path_info: str | None) -> None:
    params = PHP.build("GET", target)
    assert params["SCRIPT_NAME"] == script_name
    assert params.get("PATH_INFO") == path_info
    assert params["SCRIPT_FILENAME"] == "/srv/www" + script_name
    assert params["DOCUMENT_ROOT"] == "/srv/www"
    assert params["DOCUMENT_URI"] == script_name + (path_info or "")
    assert params.get("PATH_TRANSLATED") == (None if path_info is None else "/srv/www" + path_info)


@given(paths)
def test_no_file_outside_of_the_root(path: str) -> None:
    decoded = unquote_to_bytes(path)
    try:
        params = PHP.build("GET", path.encode())
    except ValueError:
        assert b".." in decoded.split(b"/") or b"\0" in decoded
        return
    assert b".." not in decoded.split(b"/")
    assert params["SCRIPT_FILENAME"].startswith("/srv/www/")
    assert ".." not in params["SCRIPT_FILENAME"].split("/")


@pytest.mark.parametrize(
    "target", [b"/..", b"/a/../../etc/passwd", b"/%2e%2e/x.php", b"/a%2F..%2Fb", b"/x.php/..", b"/x%00", b"*"]
)
def test_what_names_no_file(target: bytes) -> None:
    with pytest.raises(ValueError, match=r"\.\.|no script"):
        PHP.build("GET", target)


def test_other_scripts() -> None:
    builder = ParamsBuilder(document_root="/w", index="main.pl", split=".pl")
    assert builder.build("GET", b"/")["SCRIPT_FILENAME"] == "/w/main.pl"
    assert builder.build("GET", b"/x.pl/y")["PATH_INFO"] == "/y"
    root = ParamsBuilder(document_root="/").build("GET", b"/x.php")
    assert (root["DOCUMENT_ROOT"], root["SCRIPT_FILENAME"]) == ("/", "/x.php")


@given(paths)
def test_one_script_for_all(path: str) -> None:
    params = ParamsBuilder(script="/srv/app/public/index.php").build("GET", path.encode() + b"?q")
    assert params["SCRIPT_FILENAME"] == "/srv/app/public/index.php"
    assert params["SCRIPT_NAME"] == "/index.php"
    assert params["DOCUMENT_ROOT"] == "/srv/app/public"
    assert params["REQUEST_URI"] == path + "?q"
    assert http_scope(params, [], None)["raw_path"] == path.encode()


def test_a_script_below_its_root() -> None:
    builder = ParamsBuilder(document_root="/srv", script="/srv/app/index.php")
    assert builder.build("GET", b"/blog")["SCRIPT_NAME"] == "/app/index.php"
    params = builder.build("GET", b"/app/index.php/blog")
    assert (params["SCRIPT_NAME"], params["PATH_INFO"]) == ("/app/index.php", "/blog")
    assert (params["PATH_TRANSLATED"], params["DOCUMENT_URI"]) == ("/srv/blog", "/app/index.php/blog")
    # As the application sees it.
    assert find_mount(params) == ("/app/index.php", "/blog")
    assert find_mount(ParamsBuilder(script="/srv/index.py").build("GET", b"/a%20b/c")) == ("", "/a b/c")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"root_path": "/a", "script": "/b"}, "root_path is for applications"),
        ({"root_path": "", "document_root": "/b"}, "root_path is for applications"),
        ({"root_path": "http://x/"}, "root_path="),
        ({"document_root": "www"}, "document_root='www': give an absolute path"),
        ({"script": ""}, "script='': give an absolute path"),
        ({"document_root": "/a", "script": "/ab/x.php"}, "not below document_root"),
        ({"document_root": "/a", "index": ""}, "index=''"),
        ({"document_root": "/a", "index": "a/b"}, "index='a/b'"),
        ({"document_root": "/a", "split": ""}, "split=''"),
    ],
)
def test_contradictions(settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ParamsBuilder(**settings)  # type: ignore[arg-type]


def test_below_a_mount_point() -> None:
    builder = ParamsBuilder(root_path="app/")
    assert find_mount(builder.build("GET", b"/app")) == ("/app", "")
    assert find_mount(builder.build("GET", b"/app/")) == ("/app", "/")
    for target in (b"/", b"/apple", b"/ap", b"*"):
        with pytest.raises(ValueError, match="not below root_path='/app'"):
            builder.build("GET", target)


def test_the_server_itself() -> None:
    params = ANY.build("OPTIONS", b"*")
    assert (params["REQUEST_URI"], params["PATH_INFO"]) == ("*", "")


@pytest.mark.parametrize("target", [b"", b"x", b"http://x/", b"/a b", b"/a\n", b"/\0", b"/#x", b"**", b"/\x7f"])
def test_bad_targets(target: bytes) -> None:
    with pytest.raises(ValueError, match="target="):
        ANY.build("GET", target)


@pytest.mark.parametrize("method", ["", "G T", "GET\n", "\xe4", "\ud800"])
def test_bad_methods(method: str) -> None:
    with pytest.raises(ValueError, match="method="):
        ANY.build(method, b"/")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ((b"", b""), "no token"),
        ((b"A B", b""), "no token"),
        ((b"A:", b""), "no token"),
        ((b"A\n", b""), "no token"),
        ((b"A", b"b\n"), "CR, LF or NUL"),
        ((b"A", b"\rb"), "CR, LF or NUL"),
        ((b"A", b"\0"), "CR, LF or NUL"),
        ((b"Content-Length", b"x"), "Content-Length: 'x'"),
        ((b"Content-Length", b""), "Content-Length: ''"),
    ],
)
def test_bad_fields(field: tuple[bytes, bytes], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        header_params([field])


def test_what_must_be_one() -> None:
    with pytest.raises(ValueError, match="Host came 2 times"):
        header_params([(b"Host", b"a"), (b"host", b"b")])
    with pytest.raises(ValueError, match="'1, 2'"):
        header_params([(b"Content-Length", b"1"), (b"Content-Length", b"2")])
    assert header_params([(b"Content-Length", b"1"), (b"Content-Length", b"1")]) == {"CONTENT_LENGTH": "1"}


def test_what_is_not_passed_on() -> None:
    sent = [
        (b"Connection", b"close, X-Mine , Content-Length"),
        (b"Keep-Alive", b"5"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy", b"http://evil"),
        (b"X_Real_IP", b"forged"),
        (b"X.Y", b"odd"),
        (b"x-mine", b"1"),
        (b"X-Yours", b" 2\t"),
        (b"content-length", b"3"),
    ]
    assert header_params(sent) == {"HTTP_X_YOURS": "2"}
    # It counts where the body is framed by nothing else (RFC 9112, 6.3), whatever Connection says.
    sent.remove((b"Transfer-Encoding", b"chunked"))
    assert header_params(sent) == {"HTTP_X_YOURS": "2", "CONTENT_LENGTH": "3"}
    assert [name for name, _ in end_to_end(sent)] == [b"Proxy", b"X_Real_IP", b"X.Y", b"X-Yours", b"content-length"]


@pytest.mark.parametrize(
    ("host", "server", "scheme", "expected"),
    [
        ([], None, "http", ("localhost", "80")),
        ([], None, "https", ("localhost", "443")),
        ([], ("/run/x.sock", None), "http", ("localhost", "80")),
        ([b"example.com"], None, "http", ("example.com", "80")),
        ([b"example.com:8080"], ("/run/x.sock", None), "http", ("example.com", "8080")),
        ([b"[::1]:8080"], None, "http", ("[::1]", "8080")),
        ([b"[::1]"], None, "https", ("[::1]", "443")),
        ([b"other"], ("example.com", 81), "http", ("example.com", "81")),
        ([b"other"], ("[::1]", 81), "http", ("[::1]", "81")),
    ],
)
def test_names_of_the_server(
    host: list[bytes], server: tuple[str, int | None] | None, scheme: str, expected: tuple[str, str]
) -> None:
    params = ANY.build("GET", b"/", [(b"Host", value) for value in host], server=server, scheme=scheme)
    assert (params["SERVER_NAME"], params["SERVER_PORT"]) == expected
    assert scope_of(params)["server"] == (expected[0].strip("[]"), int(expected[1]))


def test_a_port_is_a_number() -> None:
    assert ANY.build("GET", b"/", [(b"Host", b"example.com:\xb2")])["SERVER_PORT"] == "80"


def test_further_parameters_win() -> None:
    builder = ParamsBuilder(params={"A": "1", "B": "ä", "HTTP_HOST": None, "MISSING": None, "SERVER_SOFTWARE": "mine"})
    params = builder.build("GET", b"/", [(b"Host", b"x")], params={"A": b"\xff", "QUERY_STRING": None})
    assert (params["A"], params["B"], params["SERVER_SOFTWARE"]) == ("\xff", "\xc3\xa4", "mine")
    assert params.keys().isdisjoint({"HTTP_HOST", "MISSING", "QUERY_STRING"})


def test_text() -> None:
    assert wire_text("a") == "a"
    assert wire_text("ä\udcff") == "\xc3\xa4\xff"
    assert wire_text(b"\xff") == "\xff"


@given(paths, st.sampled_from(["/app", "/ä/b"]))
def test_what_is_mounted_for_one_request(path: str, root_path: str) -> None:
    wire_root = quote_from_bytes(root_path.encode(), safe="/")
    target = (wire_root + path).encode()
    told = ParamsBuilder(root_path=root_path).build("GET", target)
    assert ANY.build("GET", target, root_path=root_path) == told
    decoded = unquote_to_bytes(path).decode("latin-1")
    if "\0" in decoded or ".." in decoded.split("/"):
        return
    mounted, plain = PHP.build("GET", target, root_path=root_path), PHP.build("GET", path.encode())
    for name in ("SCRIPT_NAME", "DOCUMENT_URI"):
        assert mounted[name] == wire_text(root_path) + plain[name]
    for name in ("DOCUMENT_ROOT", "SCRIPT_FILENAME", "PATH_INFO", "PATH_TRANSLATED"):
        assert mounted.get(name) == plain.get(name)
    assert mounted["REQUEST_URI"] == wire_root + path


def test_a_mounted_script() -> None:
    builder = ParamsBuilder(script="/srv/app/public/index.php", document_root="/srv/app/public")
    params = builder.build("GET", b"/shop/item/7?a=b", root_path="/shop")
    assert (params["SCRIPT_NAME"], params["REQUEST_URI"]) == ("/shop/index.php", "/shop/item/7?a=b")
    assert "PATH_INFO" not in params
    assert builder.build("GET", b"/shop/index.php/7", root_path="/shop/")["PATH_INFO"] == "/7"
    assert PHP.build("GET", b"/shop", root_path="/shop")["SCRIPT_FILENAME"] == "/srv/www/index.php"


@pytest.mark.parametrize("target", [b"/", b"/shopping", b"*"])
def test_what_is_not_below_the_mount_of_a_request(target: bytes) -> None:
    for builder in (ANY, PHP):
        with pytest.raises(ValueError):
            builder.build("GET", target, root_path="/shop")
