"""What the developer reads: lines for requests and for events, in colour where a terminal shows it."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATUS_STYLES = {2: "green", 3: "cyan", 4: "yellow", 5: "red"}
_LONGEST_PATH = 500


class Terminal:
    """Standard error, one whole line at a time."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._colour = wants_colour(self._stream, os.environ) if colour is None else colour
        self._lock = threading.Lock()

    def say(self, text: str, style: str = "") -> None:
        """Whole lines; what cannot be written (no reader, a full disk) must not end the program."""
        with self._lock:
            try:
                self._stream.write(f"{self.styled(text, style)}\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass

    def styled(self, text: str, style: str) -> str:
        """`text` in a style of the table above, where there is colour."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and self._colour else text

    def request(self, method: str, target: bytes, status: int | None, size: int, seconds: float, note: str) -> None:
        """A request that has ended. `status` is None if no response began; `note` says what was special."""
        code = f"{status or '-':>3}"
        words = [
            self.styled(time.strftime("%H:%M:%S"), "dim"),
            f"{printable(method):<7}",
            self.styled(code, _STATUS_STYLES.get((status or 500) // 100, "")),
            f"{duration(seconds):>8}",
            f"{amount(size):>8}",
            printable(target.decode("latin-1"))[:_LONGEST_PATH],
        ]
        if note:
            words.append(self.styled(f"({note})", "yellow"))
        self.say("  ".join(words))


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to write in colour: on a terminal that knows it, unless NO_COLOR is set (https://no-color.org)."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


def printable(text: str) -> str:
    """`text` without anything that a terminal would obey."""
    return "".join(character if " " <= character <= "~" else f"\\x{ord(character):02x}" for character in text)


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    return (
        f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s" if seconds < 999 else f"{seconds:.0f} s"
    )


def amount(size: int) -> str:
    """Bytes, in decimal units."""
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB", "GB"):
        size_in_unit = size / 1000
        if size_in_unit < 999.5 or unit == "GB":
            return f"{size_in_unit:.3g} {unit}"
        size //= 1000
    raise AssertionError
