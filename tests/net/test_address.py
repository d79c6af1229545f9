"""Bind strings: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import parse_bind
from simple_fastcgi.net.address import UNIX_PATH_LIMIT, is_loopback, is_socket_file, keep_place
from tests.net.support import linux


@pytest.mark.parametrize(
    ("bind", "kind", "normal"),
    [
        ("unix:/run/app.sock", "unix", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix", "unix:/run/app.sock"),
        ("unix:app.sock", "unix", "unix:app.sock"),
        ("unix:./@app", "unix", "unix:./@app"),
        ("unix:/run/a b:c", "unix", "unix:/run/a b:c"),
        pytest.param("unix:@app", "abstract", "unix:@app", marks=linux),
        ("127.0.0.1:9000", "tcp", "127.0.0.1:9000"),
        ("127.0.0.1:0", "tcp", "127.0.0.1:0"),
        ("localhost:65535", "tcp", "localhost:65535"),
        ("[::1]:9000", "tcp", "[::1]:9000"),
        ("[fe80::1%eth0]:9000", "tcp", "[fe80::1%eth0]:9000"),
        ("fd://0", "fd", "fd://0"),
    ],
)
def test_parse(bind: str, kind: str, normal: str) -> None:
    address = parse_bind(bind)
    assert (address.kind, str(address)) == (kind, normal)
    assert parse_bind(normal) == address
    assert hash(parse_bind(normal)) == hash(address)
    assert normal in repr(address)


def test_socket_files() -> None:
    assert is_socket_file("unix:app.sock")
    assert not any(map(is_socket_file, (None, "unix:@app", "127.0.0.1:0", "fd://0", "nonsense")))


@pytest.mark.parametrize(
    ("bind", "cure"),
    [
        ("/run/app.sock", "'unix:/run/app.sock'"),
        ("run/app.sock", "'unix:run/app.sock'"),
        ("9000", '"127.0.0.1:9000"'),
        (":9000", '"127.0.0.1:9000"'),
        ("*:9000", "--allow-from"),
        ("::1:9000", '"[::1]:9000"'),
        ("[::g]:9000", '"[::1]:9000"'),
        ("[::1%]:9000", '"[::1]:9000"'),
        (f"[fe80::1%{'x' * 60}]:9000", '"[::1]:9000"'),
        (f"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%{'z' * 63}]:9000", '"[::1]:9000"'),
        ("[::1]", "0 to 65535"),
        ("127.0.0.1:65536", "0 to 65535"),
        ("127.0.0.1:", "0 to 65535"),
        ("127.0.0.1:fastcgi", "0 to 65535"),
        ("127.0.0.1:٣", "0 to 65535"),
        ("127.1:9000", '"127.0.0.1:9000"'),
        ("256.0.0.1:9000", '"127.0.0.1:9000"'),
        ("tcp://127.0.0.1:9000", "'127.0.0.1:9000'"),
        ("a..b:9000", "unix:"),
        ("bücher.example:9000", "unix:"),
        ("localhost", "127.0.0.1:9000"),
        ("", "127.0.0.1:9000"),
        ("unix:", "unix:/run/app.sock"),
        ("unix:/run/", "unix:/run/app.sock"),
        ("unix:..", "unix:/run/app.sock"),
        ("unix://run/app.sock", "'unix:run/app.sock'"),
        ("unix:/run/a\0b", "another path"),
        ("unix:/run/a\nb", "another path"),
        ("unix:\ud800", "another path"),
        ("unix:/" + "x" * UNIX_PATH_LIMIT, "a shorter one"),
        ("unix:/" + "é" * (UNIX_PATH_LIMIT // 2 + 1), "a shorter one"),
        ("unix:@", "unix:"),
        ("unix:@" + "x" * 200, "unix"),
        ("fd:0", "fd://0"),
        ("fd://", "fd://0"),
        ("fd://-1", "fd://0"),
        ("fd://4294967296", "fd://0"),
        (9000, "127.0.0.1:9000"),
        (None, "127.0.0.1:9000"),
    ],
)
def test_parse_error_names_the_cure(bind: str, cure: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_bind(bind)
    message = str(caught.value)
    assert cure in message
    assert message.startswith("bind ")
    assert len(message.splitlines()) == 1


pieces = st.sampled_from(
    ["unix:", "@", "fd://", "://", "[", "]", ":", "::1", "127.0.0.1", "localhost", ".", "/", "9000", "%", "-", "*"]
)


@example("unix:////run/app.sock")
@given(st.text() | st.lists(pieces | st.text(max_size=2)).map("".join))
@example("[::%]:0")
@example("fd://" + "9" * 5000)
@example("0\r0,")
def test_any_string_is_an_address_or_a_configuration_error(bind: str) -> None:
    try:
        address = parse_bind(bind)
    except ConfigurationError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert parse_bind(str(address)) == address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"])
def test_loopback(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "::2", "fe80::1%lo", "::ffff:10.0.0.1", "localhost"])
def test_not_loopback(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize("bind", ["unix:/run/app", "127.0.0.1:9000", "fd://0", "unix:@app", "unix:app/", "nothing"])
def test_what_no_change_of_directory_moves(bind: str) -> None:
    assert keep_place(bind) == bind


def test_a_relative_path_is_kept() -> None:
    assert keep_place("unix:run/app.sock") == f"unix:{os.getcwd()}/run/app.sock"
    assert keep_place("unix:./@app") == f"unix:{os.getcwd()}/@app"
