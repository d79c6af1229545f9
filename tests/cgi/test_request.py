"""What the parameters mean, for anything that can be sent; test_captures.py has what web servers do send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi import request

Params = dict[str, str]


NAMES = (
    *("HTTPS", "REQUEST_SCHEME", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_ADDR"),
    *("SERVER_PORT", "CONTENT_LENGTH", *request.AUTHORIZATION_NAMES),
)
numbers = st.integers(-(10**20), 10**20).map(str) | st.text(st.characters(categories=["Nd"]), max_size=6)
values = st.text() | numbers | st.text(st.sampled_from("[]:1af.%-_*~"), max_size=8)


@given(st.dictionaries(st.sampled_from(NAMES), values))
def test_nothing_raises(params: Params) -> None:
    assert request.scheme(params) in ("http", "https")
    assert request.http_version(params) in ("1.0", "1.1", "2", "3")
    client = request.client(params)
    assert client is None or (client[0] and 0 <= client[1] <= 65535)
    server = request.server(params)
    assert server is None or server[1] is None or 0 <= server[1] <= 65535
    length = request.content_length(params)
    assert length is None or length >= 0
    assert request.authorization(params) != ""


@pytest.mark.parametrize(
    ("repeated", "joined"),
    [
        ([], {}),
        ([("HTTP_X_MULTI", "alpha"), ("HTTP_X_MULTI", "beta")], {"HTTP_X_MULTI": "alpha, beta"}),
        ([("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2")], {"HTTP_COOKIE": "a=1; b=2"}),
        ([("SCRIPT_NAME", "/a b/c"), ("SCRIPT_NAME", "")], {"SCRIPT_NAME": ""}),
        ([("HTTP_HOST", "127.0.0.1"), ("HTTP_HOST", "127.0.0.1:8080")], {"HTTP_HOST": "127.0.0.1:8080"}),
        (
            [("HTTP_A", "1"), ("HTTP_B", "x"), ("HTTP_A", ""), ("HTTP_A", "3"), ("HTTP_B", "y")],
            {"HTTP_A": "1, , 3", "HTTP_B": "x, y"},
        ),
    ],
)
def test_join_repeated(repeated: list[tuple[str, str]], joined: Params) -> None:
    params = dict(repeated) | {"HTTP_OTHER": "once"}
    request.join_repeated(params, repeated)
    assert params == joined | {"HTTP_OTHER": "once"}


@given(st.lists(st.tuples(st.text(), st.text())), st.dictionaries(st.text(), st.text()))
def test_join_repeated_never_raises(repeated: list[tuple[str, str]], params: Params) -> None:
    request.join_repeated(params, repeated)


@pytest.mark.parametrize(
    ("params", "scheme"),
    [
        ({}, "http"),
        ({"REQUEST_SCHEME": "http"}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"REQUEST_SCHEME": "HTTPS"}, "https"),
        ({"REQUEST_SCHEME": "gopher"}, "http"),
        ({"HTTPS": ""}, "http"),
        ({"HTTPS": "off"}, "http"),
        ({"HTTPS": "OFF"}, "http"),
        ({"HTTPS": "0"}, "http"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"HTTPS": "on", "REQUEST_SCHEME": "http"}, "https"),
        ({"HTTPS": "", "REQUEST_SCHEME": "https"}, "https"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
    ],
)
def test_scheme(params: Params, scheme: str) -> None:
    assert request.scheme(params) == scheme


@pytest.mark.parametrize(
    ("protocol", "version"),
    [
        ("HTTP/1.0", "1.0"),
        ("HTTP/1.1", "1.1"),
        ("HTTP/2.0", "2"),
        ("HTTP/2", "2"),
        ("HTTP/3.0", "3"),
        ("HTTP/3", "3"),
        ("INCLUDED", "1.1"),
        ("", "1.1"),
    ],
)
def test_http_version(protocol: str, version: str) -> None:
    assert request.http_version({"SERVER_PROTOCOL": protocol}) == version


def test_http_version_absent() -> None:
    assert request.http_version({}) == "1.1"


@pytest.mark.parametrize(
    ("address", "port", "client"),
    [
        ("192.0.2.1", "57000", ("192.0.2.1", 57000)),
        ("2001:db8::1", "443", ("2001:db8::1", 443)),
        ("192.0.2.1", "", ("192.0.2.1", 0)),
        ("192.0.2.1", "65536", ("192.0.2.1", 0)),
        ("192.0.2.1", "-1", ("192.0.2.1", 0)),
        ("", "57000", None),
        ("unix:", "", None),
        ("unix", "0", None),
        ("@", "", None),
        ("/run/web.sock", "0", None),
    ],
)
def test_client(address: str, port: str, client: tuple[str, int] | None) -> None:
    assert request.client({"REMOTE_ADDR": address, "REMOTE_PORT": port}) == client


def test_clients_from_all_ports_leave_little_behind() -> None:
    for port in (*range(0, 65536, 13), 443, 443):
        assert request.client({"REMOTE_ADDR": "::1", "REMOTE_PORT": str(port)}) == ("::1", port)
    assert len(request._ports) <= 1024


@pytest.mark.parametrize(
    ("params", "client"), [({}, None), ({"REMOTE_ADDR": "192.0.2.1"}, ("192.0.2.1", 0)), ({"REMOTE_PORT": "1"}, None)]
)
def test_client_absent(params: Params, client: tuple[str, int] | None) -> None:
    assert request.client(params) == client


@pytest.mark.parametrize(
    ("name", "port", "server"),
    [
        ("example.com", "443", ("example.com", 443)),
        ("example.com:8080", "80", ("example.com", 80)),
        ("example.com:8080", "", ("example.com", 8080)),
        ("example.com", "", ("example.com", None)),
        ("example.com", "0", ("example.com", None)),
        ("example.com:8080", "0", ("example.com", 8080)),
        ("example.com:x", "99999", ("example.com", None)),
        ("[2001:db8::1]", "80", ("2001:db8::1", 80)),
        ("[2001:db8::1]:8080", "", ("2001:db8::1", 8080)),
        ("[2001:db8::1", "", ("2001:db8::1", None)),
        ("2001:db8::1", "", ("2001:db8::1", None)),
        ("[]", "80", None),
        (":80", "80", None),
        ("", "80", ("192.0.2.9", 80)),
        ("_", "80", ("192.0.2.9", 80)),
        ("*.example.com", "80", ("192.0.2.9", 80)),
        (r"~^www\d+\.example\.com$", "80", ("192.0.2.9", 80)),
    ],
)
def test_server(name: str, port: str, server: tuple[str, int | None] | None) -> None:
    assert request.server({"SERVER_NAME": name, "SERVER_PORT": port, "SERVER_ADDR": "192.0.2.9"}) == server


@pytest.mark.parametrize(
    ("params", "server"),
    [
        ({}, None),
        ({"SERVER_PORT": "80"}, None),
        ({"SERVER_NAME": "", "SERVER_ADDR": "2001:db8::9", "SERVER_PORT": "80"}, ("2001:db8::9", 80)),
        ({"SERVER_NAME": "", "SERVER_ADDR": "unix:/run/web.sock", "SERVER_PORT": ""}, ("/run/web.sock", None)),
        ({"SERVER_NAME": "a.example", "SERVER_ADDR": "unix:/run/web.sock", "SERVER_PORT": ""}, ("a.example", None)),
    ],
)
def test_server_without_name(params: Params, server: tuple[str, int | None] | None) -> None:
    assert request.server(params) == server


def test_what_is_remembered_of_servers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose the name where the web server repeats their Host."""
    monkeypatch.setattr(request, "_servers", {})
    longest = "x" * 1000
    for _ in range(2):
        assert request.server({"SERVER_NAME": longest, "SERVER_PORT": "80"}) == (longest, 80)
    assert not request._servers
    for number in range(300):
        for port in (80, 81):
            params = {"SERVER_NAME": f"{number}.example", "SERVER_PORT": str(port)}
            assert request.server(params) == request.server(params) == (f"{number}.example", port)
    assert len(request._servers) == 256


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0),
        ("200000", 200_000),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("9" * 10_000, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        (" 1", None),
        ("1\n", None),
        ("1.0", None),
        ("0x10", None),
        ("\u0661", None),
        ("\xb2", None),
        ("1, 1", None),
    ],
)
def test_content_length(text: str, length: int | None) -> None:
    assert request.content_length({"CONTENT_LENGTH": text}) == length


def test_content_length_absent() -> None:
    assert request.content_length({"HTTP_CONTENT_LENGTH": "5"}) is None


@pytest.mark.parametrize("name", request.AUTHORIZATION_NAMES)
def test_authorization(name: str) -> None:
    assert request.authorization({"HTTP_AUTHORIZATION": "", name: "Basic dTpw"}) == "Basic dTpw"


@pytest.mark.parametrize(
    ("params", "value"),
    [
        ({}, None),
        ({"HTTP_AUTHORIZATION": "", "REDIRECT_HTTP_AUTHORIZATION": ""}, None),
        ({"HTTP_AUTHORIZATION": "Bearer a", "REDIRECT_HTTP_AUTHORIZATION": "Bearer b"}, "Bearer a"),
        ({"Authorization": "Bearer a", "REDIRECT_REDIRECT_HTTP_AUTHORIZATION": "Bearer b"}, "Bearer b"),
    ],
)
def test_authorization_order(params: Params, value: str | None) -> None:
    assert request.authorization(params) == value
