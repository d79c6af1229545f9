"""A process that an application has forked in a handler, and that comes back from there: it is no second server."""

from __future__ import annotations

import os
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
