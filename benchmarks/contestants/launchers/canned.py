"""The answer of the limits, and how they tell that a request has come whole."""

from __future__ import annotations

import struct

_BODY = b"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
_HEADER = struct.Struct("!BBHHBx")

ANSWER = (
    _HEADER.pack(1, 6, 1, len(_BODY), 0)  # STDOUT of request 1
    + _BODY
    + _HEADER.pack(1, 6, 1, 0, 0)
    + _HEADER.pack(1, 3, 1, 8, 0)  # END_REQUEST
    + bytes(8)
)
FLAGS = 10
"""Where a request has its flags, in the body of BEGIN_REQUEST."""
KEEP_CONN = 1

_END_OF_STDIN = _HEADER.pack(1, 5, 1, 0, 0)


def is_complete(data: bytes) -> bool:
    """Whether a request ends here; web servers send nothing after it before they have its answer."""
    return data.endswith(_END_OF_STDIN)
