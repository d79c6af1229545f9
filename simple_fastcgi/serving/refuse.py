"""Whoever connects while a server ends is refused at once, and may ask another one.

Left alone, the kernel would still take such connections, and break them off when the process exits: for as long as the
last request takes they would hang, and what was sent on them would be lost.
"""

from __future__ import annotations

import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from ..net import ListeningSocket

_LOOK_SECONDS = 0.005


def is_the_end(listening: ListeningSocket, stop: threading.Event | None) -> bool:
    """Whether nobody will accept connections of `listening` any more: it is ours alone, and we were told to stop."""
    # A stop signal has closed it; else the program may be about to begin anew, with the same socket.
    told = listening.fileno() < 0 or (stop is not None and stop.is_set())
    return told and listening.exclusive


def refuse_more(sock: socket.socket) -> bool:
    """Have further connections to `sock` refused, by whatever descriptor it is open; whether the system can.

    Those that wait may still be accepted; closing would reset them.
    """
    try:
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        return False
    return True


def refuse_behind_the_last(sock: socket.socket, seconds: float, pause: Callable[[float], bool] | None = None) -> None:
    """The same, once other processes have accepted those that wait; within `seconds`, whether they have or not.

    `pause` is called between two looks with how long it is to last; it returns whether there is any use in another one.
    """
    from ..net.backlog import let_nobody_queue, listen_queue

    pause = pause or _sleep
    let_nobody_queue(sock)
    until = time.monotonic() + seconds
    while (queue := listen_queue(sock)) is not None and queue[0] and time.monotonic() < until:
        if not pause(_LOOK_SECONDS):
            break
    refuse_more(sock)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True
