"""Answers every request with its parameters, as JSON: a list of pairs in the order in which the web server sent them.

It reads FastCGI by itself, with nothing of the package, so that what it shows is what came. As a program it serves the
socket that it finds as descriptor 0; where that is none, the environment of a CGI program.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading

BEGIN_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6
AUTHORIZER = 2
# Of a CGI program's environment, what only says how it was started.
OF_THE_PROCESS = frozenset({"PATH", "LD_LIBRARY_PATH", "PWD", "SHLVL", "_", "HOME", "LC_CTYPE", "LANG", "TMPDIR"})

Pairs = list[tuple[str, str]]
seen: list[Pairs] = []
"""All that came over FastCGI to this process."""


def listen(sock: socket.socket) -> None:
    """Answer what comes, each connection in a thread, until the socket is closed."""
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    """One connection; a web server that goes ends it."""
    requests: dict[int, bytearray] = {}
    roles: dict[int, int] = {}
    with connection, connection.makefile("rb") as stream:
        while len(header := stream.read(8)) == 8:
            _, kind, id_, size, padding, _ = struct.unpack("!BBHHBB", header)
            content = stream.read(size)
            stream.read(padding)
            if kind == BEGIN_REQUEST:
                requests[id_], roles[id_] = bytearray(), content[1]
                keep = content[2] & 1
            elif kind == PARAMS:
                requests[id_] += content
            # At the end of the input, of which an Authorizer has none.
            if not size and kind == (PARAMS if roles[id_] == AUTHORIZER else STDIN):
                seen.append(_pairs(bytes(requests.pop(id_))))
                answer = "Status: 200 OK\r\n\r\n"
                if roles[id_] != AUTHORIZER:
                    answer = f"Status: 200 OK\r\nContent-Type: application/json\r\n\r\n{json.dumps(seen[-1])}"
                records = _record(STDOUT, id_, answer.encode()), _record(STDOUT, id_, b"")
                connection.sendall(b"".join((*records, _record(END_REQUEST, id_, bytes(8)))))
                if not keep:
                    return


def _record(kind: int, id_: int, content: bytes) -> bytes:
    return struct.pack("!BBHHBB", 1, kind, id_, len(content), 0, 0) + content


def _pairs(block: bytes) -> Pairs:
    """FastCGI 1.0, section 3.4."""
    pairs = []
    position = 0
    while position < len(block):
        lengths = []
        for _ in "nv":
            length, position = block[position], position + 1
            if length >> 7:
                length = int.from_bytes((bytes((length & 127,)) + block[position : position + 3]), "big")
                position += 3
            lengths.append(length)
        name, value = lengths
        pairs.append(
            (block[position : position + name].decode("latin-1"), block[position + name :][:value].decode("latin-1"))
        )
        position += name + value
    return pairs


def main() -> None:
    """Serve descriptor 0, or one CGI request."""
    if "GATEWAY_INTERFACE" not in os.environ:
        listen(socket.socket(fileno=0))
        return
    sys.stdin.buffer.read()
    environ = {name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()}
    pairs = [pair for pair in environ.items() if pair[0] not in OF_THE_PROCESS]
    print(f"Content-Type: application/json\n\n{json.dumps(pairs)}", flush=True)


if __name__ == "__main__":
    main()
