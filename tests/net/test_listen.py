"""TCP and abstract sockets."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import AllowList, bind_socket, name_socket
from tests.net.support import linux


@linux
def test_abstract_socket() -> None:
    name = f"unix:@simple-fastcgi-{os.getpid()}"
    with bind_socket(name) as bound:
        assert bound.describe() == f"{name} (abstract: every user of this machine may connect)"
        assert name_socket(bound.socket) == name
        with pytest.raises(OSError, match="busy, another program listens there"):
            bind_socket(name)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + name[6:])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_tcp(host: str) -> None:
    with bind_socket(f"{host}:0") as bound:
        family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
        assert bound.socket.family == family
        assert bound.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert bound.socket.gettimeout() == 0
        port = bound.socket.getsockname()[1]
        assert bound.describe() == f"{'[::1]' if host == '[::1]' else '127.0.0.1'}:{port}"
        with pytest.raises(OSError, match="busy, another program listens there") as caught:
            bind_socket(f"{host}:{port}")
        assert caught.value.errno == errno.EADDRINUSE
        with socket.create_connection(bound.socket.getsockname()[:2]):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_tcp_that_others_can_reach_needs_an_allow_list(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no authentication.* --allow-from"):
        bind_socket(f"{host}:0")
    with pytest.raises(ConfigurationError, match="would let nobody in"):
        bind_socket(f"{host}:0", allow_from=[])


def test_tcp_with_the_list_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "10.0.0.7")
    with bind_socket("0.0.0.0:0") as bound:
        assert bound.allow is None


def test_tcp_with_an_allow_list() -> None:
    allow = AllowList("10.0.0.0/8")
    for given_list in (allow, "10.0.0.0/8", ["10.0.0.0/8"]):
        with bind_socket("0.0.0.0:0", allow_from=given_list) as bound:
            port = bound.socket.getsockname()[1]
            assert bound.describe() == f"0.0.0.0:{port} (only for 10.0.0.0/8)"
            assert bound.allow is not None
            assert "10.1.2.3" in bound.allow
    with bind_socket("[::]:0", allow_from="::1") as bound:
        assert bound.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_tcp_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="this machine has no such address") as caught:
        bind_socket("192.0.2.1:9000", allow_from="192.0.2.2")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_tcp_host_without_an_address() -> None:
    with pytest.raises(OSError, match="no address found for") as caught:
        bind_socket("no-such-host.invalid:9000")
    assert len(str(caught.value).splitlines()) == 1


def test_settings_of_the_other_kind() -> None:
    with pytest.raises(ConfigurationError, match="are for socket files"):
        bind_socket("127.0.0.1:0", socket_mode="660")
    with pytest.raises(ConfigurationError, match="is for TCP"):
        bind_socket("unix:/nowhere/s", allow_from="127.0.0.1")
