"""What `accept` makes of connections that fail while they wait."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.log import logger
from simple_fastcgi.net import Acceptor, OutOfRoom, is_awaited

if TYPE_CHECKING:
    from collections.abc import Iterator


class FailingSocket(socket.socket):
    """A listening socket whose kernel reports an error, as accept(2) may; no test could bring the real one about."""

    error = 0

    def _accept(self) -> tuple[socket.socket, object]:
        raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def listening() -> Iterator[FailingSocket]:
    with FailingSocket(socket.AF_INET) as sock:
        yield sock


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM, errno.EAGAIN])
def test_a_connection_that_has_failed_is_nobody(listening: FailingSocket, number: int) -> None:
    listening.error = number
    assert Acceptor().accept(listening) is None


class GoneSocket(socket.socket):
    """A listening socket of a system on which a connection that has gone already has no address any more."""

    descriptor = -1

    def _accept(self) -> tuple[int, None]:
        self.descriptor = os.dup(self.fileno())
        return self.descriptor, None


def test_a_connection_without_an_address_is_nobody() -> None:
    """Whoever has none would be asked for none by the lists of who may connect."""
    with GoneSocket(socket.AF_INET) as sock:
        assert Acceptor("127.0.0.1").accept(sock) is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(sock.descriptor)


def test_no_room(listening: FailingSocket, caplog: pytest.LogCaptureFixture) -> None:
    listening.error = errno.EMFILE
    with pytest.raises(OutOfRoom):
        Acceptor().accept(listening)
    assert "raise ulimit -n" in caplog.text


def test_no_room_is_told_once_a_second(listening: FailingSocket, caplog: pytest.LogCaptureFixture) -> None:
    listening.error = errno.EMFILE
    acceptor = Acceptor()
    for _ in range(3):
        with pytest.raises(OutOfRoom) as raised:
            acceptor.accept(listening)
        assert raised.value.seconds == 1.0
    assert len(caplog.records) == 1


class FailingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_room_for_a_line_either(listening: FailingSocket, number: int) -> None:
    listening.error = number
    handler = FailingHandler()
    logger().addHandler(handler)
    try:
        with pytest.raises(OutOfRoom):
            Acceptor().accept(listening)
    finally:
        logger().removeHandler(handler)


def test_a_closed_socket_is_a_mistake(listening: FailingSocket) -> None:
    """Also before it is known how many descriptors there may be."""
    listening.error = errno.EBADF
    listening.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Acceptor().accept(listening)


def test_a_mistake_of_our_own_is_told(listening: FailingSocket) -> None:
    listening.error = errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        Acceptor().accept(listening)


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="other systems say EINVAL")
def test_nobody_can_connect_any_more() -> None:
    """Linux goes on telling that somebody waits."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind("")
        listening.listen()
        listening.setblocking(False)
        waiting.connect(listening.getsockname())
        acceptor = Acceptor()
        assert is_awaited(listening)
        listening.shutdown(socket.SHUT_RD)
        # Who has connected before.
        assert is_awaited(listening)
        accepted = acceptor.accept(listening)
        assert accepted is not None
        os.close(accepted[0])
        assert not is_awaited(listening)
        # Behind somebody it is not looked at.
        assert acceptor.accept(listening) is None
        with pytest.raises(OutOfRoom) as raised:
            acceptor.accept(listening)
        assert raised.value.seconds == 1.0
