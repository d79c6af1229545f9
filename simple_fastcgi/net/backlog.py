"""What is known of a listening socket's queue, as far as the system tells (Linux does), and how it gets no longer."""

from __future__ import annotations

import os
import socket
import sys
from array import array
from struct import Struct, error

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_LISTENING = 1 << 10
_SHOW_QUEUE = 1 << 4
_QUEUE = 4
# nlmsghdr and unix_diag_req; nlmsghdr and unix_diag_msg; nlattr; unix_diag_rqlen.
_QUESTION = Struct("=IHHII BBHIIIQ")
_ANSWER = Struct("=IHHII BBBBIQ")
_ATTRIBUTE = Struct("=HH")
_LENGTHS = Struct("=II")
# Of tcp_info: unacked and sacked, which of a listening socket are the same two figures.
_TCP_LENGTHS = Struct("=24x II")
# sock_fprog; sock_filter: of a segment that is for the listening socket itself the flags are loaded, and one with SYN
# among them is dropped. Connections that are accepted inherit it, and see no such segment.
_SO_ATTACH_FILTER = 26
_PROGRAM = Struct("@HP")
_INSTRUCTION = Struct("=HBBI")
_WITHOUT_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listen_queue(listening: socket.socket) -> tuple[int, int] | None:
    """How many connections wait to be accepted, and for how many there is room; None where nobody tells."""
    try:
        if listening.family == getattr(socket, "AF_UNIX", None):
            return _of_unix(listening.fileno())
        info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_LENGTHS.size)
        waiting, room = _TCP_LENGTHS.unpack(info)
    except (OSError, AttributeError, error):
        return None
    return waiting, room


def let_nobody_queue(listening: socket.socket) -> None:
    """Have no further connection come into the queue, while those in it can still be accepted; as far as that is known.

    At a unix socket it is refused. Over TCP it finds no answer, as if it were lost on the way: who connects tries again
    and again, until the socket is closed, and is refused then, or another one listens there.
    """
    try:
        if listening.family == getattr(socket, "AF_UNIX", None):
            listening.shutdown(socket.SHUT_RD)
        elif sys.platform == "linux":
            code = array("B", b"".join(_INSTRUCTION.pack(*each) for each in _WITHOUT_SYN))
            program = _PROGRAM.pack(len(_WITHOUT_SYN), code.buffer_info()[0])
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        # A system that has no such thing: they come, and are served as long as there is time.
        pass


def _of_unix(fd: int) -> tuple[int, int] | None:
    inode = os.fstat(fd).st_ino
    question = _QUESTION.pack(
        *(_QUESTION.size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0),
        *(socket.AF_UNIX, 0, 0, _LISTENING, inode, _SHOW_QUEUE, (1 << 64) - 1),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(question)
        answer = kernel.recv(4096)
    type_ = _ANSWER.unpack_from(answer)[1]
    position = _ANSWER.size
    while type_ == _SOCK_DIAG_BY_FAMILY and position + _ATTRIBUTE.size <= len(answer):
        size, attribute = _ATTRIBUTE.unpack_from(answer, position)
        if attribute == _QUEUE:
            waiting, room = _LENGTHS.unpack_from(answer, position + _ATTRIBUTE.size)
            return waiting, room
        position += max(_ATTRIBUTE.size, size + 3 & ~3)
    return None
