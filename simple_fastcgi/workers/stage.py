"""How far a worker has come, in a byte of memory that it shares with its master."""

from __future__ import annotations

import mmap

_STARTING, _SERVING, _DUE, _ENDING = range(4)


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
