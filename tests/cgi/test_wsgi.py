"""The CGI variables of a WSGI environ (PEP 3333)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.core.handlers.wsgi import get_script_name
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cgi import request
from simple_fastcgi.cgi.paths import find_by_rules
from simple_fastcgi.cgi.wsgi import Environs
from simple_fastcgi.protocol.runs import Layout

Params = dict[str, str]

MADE = {"SCRIPT_NAME", "PATH_INFO", "wsgi.url_scheme", "REQUEST_METHOD", "QUERY_STRING", "SERVER_PROTOCOL"}
MADE |= {"SERVER_NAME", "SERVER_PORT"}


def variables(params: Params, *repeated: tuple[str, str], root_path: str | None = None) -> Params:
    environ: Params = Environs(root_path).make(params, list(repeated))
    return environ


def test_nothing_sent() -> None:
    assert variables({}) == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
    }


def test_the_parameters_are_not_changed() -> None:
    params = {"CONTENT_TYPE": "", "HTTP_PROXY": "x", "SCRIPT_NAME": "/a", "REQUEST_URI": "/a"}
    before = dict(params)
    variables(params)
    assert params == before


@pytest.mark.parametrize(
    ("root_path", "script", "path"), [(None, "", "/app/x"), ("", "", "/app/x"), ("/app", "/app", "/x")]
)
def test_mount_point(root_path: str | None, script: str, path: str) -> None:
    environ = variables({"SCRIPT_NAME": "/app/x", "REQUEST_URI": "/app/x?y"}, root_path=root_path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)


NGINX = {"SERVER_SOFTWARE": "nginx/1.22.1", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
APACHE = {**NGINX, "SERVER_SOFTWARE": "Apache/2.4.62"}


@pytest.mark.parametrize("root_path", [None, "", "/app"])
@pytest.mark.parametrize(
    "params",
    [
        {"SCRIPT_NAME": "/app/x", "REQUEST_URI": "/app/x"},
        {"SCRIPT_NAME": "/app/x", "REQUEST_URI": "/app/x?y=/z?"},
        {"SCRIPT_NAME": "/app/a?b", "REQUEST_URI": "/app/a%3Fb?c"},
        {"SCRIPT_NAME": "/app/a?b", "REQUEST_URI": "/app/a?b"},
        {"SCRIPT_NAME": "", "REQUEST_URI": ""},
        {"SCRIPT_NAME": "x", "REQUEST_URI": "x"},
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/x", "REQUEST_URI": "/app/x"},
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/app", "REQUEST_URI": "/app"},
        {"PATH_INFO": "/app/x", "REQUEST_URI": "/app/x?y"},
        {"PATH_INFO": "", "REQUEST_URI": "?y"},
        {"REQUEST_URI": "/app/x"},
        {"SCRIPT_NAME": "/app/x"},
    ],
)
def test_a_layout_changes_no_mount_point(params: Params, root_path: str | None) -> None:
    for fixed in (NGINX, APACHE, {}):
        sent = {**params, **fixed}
        layout = Layout({**dict.fromkeys(params, ""), **fixed}, dict(fixed), [])
        environ = Environs(root_path).make(sent, [], layout)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == find_by_rules(sent, root_path)


def test_native_strings_hold_bytes() -> None:
    environ = variables({"SCRIPT_NAME": "", "PATH_INFO": "/caf\xc3\xa9\xff", "REQUEST_URI": "/caf%C3%A9%FF"})
    assert environ["PATH_INFO"] == "/caf\xc3\xa9\xff"


@pytest.mark.parametrize(
    "name", ["CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_USER", "AUTH_TYPE", "REMOTE_IDENT", "PATH_TRANSLATED"]
)
def test_what_is_empty_is_absent(name: str) -> None:
    assert name not in variables({name: ""})
    assert variables({name: "1"})[name] == "1"


@pytest.mark.parametrize(
    ("name", "default"), [("REQUEST_METHOD", "GET"), ("QUERY_STRING", ""), ("SERVER_PROTOCOL", "HTTP/1.1")]
)
def test_defaults(name: str, default: str) -> None:
    assert variables({})[name] == variables({name: ""})[name] == default
    assert variables({name: "x"})[name] == "x"


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"REQUEST_URI": "/x?a?b"}, "a?b"),
        ({"REQUEST_URI": "/x"}, ""),
        # Taken away by a rewrite.
        ({"REQUEST_URI": "/x?a", "QUERY_STRING": ""}, ""),
        ({"REQUEST_URI": "/x?a", "QUERY_STRING": "b"}, "b"),
    ],
)
def test_query_string(params: Params, query: str) -> None:
    assert variables(params)["QUERY_STRING"] == query


@pytest.mark.parametrize("name", ["REDIRECT_URL", "SCRIPT_URL"])
@pytest.mark.parametrize(
    ("params", "url", "root_path"),
    [
        ({"SCRIPT_NAME": "/app/index.fcgi", "REQUEST_URI": "/app//x"}, "/app//x", None),
        ({"SCRIPT_NAME": "/app/index.fcgi", "REQUEST_URI": "/app/x"}, "/app/x", "/shop"),
        ({"SCRIPT_NAME": "/app/index.fcgi", "PATH_INFO": "/a/b", "REQUEST_URI": "/app/a%2Fb"}, "/app/a%2Fb", None),
        ({"SCRIPT_NAME": "/app/index.fcgi", "REQUEST_URI": "/x"}, "/app/x", None),
    ],
)
def test_no_other_mount_point_than_ours_is_found(
    name: str, params: Params, url: str, root_path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django looks for it there first; where they agree, they stay as they came."""
    # Its settings are those of a whole process.
    monkeypatch.setattr("django.core.handlers.wsgi.settings", SimpleNamespace(FORCE_SCRIPT_NAME=None))
    environ = variables({**params, "SERVER_SOFTWARE": "Apache", name: url}, root_path=root_path)
    assert get_script_name(environ) == environ["SCRIPT_NAME"]
    agrees = root_path is None and "//" in url
    assert environ.get(name) == (url if agrees else None)


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", " 1", "x", "\xb2", "9" * 30])
def test_lengths_that_say_nothing(length: str) -> None:
    assert "CONTENT_LENGTH" not in variables({"CONTENT_LENGTH": length})


@pytest.mark.parametrize("length", ["0", "5", "200000"])
def test_lengths(length: str) -> None:
    assert variables({"CONTENT_LENGTH": length, "HTTP_CONTENT_LENGTH": "7"})["CONTENT_LENGTH"] == length


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"HTTP_CONTENT_TYPE": "a/b", "HTTP_CONTENT_LENGTH": "5"}, {"CONTENT_TYPE": "a/b"}),
        ({"CONTENT_TYPE": "a/b", "HTTP_CONTENT_TYPE": "c/d"}, {"CONTENT_TYPE": "a/b"}),
        ({"CONTENT_TYPE": "", "HTTP_CONTENT_TYPE": "c/d"}, {"CONTENT_TYPE": "c/d"}),
        ({"CONTENT_TYPE": "", "HTTP_CONTENT_TYPE": ""}, {}),
        ({"HTTP_CONTENT_TYPE": ""}, {}),
        ({"CONTENT_LENGTH": "", "HTTP_CONTENT_LENGTH": "5"}, {}),
    ],
)
def test_content_type_and_length_are_no_other_headers(params: Params, found: Params) -> None:
    environ = variables(params)
    assert {name: value for name, value in environ.items() if "CONTENT" in name} == found


@pytest.mark.parametrize("proxy", ["", "http://evil.invalid:3128"])
def test_httpoxy(proxy: str) -> None:
    assert "HTTP_PROXY" not in variables({"HTTP_PROXY": proxy}, ("HTTP_PROXY", "a"), ("HTTP_PROXY", proxy))


def test_fields_that_came_more_than_once_are_joined() -> None:
    params = {"HTTP_A": "2", "HTTP_COOKIE": "b=2", "HTTP_HOST": "two", "SERVER_NAME": "b"}
    environ = variables(
        params,
        *(("HTTP_A", "1"), ("HTTP_A", "2"), ("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2")),
        *(("HTTP_HOST", "one"), ("HTTP_HOST", "two"), ("SERVER_NAME", "a"), ("SERVER_NAME", "b")),
    )
    assert {name: environ[name] for name in params} == {
        "HTTP_A": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_HOST": "two",
        "SERVER_NAME": "b",
    }


@pytest.mark.parametrize("name", request.AUTHORIZATION_NAMES)
def test_authorization(name: str) -> None:
    assert variables({"HTTP_AUTHORIZATION": "", name: "Basic dTpw"})["HTTP_AUTHORIZATION"] == "Basic dTpw"


def test_authorization_absent() -> None:
    assert "HTTP_AUTHORIZATION" not in variables({"REDIRECT_HTTP_AUTHORIZATION": ""})
    assert variables({"HTTP_AUTHORIZATION": "a", "Authorization": "b"})["HTTP_AUTHORIZATION"] == "a"


@pytest.mark.parametrize(
    ("params", "name", "port"),
    [
        ({"SERVER_NAME": "example.com", "SERVER_PORT": "8080"}, "example.com", "8080"),
        ({"SERVER_NAME": "example.com:8080"}, "example.com", "8080"),
        ({"SERVER_NAME": "example.com:8080", "SERVER_PORT": "80"}, "example.com", "80"),
        ({"SERVER_NAME": "", "SERVER_ADDR": "192.0.2.1", "SERVER_PORT": "81"}, "192.0.2.1", "81"),
        ({"SERVER_NAME": "_", "SERVER_ADDR": "192.0.2.1"}, "192.0.2.1", "80"),
        ({"SERVER_NAME": "*.example.com"}, "localhost", "80"),
        ({"SERVER_NAME": "~^www", "HTTPS": "on"}, "localhost", "443"),
        ({"SERVER_NAME": "a", "REQUEST_SCHEME": "https"}, "a", "443"),
        ({"SERVER_NAME": "a", "SERVER_PORT": "", "HTTPS": "on"}, "a", "443"),
        ({"SERVER_NAME": ":80"}, "localhost", "80"),
        # IPv6 addresses stand in brackets (RFC 3875, 4.1.14)
        ({"SERVER_NAME": "[2001:db8::1]", "SERVER_PORT": "80"}, "[2001:db8::1]", "80"),
        ({"SERVER_NAME": "[2001:db8::1]:81"}, "[2001:db8::1]", "81"),
        ({"SERVER_NAME": "2001:db8::1"}, "[2001:db8::1]", "80"),
        ({"SERVER_ADDR": "::1"}, "[::1]", "80"),
        # a unix socket has no name
        ({"SERVER_NAME": "unix:/run/web.sock"}, "localhost", "80"),
        ({"SERVER_NAME": "", "SERVER_ADDR": "unix:/run/web.sock", "SERVER_PORT": ""}, "localhost", "80"),
        ({"SERVER_NAME": "", "SERVER_ADDR": "unix:"}, "localhost", "80"),
    ],
)
def test_server(params: Params, name: str, port: str) -> None:
    environ = variables(params)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


@pytest.mark.parametrize(("https", "scheme"), [("on", "https"), ("off", "http"), ("", "http")])
def test_scheme(https: str, scheme: str) -> None:
    assert variables({"HTTPS": https})["wsgi.url_scheme"] == scheme


latin = st.text(st.characters(max_codepoint=255), max_size=12)
NAMES = [
    *MADE - {"wsgi.url_scheme"},
    *("CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY", "HTTP_HOST"),
    *("REQUEST_URI", "SERVER_ADDR", "HTTPS", "REQUEST_SCHEME", "REMOTE_USER", "HTTP_COOKIE", "HTTP_X", "HTTP_"),
    *request.AUTHORIZATION_NAMES,
]
values = latin | st.text(st.sampled_from("/a:[]1*~_.%?-"), max_size=8) | st.just("")
pairs = st.lists(st.tuples(st.sampled_from(NAMES) | latin, values), max_size=15)


@given(pairs, st.sampled_from([None, "", "/app"]))
def test_whatever_is_sent_makes_an_environ(pairs: list[tuple[str, str]], root_path: str | None) -> None:
    sent = [name for name, _ in pairs]
    repeated = [(name, value) for name, value in pairs if sent.count(name) > 1]
    environ = Environs(root_path).make(dict(pairs), repeated)
    for name, value in environ.items():
        assert type(name) is str
        assert type(value) is str
        value.encode("latin-1")
    # PEP 3333: what must be there, and what must not be empty.
    assert environ.keys() >= MADE
    for name in ("REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL"):
        assert environ[name]
    assert environ["wsgi.url_scheme"] in {"http", "https"}
    for name in ("SCRIPT_NAME", "PATH_INFO"):
        assert environ[name][:1] in {"", "/"}
    assert environ["SCRIPT_NAME"] != "/"
    assert environ["SCRIPT_NAME"] or environ["PATH_INFO"]
    assert environ.get("CONTENT_TYPE") != ""
    assert environ.get("CONTENT_LENGTH", "0").isdigit()
    assert not environ.keys() & {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"}
    assert environ.keys() <= {*sent, *MADE, "CONTENT_TYPE", "HTTP_AUTHORIZATION"}


@given(pairs.map(dict), st.sets(st.sampled_from(NAMES)), st.sampled_from([None, "", "/app"]))
def test_a_layout_changes_nothing(params: Params, fixed: set[str], root_path: str | None) -> None:
    layout = Layout(
        {name: value if name in fixed else "" for name, value in params.items()},
        {name: value for name, value in params.items() if name in fixed},
        [],
    )
    expected = list(variables(params, root_path=root_path).items())
    environs = Environs(root_path)
    for _ in range(2):
        assert list(environs.make(params, [], layout).items()) == expected


@pytest.mark.parametrize("fixed", [set(), {"CONTENT_TYPE", "CONTENT_LENGTH", "REQUEST_METHOD", "SERVER_PROTOCOL"}])
def test_what_is_always_empty_is_absent_as_what_is_empty_now(fixed: set[str]) -> None:
    params = {"REQUEST_METHOD": "GET", "QUERY_STRING": "", "CONTENT_TYPE": "", "CONTENT_LENGTH": ""}
    params |= {"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_URI": "/a", "SCRIPT_NAME": "/a"}
    layout = Layout(dict.fromkeys(params, ""), {name: params[name] for name in fixed}, [])
    environ = Environs().make(params, [], layout)
    assert environ == variables(params)
    assert not environ.keys() & {"CONTENT_TYPE", "CONTENT_LENGTH"}
