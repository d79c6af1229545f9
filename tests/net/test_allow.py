"""Who may connect over TCP."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import AllowList, as_allow_list


@pytest.mark.parametrize(
    ("entries", "inside", "outside"),
    [
        ("10.0.0.7", ["10.0.0.7", "::ffff:10.0.0.7"], ["10.0.0.8", "::10.0.0.7", "::1"]),
        ("10.0.0.0/8, 192.168.1.1", ["10.255.0.1", "192.168.1.1"], ["192.168.1.2", "11.0.0.0"]),
        (["2001:db8::/32", "fe80::1"], ["2001:db8::5", "fe80::1%eth0"], ["2001:db9::", "127.0.0.1"]),
        ("::ffff:10.0.0.0/104", ["10.0.0.1", "::ffff:10.0.0.1"], ["11.0.0.1"]),
        ("::ffff:10.0.0.1", ["10.0.0.1"], ["10.0.0.2"]),
        (["0.0.0.0/0", "::/0"], ["1.2.3.4", "::1"], []),
        # An interface is passed over, as it is in what the peer is called.
        ("fe80::1%eth0", ["fe80::1%eth0", "fe80::1%eth1", "fe80::1"], ["fe80::2%eth0", "10.0.0.1"]),
        ("fe80::1%eth0/128, fe80:0:0:1::%eth0/64", ["fe80::1%eth0", "fe80:0:0:1::7%eth0"], ["fe80::2%eth0"]),
    ],
)
def test_allow_list(entries: str | list[str], inside: list[str], outside: list[str]) -> None:
    allow = AllowList(entries)
    for address in inside:
        assert address in allow
        assert (address, 50000) in allow
    for nobody in (*outside, "", "/run/peer.sock", b"", None, (), ("",), "nonsense"):
        assert nobody not in allow


def test_allow_list_shows_its_entries() -> None:
    assert str(AllowList(["10.0.0.7,10.0.0.0/8", "::1"])) == "10.0.0.7, 10.0.0.0/8, ::1"
    assert repr(AllowList("10.0.0.7")) == "<AllowList 10.0.0.7>"


@pytest.mark.parametrize(
    "entries",
    [
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10",
        "300.0.0.1",
        "",
        ",",
        [],
        [b"1234"],
        "10.0.0.1%eth0",
        "fe80::1%",
        "fe80::1%eth0/8",
    ],
)
def test_bad_allow_list(entries: str) -> None:
    with pytest.raises(ConfigurationError, match="^allow_from: "):
        AllowList(entries)


@given(st.text() | st.text(st.sampled_from("0123456789abcdef.:/,% "), max_size=30))
def test_any_allow_list_is_read_or_a_configuration_error(entries: str) -> None:
    try:
        allow = AllowList(entries)
    except ConfigurationError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert "nonsense" not in allow
    assert entries not in AllowList("10.0.0.1") or "10.0.0.1" in entries


@pytest.mark.parametrize(
    "given_list",
    [
        "10.0.0.0/8",
        ["10.0.0.0/8"],
        ("192.0.2.1,10.0.0.0/8",),
        {"10.0.0.0/8"},
        {"10.0.0.0/8": "the web servers"},
        IPv4Network("10.0.0.0/8"),
        [IPv4Network("10.0.0.0/8"), IPv6Address("::1")],
    ],
    ids=repr,
)
def test_what_the_setting_takes(given_list: Any) -> None:
    allow = as_allow_list(given_list)
    assert isinstance(allow, AllowList)
    assert "10.1.2.3" in allow
    assert "127.0.0.1" not in allow
    assert as_allow_list(allow) is allow


@pytest.mark.parametrize("address", [IPv4Address("10.0.0.7"), IPv6Address("fe80::1%eth0")], ids=repr)
def test_the_setting_takes_one_address(address: IPv4Address | IPv6Address) -> None:
    allow = as_allow_list(address)
    assert isinstance(allow, AllowList)
    assert str(address) in allow
    assert "10.0.0.8" not in allow


def test_a_network_is_not_taken_for_its_addresses() -> None:
    assert str(AllowList(IPv4Network("10.0.0.0/8"))) == "10.0.0.0/8"


def test_containers_are_asked_as_they_are() -> None:
    class Own:
        def __contains__(self, host: object) -> bool:
            return host == "10.0.0.7"

    own = Own()
    assert as_allow_list(own) is own
    assert as_allow_list(None) is None


@pytest.mark.parametrize("wrong", [5, True, object], ids=repr)
def test_what_the_setting_does_not_take(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="^allow_from=.*: give addresses or networks"):
        as_allow_list(wrong)


def test_allow_list_of_the_web_server() -> None:
    assert AllowList.from_environment(None) is None
    assert AllowList.from_environment(" ") is None
    allow = AllowList.from_environment("199.170.183.28,199.170.183.71")
    assert allow is not None
    assert "199.170.183.71" in allow
    assert "199.170.183.72" not in allow
    for unreadable in (",", "localhost", "127.0.0.1,x"):
        with pytest.raises(ConfigurationError, match="^FCGI_WEB_SERVER_ADDRS: "):
            AllowList.from_environment(unreadable)
