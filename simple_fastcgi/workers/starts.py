"""What a master remembers of its workers' starts: whether one has served yet, when to try again, and what was told."""

from __future__ import annotations

import re

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_TOLD_AGAIN_SECONDS = 60.0
# What differs in each process, though the reason is the same: <Connection at 0x7f32c1>.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


class Starts:
    """All times are seconds of :func:`time.monotonic`, given by the caller."""

    def __init__(self) -> None:
        self.have_served = False
        """Whether any worker has ever come as far as serving: then none that cannot start ends the others."""
        self.fail = False
        """Whether the latest start has failed, so that one worker is tried and no more."""
        self.is_told = False
        """Whether a failure was told, so that its end is worth a line."""
        self._pause = 0.0
        self._until = 0.0
        self._reason: str | None = None
        self._told_at = 0.0

    def try_at_once(self) -> None:
        """Forget the pauses, and what was told."""
        self.fail = self.is_told = False
        self._pause = self._until = 0.0
        self._reason = None

    def failed(self, now: float) -> None:
        """A worker has not come as far as serving; of several at once the first counts."""
        self.fail = True
        if now >= self._until:
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
            self._until = now + self._pause

    def are_due(self, now: float) -> bool:
        """Whether no pause is on."""
        return now >= self._until

    def pause(self) -> float:
        """How long the latest pause is, in seconds."""
        return self._pause

    def is_news(self, reason: str, now: float) -> bool:
        """Whether this is to be told: another reason than the last one, or the same after a minute."""
        reason = _ADDRESS.sub("", reason)
        if reason == self._reason and now - self._told_at < _TOLD_AGAIN_SECONDS:
            return False
        self._reason, self._told_at, self.is_told = reason, now, True
        return True
