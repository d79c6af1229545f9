"""The queue of a listening socket, as the kernel tells it, and its end."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from simple_fastcgi.net.backlog import let_nobody_queue, listen_queue
from tests.servers.support import until


@pytest.mark.parametrize("family", (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6), ids=("unix", "tcp", "tcp6"))
def test_those_who_wait_are_counted(family: socket.AddressFamily) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        # An abstract name: no file is left.
        listening.bind("" if family == socket.AF_UNIX else ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listening.listen(7)
        assert listen_queue(listening) == (0, 7)
        for count in range(1, 4):
            client = stack.enter_context(socket.socket(family))
            client.connect(listening.getsockname())
            # A connection by TCP is complete here before it is there.
            until(lambda count=count: listen_queue(listening) == (count, 7))  # type: ignore[misc]
        stack.enter_context(listening.accept()[0])
        assert listen_queue(listening) == (2, 7)


def test_what_has_no_queue_tells_nothing() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert listen_queue(datagrams) is None
    assert listen_queue(unix) is None


@pytest.mark.parametrize("family", (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6), ids=("unix", "tcp", "tcp6"))
def test_those_who_wait_are_the_last(family: socket.AddressFamily) -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        listening.bind("" if family == socket.AF_UNIX else ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listening.listen()
        clients = [stack.enter_context(socket.socket(family)) for _ in range(2)]
        for client in clients:
            client.connect(listening.getsockname())
        let_nobody_queue(listening)
        late = stack.enter_context(socket.socket(family))
        late.settimeout(0.2)
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            late.connect(listening.getsockname())
        for client in clients:
            accepted = stack.enter_context(listening.accept()[0])
            client.sendall(b"ping")
            assert accepted.recv(9) == b"ping"
            accepted.sendall(b"pong")
            assert client.recv(9) == b"pong"


def test_what_has_no_queue_is_let_be() -> None:
    with socket.socket(socket.AF_INET) as closed:
        pass
    let_nobody_queue(closed)
