"""Looking for garbage seldom while a program starts."""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# Nothing that a program would say itself, who may say 50,000: so it is told apart.
_SELDOM = 50_021


class SeldomCollected:
    """While entered, Python looks for garbage every 50,000 new objects instead of every few hundred.

    Imports make many objects and hardly any garbage; to look for it takes a tenth of their time. At the end they all
    count as old, as if they had been looked at. What the program itself says about it meanwhile, or has said before,
    stands.
    """

    __slots__ = ("_usual",)

    _usual: tuple[int, int, int] | None
    """What held before; None if it was to stand, which another thread's block may have said."""

    def __enter__(self) -> None:
        usual = gc.get_threshold()
        self._usual = None
        # 0 is never.
        if 0 < usual[0] < _SELDOM:
            self._usual = usual
            gc.set_threshold(_SELDOM, *usual[1:])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._usual is not None and gc.get_threshold() == (_SELDOM, *self._usual[1:]):
            if gc.get_freeze_count() == 0:
                # To freeze is to set aside unseen, and what is unfrozen is among the oldest.
                gc.freeze()
                gc.unfreeze()
            gc.set_threshold(*self._usual)
