"""Who has gone, who only stopped sending; and the price of the import."""

from __future__ import annotations

import socket
import sys

import pytest

from simple_fastcgi import net
from simple_fastcgi.net import peer_is_gone
from tests.net.support import run


def test_unix_peer_that_only_stopped_sending_is_still_there() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert not peer_is_gone(here)
        there.shutdown(socket.SHUT_WR)
        assert here.recv(1) == b""
        assert not peer_is_gone(here)
        here.sendall(b"the answer")
        there.close()
        assert peer_is_gone(here)
    assert peer_is_gone(here)


def test_tcp_peer_at_end_of_file_is_taken_for_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
            assert peer_is_gone(accepted)


def test_import_is_cheap_and_complete() -> None:
    # Apart from the environment, and so from whatever a measuring tool would import there.
    program = "import sys; sys.path[:] = eval(sys.argv[1]); import simple_fastcgi.net; print(*sys.modules)"
    loaded = run("-I", "-S", "-c", program, repr(sys.path)).split()
    costly = {"typing", "dataclasses", "inspect", "ipaddress", "logging", "pathlib", "asyncio", "pwd"}
    assert not costly & set(loaded)
    assert "simple_fastcgi.net.listen" not in loaded
    for name in net.__all__:
        assert getattr(net, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = net.nothing
