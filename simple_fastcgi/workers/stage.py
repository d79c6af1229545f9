"""How far a worker has come, and how far its master, in memory that they share."""

from __future__ import annotations

import mmap
from struct import Struct
from time import monotonic

_STARTING, _SERVING, _DUE, _ENDING = range(4)
_TIME = Struct("=d")


class Stage:
    """Made before the fork; the worker writes and the master reads. Unlike a message it is never lost or late."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    # Said by the worker

    def serve(self) -> None:
        """It has come as far as accepting."""
        if self.starts:
            self._byte[0] = _SERVING

    def ask_for_successor(self) -> None:
        """It serves on, until another one does so in its place."""
        if self.serves:
            self._byte[0] = _DUE

    def end(self) -> None:
        """It was told to end, or has found a reason of its own."""
        self._byte[0] = _ENDING

    # Asked by the master

    @property
    def starts(self) -> bool:
        """Whether it has not come as far as accepting yet."""
        return self._byte[0] == _STARTING

    @property
    def serves(self) -> bool:
        """Whether it accepts connections."""
        return self._byte[0] in (_SERVING, _DUE)

    @property
    def is_due(self) -> bool:
        """Whether it waits for a successor."""
        return self._byte[0] == _DUE

    @property
    def ends(self) -> bool:
        """Whether it is about to end in good order."""
        return self._byte[0] == _ENDING


class Ending:
    """Made before any fork; the master writes and its workers read."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _TIME.size)

    def begin(self) -> None:
        """The master has been told to end."""
        _TIME.pack_into(self._memory, 0, monotonic())

    def seconds_ago(self) -> float:
        """How long ago that was; 0 if it was not."""
        began: float = _TIME.unpack_from(self._memory)[0]
        return monotonic() - began if began else 0.0
