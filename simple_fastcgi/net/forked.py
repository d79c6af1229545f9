"""A process that an application has forked in a handler: it is no second server, whatever it has inherited."""

from __future__ import annotations

import os
import signal
import sys


def end_if_forked(serving: int) -> None:
    """While an exception of a handler is dealt with: end this process at once if it is not the one of number `serving`.

    Its connections are that one's, too, where an answer of its own would be mixed up with others. Its exit status is
    what a SystemExit says, and else 1.
    """
    if os.getpid() == serving:
        return
    error = sys.exception()
    status = error.code if isinstance(error, SystemExit) else 1
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def is_child(serving: int, number: int) -> bool:
    """In a handler of signal `number`: whether this is not the process of number `serving`.

    It gets the signal as if nobody handled it: its parent, ``multiprocessing`` for one, waits for its end.
    """
    if os.getpid() == serving:
        return False
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return True
