"""A canned answer on epoll: python limit_epoll.py SOCKET.

Nothing is parsed: a request that has come whole ends with the empty STDIN record (FastCGI 1.0, section 3.3), its last
8 bytes are that record's header. What no server in Python can undercut.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from canned import ANSWER, FLAGS, KEEP_CONN, is_complete


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    listener.setblocking(False)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    door = listener.fileno()
    connections: dict[int, socket.socket] = {}
    begun: dict[int, bytes] = {}
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == door:
                try:
                    peer, _ = listener.accept()
                except BlockingIOError:
                    continue
                connections[peer.fileno()] = peer
                epoll.register(peer, select.EPOLLIN)
                continue
            try:
                data = os.read(descriptor, 65536)
                if data:
                    if begun:
                        data = begun.pop(descriptor, b"") + data
                    if not is_complete(data):
                        begun[descriptor] = data
                        continue
                    os.write(descriptor, ANSWER)
            except OSError:  # nginx has lost its client
                data = b""
            if not data or not data[FLAGS] & KEEP_CONN:
                epoll.unregister(descriptor)
                connections.pop(descriptor).close()
                begun.pop(descriptor, None)


if __name__ == "__main__":
    main(sys.argv[1])
