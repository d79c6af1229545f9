"""Who runs the loop of a server with threads: one of its threads while handlers are quick, else the server's own.

To hand a request to another thread costs as much as a quick handler. So a thread of the pool leads: it runs the loop,
and the handlers of requests itself, between its turns. The thread of `serve_forever` watches it. When a handler takes
long it takes the loop back, so that nobody has to wait, and gives requests to the pool until handlers are quick again.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LONG_SECONDS = 0.0005
"""Calls that take longer gain nothing from being made by the leader, and could wait for something side by side."""
STUCK_SECONDS = 0.002
"""How long a call may keep the loop before that is taken back: this, or twice as long."""
_QUIET_LOOKS = 3
# A busy machine lets any call look long now and then: one in so many is allowed, beyond a few at once.
_ONE_IN = 16
_AT_ONCE = 3


class Lead:
    """The time for which one thread runs the loop: until it is done, or loses the loop in the middle of a call."""

    __slots__ = (
        "_bell",
        "_calls",
        "_is_excused",
        "_is_watcher_asleep",
        "_long",
        "_next_actions",
        "_seen",
        "_started",
        "_taken",
        "calls",
        "done",
        "error",
        "lost",
        "recalled",
    )

    def __init__(self) -> None:
        # The number of the call under way; 0 until the leader begins. Whoever takes it out has the loop from then on.
        self._calls = [0]
        # What the watcher has taken out.
        self._taken: list[int] = []
        # The call that the watcher saw at its last look, and whether that look came late.
        self._seen = 0
        self._is_excused = False
        self._started = self._next_actions = 0.0
        self._long = 0
        self._is_watcher_asleep = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        self.calls = 0
        """How many have begun."""
        self.recalled = False
        """The leader is to end at its next turn."""
        self.lost = False
        """The loop was taken back: the leader must not touch it any more."""
        self.done = False
        """The leader has ended, and given the loop back."""
        self.error: BaseException | None = None
        """What ended it."""

    # What the leader calls

    def begin(self) -> bool:
        """Take the loop; whether it is to be had still."""
        try:
            self._calls.pop()
        except IndexError:
            self.lost = True
        return not self.lost

    def begin_call(self) -> None:
        """A handler is about to be called."""
        self.calls += 1
        self._started = monotonic()
        self._calls.append(self.calls)
        if self._is_watcher_asleep:
            self._is_watcher_asleep = False
            self._bell.put(None)

    def end_call(self) -> None:
        """It has returned; sets `lost`, or `recalled` if too many take long."""
        try:
            self._calls.pop()
        except IndexError:
            self.lost = True
            return
        if monotonic() - self._started > LONG_SECONDS:
            self._long += _ONE_IN
            if self._long > _AT_ONCE * _ONE_IN:
                self.recalled = True
        elif self._long:
            self._long -= 1

    def end(self, error: BaseException | None) -> None:
        """Give the loop back."""
        self.error = error
        self.done = True
        self._bell.put(None)

    # What the watcher calls

    def watch(self, interval: float, actions: Callable[[], None]) -> None:
        """Wait until the loop is back: because the leader is done, or because a call was stuck.

        Calls `actions` every `interval` seconds.
        """
        self._next_actions = monotonic() + interval
        while not (self.done or self._taken):
            is_rung = True
            self._is_watcher_asleep = True
            # Looked at behind the flag, which the leader sees behind the call that it tells of.
            if not self._calls and not self.done:
                try:
                    self._bell.get(timeout=max(interval, STUCK_SECONDS))
                except Empty:
                    is_rung = False
            self._is_watcher_asleep = False
            if (is_rung or self._calls) and self._take_when_stuck():
                return
            if monotonic() >= self._next_actions:
                self._next_actions = monotonic() + interval
                actions()

    def take(self) -> bool:
        """Take the loop from a leader that has not begun, or is in the middle of a call; whether it was to be had."""
        try:
            # In one step: the exception of a signal must not come between the taking and the note of it.
            self._taken.extend(map(self._calls.pop, (-1,)))
        except IndexError:
            pass
        return bool(self._taken)

    def _take_when_stuck(self) -> bool:
        """Look after the calls while they come, until `actions` are due; whether one was stuck, and the loop taken."""
        quiet = 0
        while quiet < _QUIET_LOOKS and not self.done:
            slept = monotonic()
            sleep(STUCK_SECONDS)
            number = self.calls if self._calls else 0
            if not number:
                quiet += 1
            else:
                quiet = 0
                if number != self._seen:
                    self._is_excused = False
                elif not self._is_excused and monotonic() - slept > 2 * STUCK_SECONDS:
                    # The whole process stood still. It is believed once: a call that computes makes all looks late.
                    self._is_excused = True
                elif self.take():
                    return True
            self._seen = number
            if monotonic() >= self._next_actions:
                break
        return False
