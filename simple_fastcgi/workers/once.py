"""What one of several workers does for all of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Once:
    """Made before any fork: a pipe with one byte, which whoever comes first takes out."""

    def __init__(self) -> None:
        self._receiver, sender = os.pipe()
        os.write(sender, b"1")
        os.close(sender)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """In this process nobody comes any more."""
        os.close(self._receiver)

    def is_first(self) -> bool:
        """Whether this is the first call, in whichever process."""
        return bool(os.read(self._receiver, 1))
