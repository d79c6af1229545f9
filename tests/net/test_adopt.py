"""Sockets that someone else opened, and whatever else a descriptor may be."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import adopt, bind_socket, describe_fd, is_listening, name_socket
from tests.net.support import linux

if TYPE_CHECKING:
    from pathlib import Path


def test_adopted_socket_is_a_duplicate_that_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given_socket:
        for sockfd in (given_socket, given_socket.fileno()):
            with adopt(sockfd) as adopted:
                assert adopted.fileno() != given_socket.fileno()
                assert adopted.family == socket.AF_INET
                assert adopted.gettimeout() == 0
                assert not adopted.get_inheritable()
                with pytest.raises(BlockingIOError):
                    adopted.accept()
            assert is_listening(given_socket.fileno())


def test_descriptors_are_described(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def opened(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        def sock(made: socket.socket) -> socket.socket:
            return stack.enter_context(made)

        reader, writer = os.pipe()
        terminal, master = os.openpty()
        (tmp_path / "file").touch()
        one, other = socket.socketpair()
        listening = sock(socket.create_server(("127.0.0.1", 0)))
        sock(one), sock(other)
        facts = {
            "a pipe": [opened(reader), opened(writer)],
            "a terminal": [opened(terminal), opened(master)],
            "a regular file": [opened(os.open(tmp_path / "file", os.O_RDONLY))],
            "a directory": [opened(os.open(tmp_path, os.O_RDONLY))],
            "/dev/null": [opened(os.open(os.devnull, os.O_RDWR))],
            "a device": [opened(os.open("/dev/zero", os.O_RDONLY))],
            "a listening socket": [listening.fileno()],
            "a connected socket": [one.fileno(), sock(socket.create_connection(listening.getsockname())).fileno()],
            "a datagram socket": [sock(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno()],
            "a socket that does not listen": [sock(socket.socket()).fileno()],
            "closed": [-1, 2**31 - 1, 2**80],
        }
        if sys.platform == "linux":
            facts["neither a file nor a socket"] = [opened(os.eventfd(0))]
        for description, fds in facts.items():
            for fd in fds:
                assert describe_fd(fd) == description
                assert is_listening(fd) == (description == "a listening socket")
                if description != "a listening socket":
                    with pytest.raises(ConfigurationError, match=rf"^fd {fd} is {description}, .* spawn-fcgi"):
                        adopt(fd)


@linux
def test_seqpacket_socket_is_not_adopted(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(folder / "s"))
        sock.listen()
        assert not is_listening(sock.fileno())


def test_socket_object_that_does_not_listen() -> None:
    with socket.socket() as sock, pytest.raises(ConfigurationError, match=r"listen\(\) on it first"):
        adopt(sock)
    with pytest.raises(ConfigurationError, match="given is closed"):
        adopt(sock)


def test_what_to_do_instead() -> None:
    receiver, sender = os.pipe()
    try:
        with pytest.raises(ConfigurationError, match=r"not a listening socket: give bind= .--bind., for example"):
            adopt(receiver)
        with pytest.raises(ConfigurationError, match=r"not a listening socket: let .*: FcgiServer.Handler, sock.$"):
            adopt(receiver, server="FcgiServer")
    finally:
        os.close(receiver)
        os.close(sender)


@pytest.mark.parametrize("sockfd", [True, "0", None, 1.0])
def test_neither_number_nor_socket(sockfd: int) -> None:
    with pytest.raises(ConfigurationError, match="give the number of a descriptor"):
        adopt(sockfd)


def test_bound_descriptor_says_where_it_listens(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, bind_socket(f"fd://{tcp.fileno()}", allow_from="::1") as bound:
        assert bound.describe() == f"fd://{tcp.fileno()} (127.0.0.1:{tcp.getsockname()[1]}) (only for ::1)"
        assert bound.allow is not None
    path = folder / "app.sock"
    with bind_socket(f"unix:{path}") as first:
        with bind_socket(f"fd://{first.fileno()}") as second:
            assert second.describe() == f"fd://{first.fileno()} (unix:{path})"
        assert path.exists()
    with pytest.raises(ConfigurationError, match="fd 2147483647 is closed"):
        bind_socket("fd://2147483647")


def test_names_of_sockets(folder: Path) -> None:
    for name in ("app.sock", ".hidden", ".app.sock.x", "app.1"):
        with socket.socket(socket.AF_UNIX) as sock:
            assert name_socket(sock) == "an unnamed unix socket"
            sock.bind(str(folder / name))
            assert name_socket(sock) == f"unix:{folder / name}"
