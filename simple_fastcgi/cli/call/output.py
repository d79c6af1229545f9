"""Where things go: what was asked for to standard output or a file, what is said about it to standard error."""

from __future__ import annotations

import os
import select
import sys

from . import status
from .status import CallError, reason_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...protocol.records import Buffer

_STDOUT = "-"


class Output:
    """Bytes for the file `path`, made when it is first written to; ``-`` is standard output, None nowhere.

    Nothing is held back. A context manager that closes the file; CallError if something cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0 and self._path != _STDOUT:
            os.close(self._fd)
        self._fd = -1

    def write(self, data: Buffer) -> None:
        """Write all of `data`; with b"" the file is made."""
        if self._path is None:
            return
        try:
            if self._fd < 0:
                self._open()
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])
        except (OSError, ValueError) as error:
            why = reason_of(error) if isinstance(error, OSError) else str(error)
            raise CallError(status.WRITE, f"cannot write {self._name}: {why}") from None

    def _open(self) -> None:
        assert self._path is not None
        if self._path != _STDOUT:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        elif sys.stdout is None:
            raise ValueError("it is closed")
        else:
            self._fd = sys.stdout.fileno()

    @property
    def _name(self) -> str:
        return "to standard output" if self._path == _STDOUT else str(self._path)


class Messages:
    """Lines on standard error, and what the application says there; `errors` and `hints` are shown or not."""

    def __init__(self, *, errors: bool = True, hints: bool = True) -> None:
        self._errors = errors
        self._hints = hints
        self._in_line = False

    def error(self, error: CallError) -> None:
        """Why it failed."""
        if self._errors:
            self.line(f"simple-fastcgi: ({error.status}) {shown(str(error))}")

    def hint(self, text: str) -> None:
        """What may be wrong, and how to mend it."""
        if self._hints:
            self.line(f"simple-fastcgi: hint: {text}")

    def line(self, text: str) -> None:
        """A line of its own."""
        self.application(b"\n" if self._in_line else b"")
        self._write(text.encode("utf-8", "backslashreplace") + b"\n")

    def application(self, data: Buffer) -> None:
        """FCGI_STDERR, as it came."""
        if data:
            self._in_line = data[-1] != 10
            self._write(data)

    def close(self) -> None:
        """End the last line."""
        self.application(b"\n" if self._in_line else b"")

    def _write(self, data: Buffer) -> None:
        # Whoever closed standard error wants to know of nothing.
        if sys.stderr is None:
            return
        try:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
