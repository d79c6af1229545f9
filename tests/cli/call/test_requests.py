"""What is typed arrives: options become parameters and a body."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simple_fastcgi.cli.call.options import parse
from simple_fastcgi.cli.call.request import make_request
from simple_fastcgi.cli.call.status import CallError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.call.support import Call

SCRIPTS = ("--document-root", "/var/www")


def sent(*words: str) -> tuple[dict[str, str], bytes]:
    """The parameters and the body that `words` make."""
    request = make_request(parse(["unix:x", *words]))
    with request.body as body:
        return request.params, body.read_all()


def refused(*words: str) -> CallError:
    with pytest.raises(CallError) as raised:
        sent(*words)
    return raised.value


def test_a_request_as_a_web_server_makes_it(target: str, call: Call) -> None:
    said = call(target, "/a%20b/ü?x=1&y=é")
    assert (said.status, said.err) == (0, "")
    environ = said.json["environ"]
    for name, value in {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/a b/ü",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "x=1&y=%C3%A9",
        "REQUEST_URI": "/a%20b/%C3%BC?x=1&y=%C3%A9",
        "HTTP_HOST": "localhost",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_ACCEPT": "*/*",
    }.items():
        assert environ[name] == value
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE", "HTTPS"} & environ.keys()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org/x", ("example.org", "example.org", "80", "/x", None)),
        ("https://example.org", ("example.org", "example.org", "443", "/", "on")),
        ("HTTP://example.org:8080?a", ("example.org:8080", "example.org", "8080", "/?a", None)),
        ("https://[::1]:8443/#top", ("[::1]:8443", "[::1]", "8443", "/", "on")),
        ("http://bücher.example/ü", ("xn--bcher-kva.example", "xn--bcher-kva.example", "80", "/%C3%BC", None)),
        ("/x#top", ("localhost", "localhost", "80", "/x", None)),
        ("?a=b", ("localhost", "localhost", "80", "/?a=b", None)),
        ("//twice", ("localhost", "localhost", "80", "//twice", None)),
        ("*", ("localhost", "localhost", "80", "*", None)),
        ("/100%/%zz/%41", ("localhost", "localhost", "80", "/100%25/%25zz/%41", None)),
        ('/"<>\\^`{|}', ("localhost", "localhost", "80", "/%22%3C%3E%5C%5E%60%7B%7C%7D", None)),
        ("/\udcff", ("localhost", "localhost", "80", "/%FF", None)),
    ],
)
def test_urls(url: str, expected: tuple[str | None, ...]) -> None:
    params, _ = sent(url, "-X", "OPTIONS")
    names = ("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "REQUEST_URI", "HTTPS")
    assert tuple(params.get(name) for name in names) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("example.org/x", "write '/example.org/x'"),
        ("ftp://example.org/", "begins with http://"),
        ("", "begins with a slash"),
        ("/a\nb", "control characters"),
        ("/a\0b", "control characters"),
        ("http:///x", "is no host"),
        ("http://a b/", "is no host"),
        ("http://a:x/", "is no host"),
        ("http://a:0/", "is no port"),
        ("http://a:65536/", "is no port"),
        ("http://ü..x/", "is no host name"),
    ],
)
def test_urls_that_are_none(url: str, says: str) -> None:
    error = refused(url)
    assert error.status == 3
    assert says in str(error)


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ((), "GET"),
        (("-d", "x"), "POST"),
        (("-F", "x=y"), "POST"),
        (("-I",), "HEAD"),
        (("-T", "/dev/null"), "PUT"),
        (("-G", "-d", "x"), "GET"),
        (("-G", "-d", "x", "-I"), "HEAD"),
        (("-d", "x", "-XPATCH"), "PATCH"),
        (("--request=DELETE",), "DELETE"),
    ],
)
def test_methods(options: tuple[str, ...], method: str) -> None:
    assert sent(*options)[0]["REQUEST_METHOD"] == method


def test_bodies(target: str, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a b\r\nc\0")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20))
    form = "application/x-www-form-urlencoded"
    for options, body, content_type in (
        (("-d", "x=1"), b"x=1", form),
        (("-d", "x=1", "--data", f"@{file}"), b"x=1&a bc", form),
        (("--data-binary", f"@{file}"), b"a b\r\nc\0", form),
        (("--data-raw", "@x"), b"@x", form),
        (("--data-urlencode", "a=b c&d"), b"a=b+c%26d", form),
        (("--data-urlencode", "b c"), b"b+c", form),
        (("--data-urlencode", "=b=c"), b"b%3Dc", form),
        (("--data-urlencode", f"a@{file}"), b"a=a+b%0D%0Ac%00", form),
        (("--json", '{"a": 1}'), b'{"a": 1}', "application/json"),
        (("-d", ""), b"", form),
        (("-d", "x", "-H", "Content-Type: text/x"), b"x", "text/x"),
        (("-T", str(file)), b"a b\r\nc\0", ""),
        (("-d", "@-"), b"inside", form),
        (("--data-binary", "@-"), b"in\nside\n", form),
    ):
        said = call(target, *options, stdin=b"in\nside\n")
        environ = said.json["environ"]
        assert said.json["body"].encode("latin-1") == body
        assert environ["CONTENT_LENGTH"] == str(len(body))
        assert environ.get("CONTENT_TYPE", "") == content_type
    assert call(target, "/bytes", "-T", str(big)).out == big.read_bytes()


def test_a_body_as_it_comes_has_no_length(target: str, call: Call) -> None:
    said = call(target, "-T", "-", stdin=b"piece by piece")
    assert said.json["body"] == "piece by piece"
    assert "CONTENT_LENGTH" not in said.json["environ"]
    said = call(target, "-T", "-", "-H", "Content-Length: 14", stdin=b"piece by piece")
    assert said.json["environ"]["CONTENT_LENGTH"] == "14"


def test_a_file_on_standard_input_has_a_length(
    one_target: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"before|behind")
    with (tmp_path / "file").open() as stdin:
        stdin.buffer.read(7)
        monkeypatch.setattr("sys.stdin", stdin)
        said = call(one_target, "-T", "-")
    assert (said.json["body"], said.json["environ"]["CONTENT_LENGTH"]) == ("behind", "6")


def test_an_upload_into_a_folder_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "a b?.txt").write_bytes(b"x")
    assert sent("/up/", "-T", f"{tmp_path}/a b?.txt")[0]["REQUEST_URI"] == "/up/a%20b%3F.txt"


def test_data_in_the_query() -> None:
    for url, expected in (("/x", "a b=c&d"), ("/x?", "a b=c&d"), ("/x?y", "y&a b=c&d")):
        params, body = sent(url, "-G", "-d", "a b=c", "-d", "d")
        assert params["QUERY_STRING"] == expected.replace(" ", "%20")
        assert body == b""
        assert "CONTENT_TYPE" not in params


def test_forms_with_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"content")
    params, body = sent(
        *("-F", "x=y;type=text/x", "-F", f"f=@{tmp_path}/a.txt", "-F", f"g=<{tmp_path}/a.txt"),
        *("-F", f'h=@{tmp_path}/a.txt;filename="q;\\"r";type=image/png', "--form-string", "s=@n;type=z"),
        *("-F", f"i=@{tmp_path}/a.txt;filename=none.unheard"),
    )
    start, _, boundary = params["CONTENT_TYPE"].partition("=")
    assert start == "multipart/form-data; boundary"
    assert params["CONTENT_LENGTH"] == str(len(body))
    fields = [
        b'name="x"\r\nContent-Type: text/x\r\n\r\ny',
        b'name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ncontent',
        b'name="g"\r\n\r\ncontent',
        b'name="h"; filename="q;%22r"\r\nContent-Type: image/png\r\n\r\ncontent',
        b'name="s"\r\n\r\n@n;type=z',
        b'name="i"; filename="none.unheard"\r\nContent-Type: application/octet-stream\r\n\r\ncontent',
    ]
    separator = b"--" + boundary.encode()
    assert (
        body
        == b"".join(separator + b"\r\nContent-Disposition: form-data; " + field + b"\r\n" for field in fields)
        + separator
        + b"--\r\n"
    )


def test_header_fields() -> None:
    params, _ = sent(
        *(
            "-H",
            "X-One: 1",
            "-H",
            "X-Two:  a  b ",
            "-H",
            "X-One: 2",
            "-H",
            "X-Empty;",
            "-H",
            "Accept:",
            "-H",
            "x-gone:",
        ),
        *("-A", "me", "-e", "http://from/", "-b", "a=1", "-b", "b=2; c=3", "-u", "ali:sesame:x", "-r", "0-9"),
    )
    basic = base64.b64encode(b"ali:sesame:x").decode()
    assert {name: value for name, value in params.items() if name.startswith("HTTP_")} == {
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "me",
        "HTTP_REFERER": "http://from/",
        "HTTP_RANGE": "bytes=0-9",
        "HTTP_COOKIE": "a=1; b=2; c=3",
        "HTTP_AUTHORIZATION": f"Basic {basic}",
        "HTTP_X_ONE": "1, 2",
        "HTTP_X_TWO": "a  b",
        "HTTP_X_EMPTY": "",
    }
    assert sent("http://u%3a:p@h/")[0]["HTTP_AUTHORIZATION"] == f"Basic {base64.b64encode(b'u::p').decode()}"
    assert sent("http://u@h/")[0]["HTTP_AUTHORIZATION"] == f"Basic {base64.b64encode(b'u:').decode()}"
    assert sent("-H", "host: other:81", "http://h/")[0]["HTTP_HOST"] == "other:81"
    assert "HTTP_USER_AGENT" not in sent("-A", "")[0]


def test_parameters() -> None:
    params, _ = sent(
        *("--param", "REMOTE_USER=ali", "--param", "X==", "--param", "EMPTY=", "--param", "SERVER_NAME=n\n"),
        *("--param", "Ü=\udcff", "--no-param", "REMOTE_ADDR", "--no-param", "NEVER"),
    )
    assert (params["REMOTE_USER"], params["X"], params["EMPTY"], params["SERVER_NAME"]) == ("ali", "=", "", "n\n")
    assert params["Ü".encode().decode("latin-1")] == "\xff"
    assert "REMOTE_ADDR" not in params


def test_scripts() -> None:
    names = ("SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "DOCUMENT_ROOT")
    for words, expected in (
        (("/a.php/b", *SCRIPTS), ("/var/www/a.php", "/a.php", "/b", "/var/www")),
        (("/", *SCRIPTS), ("/var/www/index.php", "/index.php", None, "/var/www")),
        (("/", *SCRIPTS, "--index", "i.php"), ("/var/www/i.php", "/i.php", None, "/var/www")),
        (("/any", "--script", "/var/www/x.php"), ("/var/www/x.php", "/x.php", None, "/var/www")),
        (("/app/x", "--root-path", "/app"), (None, "/app", "/x", None)),
    ):
        params, _ = sent(*words)
        assert tuple(params.get(name) for name in names) == expected


def test_words_are_read_as_curl_reads_them() -> None:
    arguments = parse(["-sSi", "unix:x", "-XPOST", "-d", "-5", "/url", "--data=--x", "-H", "--"])
    assert (arguments.silent, arguments.show_error, arguments.include) == (True, True, True)
    assert (arguments.request, arguments.target, arguments.url) == ("POST", "unix:x", "/url")
    assert arguments.data == [("data", "-5"), ("data", "--x")]
    assert arguments.headers == ["--"]
    assert parse(["--", "unix:x", "/-v"]).url == "/-v"
    assert parse(["unix:x", "-d", ""]).data == [("data", "")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-H", "nonsense"), "give 'Name: value'"),
        (("-H", "X: a\nb"), "CR, LF or NUL"),
        (("-H", "X_Y: a"), "letters, digits and dashes"),
        (("-H", "Connection: close"), "--param HTTP_CONNECTION=..."),
        (("-H", "Proxy: x"), "--param HTTP_PROXY=..."),
        (("-H", "Host: a", "-H", "Host: b"), "Host came 2 times"),
        (("-H", "Content-Length: x"), "Content-Length"),
        (("-X", "G ET"), "method="),
        (("-X", ""), "method="),
        (("--param", "X"), "give NAME=VALUE"),
        (("--param", "=x"), "give NAME=VALUE"),
        (("-b", "jar.txt"), "files of cookies"),
        (("-u", "ali"), "USER:PASSWORD"),
        (("-F", "x"), "give NAME=VALUE"),
        (("-F", "x=y;type=a\nb"), "a line end in its type"),
        (("-d", "x", "-F", "x=y"), "-d and -F contradict"),
        (("-d", "x", "-T", "x"), "-d and -T contradict"),
        (("-I", "-d", "x"), "-I and -d contradict"),
        (("-G", "-T", "x"), "-G is for -d"),
        (("--script", "x.php"), "--script='x.php': give an absolute path"),
        (("--document-root", "/a", "--root-path", "/b"), "--root-path is for applications"),
        (("--document-root", "/a", "--script", "/b/c"), "is not below --document-root"),
        (("--root-path", "/app", "/x"), "is not below root_path"),
        (("/../x", *SCRIPTS), "'..'"),
        (("-m", "0"), "above 0"),
        (("-m", "nan"), "above 0"),
        (("--connect-timeout", "soon"), "above 0"),
        (("--repeat", "0"), "from 1 to 1000000"),
        (("--repeat", "1000001"), "from 1 to 1000000"),
        (("--repeat", "²"), "from 1 to 1000000"),
        (("--repeat", "2", "-o", "x"), "leave -o away"),
        (("--repeat", "2", "-v"), "leave -v away"),
        (("--role", "filter"), "invalid choice"),
        (("--get-values", "/x"), "--get-values asks a question"),
        (("--get-values", "-d", "x"), "--get-values asks a question"),
        (("-k",), "FastCGI has no TLS"),
        (("--location",), "redirects are not followed"),
        (("--nonsense",), "see simple-fastcgi call --help"),
        (("-d",), "requires argument"),
        (("--fail=x",), "must not have an argument"),
        (("/a", "/b"), "'/b' is too much"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_that_contradict_or_say_nothing(words: tuple[str, ...], says: str) -> None:
    error = refused(*words)
    assert error.status == 2
    assert says in str(error)


# ------------------------------------------------------------------------- anything, as typed

MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(max_size=20) | st.text(st.sampled_from("/%?#&=+:;@ aé\\'\"<41\udcff\n"), max_size=12)


@given(st.sampled_from(["/", "http://h/", ""]), TEXT)
@example("/", "%")
@example("/", "?\x7f")
@example("", "*")
@MANY
def test_any_url_is_refused_or_arrives(one_target: str, call: Call, start: str, text: str) -> None:
    said = call(one_target, "--", start + text)
    if said.status:
        assert said.status == 3
        assert said.complaint
        return
    environ = said.json["environ"]
    if start + text == "*":
        # The server as a whole (RFC 9112, 3.2.4), which is no path.
        assert (environ["REQUEST_URI"], environ["PATH_INFO"]) == ("*", "")
        return
    path, _, query = (("" if start == "" else "/") + text).partition("#")[0].partition("?")
    assert os.fsencode(environ["PATH_INFO"]) == (unquote_to_bytes(os.fsencode(path)) or b"/")
    assert unquote_to_bytes(environ["QUERY_STRING"]) == unquote_to_bytes(os.fsencode(query))


@given(st.from_regex(r"\A[-A-Za-z0-9]{1,12}\Z") | TEXT, TEXT)
@MANY
def test_any_header_is_refused_or_arrives(one_target: str, call: Call, name: str, value: str) -> None:
    said = call(one_target, "-H", f"{name}: {value}")
    name, _, value = f"{name}: {value}".partition(":")
    value = value.strip(" \t")
    if said.status:
        assert said.status == 2
        assert said.complaint
        return
    environ = said.json["environ"]
    param = name.upper().replace("-", "_")
    param = param if param in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{param}"
    assert environ.get(param, "") == value


@given(TEXT, TEXT)
@MANY
def test_any_parameter_is_refused_or_arrives(one_target: str, call: Call, name: str, value: str) -> None:
    said = call(one_target, "--param", f"X{name}={value}")
    name, _, value = f"X{name}={value}".partition("=")
    assert said.status == 0
    assert os.fsencode(said.json["environ"][name.upper()]) == os.fsencode(value)


@given(TEXT)
@MANY
def test_any_data_arrives(one_target: str, call: Call, text: str) -> None:
    said = call(one_target, "--data-raw", text)
    assert said.json["body"].encode("latin-1") == os.fsencode(text)


@given(
    st.lists(
        TEXT | st.sampled_from(["-v", "-d", "-H", "--param", "-T", "-F", "-m", "unix:x", "-X", "--", "-"]), max_size=5
    )
)
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        parse([word for word in words if word not in ("-h", "--help")])
    except CallError as error:
        assert error.status == 2
    except SystemExit:
        assert any(word.startswith("-") and "h" in word for word in words)
