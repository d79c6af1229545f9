"""Whoever connects while a server ends is refused at once, and may ask another one.

Left alone, the kernel would still take such connections, and break them off when the process exits: for as long as the
last request takes they would hang, and what was sent on them would be lost.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from ..net import ListeningSocket


def is_the_end(listening: ListeningSocket, stop: threading.Event | None) -> bool:
    """Whether nobody will accept connections of `listening` any more: it is ours alone, and we were told to stop."""
    # A stop signal has closed it; else the program may be about to begin anew, with the same socket.
    told = listening.fileno() < 0 or (stop is not None and stop.is_set())
    return told and listening.exclusive


def refuse_more(sock: socket.socket) -> None:
    """Have further connections to `sock` refused, by whatever descriptor it is open; accept those that wait before."""
    try:
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        # Not every system can.
        pass
