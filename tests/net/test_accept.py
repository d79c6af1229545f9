"""Connections of those who may not connect: closed at once, and told of in few lines."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

from simple_fastcgi.net import Acceptor

if TYPE_CHECKING:
    import pytest

SECONDS = 20.0


def refuse(acceptor: Acceptor, listening: socket.socket, times: int) -> None:
    for _ in range(times):
        with socket.create_connection(listening.getsockname(), SECONDS) as peer:
            assert acceptor.accept(listening) is None
            assert peer.recv(1) == b""


def test_few_lines_for_many_refusals(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("simple_fastcgi.net.accept._SECONDS_BETWEEN_LINES", 10 * SECONDS)
    acceptor = Acceptor("192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refuse(acceptor, listening, 5)
        (line,) = caplog.messages
        assert line == (
            "connection from 127.0.0.1 refused: it is not among the allowed addresses: "
            "add it to allow_from (--allow-from)"
        )
        monkeypatch.setattr(acceptor, "_next_line", 0.0)
        refuse(acceptor, listening, 3)
    assert caplog.messages[1:] == [f"{line} (4 more were refused since the last such line)"]


def test_both_lists_have_to_allow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for web_servers, allow_from, served in (
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1,192.0.2.1", None, True),
        (" ", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("192.0.2.1", "127.0.0.1", False),
        ("192.0.2.1", None, False),
    ):
        monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", web_servers)
        caplog.clear()
        acceptor = Acceptor(allow_from)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            if not served:
                refuse(acceptor, listening, 1)
                assert len(caplog.messages) == 1
                continue
            with socket.create_connection(listening.getsockname(), SECONDS) as peer:
                accepted = acceptor.accept(listening)
                assert accepted is not None
                with closing(accepted[0]) as sock:
                    assert not sock.getblocking()
                    assert accepted[1] == peer.getsockname()
        assert not caplog.messages
