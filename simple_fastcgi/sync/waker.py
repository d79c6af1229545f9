"""How a wait in the poller is ended from anywhere."""

from __future__ import annotations

from os import close, pipe, read, set_blocking, write

from .poller import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .poller import EpollPoller, SelectorPoller


class Waker:
    """A pipe that `poller` watches, rather than an Event: a signal handler may write to it as any thread may."""

    __slots__ = ("_sender", "fd")

    def __init__(self, poller: EpollPoller | SelectorPoller) -> None:
        self.fd, self._sender = pipe()
        set_blocking(self.fd, False)
        set_blocking(self._sender, False)
        poller.register(self.fd, READ)

    def wake(self) -> None:
        """End the wait under way, or the next one."""
        try:
            write(self._sender, b"\0")
        except OSError:
            # Full: it will wake up anyway. Closed: nobody is left to be woken.
            pass

    def heard(self) -> None:
        """The poller has told that `fd` is ready: forget how often that was asked for."""
        read(self.fd, 4096)

    def close(self) -> None:
        """Nobody waits any more."""
        # A number that is closed may soon be another's.
        sender, self._sender = self._sender, -1
        close(sender)
        close(self.fd)
